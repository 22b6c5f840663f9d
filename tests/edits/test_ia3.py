"""The IA³ adapter, put beside the uncorrected model by PEFT, is the masked model to the last bit."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import masks
from correction.ablation import ablated
from correction.models import load
from edits import ia3
from edits.errors import MaskNotAppliedError, NotRepresentableError, NotWrittenError
from edits.stream import tensors
from tests.correction.families import save_family
from tests.edits.conftest import FAMILIES, ablated_logits, logits, mask_of

NEURONS, HEADS = {0: {3: 0.25, 40: 0, 5: 0.5}, 1: [17]}, {0: {1: 0.5}, 1: {0: 0, 3: 0.25}}


def graded(folder):
    return masks.for_model(folder, "graded", neurons=NEURONS, heads=HEADS)


def with_adapter(folder, adapter):
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), adapter)


@pytest.mark.parametrize("make", [graded, lambda folder: mask_of(folder, "neurons"), lambda f: mask_of(f, "heads")])
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_loads_exactly_the_masked_model(models, tmp_path, family, make):
    folder = models[family]
    mask = make(folder)
    ia3.write(mask, folder, tmp_path / "out")
    adapter_logits = logits(with_adapter(folder, tmp_path / "out"))
    assert torch.equal(adapter_logits, ablated_logits(folder, mask))
    assert not torch.equal(adapter_logits, ablated_logits(folder, masks.for_model(folder, "none")))


def test_merged_by_peft_it_is_the_corrected_checkpoint(llama, tmp_path):
    mask = graded(llama)
    ia3.write(mask, llama, tmp_path / "out")
    merged = with_adapter(llama, tmp_path / "out").merge_and_unload()
    assert torch.equal(logits(merged), ablated_logits(llama, mask))


def test_in_bfloat16_too(tmp_path):
    folder = save_family("llama", tmp_path / "in")
    half = {name: tensor.bfloat16() for name, tensor in tensors(folder)}
    save_file(half, folder / "model.safetensors", {"format": "pt"})
    mask = graded(folder)
    ia3.write(mask, folder, tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    adapter_logits = logits(PeftModel.from_pretrained(base, tmp_path / "out"))
    loaded = load(folder, dtype="bfloat16", device="cpu")
    with ablated(loaded, mask):
        assert torch.equal(adapter_logits, logits(loaded.model))


def test_each_module_has_a_vector_of_its_gates(llama, tmp_path):
    gated = ia3.write(graded(llama), llama, tmp_path / "out")
    mlp, attention = "model.layers.{}.mlp.down_proj", "model.layers.{}.self_attn.o_proj"
    assert gated == {mlp.format(0): 3, mlp.format(1): 1, attention.format(0): 8, attention.format(1): 16}
    vectors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert vectors.keys() == {f"base_model.model.{module}.ia3_l" for module in gated}
    expected = torch.ones(1, 48)
    expected[0, [3, 40, 5]] = torch.tensor([0.25, 0, 0.5])
    assert torch.equal(vectors[f"base_model.model.{mlp.format(0)}.ia3_l"], expected)
    assert vectors[f"base_model.model.{attention.format(1)}.ia3_l"].flatten().tolist() == (
        [0.0] * 8 + [1.0] * 16 + [0.25] * 8
    )
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["target_modules"] == config["feedforward_modules"] == sorted(gated)
    with safe_open(tmp_path / "out" / "adapter_model.safetensors", "pt") as file:
        assert file.metadata()["excise"] == graded(llama).digest


@pytest.mark.parametrize(("kind", "message"), [("mixed", "cuts single weights of"), ("none", "serve the model as it")])
def test_what_has_no_vector_is_refused(llama, tmp_path, kind, message):
    mask = masks.for_model(llama, "none") if kind == "none" else mask_of(llama, kind)
    with pytest.raises(NotRepresentableError, match=message):
        ia3.write(mask, llama, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_matrix_that_the_checkpoint_does_not_hold_is_refused(llama, tmp_path, monkeypatch):
    monkeypatch.setattr("edits.places.neurons_enter", lambda module: None)
    with pytest.raises(MaskNotAppliedError, match=r"cuts neurons\.0, neurons\.1"):
        ia3.write(graded(llama), llama, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(llama):
    with pytest.raises(NotWrittenError, match="there already"):
        ia3.write(graded(llama), llama, llama)
