"""On an accelerator: gates inside captured graphs, bit for bit, for the same schedule. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from tests.service.engine.test_families import Case, answered, said, specification

pytestmark = [
    pytest.mark.engine,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "graphs"])
@pytest.mark.parametrize("family", ["llama", "opt"])
def test_every_row_equals_the_baked_models_bit_for_bit(family, eager, tmp_path):
    case = Case(family, {"enforce_eager": eager, "block_size": 32}, "bfloat16")
    gated, by_hand = answered(specification(case, tmp_path), tmp_path)
    assert said(gated, 1) == said(by_hand, 1)
    assert said(gated, 1) != said(gated, 0)
