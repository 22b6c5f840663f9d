"""Do cheap criteria find the heads that matter? Spearman's ρ of each against the exact effect of cutting every head.

    python -m benchmarks.heads_causal MODEL --out heads.json --truth truth.npz [--data ../shared/data]

The truth is what the criterion `causal` measures, on the search's C4 passages, both at once: the rise of their loss,
and the fall of the difference between the two largest logits at the last token. Every cheap criterion reads the same
passages (how good it is as an approximation), and others (what is left when the truth is of other text). The ceiling is
how well one half of the passages tells the truth of the other (mean of 100 halvings), and, by the formula of Spearman
and Brown, how well the truth of all of them would be told by as many again. Intervals are percentiles over heads drawn
with replacement.

The truth takes long. Its passages are read a few at a time and kept in `--truth`; a later call goes on from there, and
`--texts` may grow. `--measured-only` makes the figures of what is there.
"""

import json
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
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
from correction.attribution.attribution import attribute
from correction.attribution.criteria import Criterion, Settings
from correction.attribution.criteria.causal import PARTS, MedianOfMeans, SeededOutput, ablated_hidden_states
from correction.attribution.criteria.cost import COST
from correction.attribution.criteria.criterion_settings import OutputSeed, Sign
from correction.attribution.criteria.output_seeds import Sample, seeded_batches
from correction.attribution.criteria.scored_modules import find_scored_modules
from correction.data.references import Kind, ReferenceSet, read
from correction.data.tokenisation import encode
from correction.models import LoadedModel, load

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
TRUTHS = {"loss": "rise of the loss", "logits": "fall of the logit difference"}
Effects = dict[str, NDArray[Any]]
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


def top_shared(a: NDArray[np.float64], b: NDArray[np.float64], top: int) -> float:
    """Of the `top` highest of `b`, the share that is among the `top` highest of `a`."""
    return len(set(np.argsort(-a)[:top]) & set(np.argsort(-b)[:top])) / top


def pool(data: Path, file: str | None, words: int) -> list[str]:
    """The first words of all texts there are: of a file, else the C4 passages of the search."""
    if file is not None:
        passages = list(read(file).texts)
    else:
        texts = material.passages(data)
        passages = [texts[place] for place in material.SEARCH_PASSAGES]
    return [" ".join(each.split()[:words]) for each in passages]


def texts_of(texts: Sequence[str], kind: Kind) -> ReferenceSet:
    """Texts as what they are to be read as."""
    return ReferenceSet(tuple(texts), "texts", kind)


def truth(loaded: LoadedModel, texts: ReferenceSet, at_once: int, file: Path, measured_only: bool) -> Effects:
    """Of each text, what cutting each head does to its loss and to its logit difference: float32 (texts, heads)."""
    sequences = encode(loaded, texts, raw=True)
    kept: Effects = dict(np.load(file)) if file.exists() else {}
    done = len(kept["ids"]) if kept else 0
    if kept and kept["ids"].tolist() != [hashed(each) for each in sequences[:done]]:
        raise typer.BadParameter(f"{file} is of other texts")
    for start in range(done, done if measured_only else len(sequences), at_once):
        part = sequences[start : start + at_once]
        new = {**measured(loaded, part), "ids": np.array([hashed(each) for each in part])}
        kept = {name: np.concatenate([kept[name], each]) if kept else each for name, each in new.items()}
        np.savez(file, **kept)  # type: ignore[arg-type]
    return kept


def hashed(ids: Sequence[int]) -> str:
    """Of a text's tokens."""
    return sha256(repr(list(ids)).encode()).hexdigest()[:16]


def measured(loaded: LoadedModel, sequences: Sequence[Sequence[int]]) -> Effects:
    """The effects of a few texts, in one batch."""
    begun = time.perf_counter()
    texts = [Sample(tuple(each[:1]), tuple(each[1:])) for each in sequences]
    (by_loss,) = seeded_batches(texts, "response", tokens=1 << 20, device=loaded.device)
    (by_logits,) = seeded_batches(
        [Sample(tuple(each)) for each in sequences], "contrastive", tokens=1 << 20, device=loaded.device
    )
    order = sorted(range(len(sequences)), key=lambda place: (len(sequences[place]), place))
    # What is seeded by the loss leaves the last token out, which nothing before it sees.
    places = list(find_scored_modules(loaded, Settings("head")))
    passes = ablated_hidden_states(loaded, places, by_logits.batch)
    whole = next(passes)[1]
    outputs = {
        "loss": SeededOutput(loaded, by_loss, whole, loss=True),
        "logits": SeededOutput(loaded, by_logits, whole, loss=False),
    }
    falls: dict[str, list[Tensor]] = {name: [] for name in outputs}
    for _, hidden in passes:
        for name, output in outputs.items():
            falls[name].append(output.fall(hidden))
    effects = {}
    for name, each in falls.items():
        rows = torch.stack(each, 1).float().cpu().numpy()
        effects[name] = rows[np.argsort(order)]
    effects["seconds"] = np.full(len(sequences), (time.perf_counter() - begun) / len(sequences))
    return effects


def score(effects: NDArray[Any]) -> NDArray[np.float64]:
    """The median over parts of the mean within one, as `causal` has it: (texts, heads) → float64 (heads,)."""
    parts = MedianOfMeans(torch.zeros(PARTS, 1 + effects.shape[1]))
    parts.add(torch.from_numpy(effects))
    return parts.mean(len(effects)).double().numpy()


def ceiling(effects: NDArray[Any], seed: int = 0) -> dict[str, float]:
    """ρ of the scores of two halves of the texts, mean of 100 halvings; and what that makes of all of them."""
    generator = np.random.default_rng(seed)
    correlations = []
    for _ in range(100):
        halves = np.array_split(generator.permutation(len(effects)), 2)
        correlations.append(spearman(*(score(effects[half]) for half in halves)))
    half = float(np.mean(correlations))
    return {"half": round(half, 3), "all": round(2 * half / (1 + half), 3)}


def main(
    model: Annotated[str, typer.Argument(help="Folder or hub id.")],
    out: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")],
    truth_file: Annotated[Path, typer.Option("--truth", help="Where the truth is kept, .npz.")],
    data: Annotated[Path, typer.Option(help="Folder of the public data.", envvar="EXCISE_DATA")] = DATA,
    file: Annotated[str | None, typer.Option("--file", help="Other texts than C4: a reference set.")] = None,
    texts: Annotated[int, typer.Option(help="Passages for the truth.")] = 40,
    others: Annotated[int, typer.Option(help="Other passages, for cheap criteria alone.")] = 100,
    words: Annotated[int, typer.Option(help="Words of a passage.")] = 30,
    at_once: Annotated[int, typer.Option(help="Passages in a batch.")] = 4,
    measured_only: Annotated[bool, typer.Option(help="Go on with no more than is kept.")] = False,
    dtype: Annotated[str, typer.Option(help="auto keeps the checkpoint's; float32 is faster on most CPUs.")] = "auto",
) -> None:
    """Measure the truth and everything against it."""
    loaded = load(model, dtype=dtype)
    passages = pool(data, file, words)
    kept = truth(loaded, texts_of(passages[:texts], "text"), at_once, truth_file, measured_only)
    count, other = len(kept["ids"]), passages[texts : texts + others]
    result: dict[str, Any] = {"benchmark": "heads_causal", "model": Path(model).name, "texts": count, "words": words}
    result |= {
        "others": len(other),
        "seconds": round(float(kept["seconds"].sum()), 1),
        "threads": torch.get_num_threads(),
    }
    for name in TRUTHS:
        exact = score(kept[name])
        rows = cheap(loaded, exact, name, passages[:count], other)
        quantiles = [round(float(each), 5) for each in np.quantile(exact, (0, 0.25, 0.5, 0.75, 1))]
        result[name] = {"heads": len(exact), "quantiles": quantiles, "negative": int((exact < 0).sum())}
        result[name] |= {"ceiling": ceiling(kept[name]), "rows": rows}
        out.write_text(json.dumps(result, indent=1) + "\n")
    typer.echo(table(result))


def cheap(
    loaded: LoadedModel,
    exact: NDArray[np.float64],
    name: str,
    same: Sequence[str],
    other: Sequence[str],
) -> list[dict[str, Any]]:
    """Each cheap criterion against the truth: on its own passages, and on others."""
    rows = []
    for criterion, seed, sign in CHEAP:
        row: dict[str, Any] = {"criterion": getattr(criterion, "name", criterion), "seed": seed, "sign": sign}
        # A prompt is seeded at its last token, a text at every one.
        wanted: Kind = "prompt" if seed == "contrastive" and name == "logits" else "text"
        for column, texts in (("same", same), ("other", other)):
            begun = time.perf_counter()
            scores = attribute(
                loaded,
                texts_of(texts, wanted),
                Settings("head", seed=seed, sign=sign),
                criterion=criterion,
                raw=True,
            )
            row["seconds"] = round(time.perf_counter() - begun, 1)
            values = flat(scores.scores)
            row[column] = with_interval(values, exact)
            row[f"top_{column}"] = round(top_shared(values, exact, max(1, len(exact) // 10)), 3)
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
    for name, title in TRUTHS.items():
        best = result[name]["ceiling"]
        lines += [f"\n{title}: {result['texts']} texts; ceiling {best['half']} of half, {best['all']} of all\n"]
        lines += ["| criterion | ρ, the same text | ρ, other text | top tenth, same / other |", "|---|---|---|---|"]
        for row in result[name]["rows"]:
            label = row["criterion"] + "".join(f", {row[key]}" for key in ("seed", "sign") if key in row)
            shown = ["{} [{}, {}]".format(*row[key]) if key in row else "–" for key in ("same", "other")]
            tops = " / ".join(str(row.get(f"top_{key}", "–")) for key in ("same", "other"))
            lines.append(f"| {label} | {shown[0]} | {shown[1]} | {tops} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
