"""Experiments over HTTP that cannot be: refused with what to mend; and what can be, however odd, works."""

from __future__ import annotations

import asyncio
import json

import pytest

from service.experiments.outcomes.totals import Outcome
from tests.service.replica import arms, begun

CHAT = "/v1/chat/completions"
ASK = {"model": "demo", "user": "ann"}


GOOD = {"name": "ab", "variants": arms(1, 1)}


def changed(**more):
    return json.dumps({**GOOD, **more})


def variant(**more):
    return {"name": "v", "mask": "detox@1", "weight": 1, **more}


CONTROL = {"name": "control", "mask": "base", "weight": 1}


HOSTILE = {
    "empty": ("{}", 400, "name"),
    "nothing": ("", 400, ""),
    "no json": ("{", 400, "JSON"),
    "a list": ("[]", 400, ""),
    "null": ("null", 400, ""),
    "binary": (b"\xff\xfe\x00", 400, "JSON"),
    "nan": (changed(margin=float("nan")), 400, "JSON"),
    "infinite": (changed(margin=float("inf")), 400, "JSON"),
    "overflows": (changed(margin=0.5).replace("0.5", "1e999"), 400, "JSON"),
    "long number": (changed(margin=0.5).replace("0.5", "9" * 10_000), 400, "JSON"),
    "large number": (changed(margin=10**400), 400, "margin"),
    "deep": ("[" * 100_000, 400, "JSON"),
    "deep field": ('{"name":' + '{"a":' * 500 + "1" + "}" * 501, 400, "name"),
    "unknown field": (changed(extra=1), 400, "extra"),
    "unknown field of a variant": (changed(variants=[CONTROL, variant(share=1)]), 400, "share"),
    "half a character": (changed(name="\ud800"), 400, "surrogate"),
    "half a character as key": (changed(**{"\ud800": 1}), 400, "surrogate"),
    "null character": (changed(name="a\u0000b"), 400, "name"),
    "unicode name": (changed(name="détox"), 400, "name"),
    "right to left": (changed(name="a\u202eb"), 400, "name"),
    "long name": (changed(name="a" * 65), 400, "name"),
    "name with a line": (changed(name="ab\n"), 400, "name"),
    "name of a path": (changed(name="../ab"), 400, "name"),
    "name is a number": (changed(name=7), 400, "name"),
    "one variant": (changed(variants=[CONTROL]), 400, "variants"),
    "many variants": (changed(variants=[variant(name=f"v{n}") for n in range(17)]), 400, "variants"),
    "variants is a text": (changed(variants="base"), 400, "variants"),
    "same names": (changed(variants=[CONTROL, CONTROL]), 400, "same name"),
    "negative weight": (changed(variants=[CONTROL, variant(weight=-1)]), 400, "weight"),
    "weight over 10^9": (changed(variants=[CONTROL, variant(weight=1e9 + 1)]), 400, "weight"),
    "weights far apart": (changed(variants=[CONTROL, variant(weight=1e9)]), 400, "at least 1e-06"),
    "weights far apart in a ramp": (
        changed(variants=[variant(name="c", weight=1e9), variant(weight=1e-9)], ramp=[{"share": 1e-7}]),
        400,
        "at least 1e-06",
    ),
    "no weight": (changed(variants=[CONTROL, variant(weight=0)]), 400, "neither a weight"),
    "control unknown": (changed(control="nobody"), 400, "none of the variants"),
    "control mirrored": (changed(variants=[variant(weight=0, mirror=1), CONTROL]), 400, "none of the variants"),
    "shown and mirrored": (changed(variants=[CONTROL, variant(mirror=0.5)]), 400, "never shown"),
    "mirror over 1": (changed(variants=[CONTROL, variant(weight=0, mirror=1.5)]), 400, "mirror"),
    "mirrors over 1": (
        changed(variants=[CONTROL, *(variant(name=f"m{n}", weight=0, mirror=0.6) for n in range(2))]),
        400,
        "more than 1",
    ),
    "ramp not rising": (changed(ramp=[{"share": 0.5}, {"share": 0.1}]), 400, "rising"),
    "ramp over 1": (changed(ramp=[{"share": 1.5}]), 400, "share"),
    "ramp of mirrored": (changed(variants=[CONTROL, variant(weight=0, mirror=1)], ramp=[{"share": 0.1}]), 400, "ramp"),
    "unknown mask": (changed(variants=[CONTROL, variant(mask="nope")]), 404, "no mask 'nope'"),
    "unknown version": (changed(variants=[CONTROL, variant(mask="detox@99")]), 404, "no version or alias '99'"),
    "huge version": (changed(variants=[CONTROL, variant(mask="detox@9999999999")]), 400, "mask"),
    "an experiment as mask": (changed(variants=[CONTROL, variant(mask="experiment:ab")]), 400, "mask"),
    "unknown metric": (changed(metric="charm"), 400, "metric"),
    "metric is no rate": (changed(metric="length"), 400, "metric"),
    "alpha 0": (changed(alpha=0), 400, "alpha"),
    "alpha next to 0": (changed(alpha=5e-324), 400, "alpha"),
    "unknown unit": (changed(unit="session"), 400, "unit"),
    "guardrail unknown": (changed(guardrails=[{"metric": "charm"}]), 400, "metric"),
    "guardrail too wide": (changed(guardrails=[{"metric": "error", "margin": 1}]), 400, "more than every rate"),
    "many guardrails": (changed(guardrails=[{"metric": "error"}] * 33), 400, "guardrails"),
}


def test_what_is_no_experiment_is_refused_with_what_to_mend(replicas):
    replica = replicas().with_detox()

    async def run() -> None:
        async with replica.client() as http:
            for case, (body, status, says) in HOSTILE.items():
                answer = await http.post("/experiments", content=body, headers={"content-type": "application/json"})
                assert (answer.status_code, says in answer.text) == (status, True), (case, answer.text[:500])
            assert (await http.get("/experiments")).json()["data"] == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "revision"),
        ({"revision": 1, "weights": {"nobody": 1}}, 400, "nobody"),
        ({"revision": 1, "weights": {"v1": 0}}, 400, "weights"),
        ({"revision": 1, "weights": {"v1": 1e9}}, 400, "at least 1e-06"),
        ({"revision": 1, "weights": {"détox": 1}}, 400, "weights"),
        ({"revision": 1, "status": "stopped"}, 400, "status"),
        ({"revision": 1, "guardrails": [{"metric": "error", "margin": 2}]}, 400, "more than every rate"),
        ({"revision": 2, "status": "paused"}, 409, "read it again"),
        ({"revision": 0}, 400, "revision"),
        ({"revision": 2**31}, 400, "revision"),
    ],
)
def test_a_change_that_cannot_be_is_refused_with_what_to_mend_and_changes_nothing(replicas, body, status, says):
    replica = replicas().with_detox()

    async def run() -> None:
        async with replica.client() as http:
            before = await begun(http)
            answer = await http.patch("/experiments/ab", json=body)
            assert answer.status_code == status, answer.text
            assert says in answer.text
            after = (await http.get("/experiments/ab")).json()
            assert {**after, "step_since": 0} == {**before, "step_since": 0}

    asyncio.run(run())


def test_weights_of_ten_to_the_ninth_are_as_good_as_any(replicas):
    replica = replicas().with_detox()

    async def run() -> None:
        async with replica.client() as http:
            variants = [{**CONTROL, "weight": 10**9}, variant(weight=10**9)]
            answer = await http.post("/experiments", json={"name": "ab", "variants": variants})
            assert answer.json()["share"] == {"control": 0.5, "v": 0.5}

    asyncio.run(run())


EXTREME = [
    {"alpha": 1e-6, "margin": 5e-324},
    {"alpha": 0.5, "margin": 1 - 1e-16},
    {"variants": [{**CONTROL, "weight": 1e6}, variant(weight=1.1)]},
    {"variants": [{**CONTROL, "weight": 1.1}, variant(weight=1e6)], "metric": "error"},
    {"guardrails": [{"metric": metric, "margin": 0} for metric in ("toxicity", "error", "latency_p95", "length")]},
    {"guardrails": [{"metric": "length", "direction": "decrease", "margin": 1000}], "metric": "refusal"},
    {"variants": [CONTROL, *(variant(name=f"v{n}") for n in range(4))]},
    {"variants": [CONTROL, *(variant(name=f"m{n}", weight=0, mirror=1 / 4) for n in range(4))]},
    {"ramp": [{"share": 1.1e-6}, {"share": 1 - 1.1e-6}]},
]


@pytest.mark.parametrize("more", EXTREME, ids=range(len(EXTREME)))
@pytest.mark.parametrize("responses", [0, 1, 100])
def test_whatever_may_be_made_can_be_reported_and_conducted(replicas, more, responses):
    replica = replicas().with_detox()
    controller = replica.service.background_tasks.controller

    async def run() -> None:
        async with replica.client() as http:
            body = await begun(http, **more)
            for one in body["variants"]:
                for number in range(responses):
                    kinds = {"toxic": number % 3 == 0, "repetitive": number % 2 == 0, "error": number % 7 == 0}
                    kinds |= {"tokens": 10 * (number % 3), "seconds": 1e-9 * 10 ** (number % 12)}
                    key = f"user-{number}-{one['name']}"
                    kinds |= {"counted": True, "by_user": True}
                    replica.service.ledger.add(Outcome("ab", 0, one["name"], key, **kinds))
            replica.service.ledger.flush()
            for form, kind in (("json", "application/json"), ("html", "text/html; charset=utf-8")):
                answer = await http.get("/experiments/ab/report", params={"format": form})
                assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
            await controller.check_experiments()
            await controller.close()

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/masks?offset=2147483648", "/masks?limit=0", "/masks/detox?offset=-1"])
def test_a_page_that_cannot_be_is_the_clients_fault(both, path):
    replica = both().with_detox()

    async def run() -> None:
        async with replica.client() as http:
            assert (await http.get(path)).status_code == 400
            assert (await http.get("/masks?offset=2147483647")).json()["data"] == []

    asyncio.run(run())
