"""Any sequence of responses, flushes, failures, deaths and clock jumps, against a model that keeps every response."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.experiments.outcomes.ledger import Ledger
from service.experiments.outcomes.queries import tallies
from service.experiments.outcomes.totals import LATENCY_EDGES, Outcome, Tally, Totals
from service.storage.database import Database, DatabaseLostError
from tests.service.experiments.outcomes.minutes import timeline

REPLICAS = 2
_numbers = itertools.count()


def plain(responses: list[Outcome]) -> Totals:
    """The sums, from their definitions."""
    good = [one for one in responses if not one.error]
    scored = [one for one in good if one.toxic is not None]
    latency = [0] * (len(LATENCY_EDGES) + 1)
    for one in good:
        latency[sum(edge < one.seconds for edge in LATENCY_EDGES)] += 1
    return Totals(
        responses=len(good),
        errors=len(responses) - len(good),
        truncated=sum(one.truncated for one in good),
        tokens=sum(one.tokens for one in good),
        tokens_squared=sum(one.tokens**2 for one in good),
        seconds=sum(one.seconds for one in good),
        seconds_squared=sum(one.seconds**2 for one in good),
        scored=len(scored),
        toxic=sum(one.toxic is True for one in scored),
        repetitive=sum(one.repetitive for one in scored),
        refusals=sum(one.refusal for one in scored),
        latency=tuple(latency),
    )


@dataclass
class Model:
    """What the database must hold, response by response."""

    written: list[tuple[int, Outcome]] = field(default_factory=list)
    """Those that were committed, with their minutes."""
    tested: list[Outcome] = field(default_factory=list)
    """Of these the ones that stand for their unit."""
    users: set[str] = field(default_factory=set)
    heard: list[list[tuple[int, Outcome]]] = field(default_factory=lambda: [[] for _ in range(REPLICAS)])
    """By replica: those that it still has only in memory."""

    def commit(self, replica: int) -> None:
        for minute, one in self.heard[replica]:
            self.written.append((minute, one))
            if one.counted and not (one.by_user and one.unit in self.users):
                self.tested.append(one)
                if one.by_user:
                    self.users.add(one.unit)
        self.heard[replica] = []

    def tallies(self) -> list[Tally]:
        keys = sorted({(one.epoch, one.variant) for _, one in self.written})
        return [
            Tally(
                *key,
                all=plain([one for _, one in self.written if (one.epoch, one.variant) == key]),
                units=plain([one for one in self.tested if (one.epoch, one.variant) == key]),
            )
            for key in keys
        ]


responses = st.builds(
    Outcome,
    experiment=st.just("e"),
    epoch=st.integers(0, 1),
    variant=st.sampled_from("ab"),
    unit=st.sampled_from(["ada", "bob", "eve"]),
    counted=st.booleans() | st.just(True),
    by_user=st.booleans() | st.just(True),
    error=st.sampled_from([False, False, True]),
    truncated=st.booleans(),
    tokens=st.integers(0, 300),
    seconds=st.integers(0, 1000).map(lambda quarters: quarters / 4),  # whose sums are exact in any order
    toxic=st.sampled_from([None, False, True]),
    repetitive=st.booleans(),
    refusal=st.booleans(),
)
replicas = st.integers(0, REPLICAS - 1)
steps = st.lists(
    st.tuples(st.just("add"), replicas, responses)
    | st.tuples(st.sampled_from(["flush", "is lost", "is unknown", "die"]), replicas, st.none())
    | st.tuples(st.just("clock"), replicas, st.sampled_from([-3600.0, -60.0, -1.0, 1.0, 59.0, 60.0, 86400.0])),
    max_size=60,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(steps=steps)
def test_the_database_holds_what_a_model_that_keeps_everything_holds(database: Database, commits, steps):
    name = f"e{next(_numbers)}"
    model = Model()
    now = [1_000_000_000.0] * REPLICAS
    ledgers = [Ledger(database, f"{name}-{r}", lambda r=r: now[r]) for r in range(REPLICAS)]
    for what, replica, argument in [*steps, *(("flush", r, None) for r in range(REPLICAS))]:
        if what == "add":
            ledgers[replica].add(_of(name, argument))
            model.heard[replica].append((int(now[replica] // 60), argument))
        elif what == "clock":
            now[replica] += argument
        elif what == "die":
            ledgers[replica] = Ledger(database, f"{name}-{next(_numbers)}", lambda r=replica: now[r])
            model.heard[replica] = []
        elif what == "flush":
            ledgers[replica].flush()
            model.commit(replica)
            assert ledgers[replica].waiting == 0
        elif model.heard[replica]:
            commits.fate = what
            with pytest.raises(DatabaseLostError):
                ledgers[replica].flush()
            commits.fate = "succeeds"
            if what == "is unknown":
                model.commit(replica)
    assert tallies(database, name) == model.tallies()
    totals = {(one.start, one.variant): one.all for one in timeline(database, name)}
    expected: dict[tuple[float, str], list[Outcome]] = {}
    for minute, one in model.written:
        expected.setdefault((60.0 * minute, one.variant), []).append(one)
    assert totals == {key: plain(them) for key, them in expected.items()}


def _of(experiment: str, one: Outcome) -> Outcome:
    return Outcome(**{**vars(one), "experiment": experiment})
