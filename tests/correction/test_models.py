import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from correction.errors import ArchitectureError, ModelError
from correction.models import load, wrap
from tests.correction.conftest import tiny_config, tiny_tokenizer


def test_loads_a_folder_and_names_its_modules(tiny_folder):
    loaded = load(tiny_folder, device="cpu")
    assert (loaded.dtype, loaded.device, loaded.context_length) == (torch.float32, torch.device("cpu"), 64)
    assert not loaded.model.training
    assert [block.prefix for block in loaded.blocks] == ["model.layers.0", "model.layers.1"]
    second = loaded.model.model.layers[1]
    assert loaded.blocks[1].down_proj is second.mlp.down_proj
    assert loaded.blocks[1].o_proj is second.self_attn.o_proj
    assert len(list(loaded.norms)) == 5
    assert loaded.base.geometry.neurons == 48


@pytest.mark.parametrize(("asked", "given"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_dtype_is_the_checkpoints_unless_asked_for(tiny_folder, asked, given):
    assert load(tiny_folder, dtype=asked, device="cpu").dtype == given


@pytest.mark.parametrize(("native", "given"), [(False, torch.float32), (True, torch.bfloat16)])
def test_bfloat16_is_computed_in_float32_where_the_processor_has_no_instructions_for_it(
    tiny, tmp_path, monkeypatch, native, given
):
    copy.deepcopy(tiny.model).bfloat16().save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr("correction.models._computes_bfloat16", lambda: native)
    assert load(tmp_path, device="cpu").dtype == given
    assert load(tmp_path, dtype="bfloat16", device="cpu").dtype == torch.bfloat16


@pytest.mark.parametrize("wrong", ["float23", "nn", "Tensor"])
def test_an_unknown_dtype_is_refused(tiny_folder, wrong):
    with pytest.raises(ModelError, match=f"dtype '{wrong}' is not a torch type"):
        load(tiny_folder, dtype=wrong)


def test_what_is_neither_folder_nor_hub_id_is_refused(tmp_path):
    with pytest.raises(ModelError, match="neither a folder nor a hub id"):
        load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="cannot load the model"):
        load(tmp_path)


def test_another_architecture_is_refused_with_the_reason(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ArchitectureError, match=r"type 'gpt2' are not supported.*supported: llama"):
        load(tmp_path)


def test_a_layer_without_its_modules_is_refused(tiny_folder):
    model = LlamaForCausalLM(tiny_config())
    del model.model.layers[1].mlp.down_proj
    with pytest.raises(ArchitectureError, match=r"layer 1 of this llama model: .*down_proj"):
        wrap(model, tiny_tokenizer(), tiny_folder)


@pytest.mark.parametrize("shards", [1, 2])
def test_a_pytorch_checkpoint_is_the_same_model(shards, tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    if shards == 1:
        torch.save(weights, tmp_path / "pytorch_model.bin")
    else:
        places = {name: f"pytorch_model-0000{1 + n % 2}-of-00002.bin" for n, name in enumerate(weights)}
        for shard in set(places.values()):
            torch.save({name: weights[name] for name in weights if places[name] == shard}, tmp_path / shard)
        index = {"metadata": {"total_size": 0}, "weight_map": places}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    loaded, same = load(tmp_path, device="cpu"), load(tiny_folder, device="cpu")
    assert loaded.base.fingerprint == same.base.fingerprint
    values, others = loaded.model.state_dict(), same.model.state_dict()
    assert values.keys() == others.keys()
    assert all(torch.equal(values[name], others[name]) for name in values)
