"""Records without files: what a server's database holds after years, put there in seconds. And one very large mask."""

import time
from hashlib import sha256
from pathlib import Path

import numpy as np
from sqlalchemy import insert

import masks
from benchmarks.random_llama import random_mask
from benchmarks.replica import MODEL, replica
from service.experiments.experiment import Experiment, Variant, begin
from service.storage import audit, tables
from service.storage.registry import describe

VERSIONS = "versions"
"""The name that half of the masks are versions of."""
_MEASURED = {
    "perplexity": {"base": 4.971, "masked": 4.938},
    "toxicity": {"base": 0.867, "masked": 0.12},
    "n": [150] * 40,
}


def furnish(folder: Path, count: int) -> None:
    """Put the records into the database."""
    service = replica(folder)
    about = {**describe(random_mask(MODEL, "m", 0)), "measured": _MEASURED, "made": {"search": _MEASURED, "seed": 0}}
    rows = []
    for number in range(count):
        name, version = (VERSIONS, number // 2 + 1) if number % 2 else (f"mask-{number:05}", 1)
        row = {"digest": sha256(str(number).encode()).hexdigest(), "name": name, "version": version, "size": 2000}
        rows.append({**row, "registered_at": "2026-11-27T00:00:00Z", "description": about})
    flag = {"at": time.time(), "mask": "base", "score": 0.9, "text": "a long response " * 100}
    with service.database.change(masks=True) as connection:
        connection.execute(insert(tables.masks), rows)
        connection.execute(insert(tables.flagged), [flag] * 1000)
    for number in range(200):
        service.state.set_alias(VERSIONS, f"alias-{number}", number + 1)
    for number in range(100):
        arms = [Variant(f"v{arm}", f"{VERSIONS}@{arm + 1}", 0.2) for arm in range(4)]
        service.state.create(begin(Experiment(f"split-{number}", (*arms, Variant("c", "base", 0.2)), "c"), time.time()))
    service.state.set_route("experiment:split-1")
    with service.database.begin() as connection:
        for _ in range(700):
            audit.write(connection, "change experiment", "split-1", before={"about": about}, after={"about": about})
    service.database.close()


def large() -> bytes:
    """A mask of 64 MiB, half of all weights, of another model: it is read and then refused."""
    geometry = masks.Geometry(layers=16, neurons=4096, heads=64, head_dim=128, hidden=8192)
    base = masks.BaseModel("other", "LlamaForCausalLM", geometry, "0" * 64)
    shapes = {f"model.layers.{layer}.mlp.down_proj.weight": (8192, 4096) for layer in range(16)}
    bits = np.random.default_rng(0).integers(0, 256, (16, 2**22), dtype=np.uint8)
    meta = masks.Meta("large", base, shapes, "2026-11-27T00:00:00Z", {}, {})
    return masks.dumps(masks.Mask({}, {}, dict(zip(shapes, bits, strict=True)), meta))
