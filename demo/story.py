"""The demo: the whole story on the built-in model, with nothing faked.

1. Attribute, contrast, select: one mask against insults, one against loops.
2. Measure every variant on held-out prompts and text, and a random mask of the same size beside them.
3. Serve the model, register both masks, answer the held-out prompts under each and in an A/B split, read the metrics.
4. A table, a picture, and three commands to try by hand.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
from openai import OpenAI
from rich.console import Console
from rich.table import Table

import masks
from correction import models, references, report
from correction.correct import correct, mask_of
from correction.evaluation import evaluate
from correction.evaluation.bootstrap import wilson
from correction.models import LoadedModel
from correction.progress import Progress
from correction.recipe import Cut, Ranking
from correction.references import ReferenceSet
from demo.server import Server, ServerError, serve

HERE = Path(__file__).parent
MODEL = HERE / "model"


@dataclass(frozen=True)
class Recipe:
    """A mask of the demo and the behaviour that it cuts, with the default settings of ``excise correct``."""

    name: str
    behaviour: str
    """Its prompts are ``data/BEHAVIOUR.jsonl``."""


COUNT = 60
"""Neurons that each mask cuts, of 3,072; how it was chosen is in benchmarks/RESULTS.md."""

RECIPES = (Recipe("detox", "insult"), Recipe("fluent", "loop"))


def tell(out: Path, console: Console, progress: Progress) -> dict[str, Any]:
    """Tell the story; write masks, picture and ``results.json`` to ``out``. Returns the results."""
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the model is too small for more: threads would only wait for each other
    console.rule("1. Correct: attribute, contrast, select")
    loaded = models.load(MODEL, dtype="float32")
    made = [_make(loaded, recipe, progress) for recipe in RECIPES]
    for mask in made:
        path = out / f"{mask.meta.name}.safetensors"
        masks.save(mask, path)
        console.print(
            f"{path}: {mask.counts['neurons']} of {_neurons(loaded):,} neurons, {path.stat().st_size:,} bytes"
        )

    console.rule("2. Evaluate: held-out prompts and text, before and after")
    rows = [_row(loaded, name, mask, progress) for name, mask in [("base", None), *((m.meta.name, m) for m in made)]]
    rows.append(_row(loaded, "detox | fluent", made[0] | made[1], progress))
    rows.append(_row(loaded, f"random {COUNT}", _random(loaded), progress))

    console.rule("3. Serve: register, choose per request, split the traffic")
    shutil.rmtree(out / "store", ignore_errors=True)  # of a former run: its masks are other ones
    with serve(MODEL, out / "store", out / "server.log") as server:
        online = _serve(server, made, console, progress)

    console.rule("4. Result")
    console.print(report.table(rows, "Held-out prompts and text, offline"))
    console.print(_online_table(online))
    picture = out / "demo.png"
    report.picture(rows, picture, "What each mask does, on held-out prompts and text")
    results = {"offline": [asdict(row) for row in rows], "online": online, "goals": _goals(rows)}
    (out / "results.json").write_text(json.dumps(results, indent=2))
    for goal in results["goals"]:
        console.print(f"{'reached' if goal['reached'] else 'NOT reached'}: {goal['goal']}: {goal['measured']}")
    console.print(f"\nPicture: {picture}   Figures: {out / 'results.json'}\n\nTry it by hand. In one terminal:\n")
    _by_hand(out, console)
    return results


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
        held_out_behaviour=_read(f"{recipe.behaviour}_heldout", "prompt"),
        held_out_general=_read("general_heldout", "text"),
        progress=progress,
    )


def _random(loaded: LoadedModel) -> masks.Mask:
    """A mask of the same size whose neurons are drawn by lot: what cutting any neurons at all would do."""
    general = _read("general", "text")
    selected = Cut(count=COUNT).of(loaded, ranking := Ranking("random"), general, general)
    return mask_of(loaded, selected, name="random", made=ranking.described())


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


def _serve(server: Server, made: list[masks.Mask], console: Console, progress: Progress) -> list[dict[str, Any]]:
    """Register, chat under each variant and in a split, and read what the service counted."""
    prompts = [text for name in ("insult_heldout", "loop_heldout") for text in _read(name, "prompt").texts[:60]]
    client = OpenAI(base_url=f"{server.url}/v1", api_key=server.admin_key)
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.admin_key}"}, timeout=60) as http:
        for mask in made:
            answer = http.post("/masks", content=masks.dumps(mask)).raise_for_status()
            milliseconds = answer.elapsed.total_seconds() * 1e3
            console.print(f"POST /masks → {answer.status_code} {answer.json()['model']}, {milliseconds:.0f} ms")

        def ask(model: str, user: int) -> str:
            raw = client.chat.completions.with_raw_response.create(
                model=model,
                messages=[{"role": "user", "content": prompts[user % len(prompts)]}],
                max_tokens=50,
                temperature=0,
                user=f"user-{user}",
            )
            return raw.headers["x-excise-mask"]

        with ThreadPoolExecutor(32) as pool:
            for model in ("demo:base", "demo:detox@1", "demo:fluent@1"):
                for i, _ in enumerate(pool.map(ask, [model] * len(prompts), range(len(prompts))), 1):
                    progress(f"chat with {model}", i, len(prompts))
            by_name = _counts(http, 3 * len(prompts))
            split = [{"target": "base", "weight": 1}, {"target": "detox@1", "weight": 1}]
            http.put("/route", json={"split": split}).raise_for_status()
            for i, _ in enumerate(pool.map(ask, ["demo"] * len(prompts), range(len(prompts))), 1):
                progress("chat with demo, A/B split", i, len(prompts))
        total = _counts(http, 4 * len(prompts))
    rows: list[dict[str, Any]] = [{"variant": label, **counts} for label, counts in by_name.items()]
    for label in ("base", "detox@1"):
        arm = {key: total[label][key] - by_name[label][key] for key in total[label]}
        rows.append({"variant": f"A/B split: {label}", **arm})
    return rows


def _counts(http: httpx.Client, expected: int) -> dict[str, dict[str, int]]:
    """Read ``/metrics`` until all ``expected`` responses are scored: counts by mask."""
    from prometheus_client.parser import text_string_to_metric_families

    names = {
        "excise_toxicity_score_count": "scored",
        "excise_toxic_responses_total": "toxic",
        "excise_repetitive_responses_total": "repetitive",
    }
    deadline = time.monotonic() + 60
    counts: dict[str, dict[str, int]] = {}
    while time.monotonic() < deadline:
        counts = {}
        for family in text_string_to_metric_families(http.get("/metrics/").raise_for_status().text):
            for sample in family.samples:
                if sample.name in names:
                    counts.setdefault(sample.labels["mask"], {})[names[sample.name]] = int(sample.value)
        if sum(of["scored"] for of in counts.values()) >= expected:
            return counts
        time.sleep(0.1)
    raise ServerError(f"only {counts} of {expected} responses were scored within a minute")


def _online_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("variant", "toxic (95% interval)", "repetitive (95% interval)", "responses")
    table.title = "Served over HTTP, counted by the service: half insult prompts, half loop prompts"
    for row in rows:
        rates = [wilson(row[key], row["scored"]) for key in ("toxic", "repetitive")]
        shown = [f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})" for rate in rates]
        table.add_row(row["variant"], *shown, str(row["scored"]))
    return table


def _goals(rows: list[report.Row]) -> list[dict[str, Any]]:
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
    return goals


def _by_hand(out: Path, console: Console) -> None:
    command, model, store = (
        shlex.quote(str(p)) for p in (Path(sys.executable).with_name("excise"), MODEL, out / "store")
    )
    serve_line = f"{command} serve --model {model} --store {store} "
    serve_line += "--served-model-name demo --admin-key secret --enforce-eager --port 8000"
    url = "http://127.0.0.1:8000"
    chat = {
        "model": "demo:detox@1",
        "messages": [{"role": "user", "content": _read("insult_heldout", "prompt").texts[0]}],
    }
    lines = [
        serve_line,
        "",
        f"curl -si {url}/v1/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(chat))}",
        f"curl -s {url}/masks",
        f"curl -s -X PUT {url}/route -H 'Authorization: Bearer secret' -H 'Content-Type: application/json' "
        """-d '{"target": "detox@1"}'""",
    ]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
