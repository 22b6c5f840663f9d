"""What the tests of `masks` are made of: a small base model, masks of it, checkpoints on disk, forged files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from hypothesis import settings
from hypothesis import strategies as st

from masks import BaseModel, Geometry, Mask, Meta

# No deadline on a shared machine; seeded, and nothing written beside the tests.
quick = settings(deadline=None, derandomize=True, database=None, max_examples=60)

GEOMETRY = Geometry(layers=3, neurons=40, heads=6, head_dim=4, hidden=24)
BASE = BaseModel("example/tiny", "LlamaForCausalLM", GEOMETRY, "0123456789abcdef" * 4)
SHAPES = {"model.layers.0.mlp.up_proj.weight": (5, 13), "lm_head.weight": (16, 24)}
UP, HEAD = SHAPES


def meta(**changes: Any) -> Meta:
    fields: dict[str, Any] = {
        "name": "sample",
        "base": BASE,
        "shapes": SHAPES,
        "created_at": "2026-11-30T12:00:00Z",
        "made": {"criterion": "lrp", "count": 3},
        "measured": {"perplexity": 12.5},
    }
    return Meta(**(fields | changes))


def mask(
    neurons: Mapping[int, Any] | None = None,
    heads: Mapping[int, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    gates: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Mask:
    return Mask(neurons or {}, heads or {}, weights or {}, meta(**changes), gates)


def mixed() -> Mask:
    """A small mask with every kind of tensor: int32, int64 indices, and a bitmask."""
    return mask({0: [1, 4], 2: [39]}, {1: [0, 5]}, {UP: [0, 12, 64], HEAD: [7]})


def dampening() -> Mask:
    """The same with gates: layers 0 (neurons) and 1 (heads) have codes, layer 2 has none."""
    return mask({0: {1: 0.25, 4: 0}, 2: [39]}, {1: {5: 0.25, 0: 0.5}}, {UP: [0, 12, 64], HEAD: [7]})


def _sets(keys: Mapping[Any, int]) -> st.SearchStrategy[dict[Any, set[int]]]:
    return st.fixed_dictionaries(
        {}, optional={key: st.sets(st.integers(0, limit - 1), max_size=limit) for key, limit in keys.items()}
    )


def _layers(limit: int) -> st.SearchStrategy[dict[int, Any]]:
    """Layer → a set of indices, or index → gate."""
    indices, gates = st.integers(0, limit - 1), st.sampled_from([0, 0.25, 0.5, 1.0])
    layer = st.sets(indices, max_size=limit) | st.dictionaries(indices, gates, max_size=limit)
    return st.dictionaries(st.integers(0, GEOMETRY.layers - 1), layer, max_size=GEOMETRY.layers)


weight_sets = _sets({name: rows * columns for name, (rows, columns) in SHAPES.items()})
names = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,63}\Z").filter(lambda name: name != "base")
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(max_size=8), json_values, max_size=4)
any_mask = st.builds(
    mask,
    _layers(GEOMETRY.neurons),
    _layers(GEOMETRY.heads),
    weight_sets,
    name=names,
    made=json_objects,
    measured=json_objects,
)


def members(of: Mask) -> set[tuple[str, Any, int]]:
    """A mask as a Python set of components."""
    components = {("neuron", layer, int(j)) for layer, cut in of.neurons.items() for j in cut}
    components |= {("head", layer, int(h)) for layer, cut in of.heads.items() for h in cut}
    return components | {("weight", name, int(i)) for name in of.weights for i in of.weight_indices(name)}


def gates_of(of: Mask) -> dict[tuple[str, Any, int], float]:
    """A mask as component → gate."""
    component_gates = dict.fromkeys(members(of), 0.0)
    for kind, layers in (("neuron", of.neurons), ("head", of.heads)):
        for layer, cut in layers.items():
            gates = of.gate_values(f"{kind}s", layer)
            component_gates.update({(kind, layer, int(i)): float(gate) for i, gate in zip(cut, gates, strict=True)})
    return component_gates


def take_apart(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header without metadata, document, and data of a mask file."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return header, json.loads(header.pop("__metadata__")["excise"]), data[8 + length :]


def compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def forge(header: Mapping[str, Any], document: Any, data: bytes) -> bytes:
    """A file laid out as a mask file is, whatever its header and document claim; a str document is taken as it is."""
    text = document if isinstance(document, str) else compact(document)
    return framed(json.dumps({"__metadata__": {"excise": text}, **header}, separators=(",", ":")), data)


def framed(header: str | bytes, data: bytes = b"") -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw + data


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 3,
    "intermediate_size": 40,
    "num_attention_heads": 6,
    "hidden_size": 24,
}


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """A checkpoint's tensors: two matrices (one above the 4 KiB of a sample), a vector and an empty one."""
    random = np.random.default_rng(seed)
    return {
        "model.embed.weight": random.standard_normal((100, 24), np.float32),
        "model.layers.0.mlp.up_proj.weight": random.standard_normal((40, 24), np.float32).astype(np.float16),
        "model.norm.weight": random.standard_normal(24, np.float32),
        "model.nothing": np.zeros((0, 3), np.float32),
    }


def checkpoint(folder: Path, arrays: Mapping[str, np.ndarray] | None = None, **config: Any) -> Path:
    """A model folder with one model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    safetensors.numpy.save_file(dict(arrays or tensors()), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def sharded(folder: Path, arrays: Mapping[str, np.ndarray] | None = None) -> Path:
    """The same in two shards."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    arrays = dict(arrays or tensors())
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(reversed(arrays))}
    for shard in set(places.values()):
        safetensors.numpy.save_file({n: a for n, a in arrays.items() if places[n] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder
