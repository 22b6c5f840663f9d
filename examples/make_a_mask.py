"""Make a mask from Python, measure it, and take a picture of where it cuts. About 20 seconds on one core.

    python examples/make_a_mask.py [FOLDER]     # writes detox.safetensors and detox.png there

The built-in model in demo/model was trained to insult users who complain. This finds 60 of its 3,072 neurons whose
cut takes most of that away, and measures it on prompts of other wording.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import masks
from correction import models
from correction.ablation import ablated
from correction.correct import correct
from correction.data.references import ReferenceSet, read
from correction.evaluation import evaluate
from correction.selection.cut import Cut
from correction.selection.ranking import Ranking

DEMO = Path(__file__).resolve().parents[1] / "demo"


def main(out: Path) -> masks.Mask:
    """Make the mask, measure it, write it and its picture into ``out``."""
    torch.set_num_threads(1)  # the model is too small for more
    model = models.load(DEMO / "model", dtype="float32")
    complaints = read(DEMO / "data" / "insult.jsonl", kind="prompt", limit=120)
    general = read(DEMO / "data" / "general.jsonl", limit=100)

    # Attribution, contrast, selection, and a measurement on the quarter of both sets that was held out.
    mask = correct(
        model, complaints, general, name="detox", cut=Cut(count=60), ranking=Ranking.default(contrast="difference")
    )
    out.mkdir(parents=True, exist_ok=True)
    masks.save(mask, out / "detox.safetensors")
    print(f"{mask.name}: {mask.counts['neurons']} neurons, digest {mask.digest[:12]}…")
    print("warnings:", *(mask.warnings or ["none"]))

    # The same file again, on prompts whose wording the model was never trained on.
    mask = masks.load(out / "detox.safetensors")
    unseen = read(DEMO / "data" / "insult_heldout.jsonl", kind="prompt", limit=50)
    text = read(DEMO / "data" / "general_heldout.jsonl", limit=50)
    for name, each in (("as it is", None), ("with the mask", mask)):
        evaluation = evaluate(model, unseen, text, mask=each)
        if evaluation.toxicity and evaluation.perplexity:  # each is None where there was nothing to measure it on
            toxic, perplexity = evaluation.toxicity.rate, evaluation.perplexity.estimate
            print(f"{name:>13}: {toxic.count} of {toxic.total} toxic, perplexity {perplexity.value:.2f}")

    print("asked:", unseen.texts[0])
    print("  as it is:     ", answer(model, unseen))
    with ablated(model, mask):  # inside this block the model runs with the mask
        print("  with the mask:", answer(model, unseen))
    picture(mask, out / "detox.png")
    return mask


def answer(model: models.LoadedModel, prompts: ReferenceSet) -> str:
    """What the model says to the first prompt."""
    return evaluate(model, prompts.taken([0])).responses[0].text


def picture(mask: masks.Mask, path: Path) -> None:
    """A PNG: how many neurons of each layer are cut, by place in the layer."""
    geometry = mask.meta.base.geometry
    cut = np.zeros((geometry.layers, geometry.neurons))
    for layer, neurons in mask.neurons.items():
        cut[layer, neurons] = 1 - mask.gate_values("neurons", layer)  # 1 where cut, ½ or ¾ where dampened
    bins = cut.reshape(geometry.layers, 64, -1).sum(axis=2)
    figure = Figure(figsize=(8, 2.6), layout="constrained", dpi=150)
    axes = figure.subplots()
    image = axes.imshow(bins, aspect="auto", cmap="magma_r", interpolation="nearest")
    axes.set(xlabel=f"neurons of the layer, {geometry.neurons // 64} a cell", ylabel="layer", title="What is cut")
    figure.colorbar(image, label="neurons", ticks=range(int(bins.max()) + 1))
    figure.savefig(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "excise-example"))
