"""The whole search: a task → an order → the smallest circuit that is faithful enough → a mask that cuts all others."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

import masks
from correction.attribution import criteria
from correction.attribution.criteria.criterion_settings import Settings
from correction.attribution.relevance import Relevance
from correction.circuits import checks
from correction.circuits.circuit_ablation import Ablation, Kept, Kind, make_ablation
from correction.circuits.circuit_size import CircuitEvaluator, Curve, curve, smallest_faithful
from correction.circuits.metric import faithfulness, total_effect
from correction.circuits.order import circuit_size, difference, jaccard_index, relevance, top_components
from correction.circuits.prompt_pairs import TaskRow, TaskRows
from correction.circuits.task_answers import TaskAnswers, TaskReader
from correction.correct import build_mask
from correction.errors import EvaluationError, SelectionError
from correction.models import LoadedModel
from correction.progress import Progress, silent
from masks.meta import check_name
from stats.estimates import Estimate, Rate, bootstrap, mean, wilson

HEADS = Settings("head", sign="signed")
"""Heads, by relevance with its sign: those that speak for the answer come first."""
ABLE = 0.75
"""Least accuracy of the model itself: a circuit of what it cannot do explains nothing."""
DRAWN = 0.8
"""Of the rows to attribute on, what each seed draws."""


@dataclass(frozen=True)
class CircuitSearch:
    """What is asked for.

    Attributes:
        criterion: Of the order; the settings say the universe too: granularity, modules, layers.
        settings: Of the order; the settings say the universe too: granularity, modules, layers.
        ablation: What stands in for what is not kept.
        beside: Others whose curves are shown along with it.
        goal: Faithfulness that the smallest circuit must reach, on rows of its own; not used where `kept` is given.
        kept: Components of the circuit.
        rivals: Other criteria whose curves are shown beside; `random` always is, once for each seed.
        seeds: Of the orders whose circuits are compared; the first one makes the mask.
        split_seed: Of the three parts of the rows.
        tried: Components that are taken out of the circuit, one at a time, for minimality.
        tokens: Size of a batch.
    """

    criterion: str = "lrp"
    settings: Settings = HEADS
    ablation: Kind = "zero"
    beside: tuple[Kind, ...] = ("mean",)
    goal: float = 0.9
    kept: int | None = None
    rivals: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    split_seed: int = 0
    tried: int = 20
    tokens: int = 4096


@dataclass(frozen=True)
class Circuit:
    """A circuit and what it was measured by, on rows that it was not made from.

    Attributes:
        mask: Cuts the complement.
        kept: Flags of the circuit.
        order: The scores that it was taken from.
        able: Accuracy of the model, on all rows.
        model: On those of the report.
        circuit: On those of the report.
        spread: m(N) − m(∅).
        faithfulness: None where that is not told from 0.
        necessity: None where that is not told from 0.
        divergence: KL(model ‖ circuit) of the next token, in nats.
        overlaps: Jaccard index of the circuits of each two seeds.
        by_chance: What random ones of that size expect.
        curves: Under each ablation that of the criterion, of the rivals, and of `random` by seed.
    """

    mask: masks.Mask
    kept: Kept
    order: Relevance
    able: Rate
    model: TaskAnswers
    circuit: TaskAnswers
    spread: Estimate
    faithfulness: Estimate | None
    divergence: Estimate
    necessity: Estimate | None
    incompleteness: checks.Incompleteness | None
    minimality: checks.Minimality | None
    overlaps: tuple[float, ...]
    by_chance: float
    curves: tuple[Curve, ...]


def find_circuit(
    loaded: LoadedModel,
    task: TaskRows,
    search: CircuitSearch = CircuitSearch(),
    *,
    name: str = "circuit",
    progress: Progress = silent,
) -> Circuit:
    """Find the components that suffice for a task.

    Raises:
        EvaluationError: The model is right in under 75% of the rows.
        CriterionError: What was asked cannot be, as `criteria`, `smallest_faithful` and `TaskRows.thirds` say.
        SelectionError: What was asked cannot be, as `criteria`, `smallest_faithful` and `TaskRows.thirds` say.
        ReferenceSetError: What was asked cannot be, as `criteria`, `smallest_faithful` and `TaskRows.thirds` say.
    """
    check_name(name)
    for criterion in (search.criterion, *search.rivals):
        criteria.find_criterion(criterion).check(search.settings)
    parts = task.thirds(search.split_seed)
    able = _able(loaded, task, search)
    ablations = [
        make_ablation(loaded, kind, search.settings, parts[0], tokens=search.tokens)
        for kind in dict.fromkeys((search.ablation, *search.beside))
    ]
    orders = [_order(loaded, parts[0], search, search.criterion, seed, progress) for seed in search.seeds]
    how = ablations[0]
    count = _size(loaded, parts[1], search, orders[0], how, progress)
    reader = TaskReader(loaded, parts[2], search.settings, search.tokens)
    model = reader.read(whole=True)
    first = search.seeds[0]
    compared = [(search.criterion, first, orders[0])]
    for criterion in search.rivals:
        compared.append((criterion, first, _order(loaded, parts[0], search, criterion, first, progress)))
    if search.criterion != "random":
        compared += [
            ("random", seed, _order(loaded, parts[0], search, "random", seed, progress)) for seed in search.seeds
        ]
    curves: list[Curve] = []
    nothing = {each.kind: reader.read(reader.nothing, each) for each in ablations}
    for each in ablations:
        for label, seed, order in compared:
            trier = CircuitEvaluator(reader, order, each, model, nothing[each.kind])
            curves.append(curve(trier, label, seed, progress=progress))
    kept = top_components(orders[0], count)
    alone = reader.read(kept, how, whole=True)
    none = nothing[how.kind]
    ends = alone.differences, model.differences, none.differences
    circuits = [kept, *(top_components(order, count) for order in orders[1:])]
    circuit = Circuit(
        mask=_mask(loaded, reader, kept, name, task, search),
        kept=kept,
        order=orders[0],
        able=able,
        model=model,
        circuit=alone,
        spread=total_effect(model.differences, none.differences),
        faithfulness=faithfulness(*ends),
        divergence=bootstrap(mean, model.divergence(alone)),
        necessity=checks.measure_necessity(reader, kept, how, model, none),
        incompleteness=checks.incompleteness(reader, kept, how, model, none, progress=progress),
        minimality=checks.minimality(reader, kept, how, alone, model, none, tried=search.tried, progress=progress),
        overlaps=tuple(jaccard_index(a, b) for place, a in enumerate(circuits) for b in circuits[place + 1 :]),
        by_chance=_by_chance(count, len(orders[0])),
        curves=tuple(curves),
    )
    return replace(circuit, mask=circuit.mask.with_meta(measured=measurements(circuit)))


def measurements(found: Circuit) -> dict[str, Any]:
    """What was measured, as JSON values: value and limits of each interval; none where it is not defined."""
    right = found.circuit.right
    measured: dict[str, Any] = {
        "rows": len(right),
        "accuracy": {
            "model": _rate(wilson(int(found.model.right.sum()), len(right))),
            "circuit": _rate(wilson(int(right.sum()), len(right))),
        },
        "spread": _estimate(found.spread),
        "faithfulness": _estimate(found.faithfulness),
        "kl": _estimate(found.divergence),
        "necessity": _estimate(found.necessity),
        "overlap_of_seeds": [round(each, 4) for each in found.overlaps],
        "overlap_by_chance": round(found.by_chance, 4),
    }
    if found.incompleteness:
        each = found.incompleteness
        measured["incompleteness"] = {
            "mean": round(each.mean, 4),
            "worst": _estimate(each.worst),
            "subsets": each.subsets,
        }
    if found.minimality:
        minimality = found.minimality
        measured["minimality"] = {"needed": minimality.needed, "tried": len(minimality.falls), "of": minimality.of}
    measured["areas"] = [
        {
            "order": each.label,
            "seed": each.seed,
            "ablation": each.ablation,
            "performance": _estimate(each.areas.performance if each.areas else None),
            "distance": _estimate(each.areas.distance if each.areas else None),
        }
        for each in found.curves
    ]
    return {"circuit": measured}


def _able(loaded: LoadedModel, task: TaskRows, search: CircuitSearch) -> Rate:
    right = TaskReader(loaded, task.rows, search.settings, search.tokens).read().right
    able = wilson(int(right.sum()), len(right))
    if able.value < ABLE:
        raise EvaluationError(
            f"{task.name}: the model is right in {able.count} of {able.total} rows ({able.value:.1%}, interval "
            f"{able.low:.1%} to {able.high:.1%}); under {ABLE:.0%} there is nothing that a circuit could do"
        )
    return able


def _order(
    loaded: LoadedModel, rows: tuple[TaskRow, ...], search: CircuitSearch, criterion: str, seed: int, progress: Progress
) -> Relevance:
    drawn = np.sort(np.random.default_rng(seed).permutation(len(rows))[: max(1, round(DRAWN * len(rows)))])
    settings = replace(search.settings, random_seed=seed)
    drawn_rows = tuple(rows[place] for place in drawn)
    return relevance(loaded, drawn_rows, settings, criterion, tokens=search.tokens, progress=progress)


def _size(
    loaded: LoadedModel,
    rows: tuple[TaskRow, ...],
    search: CircuitSearch,
    order: Relevance,
    how: Ablation,
    progress: Progress,
) -> int:
    if search.kept is not None:
        if not 0 < search.kept < len(order):
            raise SelectionError(f"kept is {search.kept}; the universe has {len(order)}, so 1 to {len(order) - 1}")
        return search.kept
    reader = TaskReader(loaded, rows, search.settings, search.tokens)
    trier = CircuitEvaluator(reader, order, how, reader.read(), reader.read(reader.nothing, how))
    return smallest_faithful(trier, search.goal, progress=progress)


def _mask(
    loaded: LoadedModel, reader: TaskReader, kept: Kept, name: str, task: TaskRows, search: CircuitSearch
) -> masks.Mask:
    universe = sum(flags.numel() for flags in kept.values())
    cut = {
        each: flags.view(-1).nonzero()[:, 0].numpy()
        for each, flags in difference(reader.everything, kept).items()
        if bool(flags.any())
    }
    settings = {key: value for key, value in asdict(search.settings).items() if value is not None}
    used = criteria.find_criterion(search.criterion).uses & {"sign"}
    made: dict[str, Any] = {
        "criterion": search.criterion,
        "granularity": settings["granularity"],
        **({"sign": settings["sign"]} if used else {}),
        "circuit": {
            "task": task.described(),
            "metric": "logit(correct) - logit(wrong) at the last token",
            "ablation": search.ablation,
            "universe": {
                "granularity": settings["granularity"],
                "size": universe,
                **{key: list(settings[key]) for key in ("modules", "layers") if key in settings},
            },
            "kept": circuit_size(kept),
            "budget": {"kept": search.kept} if search.kept is not None else {"faithfulness": search.goal},
            "seeds": list(search.seeds),
            "split_seed": search.split_seed,
        },
        "dtype": str(loaded.dtype).removeprefix("torch."),
    }
    return build_mask(loaded, cut, name=name, made=made)


def _by_chance(count: int, total: int) -> float:
    """Jaccard index of two random sets of that size, about: their expected intersection over the union."""
    both = count * count / total
    return both / (2 * count - both)


def _estimate(found: Estimate | None) -> list[float] | None:
    return None if found is None else [round(each, 4) for each in (found.value, found.low, found.high)]


def _rate(found: Rate) -> list[float]:
    return [found.count, found.total, round(found.low, 4), round(found.high, 4)]
