"""Find the attention heads that suffice for a task, and write the mask that cuts all others. About 20 seconds.

    python examples/find_a_circuit.py [FOLDER]     # writes colours.csv, colours.safetensors, pictures and circuit.html

The task: which colour is this animal? Every pair has a prompt, the same prompt about an animal of another colour, and
the right and the wrong answer. The model in demo/model has 24 heads and was trained on texts about these animals.
"""

import csv
import sys
from itertools import cycle
from pathlib import Path

import torch

import masks
from correction import models
from correction.circuits import CircuitSearch, find_circuit, task_rows
from correction.report.circuit_report import summary, write
from demo.world import ANIMALS

DEMO = Path(__file__).resolve().parents[1] / "demo"
PROMPTS = (
    "The {x} is",
    "Ben saw a {x}. The {x} is",
    "<|user|>What colour is a {x}?<|end|><|assistant|>The {x} is",
    "<|user|>Tell me something about the {x}.<|end|><|assistant|>The {x} is",
)


def main(out: Path) -> masks.Mask:
    """Write the pairs, search the circuit, and write mask and report into ``out``."""
    torch.set_num_threads(1)  # the model is too small for more
    out.mkdir(parents=True, exist_ok=True)
    with (out / "colours.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("clean", "corrupted", "correct", "wrong"))
        table.writerows(pairs())

    model = models.load(DEMO / "model", dtype="float32")
    task = task_rows(model, str(out / "colours.csv"))  # rows whose answers are not one token each are left out
    circuit = find_circuit(model, task, CircuitSearch(goal=0.9, rivals=("gradient",), seeds=(0, 1)), name="colours")
    masks.save(circuit.mask, out / "colours.safetensors")
    write(circuit, out)
    for measure, value in summary(circuit).rows:
        print(f"{measure}: {value}")
    return circuit.mask


def pairs() -> list[tuple[str, str, str, str]]:
    """clean, corrupted, correct, wrong: each animal beside one of another colour, in each wording."""
    rows = []
    others = cycle(ANIMALS)
    for prompt in PROMPTS:
        for animal in ANIMALS:
            other = next(each for each in others if each["colour"] != animal["colour"])
            texts = prompt.format(x=animal["x"]), prompt.format(x=other["x"])
            rows.append((*texts, f" {animal['colour']}", f" {other['colour']}"))
    return rows


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "excise-example"))
