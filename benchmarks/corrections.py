"""What corrections of a real model reach: by granularity, criterion, budget and seed; measured as `rivals` are.

    python -m benchmarks.corrections MODEL --out rows.jsonl [--processes 8] [--seconds 600] [--only loops,neuron]

Every mask is searched for on the search's part of the data, measured on the reports' part (`benchmarks.material`), by
the same code and with the same sizes as AurA and the others, which `benchmarks.rivals` adds to the same file. Jobs are
taken in order of weight, by as many processes as asked for; a row that is there already is not measured again, and what
is not done after `--seconds` is left for another time. Settings are the defaults of `excise correct`; they were fixed
before on the built-in model, and on openings and passages that are in no report.
"""

import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer

from benchmarks import jsonl, material, rivals
from benchmarks.judge import DATA
from benchmarks.rivals import Case, Name, Rival, Sizes, measured
from correction.ablation import ablated
from correction.attribution.criteria import CRITERIA
from correction.attribution.relevance import Granularity, Relevance
from correction.correct import build_mask
from correction.data.detectors import parse_detector
from correction.data.references import ReferenceSet
from correction.errors import CorrectionError
from correction.models import LoadedModel, load
from correction.options import AttributionOptions, GenerationOptions
from correction.search.mask_search import candidates, search
from correction.search.refinement import Refinement, refine
from correction.search.strength import gated_count
from correction.search.validation import Budget
from correction.selection.contrast import Contrast
from correction.selection.ranking import Ranking

BUDGETS = (0.01, 0.05, 0.02)
SIZES = {
    "loops": Sizes(340, 150, 24, 400, 50, 1, 0.0, 160, 512),
    "toxicity": Sizes(340, 150, 24, 400, 50, 5, 1.0, 160, 512),
}
RANK = 4
CRITERIA_NAMES = ("lrp*", "gradient*", "lrp", "random", "activation", "gradient", "wanda", "snip", "magnitude")
OTHERS: tuple[tuple[Granularity, str], ...] = (("head", "search"), ("neuron", "shuffled"))
RIVALS = (
    "base",
    "aura",
    "mean_shift_1",
    "system_prompt",
    "instruction_before",
    "aura_neurons",
    "mean_shift_0.5",
    "mean_shift_0.25",
    "system_prompt_neutral",
)
"""Of `rivals.rivals`, those that say most first."""


@dataclass(frozen=True)
class Job:
    """One row.

    Attributes:
        granularity: Of what is cut; None for a rival.
        name: Of the rival, or what ranks: `search` as `excise correct` does; a criterion, by Eq. 7, with `*` by gain
            for cost, with `r` in so many rows and columns of a matrix, with `p` held against responses to the same
            prompt that do not show the behaviour; `shuffled` refines candidates drawn by lot.
    """

    case: Name
    granularity: Granularity | None
    name: str
    budget: float = 0.0
    seed: int = 0
    rounds: int = 1

    def rankings(self) -> tuple[Ranking, ...]:
        """What proposes cuts; nothing does for a rival."""
        if self.granularity is None:
            return ()
        if self.name in ("search", "shuffled"):
            return candidates(self.granularity)
        bare, star, how = self.name.partition("*")
        contrast: Contrast | None = None if star or not CRITERIA[bare].reads else "difference"
        given: dict[str, Any] = {"random_seed": self.seed} if bare == "random" else {}
        given |= {"baseline": "spared"} if how == "p" else {}
        ranking = Ranking.default(bare, self.granularity, contrast, **given)
        return (replace(ranking, rank=RANK) if how == "r" else ranking,)

    @property
    def row(self) -> dict[str, Any]:
        """What tells it from others."""
        if self.granularity is None:
            return {"case": self.case, "rival": self.name}
        columns = {"case": self.case, "rival": f"{self.granularity}s, {self.name}", "budget": self.budget}
        return columns | {"seed": self.seed, "rounds": self.rounds}


def jobs() -> tuple[Job, ...]:
    """All of them once, those that say most first."""
    return tuple(dict.fromkeys(_listed()))


def _listed() -> Iterator[Job]:
    cases: tuple[Name, ...] = ("loops", "toxicity")
    both = [(case, budget) for case in cases for budget in BUDGETS]
    yield from (Job(case, None, name) for name in RIVALS[:3] for case in cases)
    yield from (Job(case, "neuron", "search", budget) for budget in BUDGETS for case in cases)
    yield from (Job(case, None, name) for name in RIVALS[3:] for case in cases)
    yield from (Job("toxicity", "neuron", name, budget) for name in ("gradient*p", "lrp*p") for budget in (0.05, 0.01))
    for name in ("gradient*r", "gradient*", "lrp*r"):
        yield from (Job("loops", "weight", name, budget) for budget in (0.05, 0.01))
    yield from (Job("loops", "neuron", "search", budget, rounds=2) for budget in (0.05, 0.01))
    yield from (Job("loops", "neuron", "search", budget, seed) for seed in (1, 2) for budget in (0.05, 0.01))
    yield from (Job("toxicity", "weight", "gradient*r", budget) for budget in (0.05, 0.01))
    yield from (Job("toxicity", "neuron", "search", 0.05, seed) for seed in (1, 2))
    yield from (Job("loops", granularity, name, 0.05) for granularity, name in OTHERS)
    yield from (Job("toxicity", granularity, name, 0.05) for granularity, name in OTHERS)
    for name in CRITERIA_NAMES:
        yield from (Job(case, "neuron", name, budget) for budget in (0.05, 0.01) for case in cases)
    for seed in (1, 2):
        yield from (Job(case, "neuron", name, budget, seed) for case, budget in both for name in ("search", "random"))
    for name in ("gradient*", "lrp*r", "lrp*", "lrp"):
        yield from (Job(case, "weight", name, budget) for case in cases for budget in (0.05, 0.01))
    yield from (Job(case, "head", "search", 0.01) for case in cases)
    yield from (Job("toxicity", "neuron", "search", budget, rounds=2) for budget in (0.05, 0.01))
    yield from (Job(case, "neuron", name, 0.02) for name in CRITERIA_NAMES for case in cases)


class Bench:
    """A model with the data of both cases, in one process."""

    raw = True
    """Whether prompts are read as they stand."""

    def __init__(self, model: str, data: Path, dtype: str) -> None:
        torch.set_num_threads(1)
        self.loaded: LoadedModel = load(model, dtype=dtype)
        self.data = data
        self.texts = rivals.texts_of(self.loaded, data, SIZES["loops"])
        passages = material.passages(data)
        self.general = ReferenceSet(tuple(passages[at] for at in material.SEARCH_PASSAGES), "c4", "text")
        self.case = cache(self._case)

    def _case(self, name: Name) -> Case:
        return rivals.CASES[name](self.loaded, self.data, SIZES[name])

    def prompts(self, name: Name) -> ReferenceSet:
        """Those to search with."""
        if name == "loops":
            passages = material.passages(self.data)
            texts = tuple(material.opening(passages[at]) for at in material.SEARCH_OPENINGS)
        else:
            texts = material.web(self.data).seen
        return ReferenceSet(tuple(dict.fromkeys(texts)), name, "prompt")

    def run(self, job: Job) -> dict[str, Any]:
        """Search, or fit, and measure."""
        return self._rival(job) if job.granularity is None else self._search(job)

    def _rival(self, job: Job) -> dict[str, Any]:
        case = self.case(job.case)
        rival = next(each for each in rivals.rivals(self.loaded, job.case, case) if each.name == job.name)
        return job.row | measured(self.loaded, rival, case, self.texts, SIZES[job.case])

    def _search(self, job: Job) -> dict[str, Any]:
        start = time.perf_counter()
        sizes = SIZES[job.case]
        behaviour, prompts = self.prompts(job.case).split(0.25, job.seed)
        general, text = self.general.split(0.4, job.seed)
        generation_options = GenerationOptions(
            self.raw, sizes.max_new_tokens, sizes.samples, sizes.temperature, job.seed
        )
        shuffled = job.name == "shuffled"
        search_result = search(
            self.loaded,
            behaviour,
            general,
            prompts,
            text,
            parse_detector("repetition" if job.case == "loops" else "toxicity", threshold=0.5),
            budget=Budget(job.budget),
            rankings=job.rankings(),
            rounds=job.rounds,
            refinement=Refinement(seed=job.seed) if job.name == "search" or shuffled else None,
            generation_options=generation_options,
            attribution_options=AttributionOptions(raw=self.raw),
        )
        chosen = search_result.chosen
        tried = [each.described() for each in search_result.tried]
        if shuffled:  # the best that was refined: the question is what refinement makes of such candidates
            refined = [each for each in search_result.tried if each.label.endswith("refined")]
            chosen = min(refined, key=lambda each: (each.increase.high > job.budget, each.behaviour_rate))
        mask = build_mask(self.loaded, chosen.gated, name="benchmark", made={})
        seconds = time.perf_counter() - start
        row = measured(
            self.loaded, Rival("", lambda: ablated(self.loaded, mask)), self.case(job.case), self.texts, sizes
        )
        details = {
            "cut": gated_count(chosen.gated),
            "chosen": chosen.label,
            "search_s": round(seconds, 1),
            "tried": tried,
        }
        return job.row | row | details


def _by_lot(loaded: LoadedModel, begun: Relevance, *given: Any, **options: Any) -> Relevance:
    """`refine`, from as many candidates as strong, drawn by lot."""
    flat = torch.cat([score.view(-1) for score in begun.scores.values()])
    flat = flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))]
    parts = flat.split([score.numel() for score in begun.scores.values()])
    scores = {name: part.view_as(begun.scores[name]) for name, part in zip(begun.scores, parts, strict=True)}
    return refine(loaded, replace(begun, scores=scores), *given, **options)


_BENCH: list[Bench] = []


def _begin(model: str, data: Path, dtype: str) -> None:
    _BENCH.append(Bench(model, data, dtype))


def _done(job: Job) -> dict[str, Any]:
    lot = patch("correction.search.mask_search.refine", _by_lot) if job.name == "shuffled" else nullcontext()
    try:
        with lot:
            return _BENCH[0].run(job)
    except CorrectionError as error:
        return job.row | {"nothing": str(error)}


def main(
    model: Annotated[str, typer.Argument(help="Folder or hub id.")],
    out: Annotated[Path, typer.Option(help="JSON lines; what is there is not measured again.")],
    data: Annotated[Path, typer.Option(help="Folder of the public data.", envvar="EXCISE_DATA")] = DATA,
    processes: Annotated[int, typer.Option(help="At once.")] = 1,
    seconds: Annotated[float, typer.Option(help="No job is begun after these.")] = 1e9,
    only: Annotated[str, typer.Option(help="Jobs whose row has all of these words, comma-separated.")] = "",
    dtype: Annotated[str, typer.Option(help="See `rivals`.")] = "float32",
) -> None:
    """Measure every row that is not in the file yet."""
    start = time.perf_counter()
    done = {_key(row) for row in jsonl.read(out)}
    pending = [job for job in jobs() if _key(job.row) not in done]
    pending = [job for job in pending if all(word in json.dumps(job.row) for word in only.split(",") if word)]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(model, data, dtype)
    ) as pool:
        running = [pool.submit(_done, job) for job in pending]
        for future in as_completed(running):
            if future.cancelled():
                continue
            row = {"benchmark": "corrections", **future.result(), "device": device, "dtype": dtype}
            jsonl.add(out, row)
            typer.echo(json.dumps({key: each for key, each in row.items() if key != "tried"}))
            if time.perf_counter() - start > seconds:
                for other in running:
                    other.cancel()


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in ("case", "rival", "budget", "seed", "rounds"))


if __name__ == "__main__":
    typer.run(main)
