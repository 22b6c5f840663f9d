"""The controller: guardrails that stop, ramps that go on, one change among all replicas, and a webhook that is told."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service import metrics
from service.experiments import controller
from service.experiments.controller import step_is_due
from service.experiments.experiment import Experiment, Guardrail, Step, Variant, begin, next_step, paused, reweighted
from service.experiments.outcomes.totals import Outcome, Tally, Totals
from service.storage import audit
from service.storage.database import DatabaseLostError
from tests.service.replica import Clock, Replicas, made

ARMS = (Variant("control", "base", 1.0), Variant("treated", "detox@1", 1.0))
RAMP = (Step(0.1, 60, 100), Step(0.3, 30, 0), Step(0.5))
GUARDRAIL = Guardrail("toxicity", margin=0.05)


class Hook:
    """A real HTTP server on 127.0.0.1 that answers with the statuses it is given, then with 204."""

    def __init__(self, *statuses: int, slow: threading.Event | None = None) -> None:
        self.calls: list[dict] = []
        left, calls = list(statuses), self.calls

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                calls.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                if slow:
                    slow.wait(30)
                self.send_response(left.pop(0) if left else 204)
                self.end_headers()

            def log_message(self, *_) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/secret-path"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def hook(request):
    receiver = Hook(*getattr(request, "param", ()))
    yield receiver
    receiver.close()


@pytest.fixture
def replicas(tmp_path, database_url, monkeypatch):
    factory = Replicas(tmp_path, database_url, monkeypatch)
    yield factory
    factory.close()


def made_of(**settings) -> Experiment:
    return begin(Experiment("ab", ARMS, "control", **settings), 0.0)


def tallies(epoch: int = 0, *, toxic: int = 0, **counts: int) -> list[Tally]:
    counts = counts or {"control": 100, "treated": 100}
    variant_tallies = []
    for name, n in counts.items():
        totals = Totals(responses=n, scored=n, toxic=toxic if name == "treated" else 0)
        variant_tallies.append(Tally(epoch, name, totals, totals))
    return variant_tallies


def started(replica, **settings) -> Experiment:
    """An experiment on the default route."""
    if not replica.service.policy.masks:
        replica.add(made("detox", 1))
    experiment = begin(Experiment("ab", ARMS, "control", **settings), replica.clock())
    replica.service.state.create(experiment)
    replica.service.state.set_route("experiment:ab")
    replica.service.reload()
    return experiment


def respond(replica, variant: str, count: int, *, toxic: bool = False, epoch: int = 0) -> None:
    """So many users get a response, and it is written down."""
    ledger = replica.service.ledger
    for _ in range(count):
        unit = f"user-{variant}-{ledger._added}-{id(replica)}"
        ledger.add(Outcome("ab", epoch, variant, unit, counted=True, by_user=True, tokens=5, seconds=0.1, toxic=toxic))
    ledger.flush()


def check_experiments(*found) -> None:
    """Each of these replicas looks once, all at the same moment; what they started is finished."""

    async def run() -> None:
        controllers = [replica.service.background_tasks.controller for replica in found]
        await asyncio.gather(*(one.check_experiments() for one in controllers))
        for one in controllers:
            await one.close()

    asyncio.run(run())


def now(replica) -> Experiment:
    replica.service.reload()
    return replica.service.policy.experiments["ab"]


def test_a_step_is_due_when_its_time_is_over_and_its_responses_are_there():
    experiment = made_of(ramp=RAMP)
    counts = {"control": 1000, "treated": 100}
    assert not step_is_due(experiment, tallies(**counts), 3599.0)
    assert step_is_due(experiment, tallies(**counts), 3600.0)
    assert not step_is_due(experiment, tallies(control=1000, treated=99), 3600.0)
    assert not step_is_due(experiment, tallies(control=1000), 3600.0)


def test_only_responses_of_this_step_count_and_its_time_begins_with_it():
    experiment = next_step(made_of(ramp=(RAMP[0], Step(0.3, 30, 100), RAMP[2])), 5000.0)
    counts = {"control": 700, "treated": 300}
    assert not step_is_due(experiment, tallies(0, **counts), 10_000.0)
    assert not step_is_due(experiment, tallies(1, **counts), 5000.0 + 1799)
    assert step_is_due(experiment, tallies(1, **counts), 5000.0 + 1800)


def test_failed_requests_are_responses_of_a_step_too():
    failed = [Tally(0, name, Totals(errors=n), Totals(errors=n)) for name, n in (("control", 900), ("treated", 100))]
    assert step_is_due(made_of(ramp=RAMP), failed, 3600.0)


def test_the_last_step_is_the_last():
    experiment = next_step(next_step(made_of(ramp=RAMP), 0.0), 0.0)
    assert not step_is_due(experiment, tallies(2), 1e9)
    assert not step_is_due(made_of(), tallies(), 1e9)
    assert not step_is_due(made_of(ramp=RAMP[:1]), tallies(), 1e9)


def test_a_variant_that_is_known_as_worse_or_a_split_that_is_broken_holds_the_ramp():
    experiment = made_of(ramp=RAMP)
    assert not step_is_due(experiment, tallies(control=900, treated=100, toxic=60), 3600.0)
    assert not step_is_due(experiment, tallies(control=500, treated=500), 3600.0)
    guarded = made_of(ramp=RAMP, guardrails=(Guardrail("toxicity", margin=0.01),))
    assert not step_is_due(guarded, tallies(control=900, treated=100, toxic=60), 3600.0)


def test_a_ramp_goes_on_step_by_step_and_says_so(replicas):
    clock = Clock(1000.0)
    replica = replicas(clock)
    started(replica, ramp=RAMP)
    respond(replica, "control", 900)
    respond(replica, "treated", 100)
    check_experiments(replica)
    assert now(replica).step == 0
    clock.now += 3600
    check_experiments(replica)
    assert (now(replica).step, now(replica).epoch, now(replica).step_since) == (1, 1, 4600.0)
    check_experiments(replica)
    assert now(replica).step == 1
    clock.now += 1800
    for _ in range(3):
        check_experiments(replica)
    assert (now(replica).step, now(replica).shares[-1]["treated"], now(replica).revision) == (2, 0.5, 3)
    entries = [entry for entry in audit.entries(replica.database) if entry["action"] == "next step of the ramp"]
    assert [entry["who"] for entry in entries] == ["server", "server"]


def test_a_clock_that_jumps_back_takes_no_step_back(replicas):
    clock = Clock(1000.0)
    replica = replicas(clock)
    started(replica, ramp=(Step(0.1, 1), Step(0.2, 1), Step(0.5)))
    clock.now += 60
    check_experiments(replica)
    clock.now -= 86400
    check_experiments(replica)
    assert now(replica).step == 1
    clock.now += 2 * 86400
    check_experiments(replica)
    assert now(replica).step == 2


def test_two_replicas_at_once_take_one_step(replicas):
    clock = Clock(1000.0)
    one, other = replicas(clock), replicas(clock)
    started(one, ramp=(Step(0.1, 1), Step(0.2, 0), Step(0.5)))
    other.service.reload()
    clock.now += 60
    check_experiments(one, other)
    assert (now(one).step, now(one).epoch) == (1, 1)
    assert now(other) == now(one)


def test_while_paused_or_off_the_route_nothing_is_conducted(replicas):
    clock = Clock(1000.0)
    replica = replicas(clock)
    started(replica, ramp=(Step(0.1, 1), Step(0.2)))
    clock.now += 3600
    replica.service.state.change("ab", paused, action="pause")
    replica.service.reload()
    check_experiments(replica)
    assert now(replica).step == 0


def test_an_experiment_that_is_called_like_the_mask_of_the_route_is_not_conducted(replicas):
    clock = Clock(1000.0)
    replica = replicas(clock)
    replica.add(made("detox", 1))
    experiment = begin(Experiment("detox", ARMS, "control", ramp=(Step(0.1, 1), Step(0.2))), clock())
    replica.service.state.create(experiment)
    replica.service.state.set_route("detox")
    replica.service.reload()
    clock.now += 3600
    check_experiments(replica)
    replica.service.reload()
    assert replica.service.policy.experiments["detox"] == experiment


def test_a_guardrail_stops_the_experiment_and_the_route_goes_back(replicas, hook):
    replica = replicas(webhook=hook.url)
    started(replica, guardrails=(GUARDRAIL,))
    before = metrics.STOPPED.labels("ab", "guardrail")._value.get()
    respond(replica, "control", 60)
    respond(replica, "treated", 60)
    check_experiments(replica)
    assert now(replica).status == "running"
    respond(replica, "treated", 60, toxic=True)
    respond(replica, "control", 60)
    check_experiments(replica)
    after = now(replica)
    assert (after.status, after.winner) == ("stopped", None)
    assert after.reason.startswith("guardrail: ")
    assert replica.service.policy.route == "base"
    entries = {entry["action"]: entry for entry in audit.entries(replica.database)}
    assert (entries["stop by guardrail"]["who"], entries["stop by guardrail"]["reason"]) == ("server", after.reason)
    assert metrics.STOPPED.labels("ab", "guardrail")._value.get() == before + 1
    check_experiments(replica)
    event = {"event": "experiment_stopped", "experiment": "ab", "reason": after.reason, "route": "base"}
    assert hook.calls == [{**event, "at": replica.clock()}]


def test_of_two_replicas_one_stops_and_one_calls(replicas, hook):
    one, other = replicas(webhook=hook.url), replicas(webhook=hook.url)
    started(one, guardrails=(GUARDRAIL,))
    other.service.reload()
    respond(one, "control", 100)
    respond(other, "treated", 100, toxic=True)
    check_experiments(one, other)
    check_experiments(one, other)
    assert [now(replica).status for replica in (one, other)] == ["stopped"] * 2
    assert len(hook.calls) == 1
    actions = [entry["action"] for entry in audit.entries(one.database)]
    assert actions.count("stop by guardrail") == 1


@pytest.fixture
def at_once(monkeypatch):
    """Tries follow one another without a pause."""
    sleep = asyncio.sleep
    monkeypatch.setattr(controller.asyncio, "sleep", lambda _: sleep(0))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("hook", "calls", "warnings"),
    [((500,), 2, 1), ((503, 302), 3, 2), ((500,) * 9, 3, 3)],
    indirect=["hook"],
)
def test_a_webhook_that_fails_is_tried_again_and_then_given_up(replicas, hook, calls, warnings, at_once, caplog):
    replica = replicas(webhook=hook.url)
    started(replica, guardrails=(GUARDRAIL,))
    respond(replica, "control", 100)
    respond(replica, "treated", 100, toxic=True)
    check_experiments(replica)
    assert len(hook.calls) == calls
    assert caplog.text.count("the webhook failed") == warnings
    assert "secret-path" not in caplog.text
    assert replica.service.policy.route == "base"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://a.b..c/", "https://127.0.0.1:1/", "http://[::1/"])
def test_a_webhook_that_is_not_there_stops_nothing(replicas, url, at_once, caplog):
    replica = replicas()
    object.__setattr__(replica.settings, "webhook", type(replica.settings.webhook)(url))
    started(replica, guardrails=(GUARDRAIL,))
    respond(replica, "control", 100)
    respond(replica, "treated", 100, toxic=True)
    check_experiments(replica)
    assert now(replica).status == "stopped"
    assert caplog.text.count("the webhook failed") == 3


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_webhook_that_never_answers_holds_nothing_up(replicas, monkeypatch):
    monkeypatch.setattr(controller, "_TIMEOUT", 0.2)
    never = threading.Event()
    hook = Hook(slow=never)
    try:
        replica = replicas(webhook=hook.url)
        started(replica, guardrails=(GUARDRAIL,))
        respond(replica, "control", 100)
        respond(replica, "treated", 100, toxic=True)

        async def run() -> None:
            one = replica.service.background_tasks.controller
            await one.check_experiments()
            assert now(replica).status == "stopped"  # and the call is still under way
            assert one._calls
            await one.close()
            assert not one._calls

        asyncio.run(run())
    finally:
        never.set()
        hook.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_stop_that_the_database_refused_is_tried_again(replicas, monkeypatch):
    replica = replicas()
    started(replica, guardrails=(GUARDRAIL,))
    respond(replica, "control", 100)
    respond(replica, "treated", 100, toxic=True)

    def gone(*_, **__):
        raise DatabaseLostError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(replica.service.state, "change", gone)
        with pytest.raises(DatabaseLostError):
            check_experiments(replica)
    assert now(replica).status == "running"
    check_experiments(replica)  # nothing new was said meanwhile
    assert now(replica).status == "stopped"


def test_a_stop_made_on_what_has_changed_since_is_decided_anew(replicas):
    replica, other = replicas(), replicas()
    started(replica, guardrails=(GUARDRAIL,))
    respond(replica, "control", 100)
    respond(replica, "treated", 100, toxic=True)
    replica.service.reload()
    other.service.state.change("ab", lambda e: reweighted(e, {"treated": 2.0}, 0.0), action="change")
    check_experiments(replica)
    assert now(replica).status == "running"
    check_experiments(replica)
    assert now(replica).status == "stopped"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_has_not_changed_is_not_weighed_again(replicas, monkeypatch):
    replica, weighed = replicas(), []
    started(replica, guardrails=(GUARDRAIL,))
    monkeypatch.setattr(controller, "crossed", lambda *_: weighed.append(1))
    respond(replica, "control", 10)
    for _ in range(3):
        check_experiments(replica)
    respond(replica, "control", 10)
    check_experiments(replica)
    assert len(weighed) == 2


def test_a_variant_wins_only_once_it_is_shown_to_write_sense():
    ramp = (Step(0.5), Step(1.0))
    guarded = (Guardrail("coherence", "decrease", 0.5),)
    arms = (Variant("control", "base", 1.0), Variant("treated", "detox@1", 1.0))
    one = begin(Experiment("ab", arms, "control", ramp=ramp, guardrails=guarded), 0.0)

    def due(judged: int) -> bool:
        totals = Totals(
            responses=500, scored=500, judged=judged, coherence=-1.0 * judged, coherence_squared=1.09 * judged
        )
        return step_is_due(one, [Tally(0, name, totals, totals) for name in ("control", "treated")], 1.0)

    assert not due(0) and not due(60)
    assert due(500)
