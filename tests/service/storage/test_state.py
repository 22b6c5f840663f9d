"""What operators set: route, aliases, experiments, and the masks that they hold. On SQLite and PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import event

import masks
from service.errors import ConflictError, NotFoundError
from service.experiments.experiment import Experiment, Step, Variant, begin, paused, reweighted, stopped
from service.storage import audit
from service.storage.database import Database, DatabaseLostError
from service.storage.mask_files import MaskFiles
from service.storage.registry import Registry
from service.storage.state import State
from tests.service.replica import Clock, made
from tests.service.server import MODEL, ROOT

DETOX = [made("detox", number) for number in range(4)]
"""Versions 1 to 4."""


class Desk:
    """State and registry on one database."""

    def __init__(self, folder, url, **settings) -> None:
        self.database = Database(url)
        base, parameters = masks.describe(MODEL), masks.parameters(MODEL)
        self.registry = Registry(MaskFiles(folder), self.database, base, parameters)
        self.clock = Clock(1000.0)
        self.state = State(self.database, clock=self.clock, **settings)

    def register(self, *found) -> None:
        for mask in found:
            self.registry.register(masks.dumps(mask))

    def delete(self, label) -> None:
        name, _, version = label.partition("@")
        self.registry.delete(name, int(version), check=self.state.check_unused)

    def entries(self):
        return [(entry["action"], entry["subject"]) for entry in audit.entries(self.database)]


@pytest.fixture
def open_desk(tmp_path, database_url):
    opened: list[Desk] = []

    def open_(**settings) -> Desk:
        opened.append(Desk(tmp_path, database_url, **settings))
        return opened[-1]

    yield open_
    for desk in opened:
        desk.database.close()


@pytest.fixture
def desk(open_desk):
    new_desk = open_desk()
    new_desk.register(*DETOX[:3])
    return new_desk


def experiment(name="ab", **settings):
    variants = (Variant("control", "base", 1.0), Variant("treated", "detox@1", 1.0))
    return begin(Experiment(name, variants, "control", **settings), 500.0)


def test_a_new_database_leads_to_the_uncorrected_model(open_desk):
    snapshot = open_desk().state.read()
    assert (snapshot.route, snapshot.aliases, snapshot.experiments) == ("base", {}, {})


@pytest.mark.parametrize("target", ["base", "detox", "detox@2", "detox@candidate", "experiment:ab"])
def test_the_route_leads_wherever_something_is(desk, target):
    desk.state.set_alias("detox", "candidate", 1)
    desk.state.create(experiment())
    desk.state.set_route(target)
    assert desk.state.read().route == target


@pytest.mark.parametrize("target", ["nope", "nope@1", "detox@9", "detox@candidate", "experiment:nope"])
def test_the_route_never_leads_nowhere(desk, target):
    number = desk.database.number()
    with pytest.raises(NotFoundError):
        desk.state.set_route(target)
    assert (desk.state.read().route, desk.database.number()) == ("base", number)


def test_the_route_goes_back_step_by_step_to_what_the_server_began_with(desk):
    for target in ("detox@1", "detox@1", "detox@2", "detox"):
        desk.state.set_route(target)
    assert [desk.state.rollback_route() for _ in range(3)] == ["detox@2", "detox@1", "base"]
    with pytest.raises(ConflictError, match="no target before 'base'"):
        desk.state.rollback_route()
    assert desk.state.read().route == "base"


def test_there_is_no_way_back_from_where_the_route_always_was(desk):
    desk.state.set_route("base")
    with pytest.raises(ConflictError) as caught:
        desk.state.rollback_route()
    assert caught.value.code == "no_target_before"


def test_going_back_passes_over_what_is_gone(desk):
    desk.state.create(experiment())
    for target in ("detox@3", "detox@1", "detox@2", "experiment:ab", "detox@3"):
        desk.state.set_route(target)
    desk.delete("detox@2")
    desk.state.change("ab", lambda e: stopped(e, "enough"), action="stop")
    assert desk.state.rollback_route() == "detox@1"
    assert desk.state.rollback_route() == "detox@3"


def test_going_back_never_stays_where_it_is(desk):
    for target in ("detox@1", "detox@2", "detox@1"):
        desk.state.set_route(target)
    desk.delete("detox@2")
    assert desk.state.rollback_route() == "base"


def test_only_so_many_targets_are_remembered(desk):
    for number in range(60):
        desk.state.set_route(f"detox@{number % 2 + 1}")
    for _ in range(49):
        desk.state.rollback_route()
    with pytest.raises(ConflictError):
        desk.state.rollback_route()


def test_an_alias_is_set_moved_and_rolled_back(desk):
    for version in (1, 2, 3):
        desk.state.set_alias("detox", "production", version)
    assert desk.state.read().aliases == {"detox": {"production": 3}}
    assert [desk.state.rollback_alias("detox", "production") for _ in range(2)] == [2, 1]
    with pytest.raises(ConflictError):
        desk.state.rollback_alias("detox", "production")


def test_an_alias_points_only_at_what_there_is(desk):
    with pytest.raises(NotFoundError):
        desk.state.set_alias("detox", "production", 9)
    with pytest.raises(NotFoundError):
        desk.state.set_alias("nope", "production", 1)
    with pytest.raises(ConflictError, match="no target before None"):
        desk.state.rollback_alias("detox", "nope")
    with pytest.raises(NotFoundError):
        desk.state.remove_alias("detox", "nope")


def test_an_alias_is_taken_away_unless_the_route_leads_over_it(desk):
    desk.state.set_alias("detox", "candidate", 1)
    desk.state.set_route("detox@candidate")
    with pytest.raises(ConflictError, match="default route"):
        desk.state.remove_alias("detox", "candidate")
    desk.state.set_route("base")
    desk.state.remove_alias("detox", "candidate")
    assert desk.state.read().aliases == {}


@pytest.mark.parametrize(
    ("use", "held", "free"),
    [
        (lambda state: state.set_route("detox@2"), "detox@2", "detox@3"),
        (lambda state: state.set_route("detox"), "detox@3", "detox@2"),
        (lambda state: state.set_alias("detox", "candidate", 1), "detox@1", "detox@3"),
        (lambda state: state.create(experiment()), "detox@1", "detox@2"),
    ],
)
def test_a_mask_in_use_is_not_deleted_and_another_is(desk, use, held, free):
    use(desk.state)
    with pytest.raises(ConflictError, match=f"mask {held} is in use") as caught:
        desk.delete(held)
    assert caught.value.code == "in_use"
    desk.delete(free)
    assert held in [record.label for record in desk.registry.list()[0]]


def test_a_route_by_name_holds_the_version_that_is_in_production(desk):
    desk.state.set_route("detox")
    desk.state.set_alias("detox", "production", 1)
    desk.delete("detox@3")
    with pytest.raises(ConflictError, match="the alias 'production', the default route"):
        desk.delete("detox@1")


def test_a_paused_experiment_holds_its_masks_and_a_stopped_one_lets_them_go(desk):
    desk.state.create(experiment())
    desk.state.change("ab", paused, action="pause")
    with pytest.raises(ConflictError, match="experiment 'ab'"):
        desk.delete("detox@1")
    desk.state.change("ab", lambda e: stopped(e, "enough"), action="stop")
    desk.delete("detox@1")


def test_a_deleted_version_is_never_given_again(desk):
    desk.delete("detox@3")
    desk.register(DETOX[3])
    assert [record.version for record in desk.registry.list()[0]] == [1, 2, 4]


def test_a_deletion_that_is_not_committed_leaves_the_file(desk):
    @event.listens_for(desk.database.engine, "commit", once=True)
    def _fail(connection):
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        desk.delete("detox@3")
    assert desk.registry.load(desk.registry.get("detox", 3).digest).meta.name == "detox"


def test_a_store_that_cannot_forget_does_not_bring_a_mask_back(desk, monkeypatch, caplog):
    digest = desk.registry.get("detox", 3).digest
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError("read-only")))
    desk.delete("detox@3")
    assert "its file was not" in caplog.text
    with pytest.raises(NotFoundError):
        desk.registry.get("detox", 3)
    monkeypatch.undo()
    desk.register(DETOX[2])
    assert desk.registry.get("detox", 3).digest == digest


def test_an_experiment_is_kept_as_it_was_made(open_desk, desk):
    one = experiment(ramp=(Step(0.01, 60.0, 5), Step(0.5)))
    desk.state.create(one)
    assert open_desk().state.read().experiments == {"ab": one}


def test_an_experiment_needs_masks_that_are_there_and_a_name_of_its_own(desk):
    with pytest.raises(NotFoundError, match="detox@9"):
        desk.state.create(replace(experiment(), variants=(Variant("a", "base", 1.0), Variant("b", "detox@9", 1.0))))
    desk.state.create(experiment())
    with pytest.raises(ConflictError, match="there is an experiment 'ab'"):
        desk.state.create(experiment())


def test_so_many_experiments_may_be_kept(open_desk):
    desk = open_desk(max_experiments=2)
    desk.register(*DETOX[:1])
    for name in "ab":
        desk.state.create(experiment(name))
    with pytest.raises(ConflictError, match="EXCISE_MAX_EXPERIMENTS"):
        desk.state.create(experiment("c"))
    desk.state.change("a", lambda e: stopped(e, "enough"), action="stop")
    desk.state.remove("a")
    desk.state.create(experiment("c"))


def test_the_name_of_a_deleted_experiment_is_not_used_again(desk):
    desk.state.create(experiment())
    desk.state.change("ab", lambda e: stopped(e, "enough"), action="stop")
    desk.state.remove("ab")
    assert desk.state.read().experiments == {}
    with pytest.raises(ConflictError, match="there was an experiment 'ab'"):
        desk.state.create(experiment())
    with pytest.raises(NotFoundError):
        desk.state.remove("ab")
    with pytest.raises(NotFoundError):
        desk.state.set_route("experiment:ab")


def test_only_a_stopped_experiment_is_deleted(desk):
    desk.state.create(experiment())
    for change in (None, paused):
        if change:
            desk.state.change("ab", change, action="pause")
        with pytest.raises(ConflictError, match="stop it first"):
            desk.state.remove("ab")


def test_a_change_names_the_revision_that_it_was_made_on(desk):
    desk.state.create(experiment())
    first = desk.state.change("ab", lambda e: reweighted(e, {"treated": 2.0}, 0.0), action="change", revision=1)
    assert (first.revision, first.epoch) == (2, 1)
    with pytest.raises(ConflictError, match="at revision 2, your change was made on 1") as caught:
        desk.state.change("ab", paused, action="change", revision=1)
    assert caught.value.code == "changed_since"
    assert desk.state.read().experiments["ab"] == first


def test_of_changes_on_one_revision_at_the_same_moment_one_is_made(open_desk, desk):
    desk.state.create(experiment())
    desks = [open_desk() for _ in range(4)]

    def change(number: int) -> str:
        try:
            edit = {"treated": 1.0 + number}
            desks[number % 4].state.change("ab", lambda e: reweighted(e, edit, 0.0), action="c", revision=1)
            return "made"
        except ConflictError as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(change, range(16)))
    assert sorted(results) == ["changed_since"] * 15 + ["made"]
    after = desk.state.read().experiments["ab"]
    assert (after.revision, after.epoch) == (2, 1)
    assert desk.entries().count(("c", "ab")) == 1


PATCHER = """
import sys
from service.storage.database import Database
from service.errors import ConflictError
from service.experiments.experiment import reweighted
from service.storage.state import State
state = State(Database(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    try:
        state.change("ab", lambda e: reweighted(e, {"treated": 2.0}, 0.0), action="patch", revision=int(line))
        print("made", flush=True)
    except ConflictError as error:
        print(error.code, flush=True)
"""


def test_of_changes_by_two_processes_on_one_revision_one_is_made(desk, database_url):
    desk.state.create(experiment())
    command = [sys.executable, "-W", "error", "-c", PATCHER, database_url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
        for revision in range(1, 21):
            for process in processes:
                process.stdin.write(f"{revision}\n")
                process.stdin.flush()
            assert sorted(process.stdout.readline() for process in processes) == ["changed_since\n", "made\n"]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert desk.state.read().experiments["ab"].revision == 21


@pytest.mark.parametrize(("winner", "mask"), [(None, "base"), ("treated", "detox@1")])
def test_stopping_hands_the_route_on_if_it_leads_here(desk, winner, mask):
    desk.state.create(experiment())
    desk.state.set_route("experiment:ab")
    desk.state.change("ab", lambda e: stopped(e, "enough", winner), action="stop experiment")
    assert desk.state.read().route == mask
    assert desk.entries()[:2] == [("set route", "route"), ("stop experiment", "ab")]


def test_stopping_leaves_a_route_that_leads_elsewhere(desk):
    desk.state.create(experiment())
    desk.state.set_route("detox@2")
    desk.state.change("ab", lambda e: stopped(e, "enough", "treated"), action="stop experiment")
    assert desk.state.read().route == "detox@2"
    assert desk.entries()[0] == ("stop experiment", "ab")


def test_no_route_leads_to_a_stopped_experiment(desk):
    desk.state.create(experiment())
    desk.state.change("ab", lambda e: stopped(e, "enough"), action="stop")
    with pytest.raises(ConflictError, match="was stopped"):
        desk.state.set_route("experiment:ab")


def test_the_time_of_a_ramps_step_begins_when_its_users_come(desk):
    desk.state.create(experiment(ramp=(Step(0.01, 60.0), Step(0.5))))
    desk.state.set_route("experiment:ab")
    assert desk.state.read().experiments["ab"].step_since == 1000.0
    desk.clock.now = 2000.0
    desk.state.set_route("experiment:ab")
    assert desk.state.read().experiments["ab"].step_since == 1000.0
    desk.state.set_route("base")
    desk.clock.now = 3000.0
    desk.state.rollback_route()
    after = desk.state.read().experiments["ab"]
    assert (after.step_since, after.revision, after.epoch) == (3000.0, 1, 0)


def test_what_is_read_is_of_one_moment(desk, open_desk):
    """Another replica deletes the experiment of the route between two of the reader's statements."""
    desk.state.create(experiment())
    desk.state.set_route("experiment:ab")
    other, done = open_desk(), []

    @event.listens_for(desk.database.engine, "after_cursor_execute")
    def _between(connection, cursor, statement, *_):
        if "FROM pointers" in statement and not done:
            done.append(True)
            other.state.change("ab", lambda e: stopped(e, "enough"), action="stop")
            other.state.remove("ab")

    snapshot = desk.state.read()
    assert done
    assert snapshot.route.removeprefix("experiment:") in snapshot.experiments
    assert desk.state.read().route == "base"


def test_a_lost_database_is_told_by_every_change(desk, monkeypatch):
    def gone(*_, **__):
        raise DatabaseLostError("gone")

    monkeypatch.setattr(desk.database, "begin", gone)
    for change in (
        lambda: desk.state.set_route("base"),
        lambda: desk.state.rollback_route(),
        lambda: desk.state.set_alias("detox", "a", 1),
        lambda: desk.state.create(experiment()),
        lambda: desk.state.read(),
    ):
        with pytest.raises(DatabaseLostError):
            change()
