import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given

import masks
from masks import BaseModel, CorruptMask, Geometry, Mask, MaskTooLarge, Meta, dumps, load, loads, save
from tests.masks.samples import any_mask, dampening, mask, mixed, quick

# Written out by hand from FORMAT.md: the layout must never change under format version 1.
GOLDEN_HEADER = (
    rb'{"__metadata__":{"excise":"{\"base\":{\"architecture\":\"LlamaForCausalLM\",\"fingerprint\":'
    rb"\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\",\"geometry\":{\"head_dim\":4,\"heads\":6,"
    rb"\"hidden\":24,\"layers\":3,\"neurons\":40},\"id\":\"example/tiny\"},\"created_at\":\"2026-11-30T12:00:00Z\","
    rb"\"format\":1,\"made\":{\"count\":3,\"criterion\":\"lrp\"},\"measured\":{\"perplexity\":12.5},\"name\":\"sample\","
    rb'\"shapes\":{\"lm_head.weight\":[16,24],\"model.layers.0.mlp.up_proj.weight\":[5,13]}}"},'
    rb'"weights.lm_head.weight":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},'
    rb'"heads.1":{"dtype":"I32","shape":[2],"data_offsets":[8,16]},'
    rb'"neurons.0":{"dtype":"I32","shape":[2],"data_offsets":[16,24]},'
    rb'"neurons.2":{"dtype":"I32","shape":[1],"data_offsets":[24,28]},'
    rb'"weights.model.layers.0.mlp.up_proj.weight":{"dtype":"U8","shape":[9],"data_offsets":[28,37]}}'
)
GOLDEN_DATA = bytes.fromhex("0700000000000000 00000000 05000000 01000000 04000000 27000000 01 10 00 00 00 00 00 00 01")
GOLDEN_DIGEST = "c25e916ae735585c79b9e0e46e5375c28176b304b69cedef94619ddf7c0a4e32"


# The same under format version 2, with gates 1/4 and 0 on neurons 1 and 4, and 1/2 and 1/4 on heads 0 and 5.
GRADED_HEADER = (
    GOLDEN_HEADER.replace(rb"\"format\":1", rb"\"format\":2").partition(b'"weights.model')[0]
    + rb'"gates.heads.1":{"dtype":"U8","shape":[2],"data_offsets":[28,30]},'
    rb'"gates.neurons.0":{"dtype":"U8","shape":[2],"data_offsets":[30,32]},'
    rb'"weights.model.layers.0.mlp.up_proj.weight":{"dtype":"U8","shape":[9],"data_offsets":[32,41]}}'
)
GRADED_DATA = GOLDEN_DATA[:28] + bytes.fromhex("02 01 01 00") + GOLDEN_DATA[28:]
GRADED_DIGEST = "367e76548854767e769cdc634dec25f5c44cdfddf16b42802cae7e77a2ed4f22"


def golden(header: bytes = GOLDEN_HEADER, data: bytes = GOLDEN_DATA) -> bytes:
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def test_the_bytes_are_the_golden_ones() -> None:
    assert dumps(mixed()) == golden()
    assert mixed().digest == GOLDEN_DIGEST == hashlib.sha256(golden()).hexdigest()


def test_the_golden_bytes_are_the_mask() -> None:
    assert loads(golden()) == mixed()
    assert loads(golden()).meta == mixed().meta


def test_the_bytes_with_gates_are_the_golden_ones() -> None:
    graded = golden(GRADED_HEADER, GRADED_DATA)
    assert dumps(dampening()) == graded
    assert loads(graded) == dampening()
    assert loads(graded).gate_values("heads", 1).tolist() == [0.5, 0.25]
    assert dampening().digest == GRADED_DIGEST == hashlib.sha256(graded).hexdigest()


@given(any_mask)
@quick
def test_a_mask_comes_back_from_its_bytes(made: Mask) -> None:
    data = dumps(made)
    again = loads(data)
    assert dumps(again) == data
    assert again == made
    assert again.meta == made.meta
    assert list(again.neurons) == list(made.neurons)
    for kind in ("neurons", "heads", "weights"):
        for key, cut in getattr(made, kind).items():
            other = getattr(again, kind)[key]
            assert other.dtype == cut.dtype
            assert (other == cut).all()
            assert not other.flags.writeable
    assert again.version == made.version == (2 if again.dampened else 1)
    assert again.gates.keys() == made.gates.keys()
    for kind, layers in made.gates.items():
        assert {layer: codes.tolist() for layer, codes in layers.items()} == {
            layer: codes.tolist() for layer, codes in again.gates[kind].items()
        }


def test_the_order_in_which_a_mask_was_made_does_not_matter() -> None:
    one = mask({0: [1], 2: [3]}, made={"a": 1, "b": {"c": 2, "d": 3}})
    two = mask({2: [3], 0: [1]}, made={"b": {"d": 3, "c": 2}, "a": 1})
    assert dumps(one) == dumps(two)


def test_any_safetensors_reader_opens_it() -> None:
    tensors = safetensors.numpy.load(dumps(mixed()))
    assert tensors["neurons.0"].tolist() == [1, 4]
    assert tensors["weights.lm_head.weight"].dtype == np.int64


def test_loads_takes_any_bytes_and_keeps_none_of_the_callers_memory() -> None:
    buffer = bytearray(golden())
    for data in (memoryview(buffer), memoryview(b"x" + golden())[1:], buffer):
        made = loads(data)
        assert made == mixed()
    buffer[-1] = 0
    assert made.weight_indices("model.layers.0.mlp.up_proj.weight").tolist() == [0, 12, 64]


# Sizes (DESIGN.md)

MADE = {
    "criterion": "lrp",
    "granularity": "neuron",
    "seed_output": "max-logit",
    "position": "last",
    "sign": "absolute",
    "contrast": "difference",
    "scope": "global",
    "count": 100,
    "fraction": None,
    "modules": "mlp",
    "seed": 0,
    "dtype": "float32",
    "batch": 8,
    "behaviour_sha256": "a1" * 32,
    "behaviour_samples": 93,
    "behaviour_tokens": 128,
    "general_sha256": "b2" * 32,
    "general_samples": 128,
    "general_tokens": 2048,
    "held_out": 0.2,
    "device": "cpu",
    "excise": "0.1.0",
    "torch": "2.13.0",
    "transformers": "5.19.0",
    "seconds": 153.2,
}
MEASURED = {
    "toxicity_before": 0.4512,
    "toxicity_after": 0.0543,
    "repetition_before": 0.0312,
    "repetition_after": 0.0337,
    "perplexity_before": 31.2207,
    "perplexity_after": 32.0114,
    "prompts": 500,
    "tokens": 24,
    "scorer": "profanity-check",
    "threshold": 0.5,
}


def realistic(layers: int, cut: dict[str, Any], shapes: dict[str, tuple[int, int]] | None = None) -> Mask:
    geometry = Geometry(layers, neurons=14336, heads=32, head_dim=128, hidden=4096)
    base = BaseModel("meta-llama/Llama-3.1-8B-Instruct", "LlamaForCausalLM", geometry, "c3" * 32)
    meta = Meta("detox", base, shapes or {}, "2026-11-30T12:00:00Z", MADE, MEASURED)
    return Mask(**({"neurons": {}, "heads": {}, "weights": {}} | cut), meta=meta)


@pytest.mark.parametrize("layers", [12, 32])
def test_100_neurons_take_4_kib_at_most(layers: int) -> None:
    neurons = np.random.default_rng(0).choice(layers * 14336, 100, replace=False)
    by_layer = {layer: neurons[neurons // 14336 == layer] % 14336 for layer in range(layers)}
    made = realistic(layers, {"neurons": by_layer})
    assert made.count == 100
    assert len(dumps(made)) <= 4096


def test_7000_weights_take_64_kib_at_most() -> None:
    random = np.random.default_rng(0)
    shapes = {f"model.decoder.layers.{layer}.fc1.weight": (3072, 768) for layer in range(12)}
    weights = {name: random.choice(3072 * 768, 584, replace=False) for name in shapes}
    made = realistic(12, {"weights": weights}, shapes)
    assert made.count >= 7000
    assert len(dumps(made)) <= 65536


def test_half_of_all_weights_take_at_most_1_1_bits_each() -> None:
    random = np.random.default_rng(0)
    shapes = {
        f"model.layers.{layer}.mlp.{part}_proj.weight": (300, 401) for layer in range(4) for part in ("up", "gate")
    }
    made = realistic(4, {"weights": {name: random.random(shape) < 0.5 for name, shape in shapes.items()}}, shapes)
    elements = 8 * 300 * 401
    assert len(dumps(made)) * 8 <= 1.1 * elements
    assert sum(cut.nbytes for cut in loads(dumps(made)).weights.values()) * 8 <= 1.1 * elements


def test_a_mask_over_a_limit_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, value in (("MAX_TENSORS", 4), ("MAX_HEADER_BYTES", 500), ("MAX_FILE_BYTES", len(golden()) - 1)):
        with monkeypatch.context() as patch:
            patch.setattr(masks.encoding, limit, value)
            with pytest.raises(MaskTooLarge, match=str(value)):
                dumps(mixed())


def test_a_file_over_a_limit_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save(mixed(), tmp_path / "mask")
    for limit, value in (
        ("MAX_TENSORS", 4),
        ("MAX_HEADER_BYTES", 500),
        ("MAX_FILE_BYTES", len(golden()) - 1),
        ("MAX_DOCUMENT_BYTES", 400),
        ("MAX_DOCUMENT_DEPTH", 2),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(masks.file, limit, value)
            with pytest.raises(MaskTooLarge):
                load(tmp_path / "mask")


# Files


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "mask.safetensors"
    save(mixed(), path)
    assert path.read_bytes() == golden()
    assert load(path) == load(str(path)) == mixed()
    save(mask(), path)
    assert load(path) == mask()
    assert os.listdir(tmp_path) == ["mask.safetensors"]


def test_a_saved_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(mixed(), tmp_path / "mask")
    finally:
        os.umask(before)
    assert (tmp_path / "mask").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file_and_no_other(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mask"
    save(mixed(), path)

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(masks.file.os, call, fail)
    with pytest.raises(OSError, match="No space"):
        save(mask(), path)
    assert load(path) == mixed()
    assert os.listdir(tmp_path) == ["mask"]


def test_saving_onto_a_folder_fails_cleanly(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        save(mask(), tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


WRITER = """
import sys
from masks import load, save
one, two, path = load(sys.argv[1]), load(sys.argv[2]), sys.argv[3]
save(one, path)
print("ready", flush=True)
while True:
    save(two, path)
    save(one, path)
"""


def test_a_killed_writer_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    one, two, path = mixed(), mask({layer: range(40) for layer in range(3)}), tmp_path / "kept" / "mask"
    path.parent.mkdir()
    save(one, tmp_path / "one")
    save(two, tmp_path / "two")
    digests = set()
    for moment in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path / "one", tmp_path / "two", path],
            stdout=subprocess.PIPE,
            cwd=Path(masks.__file__).parents[1],
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            # Read while it writes; then kill it somewhere in the middle.
            start = time.monotonic()
            while (spent := time.monotonic() - start) < 0.05 + 0.013 * moment or (len(digests) < 2 and spent < 5):
                digests.add(load(path).digest)
            writer.send_signal(signal.SIGKILL)
        digests.add(load(path).digest)
    assert digests == {one.digest, two.digest}


def test_what_is_not_a_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorruptMask, match="regular file"):
        load(tmp_path / "pipe")
