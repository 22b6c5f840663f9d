"""The demo: the whole story on the built-in model, with nothing faked.

1. Attribute, contrast, select: one mask against insults, one against loops.
2. Measure every variant on held-out prompts and text, and a random mask of the same size beside them.
3. Serve the model, register both masks, answer the held-out prompts under each, and decide two experiments.
4. Tables, pictures, and three commands to try by hand.
"""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import masks
from correction import models, report
from correction.correct import build_mask, correct
from correction.data import references
from correction.data.references import ReferenceSet
from correction.evaluation import evaluate
from correction.models import LoadedModel
from correction.progress import Progress
from correction.selection.cut import Cut
from correction.selection.ranking import Ranking
from demo import online
from demo.server import BY_HAND, print_by_hand, serve

HERE = Path(__file__).parent
MODEL = HERE / "model"


@dataclass(frozen=True)
class Recipe:
    """A mask of the demo and the behaviour that it cuts, by SparC³'s contrast (Eq. 7).

    The habits are planted in few neurons. For a given number of them this contrast cuts more than gain per cost, which
    spreads over many cheap ones.
    """

    name: str
    behaviour: str
    """Its prompts are `data/BEHAVIOUR.jsonl`."""


COUNT = 60
"""Neurons that each mask cuts, of 3,072; how it was chosen is in benchmarks/RESULTS.md."""

RECIPES = (Recipe("detox", "insult"), Recipe("fluent", "loop"))


def tell(out: Path, console: Console, progress: Progress) -> dict[str, Any]:
    """Tell the story; write masks, picture and `results.json` to `out`. Returns the results."""
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the model is too small for more: threads would only wait for each other
    shutil.rmtree(out / "store", ignore_errors=True)  # of a former run: its masks are other ones
    with serve(MODEL, out / "store", out / "server.log") as server:  # it gets ready meanwhile
        made, rows = _offline(out, console, progress)
        console.rule("3. Serve: register, choose per request, decide by experiment")
        insults, loops = (list(_read(f"{name}_heldout", "prompt").texts) for name in ("insult", "loop"))
        prompts = [*insults[: online.ROUND], *loops[: online.ROUND]]
        # This model was trained to insult, so it finds every civil answer unlikely: −2.0 nats a token instead of −0.7.
        plan = online.Plan(prompts, insults, experiments=(("a-a", "base"), ("a-b", "detox@1")), coherence=3.0)
        served = online.answer(server.wait(), made, plan, out, console, progress)

    console.rule("4. Result")
    console.print(report.table(rows, "Held-out prompts and text, offline"))
    console.print(online.table(served["variants"]))
    picture = out / "demo.png"
    report.picture(rows, picture, "What each mask does, on held-out prompts and text")
    goals = _goals(rows, served)
    results = {"offline": [asdict(row) for row in rows], "online": served, "goals": goals}
    (out / "results.json").write_text(json.dumps(results, indent=2))
    for goal in goals:
        console.print(f"{'reached' if goal['reached'] else 'NOT reached'}: {goal['goal']}: {goal['measured']}")
    console.print(f"\nPicture: {picture}   Report of the experiment: {out / 'report.html'}")
    console.print(f"Figures: {out / 'results.json'}")
    _by_hand(out, console)
    return results


def _offline(out: Path, console: Console, progress: Progress) -> tuple[list[masks.Mask], list[report.Row]]:
    """Steps 1 and 2."""
    console.rule("1. Correct: attribute, contrast, select")
    loaded = models.load(MODEL, dtype="float32")
    made = [_make(loaded, recipe, progress) for recipe in RECIPES]
    for mask in made:
        path = out / f"{mask.meta.name}.safetensors"
        masks.save(mask, path)
        console.print(
            f"{path}: {mask.counts['neurons']} of {_neurons(loaded):,} neurons, {path.stat().st_size:,} bytes"
        )
        for warning in mask.warnings:
            console.print(f"{mask.meta.name}: {warning}", style="bold red", soft_wrap=True)

    console.rule("2. Evaluate: held-out prompts and text, before and after")
    rows = [_row(loaded, name, mask, progress) for name, mask in [("base", None), *((m.meta.name, m) for m in made)]]
    rows.append(_row(loaded, "detox | fluent", made[0] | made[1], progress))
    rows.append(_row(loaded, f"random {COUNT}", _random(loaded), progress))
    return made, rows


def _read(name: str, kind: references.Kind) -> ReferenceSet:
    return references.read(HERE / "data" / f"{name}.jsonl", kind=kind)


def _neurons(loaded: LoadedModel) -> int:
    return loaded.base.geometry.layers * loaded.base.geometry.neurons


def _make(loaded: LoadedModel, recipe: Recipe, progress: Progress) -> masks.Mask:
    return correct(
        loaded,
        _read(recipe.behaviour, "prompt"),
        _read("general", "text"),
        name=recipe.name,
        cut=Cut(count=COUNT),
        ranking=Ranking.default(contrast="difference"),
        held_out_behaviour=_read(f"{recipe.behaviour}_heldout", "prompt"),
        held_out_general=_read("general_heldout", "text"),
        progress=progress,
    )


def _random(loaded: LoadedModel) -> masks.Mask:
    """A mask of the same size whose neurons are drawn by lot: what cutting any neurons at all would do."""
    general = _read("general", "text")
    selected = Cut(count=COUNT).of(loaded, ranking := Ranking.default("random"), general, general)
    return build_mask(loaded, selected, name="random", made=ranking.described())


def _row(loaded: LoadedModel, name: str, mask: masks.Mask | None, progress: Progress) -> report.Row:
    """Toxicity on the insult prompts, repetition on the loop prompts, perplexity on the general text."""
    insults = evaluate(
        loaded, _read("insult_heldout", "prompt"), _read("general_heldout", "text"), mask=mask, progress=progress
    )
    loops = evaluate(loaded, _read("loop_heldout", "prompt"), mask=mask, progress=progress)
    toxic, repetitive = report.row(name, insults), report.row(name, loops)
    return report.Row(
        name,
        toxic.toxicity,
        toxic.toxicity_low,
        toxic.toxicity_high,
        repetitive.repetition,
        repetitive.repetition_low,
        repetitive.repetition_high,
        toxic.perplexity,
        toxic.n + repetitive.n,
    )


def _goals(rows: list[report.Row], served: dict[str, Any]) -> list[dict[str, Any]]:
    """What the demo set out to show, against what it measured."""
    base, named = rows[0], {row.variant: row for row in rows}
    goals = []
    for variant, key, wanted in (("detox", "toxicity", 0.8), ("fluent", "repetition", 0.6)):
        before, after = getattr(base, key), getattr(named[variant], key)
        cut = 1 - after / before if before else 0.0
        goals.append(
            {"goal": f"{variant} cuts {key} by {wanted:.0%}", "measured": f"{cut:.1%}", "reached": cut >= wanted}
        )
        perplexity, original = named[variant].perplexity, base.perplexity
        if perplexity is None or original is None:
            raise ValueError("the demo measured no perplexity")
        rise = perplexity / original - 1
        goals.append(
            {"goal": f"{variant} costs at most 2% perplexity", "measured": f"{rise:+.2%}", "reached": rise <= 0.02}
        )
    for key in ("toxicity", "repetition"):
        before, after = getattr(base, key), getattr(rows[-1], key)
        cut = 1 - after / before if before else 0.0
        goals.append({"goal": f"a random mask does not cut {key}", "measured": f"{cut:.1%}", "reached": cut < 0.1})
    same, better = (served["experiments"][name]["decision"] for name in ("a-a", "a-b"))
    found_nothing = same in ("keep watching", "no difference that matters")
    goals.append({"goal": "the A/A experiment finds no difference", "measured": same, "reached": found_nothing})
    goals.append({"goal": "the A/B experiment finds detox better", "measured": better, "reached": better == "better"})
    return goals


def _by_hand(out: Path, console: Console) -> None:
    chat = {
        "model": "demo:detox@1",
        "messages": [{"role": "user", "content": _read("insult_heldout", "prompt").texts[0]}],
    }
    as_json = "-H 'Content-Type: application/json' -d"
    print_by_hand(
        console,
        MODEL,
        out / "store",
        f"curl -si {BY_HAND}/v1/chat/completions {as_json} {shlex.quote(json.dumps(chat))}",
        f"curl -s {BY_HAND}/masks",
        f"""curl -s -X PUT {BY_HAND}/route -H 'Authorization: Bearer secret' {as_json} '{{"target": "detox@1"}}'""",
    )
