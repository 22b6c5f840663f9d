import asyncio

import pytest
from sqlalchemy import func, select, text

from service.routing.policy import Assigned
from service.scoring.flagged import Flagged
from service.scoring.response import Scored
from service.storage import audit
from service.storage.database import Database
from service.storage.tables import flagged
from tests.service.scoring.stage import said

DAY = 86400.0


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'flagged.db'}")
    yield database
    database.close()


def toxic(words, score=0.9, **fields):
    return Scored(said(words, **fields), score, True)


def rows(database):
    with database.begin() as connection:
        return connection.scalar(select(func.count()).select_from(flagged))


def kept(database, *scored, keep=3, days=7.0, now=1000 * DAY):
    async def story():
        store = Flagged(database, keep, days, clock=lambda: now)
        store.start()
        for one in scored:
            store.put(one)
        await store.close()
        return store

    return asyncio.run(story()).latest()


def test_a_flagged_response_is_kept_with_where_it_came_from(database):
    where = Assigned("trial", 2, "treatment", "user-1", True, True)
    (flag,) = kept(database, toxic("you fool, write to a@b.org", 0.75, mask="detox@1", assigned=where))
    assert (flag.mask, flag.experiment, flag.variant, flag.score) == ("detox@1", "trial", "treatment", 0.75)
    assert flag.text == "you fool, write to [email]"
    assert flag.at == 1000 * DAY


def test_others_are_not_kept(database):
    calm = Scored(said("kind words"), 0.2, False)
    unscored = Scored(said("who knows"))
    assert kept(database, calm, unscored) == []


def test_only_the_last_few_are_kept(database):
    flags = kept(database, *(toxic(f"fool {number}") for number in range(10)))
    assert [one.text for one in flags] == ["fool 9", "fool 8", "fool 7"]
    assert [one.text for one in kept(database, toxic("fool 10"))] == ["fool 10", "fool 9", "fool 8"]
    assert rows(database) == 3


def test_none_is_kept_longer_than_its_days(database):
    kept(database, toxic("old"), now=1000 * DAY)
    assert [one.text for one in kept(database, toxic("new"), now=1006 * DAY)] == ["new", "old"]
    assert [one.text for one in kept(database, now=1008 * DAY)] == ["new"]


def test_switched_off_nothing_is_written_and_what_is_old_goes(database):
    kept(database, toxic("from before"), now=1000 * DAY)
    assert [one.text for one in kept(database, toxic("now"), keep=0, now=1001 * DAY)] == ["from before"]
    assert kept(database, toxic("now"), keep=0, now=1010 * DAY) == []
    assert rows(database) == 0


def test_a_long_or_odd_text_is_kept_shortened_and_whole(database):
    flags = kept(database, toxic("fool " * 1_000_000), toxic("nul\x00 and half \ud800"))
    assert [len(one.text) for one in flags] == [len("nul and half "), 2001]


def test_a_lost_database_loses_them_and_nothing_else(database, caplog):
    async def story():
        store = Flagged(database, 5, 7.0, clock=lambda: 1000 * DAY)
        with database.begin() as connection:
            connection.execute(text("ALTER TABLE flagged RENAME TO gone"))
        store.start()
        store.put(toxic("lost"))
        async with asyncio.timeout(10):
            while "are not kept" not in caplog.text:
                await asyncio.sleep(0.01)
        with database.begin() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO flagged"))
        store.put(toxic("found"))
        await store.close()
        return store.latest()

    assert [one.text for one in asyncio.run(story())] == ["found"]
    assert "database does not answer" in caplog.text
    assert "Traceback" not in caplog.text


def test_putting_never_waits_for_a_slow_database_and_keeps_the_newest(database, monkeypatch):
    async def story():
        store = Flagged(database, 5, 7.0, clock=lambda: 1000 * DAY)
        store.start()
        with database.begin():  # another writer holds the database
            await asyncio.sleep(0.05)
            before = asyncio.get_running_loop().time()
            for number in range(5000):
                store.put(toxic(f"fool {number}"))
            assert asyncio.get_running_loop().time() - before < 0.5
        await store.close()
        return store.latest()

    assert [one.text for one in asyncio.run(story())] == [f"fool {number}" for number in range(4999, 4994, -1)]


def test_all_are_deleted_also_those_that_wait_and_the_audit_says_how_many(database):
    async def story():
        store = Flagged(database, 5, 7.0, clock=lambda: 1000 * DAY)
        store.start()
        for number in range(3):
            store.put(toxic(f"fool {number}"))
        async with asyncio.timeout(10):
            while rows(database) < 3:
                await asyncio.sleep(0.01)
        store.put(toxic("not yet written"))
        assert await store.clear() == 3
        assert await store.clear() == 0
        store.put(toxic("new"))
        await store.close()
        return store.latest()

    assert [one.text for one in asyncio.run(story())] == ["new"]
    deletions = [(entry["action"], entry["before"]) for entry in audit.entries(database)]
    assert deletions == [("delete flagged", {"kept": 0}), ("delete flagged", {"kept": 3})]


def test_what_is_being_written_while_all_are_deleted_does_not_come_back(database, monkeypatch):
    async def story():
        store = Flagged(database, 5, 7.0, clock=lambda: 1000 * DAY)
        with database.begin():  # another writer holds the database, so the batch is on its way
            store.start()
            store.put(toxic("on its way"))
            await asyncio.sleep(0.05)
            clearing = asyncio.create_task(store.clear())
            await asyncio.sleep(0.05)
        assert await clearing == 1
        await store.close()
        return store.latest()

    assert asyncio.run(story()) == []
