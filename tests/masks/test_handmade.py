from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masks import (
    CheckpointError,
    InvalidMask,
    UnknownParameter,
    check,
    describe,
    for_model,
    load,
    loads,
    parameters,
    save,
)
from tests.masks.samples import checkpoint, tensors

UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arrays = tensors() | {"packed.weight": np.zeros((4, 4), np.int32)}
    return checkpoint(tmp_path_factory.mktemp("models") / "tiny", arrays)


def test_a_mask_made_by_hand_fits_its_model(model: Path, tmp_path: Path) -> None:
    made = for_model(model, "detox", neurons={0: [3, 1]}, heads={2: [5]}, weights={UP: [7]})
    assert made.counts == {"neurons": 2, "heads": 1, "weights": 1}
    assert made.meta.base == describe(model)
    assert made.meta.shapes == {UP: (40, 24)}
    assert made.meta.made == {"criterion": "hand"}
    assert made.meta.measured == {}
    check(made, describe(model), parameters(model))
    save(made, tmp_path / "mask")
    assert load(tmp_path / "mask") == made == loads(made.dumps())


def test_settings_and_time_can_be_given(model: Path) -> None:
    made = for_model(model, "a", made={"x": 1}, measured={"y": 2}, id="example/tiny", created_at="2026-11-30T12:00:00Z")
    assert made.granularity == "none"
    assert made.meta.made == {"x": 1}
    assert made.meta.measured == {"y": 2}
    assert made.meta.base.id == "example/tiny"
    assert (
        made.digest
        == for_model(model, "a", {}, {}, {}, {"x": 1}, {"y": 2}, "example/tiny", "2026-11-30T12:00:00Z").digest
    )


def test_weights_can_be_rows_and_columns_flat_or_boolean(model: Path) -> None:
    flags = np.zeros((40, 24), bool)
    flags[[0, 39], [5, 23]] = True
    flat: Any
    for flat in (
        ([0, 39], [5, 23]),
        (np.array([39, 0]), np.array([23, 5])),
        [959, 5],
        (5, 959),
        np.array([5, 959]),
        flags,
    ):
        assert for_model(model, "a", weights={UP: flat}).weight_indices(UP).tolist() == [5, 959]
    assert for_model(model, "a", weights={UP: ([], [])}).count == 0


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (([40], [0]), "rows: index 40"),
        (([0], [24]), "columns: index 24"),
        (([-1], [0]), "rows: index -1"),
        (([0, 1], [0]), "2 rows but 1 columns"),
        (([0.5], [0]), "flat list of integers"),
        (([[0]], [0]), "flat list of integers"),
    ],
)
def test_rows_and_columns_are_checked(pair: Any, message: str, model: Path) -> None:
    with pytest.raises(InvalidMask, match=message):
        for_model(model, "a", weights={UP: pair})


def test_an_unknown_parameter_gets_near_names(model: Path) -> None:
    with pytest.raises(UnknownParameter, match=rf"near names: {UP}"):
        for_model(model, "a", weights={"model.layers.0.mlp.up_porj.weight": [1]})
    with pytest.raises(UnknownParameter, match=r"masks\.parameters"):
        for_model(model, "a", weights={"zzz": [1]})


def test_only_floating_matrices_are_cut_by_weight(model: Path) -> None:
    with pytest.raises(InvalidMask, match="only matrices"):
        for_model(model, "a", weights={"model.norm.weight": [1]})
    with pytest.raises(InvalidMask, match="I32"):
        for_model(model, "a", weights={"packed.weight": [1]})


def test_a_bad_name_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidMask, match="base"):
        for_model(tmp_path / "missing", "base")
    with pytest.raises(CheckpointError, match="not a folder"):
        for_model(tmp_path / "missing", "a")
