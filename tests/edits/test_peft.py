"""The adapter, put beside the uncorrected model by PEFT, is the masked model; vLLM reads its ranks the same way."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM
from vllm.lora.peft_helper import PEFTHelper

import masks
from edits import peft
from edits.errors import NotRepresentableError, NotWrittenError
from edits.factors import factors
from tests.correction.families import save_family
from tests.edits.conftest import FAMILIES, KINDS, ablated_logits, logits, mask_of


def with_adapter(folder, adapter):
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), adapter)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_loads_the_masked_model(models, tmp_path, family, kind):
    folder = models[family]
    mask = mask_of(folder, kind)
    peft.write(mask, folder, tmp_path / "out")
    adapter_logits = logits(with_adapter(folder, tmp_path / "out"))
    torch.testing.assert_close(adapter_logits, ablated_logits(folder, mask), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(
        adapter_logits, ablated_logits(folder, masks.for_model(folder, "none")), rtol=1e-2, atol=1e-2
    )


def test_each_module_has_its_own_rank_and_is_scaled_by_one(llama, tmp_path):
    ranks = peft.write(mask_of(llama, "mixed"), llama, tmp_path / "out")
    assert len(set(ranks.values())) > 2
    layers = {
        name.removeprefix("base_model.model."): layer
        for name, layer in with_adapter(llama, tmp_path / "out").named_modules()
        if hasattr(layer, "lora_A")
    }
    vllm = PEFTHelper.from_local_dir(str(tmp_path / "out"), None)
    assert layers.keys() == ranks.keys()
    for module, rank in ranks.items():
        assert (layers[module].r["default"], layers[module].scaling["default"]) == (rank, 1)
        assert vllm.get_rank_and_scaling(module) == (rank, 1)


def test_only_touched_modules_are_in_the_adapter(llama, tmp_path):
    ranks = peft.write(masks.for_model(llama, "m", heads={1: [2]}), llama, tmp_path / "out")
    module = "model.layers.1.self_attn.o_proj"
    assert ranks == {module: 8}
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["target_modules"], config["r"], config["rank_pattern"]) == ([module], 8, {})
    with safe_open(tmp_path / "out" / "adapter_model.safetensors", "pt") as file:
        assert set(file.keys()) == {f"base_model.model.{module}.lora_{side}.weight" for side in "AB"}


def test_the_adapter_names_the_mask(llama, tmp_path):
    mask = mask_of(llama, "neurons")
    peft.write(mask, llama, tmp_path / "out")
    with safe_open(tmp_path / "out" / "adapter_model.safetensors", "pt") as file:
        assert file.metadata()["excise"] == mask.digest


def test_an_untied_output_head_can_be_cut(llama, tmp_path):
    mask = masks.for_model(llama, "m", weights={"lm_head.weight": range(0, 900, 7)})
    peft.write(mask, llama, tmp_path / "out")
    adapter_logits = logits(with_adapter(llama, tmp_path / "out"))
    torch.testing.assert_close(adapter_logits, ablated_logits(llama, mask), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("parameter", ["model.embed_tokens.weight"])
def test_what_is_no_linear_module_is_refused(llama, tmp_path, parameter):
    mask = masks.for_model(llama, "m", weights={parameter: [1]})
    with pytest.raises(NotRepresentableError, match=f"cannot cut {parameter}: .* export a checkpoint"):
        peft.write(mask, llama, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_tied_output_head_is_refused(llama, tmp_path):
    folder = save_family("llama", tmp_path / "in")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    mask = masks.for_model(folder, "m", weights={"lm_head.weight": [1]})
    with pytest.raises(NotRepresentableError, match="also the embedding"):
        peft.write(mask, folder, tmp_path / "out")


def test_an_empty_mask_is_refused(llama, tmp_path):
    with pytest.raises(NotRepresentableError, match="serve the model as it is"):
        peft.write(masks.for_model(llama, "m"), llama, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_without_its_head_has_shorter_names(models, tmp_path, monkeypatch):
    folder = models["opt"]
    mask = mask_of(folder, "neurons")
    short = [(name.removeprefix("model."), A, B) for name, A, B in factors(mask, folder)]
    monkeypatch.setattr(peft, "factors", lambda mask, folder: iter(short))
    peft.write(mask, folder, tmp_path / "out")
    adapter_logits = logits(with_adapter(folder, tmp_path / "out"))
    torch.testing.assert_close(adapter_logits, ablated_logits(folder, mask), rtol=1e-5, atol=1e-5)


def test_a_folder_in_use_is_refused(llama, tmp_path):
    with pytest.raises(NotWrittenError, match="there already"):
        peft.write(mask_of(llama, "neurons"), llama, llama)
