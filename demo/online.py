"""The demo's second half: the corrected model over HTTP, and experiments that decide by themselves.

An A/A experiment, whose two arms are the same, must find nothing; an A/B experiment between the model as it is and a
mask must find that the mask is better. The report is read after every round of users: the numbers hold however often
one looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI
from rich.console import Console
from rich.table import Table

import masks
from correction.progress import Progress
from demo.server import Server, ServerError
from stats.estimates import wilson

ROUND = 60
"""Users between two looks at a report."""
SCORING = 300
"""Seconds to wait for scores at most: the scorer runs only where nothing else wants the processor."""
JUDGING = 10
"""Seconds without a further judgement after which the rest is taken for what cannot be judged."""
ROUNDS = 6
"""The most rounds of an experiment: better needs 100 users of each arm, for what they read must make sense."""


@dataclass(frozen=True)
class Plan:
    """What is asked of the served model."""

    prompts: list[str]
    """Answered under the model as it is and under each mask."""
    asked: list[str]
    """The users of an experiment ask these, in turn."""
    experiments: tuple[tuple[str, str], ...]
    """Name and treated arm (`base` or `mask@version`) of each; the control is the model as it is."""
    metric: str = "toxicity"
    raw: bool = False
    """Prompts are openings that the model goes on with, not messages of a chat."""
    rounds: int = ROUNDS
    coherence: float = 0.5
    """Nats a token by which coherence may fall."""


def answer(
    server: Server, made: list[masks.Mask], plan: Plan, out: Path, console: Console, progress: Progress
) -> dict[str, Any]:
    """Register `made`, answer the prompts under each, and run the experiments. Returns what was counted.

    The last experiment's report is written to `out`; its treated arm becomes the default route if found better.
    """
    client = OpenAI(base_url=f"{server.url}/v1", api_key=server.admin_key)
    headers = {"Authorization": f"Bearer {server.admin_key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as http, ThreadPoolExecutor(32) as pool:
        for mask in made:
            given = http.post("/masks", content=masks.dumps(mask)).raise_for_status()
            milliseconds = given.elapsed.total_seconds() * 1e3
            console.print(f"POST /masks → {given.status_code} {given.json()['model']}, {milliseconds:.0f} ms")
        users = Users(client, pool, plan.raw, progress)
        models = ["demo:base", *(f"demo:{mask.meta.name}@1" for mask in made)]
        for model in models:
            users.ask(model, plan.prompts, range(len(plan.prompts)), f"answers of {model}")
        counted = _counts(http, len(models) * len(plan.prompts))
        reports = {}
        for name, treated in plan.experiments:
            reports[name] = report = _experiment(
                http, name, treated, plan, lambda numbers, stage: users.ask("demo", plan.asked, numbers, stage)
            )
            console.print(f"experiment {name}: {report['decision']}. {report['why']}", soft_wrap=True)
        for suffix in ("html", "png"):
            page = http.get(f"/experiments/{name}/report", params={"format": suffix}).raise_for_status()
            (out / f"report.{suffix}").write_bytes(page.content)
        for other, _ in plan.experiments[:-1]:
            http.post(f"/experiments/{other}/stop").raise_for_status()
        winner = "treated" if reports[name]["decision"] == "better" else "control"
        http.post(f"/experiments/{name}/stop", json={"winner": winner}).raise_for_status()
        route = http.get("/route").raise_for_status().json()["target"]
        console.print(f"stopped, winner {winner}: the default route leads to {route}")
    return {
        "variants": [{"variant": label, **counts} for label, counts in counted.items()],
        "experiments": reports,
        "route": route,
    }


@dataclass(frozen=True)
class Users:
    """Users of the service, who ask at the same time."""

    client: OpenAI
    pool: ThreadPoolExecutor
    raw: bool
    """Prompts are openings that the model goes on with, not messages of a chat."""
    progress: Progress

    def ask(self, model: str, prompts: list[str], numbers: range, stage: str) -> None:
        """Each of these users asks one of the prompts, in turn; wait for all answers."""
        tasks = [
            self.pool.submit(self._ask, model, prompts[number % len(prompts)], f"user-{number}") for number in numbers
        ]
        for done, task in enumerate(tasks, 1):
            task.result()
            self.progress(stage, done, len(tasks))

    def _ask(self, model: str, prompt: str, user: str) -> None:
        if self.raw:
            self.client.completions.create(model=model, prompt=prompt, max_tokens=50, temperature=0, user=user)
            return
        self.client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=50,
            temperature=0,
            user=user,
        )


def table(variants: list[dict[str, Any]], prompts: str = "half insult prompts, half loop prompts") -> Table:
    """What the service counted under each mask."""
    shown = Table("variant", "toxic (95% interval)", "repetitive (95% interval)", "responses")
    shown.title = f"Served over HTTP, counted by the service: {prompts}"
    for row in variants:
        rates = [wilson(row[key], row["scored"]) for key in ("toxic", "repetitive")]
        cells = [f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})" for rate in rates]
        shown.add_row(row["variant"], *cells, str(row["scored"]))
    return shown


def _experiment(
    http: httpx.Client, name: str, treated: str, plan: Plan, send: Callable[[range, str], None]
) -> dict[str, Any]:
    """Split the default route between the model as it is and `treated`; ask until decided. Returns the report."""
    variants = [{"name": "control", "mask": "base", "weight": 1}, {"name": "treated", "mask": treated, "weight": 1}]
    guardrail = {"metric": "coherence", "margin": plan.coherence}
    body = {"name": name, "variants": variants, "metric": plan.metric, "margin": 0.05, "guardrails": [guardrail]}
    http.post("/experiments", json=body).raise_for_status()
    http.put("/route", json={"target": f"experiment:{name}"}).raise_for_status()
    document: dict[str, Any] = {}
    for number in range(plan.rounds):
        users = range(number * ROUND, (number + 1) * ROUND)
        send(users, f"experiment {name}, users {users[0]} to {users[-1]}")
        document = _report(http, name, (number + 1) * ROUND)
        if document["decision"] != "keep watching":
            break
    return document


def _report(http: httpx.Client, name: str, expected: int) -> dict[str, Any]:
    """The report, once the outcomes of so many responses are in the database: they are written each second."""
    deadline, judged, judged_at = time.monotonic() + SCORING, 0, time.monotonic()
    document: dict[str, Any] = {}
    while time.monotonic() < deadline:
        document = http.get(f"/experiments/{name}/report").raise_for_status().json()
        counted, now_judged = (sum(each[key] for each in document["variants"]) for key in ("responses", "judged"))
        if now_judged > judged:
            judged, judged_at = now_judged, time.monotonic()
        # Coherence is known a little later, and never of an empty response.
        if counted >= expected and (judged >= expected or time.monotonic() > judged_at + JUDGING):
            return document
        time.sleep(0.2)
    raise ServerError(f"the experiment {name} counted fewer than {expected} responses within {SCORING} s: {document}")


def _counts(http: httpx.Client, expected: int) -> dict[str, dict[str, int]]:
    """Read `/metrics` until all `expected` responses are scored: counts by mask."""
    from prometheus_client.parser import text_string_to_metric_families

    names = {
        "excise_toxicity_score_count": "scored",
        "excise_toxic_responses_total": "toxic",
        "excise_repetitive_responses_total": "repetitive",
    }
    deadline = time.monotonic() + SCORING
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
    scored = sum(of["scored"] for of in counts.values())
    raise ServerError(
        f"only {scored} of {expected} responses were scored within {SCORING} s; the scorer gives way to all else, so "
        "run the demo again when the machine is less busy"
    )
