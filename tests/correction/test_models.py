import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import masks
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
    with pytest.raises(masks.CheckpointError, match=r"has no config\.json"):
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


@pytest.fixture
def copied(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def test_an_adapter_in_the_folder_is_left_out_and_told(tiny_folder, copied, caplog):
    peft = pytest.importorskip("peft")
    plain = load(tiny_folder, device="cpu").model
    adapted = peft.get_peft_model(
        copy.deepcopy(plain), peft.LoraConfig(target_modules=["down_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(copied)
    ids = torch.tensor([[1, 8, 17, 30]])
    with torch.no_grad():
        expected = plain(ids).logits
        assert not torch.equal(AutoModelForCausalLM.from_pretrained(copied)(ids).logits, expected)
        loaded = load(copied, device="cpu")
        assert torch.equal(loaded.model(ids).logits, expected)
    assert type(loaded.blocks[0].down_proj) is torch.nn.Linear
    assert loaded.model.config._name_or_path == str(copied)
    assert "the adapter in" in caplog.text
    assert "merge it first" in caplog.text


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:5f70\nsize 538090408\n"
DEEP, LONG = b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("config.json", DEEP, r"config\.json: JSON nested 100000 deep"),
        ("config.json", LONG, r"config\.json: not JSON"),
        ("config.json", POINTER, r"config\.json is git-lfs's pointer.*git lfs pull"),
        ("config.json", b'{"model_type": "llama", "num_hidden_layers": "two"}', "cannot load the model"),
        ("tokenizer.json", DEEP, "cannot load the model"),
        ("tokenizer.json", LONG, "cannot load the model"),
        ("tokenizer.json", POINTER, r"tokenizer\.json is git-lfs's pointer.*git lfs pull"),
        ("tokenizer_config.json", DEEP, "cannot load the model"),
        ("tokenizer_config.json", LONG, "cannot load the model"),
        ("generation_config.json", DEEP, "cannot load the model"),
        ("model.safetensors", POINTER, r"model\.safetensors is git-lfs's pointer.*git lfs pull"),
        ("model.safetensors", b"", "too short for a safetensors file; it may be cut off"),
    ],
)
def test_a_damaged_file_is_one_sentence(copied, name, data, message):
    (copied / name).write_bytes(data)
    with pytest.raises((ModelError, masks.CheckpointError), match=message) as caught:
        load(copied, device="cpu")
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_cut_off_is_told_by_name(copied):
    whole = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(masks.CheckpointError, match=r"model\.safetensors: the tensors take \d+ bytes of data but the"):
        load(copied, device="cpu")


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes", "awq"])
def test_a_quantised_model_is_refused_with_what_to_correct_instead(copied, method):
    config = json.loads((copied / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4}
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"is quantised.*correct the model that it was quantised from"):
        load(copied, device="cpu")


def test_a_tensor_that_is_missing_is_not_made_up(copied):
    held = load_file(copied / "model.safetensors")
    del held["model.layers.1.mlp.down_proj.weight"]
    save_file(held, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks model\.layers\.1\.mlp\.down_proj\.weight"):
        load(copied, device="cpu")
