"""FORMAT.md says what the code does."""

import re
from pathlib import Path

import masks
from masks import limits

TEXT = (Path(masks.__file__).parent / "FORMAT.md").read_text()


def test_the_table_of_limits_is_the_limits() -> None:
    rows = {name: int(value) for value, name in re.findall(r"\| (\d+)[^|]*\| `(MAX_\w+)` \|", TEXT)}
    of_the_file = {n: v for n, v in vars(limits).items() if n.startswith("MAX_")}
    checkpoints = ("MAX_CHECKPOINT_HEADER_BYTES", "MAX_CONFIG_BYTES")
    for outside in (*checkpoints, "MAX_PICKLE_BYTES", "MAX_PICKLE_OPCODES"):
        del of_the_file[outside]
    assert rows | {"MAX_MODEL_ID": 256} == of_the_file
    assert "1 to 256 printable" in TEXT


def test_the_example_is_a_mask() -> None:
    base = masks.BaseModel("example/tiny", "LlamaForCausalLM", masks.Geometry(2, 8, 2, 2, 4), "0" * 64)
    shapes = {"lm_head.weight": (2, 4)}
    meta = masks.Meta("example", base, shapes, "2026-11-30T12:00:00Z", {"criterion": "hand"}, {})
    data = masks.dumps(masks.Mask({0: [4, 1]}, {}, {"lm_head.weight": [1, 2]}, meta))
    example = TEXT.split("## Example")[1].split("## Errors")[0]
    block = "".join(line.strip() for line in example.splitlines() if line.startswith("    "))
    header = data[8 : 8 + int.from_bytes(data[:8], "little")].decode().rstrip()
    assert header == block.replace("0000…", "0" * 64)
    assert data[8 + int.from_bytes(data[:8], "little") :].hex(" ") in example


def test_every_error_is_listed() -> None:
    for name in masks.__all__:
        kind = getattr(masks, name)
        if isinstance(kind, type) and issubclass(kind, masks.MaskError):
            assert f"`{name}`" in TEXT or f"`{name}`s" in TEXT


def test_the_example_with_a_gate_is_a_mask() -> None:
    base = masks.BaseModel("example/tiny", "LlamaForCausalLM", masks.Geometry(2, 8, 2, 2, 4), "0" * 64)
    meta = masks.Meta("example", base, {"lm_head.weight": (2, 4)}, "2026-11-30T12:00:00Z", {"criterion": "hand"}, {})
    data = masks.dumps(masks.Mask({0: {4: 0.5, 1: 0}}, {}, {"lm_head.weight": [1, 2]}, meta))
    length = int.from_bytes(data[:8], "little")
    example = TEXT.split("## Example")[1].split("## Errors")[0]
    entry = r'"gates.neurons.0":{"dtype":"U8","shape":[2],"data_offsets":[8,10]}'
    assert entry in example
    assert entry.encode() in data[:length]
    assert f"`{data[8 + length :].hex(' ')}`" in " ".join(example.split())
