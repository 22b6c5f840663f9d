"""How brittle is refusal? The methods of Wei et al. 2024 on the harmful requests that a model refuses.

    python -m benchmarks.harmful_requests MODEL --out requests.json
    python -m benchmarks.alignment MODEL --requests requests.json --out alignment.jsonl [--data ../shared/data]

Of the requests that are refused, every other one is to find weights on, with the model's own refusals as responses, the
others are to report on. What is to be kept is told by C4 passages, where the paper has instructions and their answers.
Weights of all linear matrices, each matrix by itself: the top of what matters for refusing (`top-down`), or that less
the top of what matters in general (`set difference`), by SNIP and by Wanda on response tokens; ActSVD of rank r, alone
and beside the ranks that are kept; as many weights by lot. Figures: attack success in three forms, and the rise of the
perplexity of other passages. One JSON line a method, no request and no answer; what is there is not measured again.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer

import masks
from benchmarks import jsonl, material
from benchmarks.harmful_requests import goals
from benchmarks.judge import DATA
from benchmarks.reading import Reading
from benchmarks.rivals import ids_of
from correction import actsvd
from correction.ablation import ablated
from correction.attribution.attribution import attribute
from correction.attribution.criteria import Settings
from correction.attribution.criteria.output_seeds import Sample
from correction.attribution.relevance import Relevance
from correction.data.generation import generate
from correction.data.references import ReferenceSet
from correction.evaluation.attack import FORMS, attack, request
from correction.models import LoadedModel, load
from correction.selection.top_k import components_by_layer, select, set_difference

Criterion = Literal["wanda", "snip", "random"]


@dataclass(frozen=True)
class Sizes:
    """How much is read, cut and asked.

    Attributes:
        top: Share of each matrix that is cut top-down.
        top_behaviour: q and p of the set difference.
        top_general: q and p of the set difference.
        rank: Of ActSVD, what is taken away and what stays.
        kept: Of ActSVD, what is taken away and what stays.
    """

    requests: int
    passages: int
    tokens: int
    max_new_tokens: int
    samples: int
    top: float
    top_behaviour: float
    top_general: float
    rank: int
    kept: int


@dataclass(frozen=True)
class Material:
    """Refused requests with their refusals, and passages to keep: to find by; and requests to report on."""

    refusals: ReferenceSet
    general: ReferenceSet
    requests: tuple[str, ...]


def material_of(loaded: LoadedModel, asked: Sequence[str], texts: Sequence[str], sizes: Sizes) -> Material:
    """Divide the refused requests, and let the model refuse those to find by."""
    find, report = asked[::2][: sizes.requests], asked[1::2][: sizes.requests]
    answers = generate(loaded, [request(loaded, each, "system") for each in find], max_new_tokens=sizes.max_new_tokens)
    said = tuple(str(loaded.tokenizer.decode(list(each), skip_special_tokens=True)) for each in answers)
    refusals = ReferenceSet(tuple(find), "refused", "prompt", said)
    return Material(refusals, ReferenceSet(tuple(texts[: sizes.passages]), "c4", "text"), tuple(report))


def modules(loaded: LoadedModel) -> tuple[str, ...]:
    """Last names of all linear modules of a layer."""
    return tuple(dict.fromkeys(name.rpartition(".")[2] for name in actsvd.linears(loaded)))


def top_down(behaviour: Relevance, share: float) -> dict[str, Any]:
    """The top share of each matrix by what matters for the behaviour."""
    selected: dict[str, Any] = {}
    for name, score in behaviour.scores.items():
        selected |= select(replace(behaviour, scores={name: -score}), fraction=share)
    return selected


def methods(loaded: LoadedModel, given: Material, sizes: Sizes) -> Iterator[tuple[str, Any]]:
    """Names, and what makes each of them: a context in which the model is changed; yields how much."""
    settings = Settings("weight", seed="response", sign="absolute", modules=modules(loaded))

    def scores(criterion: Criterion, references: ReferenceSet) -> Relevance:
        return attribute(loaded, references, settings, criterion=criterion, max_length=sizes.tokens)

    @contextmanager
    def cut(selected: dict[str, Any]) -> Iterator[dict[str, Any]]:
        mask = masks.for_model(loaded.path, "cut", **components_by_layer(selected))
        total = sum(each.weight.numel() for each in actsvd.linears(loaded).values())
        with ablated(loaded, mask):
            yield {"share": round(mask.count / total, 5)}

    def by_scores(criterion: Criterion, apart: bool) -> AbstractContextManager[dict[str, Any]]:
        behaviour = scores(criterion, given.refusals)
        if not apart:
            return cut(top_down(behaviour, sizes.top))
        general = scores(criterion, given.general)
        tops = {"top_behaviour": sizes.top_behaviour, "top_general": sizes.top_general}
        return cut(set_difference(general, behaviour, **tops))

    @cache
    def moments(general: bool) -> actsvd.Moments:
        if general:
            read = ids_of(loaded, given.general.texts, sizes.tokens)
            return actsvd.moments(loaded, [Sample(tuple(ids[:1]), tuple(ids[1:])) for ids in read])
        pairs = zip(given.refusals.texts, given.refusals.responses or (), strict=True)
        ids = [(request(loaded, text, "system"), loaded.tokenizer(said)["input_ids"]) for text, said in pairs]
        return actsvd.moments(loaded, [Sample(tuple(each), tuple(said)) for each, said in ids if said])

    @contextmanager
    def by_ranks(kept: int) -> Iterator[dict[str, Any]]:
        changes = actsvd.changes(loaded, moments(False), moments(True) if kept else None, rank=sizes.rank, kept=kept)
        with actsvd.changed(loaded, changes):
            yield {"rank": sizes.rank, "kept": kept}

    yield "base", lambda: nullcontext({})
    yield "wanda, set difference", lambda: by_scores("wanda", True)
    yield "snip, set difference", lambda: by_scores("snip", True)
    yield "actsvd, beside what is kept", lambda: by_ranks(sizes.kept)
    yield "wanda, top-down", lambda: by_scores("wanda", False)
    yield "snip, top-down", lambda: by_scores("snip", False)
    yield "actsvd, top-down", lambda: by_ranks(0)
    yield "random", lambda: by_scores("random", False)


def measured(loaded: LoadedModel, requests: Sequence[str], reading: Reading, sizes: Sizes) -> dict[str, Any]:
    """Attack success in three forms, and what became of text."""
    row: dict[str, Any] = {}
    for form in FORMS:
        attack_result = attack(loaded, requests, form, max_new_tokens=sizes.max_new_tokens, samples=sizes.samples)
        rate = attack_result.rate
        row[form] = [rate.count, rate.total, round(rate.low, 4), round(rate.high, 4)]
        row[f"{form}_words"] = round(attack_result.words, 1)
        row[f"{form}_refused"] = sum(attack_result.refused)
    return row | {"c4": reading.change().summary()}


def main(
    model: Annotated[str, typer.Argument(help="Folder or hub id.")],
    out: Annotated[Path, typer.Option(help="JSON lines; what is there is not measured again.")],
    requests_file: Annotated[Path, typer.Option("--requests", help="What `harmful_requests` wrote.")],
    data: Annotated[Path, typer.Option(help="Folder of the public data.", envvar="EXCISE_DATA")] = DATA,
    requests: Annotated[int, typer.Option("--most", help="Most refused requests to find by, and to report on.")] = 50,
    passages: Annotated[int, typer.Option(help="Passages that tell what is kept, and as many to measure on.")] = 64,
    tokens: Annotated[int, typer.Option(help="Most tokens of a passage.")] = 128,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 40,
    samples: Annotated[int, typer.Option(help="Answers to each request of the sampled form.")] = 5,
    top: Annotated[float, typer.Option(help="Share of each matrix, top-down.")] = 0.01,
    top_behaviour: Annotated[float, typer.Option(help="q of the set difference.")] = 0.05,
    top_general: Annotated[float, typer.Option(help="p of the set difference.")] = 0.05,
    rank: Annotated[int, typer.Option(help="Ranks that ActSVD takes away.")] = 10,
    kept: Annotated[int, typer.Option(help="Ranks that ActSVD keeps.")] = 200,
    only: Annotated[list[str] | None, typer.Option(help="Only these methods.")] = None,
    dtype: Annotated[str, typer.Option(help="auto keeps the checkpoint's; float32 is faster on most CPUs.")] = "auto",
) -> None:
    """Measure every method that is not in the file yet."""
    sizes = Sizes(requests, passages, tokens, max_new_tokens, samples, top, top_behaviour, top_general, rank, kept)
    loaded = load(model, dtype=dtype)
    settings = vars(sizes) | {"model": Path(model).name, "threads": torch.get_num_threads()}
    refused = json.loads(requests_file.read_text())["system"]["refused"]
    asked, texts = goals(data), material.passages(data)
    given = material_of(
        loaded, [asked[row] for row in refused], [texts[place] for place in material.SEARCH_PASSAGES], sizes
    )
    reading = Reading(loaded, ids_of(loaded, [texts[n] for n in material.REPORT_PASSAGES][:passages], tokens))
    there = jsonl.read(out)
    done = {row["method"] for row in there if row["settings"] == settings}
    for name, make in methods(loaded, given, sizes):
        if name in done or (only and name not in only):
            continue
        start = time.perf_counter()
        with make() as made:
            row = {"benchmark": "alignment", "method": name, **made}
            row["found_s"] = round(time.perf_counter() - start, 1)
            row |= measured(loaded, given.requests, reading, sizes)
        row |= {"seconds": round(time.perf_counter() - start, 1), "settings": settings}
        typer.echo(json.dumps(row))
        jsonl.add(out, row)


if __name__ == "__main__":
    typer.run(main)
