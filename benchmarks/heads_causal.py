"""Do cheap criteria find the heads that matter? Spearman's ρ of each against the exact effect of cutting every head.

    python -m benchmarks.heads_causal MODEL --out heads.json [--data ../shared/data]

The truth is the criterion `causal`, on the search's C4 passages: the rise of their loss (seed `response`), and the fall
of the difference between the two largest logits at the last token (seed `contrastive`). Every cheap criterion reads the
same passages (how good it is as an approximation), and others (what is left when the truth is of other text). The
ceiling is what `causal` of one half of the parts says of the other half. Intervals are percentiles over heads drawn
with replacement. The passages go through `causal` a few at a time and what is done is kept in the folder `--journal`.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from benchmarks import material
from benchmarks.judge import DATA
from correction.attribution import attribute
from correction.criteria import Criterion, Settings
from correction.criteria.cost import COST
from correction.criteria.settings import OutputSeed, Sign
from correction.models import LoadedModel, load
from correction.references import ReferenceSet
from correction.relevance import Relevance

CHEAP: tuple[tuple[str | Criterion, OutputSeed, Sign], ...] = (
    *(
        (name, seed, sign)
        for name in ("lrp", "gradient")
        for seed in ("response", "contrastive")
        for sign in ("signed", "absolute")
    ),
    ("snip", "response", "absolute"),
    (COST, "response", "absolute"),
    ("activation", "response", "absolute"),
    ("magnitude", "response", "absolute"),
)
TRUTHS: dict[str, OutputSeed] = {"loss": "response", "logits": "contrastive"}
DRAWS = 1000


def flat(scores: Mapping[str, Tensor]) -> NDArray[np.float64]:
    """Scores of all heads, layer after layer: float64 (heads,)."""
    return torch.cat([each.flatten() for each in scores.values()]).double().numpy()


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's correlation of the ranks, ties sharing theirs (Spearman 1904)."""
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def with_interval(a: NDArray[np.float64], b: NDArray[np.float64], seed: int = 0) -> list[float]:
    """Spearman's ρ, and its 95% percentile interval over components drawn with replacement."""
    generator = np.random.default_rng(seed)
    places = generator.integers(0, len(a), (DRAWS, len(a)))
    low, high = np.quantile([spearman(a[each], b[each]) for each in places], (0.025, 0.975))
    return [round(each, 3) for each in (spearman(a, b), float(low), float(high))]


def found(a: NDArray[np.float64], b: NDArray[np.float64], top: int) -> float:
    """Of the `top` highest of `b`, the share that is among the `top` highest of `a`."""
    return len(set(np.argsort(-a)[:top]) & set(np.argsort(-b)[:top])) / top


def passages(data: Path, start: int, count: int, words: int, kind: Any) -> ReferenceSet:
    """The first words of passages of the search."""
    texts = material.passages(data)
    chosen = [texts[place] for place in material.SEARCH_PASSAGES][start : start + count]
    return ReferenceSet(tuple(" ".join(each.split()[:words]) for each in chosen), "c4", kind)


def truth(
    loaded: LoadedModel, texts: ReferenceSet, seed: OutputSeed, tokens: int, journal: Path | None
) -> tuple[Relevance, float]:
    """`causal`, and its seconds. A passage is a prompt for `contrastive`, so that its last token alone is seeded."""
    start = time.perf_counter()
    scores = attribute(
        loaded, texts, Settings("head", seed=seed), criterion="causal", raw=True, tokens=tokens, resume=journal
    )
    return scores, time.perf_counter() - start


def main(
    model: Annotated[str, typer.Argument(help="Folder or hub id.")],
    out: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")],
    data: Annotated[Path, typer.Option(help="Folder of the public data.", envvar="EXCISE_DATA")] = DATA,
    journal: Annotated[Path | None, typer.Option(help="Folder to keep what is done in.")] = None,
    texts: Annotated[int, typer.Option(help="Passages for the truth, of each half.")] = 20,
    others: Annotated[int, typer.Option(help="Other passages, for cheap criteria alone.")] = 100,
    words: Annotated[int, typer.Option(help="Words of a passage.")] = 30,
    tokens: Annotated[int, typer.Option(help="Tokens of a batch.")] = 1024,
    dtype: Annotated[str, typer.Option(help="auto keeps the checkpoint's; float32 is faster on most CPUs.")] = "auto",
) -> None:
    """Measure the truth and everything against it."""
    loaded = load(model, dtype=dtype)
    result: dict[str, Any] = {"benchmark": "heads_causal", "model": Path(model).name, "texts": [2 * texts, others]}
    for name, seed in TRUTHS.items():
        kind = "prompt" if seed == "contrastive" else "text"
        halves, seconds = [], 0.0
        for half in range(2):
            part = passages(data, half * texts, texts, words, kind)
            where = None if journal is None else journal / f"{name}-{half}"
            scores, took = truth(loaded, part, seed, tokens, where)
            halves.append(flat(scores.scores))
            seconds += took
        exact = (halves[0] + halves[1]) / 2
        rows = [{"criterion": "causal, other half", "same": with_interval(*halves), "seconds": round(seconds, 1)}]
        rows += cheap(loaded, exact, data, kind, texts, others, words)
        quantiles = [round(float(each), 5) for each in np.quantile(exact, (0, 0.25, 0.5, 0.75, 1))]
        result[name] = {"heads": len(exact), "quantiles": quantiles, "negative": int((exact < 0).sum()), "rows": rows}
        result[name]["exact"] = [round(float(each), 6) for each in exact]
        out.write_text(json.dumps(result, indent=1) + "\n")
    typer.echo(table(result))


def cheap(
    loaded: LoadedModel, exact: NDArray[np.float64], data: Path, kind: str, texts: int, others: int, words: int
) -> list[dict[str, Any]]:
    """Each cheap criterion against the truth: on its own passages, and on others."""
    rows = []
    for criterion, seed, sign in CHEAP:
        row: dict[str, Any] = {"criterion": getattr(criterion, "name", criterion), "seed": seed, "sign": sign}
        for column, start, count in (("same", 0, 2 * texts), ("other", 2 * texts, others)):
            # What is seeded at the last token needs a prompt; what is seeded by the loss needs a text.
            wanted = kind if seed == "contrastive" else "text"
            begun = time.perf_counter()
            scores = attribute(
                loaded,
                passages(data, start, count, words, wanted),
                Settings("head", seed=seed, sign=sign),
                criterion=criterion,
                raw=True,
            )
            row["seconds"] = round(time.perf_counter() - begun, 1)
            values = flat(scores.scores)
            row[column] = with_interval(values, exact)
            row[f"top_{column}"] = round(found(values, exact, 27), 3)
        rows.append(row)
    drawn = [
        spearman(flat(attribute(loaded, _ONE, Settings("head", random_seed=each), criterion="random").scores), exact)
        for each in range(20)
    ]
    rows.append({"criterion": "random, 20 seeds", "same": [round(float(each), 3) for each in spread(drawn)]})
    return rows


_ONE = ReferenceSet(("a",), "none", "text")


def spread(values: list[float]) -> tuple[float, float, float]:
    """Mean, lowest and highest."""
    return float(np.mean(values)), min(values), max(values)


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = []
    for name in TRUTHS:
        lines += [f"\n{name}\n", "| criterion | ρ, the same text | ρ, other text | top tenth, same / other |", "|---|---|---|---|"]
        for row in result[name]["rows"]:
            label = row["criterion"] + "".join(f", {row[key]}" for key in ("seed", "sign") if key in row)
            shown = ["{} [{}, {}]".format(*row[key]) if key in row else "–" for key in ("same", "other")]
            tops = " / ".join(str(row.get(f"top_{key}", "–")) for key in ("same", "other"))
            lines.append(f"| {label} | {shown[0]} | {shown[1]} | {tops} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
