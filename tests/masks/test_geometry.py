from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from masks import CheckpointError, Geometry, InvalidMask, MaskTooLarge
from masks.limits import MAX_LAYERS
from tests.masks.samples import BASE, CONFIG, GEOMETRY


def test_reads_a_llama_configuration() -> None:
    assert Geometry.from_config(CONFIG) == GEOMETRY


def test_reads_a_head_dim_of_its_own_as_qwen3_has() -> None:
    assert Geometry.from_config(CONFIG | {"head_dim": 128}).head_dim == 128
    assert Geometry.from_config(CONFIG | {"head_dim": None}).head_dim == 4


def test_reads_an_opt_configuration() -> None:
    opt = {"ffn_dim": 3072, "num_attention_heads": 12, "num_hidden_layers": 12, "hidden_size": 768}
    assert Geometry.from_config(opt) == Geometry(layers=12, neurons=3072, heads=12, head_dim=64, hidden=768)


def test_reads_the_text_part_of_a_multimodal_configuration() -> None:
    assert Geometry.from_config({"vision_config": {}, "text_config": CONFIG}) == GEOMETRY


@pytest.mark.parametrize("key", ["num_hidden_layers", "intermediate_size", "num_attention_heads", "hidden_size"])
@pytest.mark.parametrize("value", [None, 0, -1, "3", 2.0, True, [40], 10**30])
def test_a_missing_or_odd_key_is_named(key: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=key if value != 10**30 else "over the limit"):
        Geometry.from_config(CONFIG | {key: value})


def test_more_heads_than_channels_is_refused() -> None:
    with pytest.raises(CheckpointError, match="head_dim"):
        Geometry.from_config(CONFIG | {"num_attention_heads": 25})


def test_sizes_are_positive_integers_within_the_limits() -> None:
    with pytest.raises(InvalidMask, match=r"geometry\.heads"):
        replace(GEOMETRY, heads=0)
    with pytest.raises(InvalidMask, match=r"geometry\.neurons"):
        replace(GEOMETRY, neurons=True)
    with pytest.raises(MaskTooLarge, match=r"geometry\.layers"):
        replace(GEOMETRY, layers=MAX_LAYERS + 1)
    assert replace(GEOMETRY, layers=MAX_LAYERS).layers == MAX_LAYERS


def test_geometry_and_base_model_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        GEOMETRY.layers = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        BASE.id = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", "a" * 257),
        ("id", "new\nline"),
        ("id", None),
        ("architecture", "../Llama"),
        ("architecture", 3),
        ("fingerprint", "A" * 64),
        ("fingerprint", "0" * 63),
        ("fingerprint", None),
        ("geometry", None),
    ],
)
def test_a_base_model_checks_its_fields(field: str, value: Any) -> None:
    with pytest.raises(InvalidMask, match=f"base.{field}"):
        replace(BASE, **{field: value})
