from dataclasses import replace

import pytest

from masks import FingerprintMismatch, GeometryMismatch, ParameterInfo, UnknownParameter, check
from tests.masks.samples import BASE, GEOMETRY, HEAD, SHAPES, mask, mixed

PARAMETERS = {name: ParameterInfo(shape, "F32") for name, shape in SHAPES.items()}
OTHER = replace(BASE, id="example/other", fingerprint="f" * 64)


def test_a_mask_fits_its_own_model() -> None:
    check(mixed(), BASE)
    check(mixed(), BASE, PARAMETERS)
    check(mixed(), replace(BASE, id="a copy under another name"), PARAMETERS)


def test_another_model_is_refused_with_both_fingerprints() -> None:
    with pytest.raises(FingerprintMismatch) as caught:
        check(mixed(), OTHER)
    assert BASE.fingerprint in str(caught.value)
    assert OTHER.fingerprint in str(caught.value)
    assert "--allow-other-base" in str(caught.value)


def test_another_model_of_the_same_geometry_can_be_allowed() -> None:
    check(mixed(), OTHER, PARAMETERS, allow_other_base=True)


@pytest.mark.parametrize("allow", [False, True])
def test_another_geometry_is_never_allowed(allow: bool) -> None:
    other = replace(BASE, geometry=replace(GEOMETRY, neurons=41))
    with pytest.raises(GeometryMismatch, match=r"neurons 40(.|\n)*neurons 41"):
        check(mask({0: [1]}), other, allow_other_base=allow)


def test_parameters_must_be_there_with_their_shapes() -> None:
    with pytest.raises(UnknownParameter, match=r"near names: lm_heads\.weight"):
        check(mixed(), BASE, {"lm_heads.weight": PARAMETERS[HEAD], "a": PARAMETERS[HEAD]})
    with pytest.raises(GeometryMismatch, match=r"\(16, 24\).*\(24, 16\)"):
        check(mixed(), BASE, PARAMETERS | {HEAD: ParameterInfo((24, 16), "F32")})
