"""A tiny model of each family, masks of every kind for it, and its logits with a mask on."""

import json

import numpy as np
import pytest
import torch

import masks
from correction.ablation import ablated
from correction.models import load
from edits.stream import tensors
from tests.correction.families import save_family

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "opt")
KINDS = ("neurons", "heads", "weights", "mixed", "dampened")
IDS = torch.tensor([[1, 8, 17, 30, 9, 22], [1, 14, 6, 25, 11, 3]])


def mask_of(folder, kind):
    """A mask of a kind; the last two cut weights of the matrices that their neurons and heads enter too."""
    into = [
        name for name in masks.parameters(folder) if name.endswith(("down_proj.weight", "fc2.weight", "o_proj.weight"))
    ]
    into += [name for name in masks.parameters(folder) if name.endswith(("q_proj.weight", "out_proj.weight"))]
    rng = np.random.default_rng(0)
    parts = {
        "neurons": {0: [3, 40, 5], 1: [17]},
        "heads": {0: [1], 1: [0, 3]},
        "weights": {name: rng.choice(32 * 32, 9 + 40 * place, replace=False) for place, name in enumerate(into)},
    }
    if kind == "dampened":
        parts["neurons"] = {0: {3: 0.25, 40: 0, 5: 0.5}, 1: {17: 0.25}}
        parts["heads"] = {0: {1: 0.5}, 1: {0: 0, 3: 0.25}}
    return masks.for_model(folder, kind, **({kind: parts[kind]} if kind in parts else parts))


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def ablated_logits(folder, mask):
    loaded = load(folder, dtype="float32", device="cpu")
    with ablated(loaded, mask, allow_other_base=True):
        return logits(loaded.model)


def as_bin(source, folder, shards=1):
    """The checkpoint of `source` in `folder` as .bin files; the configuration is copied."""
    folder.mkdir()
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    held = dict(tensors(source))
    if shards == 1:
        torch.save(held, folder / "pytorch_model.bin")
        return folder
    places = {name: f"pytorch_model-{place % shards + 1:05}-of-{shards:05}.bin" for place, name in enumerate(held)}
    for file in set(places.values()):
        torch.save({name: held[name] for name in held if places[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return {name: save_family(name, tmp_path_factory.mktemp(name)) for name in FAMILIES}


@pytest.fixture(scope="session")
def llama(models):
    return models["llama"]
