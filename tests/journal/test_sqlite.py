"""The SQLite journal: conformance, and what is its own."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest

from mqttbridge.journal import schema, seen, sqlite
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.model import Counts, Entry, Outcome, Queued, Settled
from tests.journal.conformance import JournalConformance, OpenJournal
from tests.journal.samples import FixedClock, delivered, drain, entries, fcnts, marked, until, uplink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mqttbridge.journal.reader import Query


@pytest.fixture
async def open_journal(tmp_path: Path) -> AsyncIterator[OpenJournal]:
    opened: list[SqliteJournal] = []

    async def open_(**options: object) -> SqliteJournal:
        chosen = {"max_size": 2**30, "when_full": "block", "clock": FixedClock()} | options
        journal = await SqliteJournal.open(tmp_path / "state", **chosen)
        opened.append(journal)
        return journal

    yield open_
    for journal in opened:
        await journal.close()


class TestSqliteJournal(JournalConformance):
    """The suite that every journal passes."""


async def test_declared_connections_have_an_account_and_keep_it(open_journal: OpenJournal) -> None:
    journal = await open_journal()
    await journal.declare(["b", "a", "b"])
    await journal.declare(["a"])
    assert journal.counts() == {"a": Counts(), "b": Counts()}
    await journal.append(entries([1], "a", "c"))
    await journal.close()
    journal = await open_journal()
    assert journal.counts() == {"a": Counts(routed=1), "b": Counts(), "c": Counts(routed=1)}


async def test_a_read_from_disk_passes_by_nothing_that_comes_meanwhile_on_another_route(
    open_journal: OpenJournal,
) -> None:
    journal = await open_journal()
    await journal.append(entries([1, 2], "a"))
    await journal.close()
    journal = await open_journal()
    with journal._reader.lock:
        reading = asyncio.ensure_future(journal.read("a", 0, 100))
        await asyncio.sleep(0)
        await journal.append(entries([3], "a", "b"))
        await journal.append(entries([4], "a"))
    found = await reading
    await journal.settle("a", delivered(found))
    assert fcnts(found) + await drain(journal, "a") == [1, 2, 3, 4]
    assert journal.counts()["a"] == Counts(routed=4, delivered=4)


async def test_a_read_whose_backlog_was_settled_meanwhile_gives_what_came_since(open_journal: OpenJournal) -> None:
    journal = await open_journal()
    await journal.append(entries([1, 2], "a"))
    await journal.close()
    journal = await open_journal()
    backlog = await journal.read("a", 0, 100)
    with journal._reader.lock:
        reading = asyncio.ensure_future(journal.read("a", 0, 100))
        await asyncio.sleep(0)
        await journal.settle("a", delivered(backlog))
        await journal.append(entries([3], "a", "b"))
    assert fcnts(await reading) == [3]


async def test_the_file_shrinks_again_after_a_backlog_has_drained(open_journal: OpenJournal, tmp_path: Path) -> None:
    journal = await open_journal()
    for number in range(20):
        await journal.append(entries(range(number * 500, number * 500 + 500), "a", "b", size=1200))
    file = tmp_path / "state" / "journal.db"
    wal = tmp_path / "state" / "journal.db-wal"
    await until(lambda: file.stat().st_size > 12_000_000)
    await drain(journal, "a")
    assert journal.health().size > 12_000_000
    await drain(journal, "b")
    await until(lambda: file.stat().st_size < 2_000_000 and wal.stat().st_size == 0)
    assert journal.health().size < 1_000_000


async def test_parked_uplinks_keep_their_body_and_their_reason(open_journal: OpenJournal, tmp_path: Path) -> None:
    journal = await open_journal()
    await journal.append(entries(range(10), "a"))
    queued = await journal.read("a", 0, 10)
    await journal.settle(
        "a", [Settled(one.seq, Outcome.PARKED if n == 4 else Outcome.DELIVERED, "why") for n, one in enumerate(queued)]
    )
    await journal.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "journal.db")) as db:
        assert db.execute("SELECT seq, body FROM uplink").fetchall() == [(queued[4].seq, queued[4].uplink.body)]
        assert db.execute("SELECT seq, at, reason FROM parked").fetchall() == [
            (queued[4].seq, FixedClock().now(), "why")
        ]


def fingerprints(directory: Path) -> list[int]:
    """Give what the file remembers, the oldest first."""
    with contextlib.closing(sqlite3.connect(directory / "journal.db")) as db:
        rows = db.execute("SELECT fingerprints FROM seen ORDER BY seq").fetchall()
    return [one - 2**62 for (blob,) in rows for one in sorted(seen.unpack(blob))]


async def test_the_file_remembers_the_newest_fingerprints_alone_and_no_more_than_memory_does(
    open_journal: OpenJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "LIMIT", 100)
    journal = await open_journal()
    for number in range(0, 500, 5):
        await journal.append(marked(range(number, number + 5), "a"))
        parts = journal._writer._seen._parts
        assert [one - 2**62 for part in parts for one in sorted(part.moments)] == fingerprints(tmp_path / "state")
    for _ in range(2):
        kept = fingerprints(tmp_path / "state")
        assert kept == list(range(500 - len(kept), 500))
        assert 80 <= len(kept) <= 100
        assert await journal.append(marked(kept, "a")) == list(range(len(kept)))
        await journal.close()
        journal = await open_journal()
    await journal.append(marked(range(1000, 1300), "a"))
    assert set(fingerprints(tmp_path / "state")) < set(range(1000, 1300))
    assert len(fingerprints(tmp_path / "state")) == 100
    assert journal.counts()["a"] == Counts(routed=800)


async def test_fingerprints_of_the_day_before_are_deleted(open_journal: OpenJournal, tmp_path: Path) -> None:
    clock = FixedClock()
    start = clock.now()
    clock.now = lambda: start + passed
    journal = await open_journal(clock=clock)
    passed = 0
    await journal.append(marked([1, 2], "a"))
    passed = seen.LONGEST // 2
    await journal.append(marked([3], "a"))
    passed = seen.LONGEST + 1
    await journal.append(marked([4], "a"))
    assert fingerprints(tmp_path / "state") == [3, 4]
    passed *= 3
    await drain(journal, "a")
    await until(lambda: fingerprints(tmp_path / "state") == [])


async def test_fingerprints_give_their_share_back_when_nothing_else_is_left_to_make_room(
    open_journal: OpenJournal, tmp_path: Path
) -> None:
    options = {"max_size": 2**20, "when_full": "drop-oldest"}
    journal = await open_journal(**options)
    for number in range(0, 20_000, 100):
        await journal.append(marked(range(number, number + 100), "a"))
    counts = journal.counts()["a"]
    assert counts.dropped > 0
    kept = fingerprints(tmp_path / "state")
    assert len(kept) > 5000, "what makes room for uplinks are uplinks"
    largest = entries([7], "a", size=2**20 - (schema.EMPTY_PAGES + 4) * schema.PAGE)
    await journal.append(largest)
    assert fingerprints(tmp_path / "state") == []
    assert journal.health().size <= 2**20
    assert journal.counts()["a"] == Counts(routed=20_001, dropped=20_000)
    assert await journal.append(marked([19_999], "a")) == [], "it is forgotten, and so stored again"


async def test_a_body_is_stored_once_for_many_connections(open_journal: OpenJournal) -> None:
    journal = await open_journal()
    await journal.append(entries(range(10), *(f"c{n}" for n in range(500)), size=100_000))
    await journal.close()
    journal = await open_journal()
    assert 1_000_000 < journal.health().size < 1_500_000
    assert all(counts == Counts(routed=10) for counts in journal.counts().values())


async def test_a_read_costs_the_same_however_long_any_backlog_is(open_journal: OpenJournal) -> None:
    """Counted in instructions of SQLite's machine."""
    spent = 0
    factor = 20

    def connect(path: Path) -> sqlite3.Connection:
        db = schema.connect(path)

        def count() -> int:
            nonlocal spent
            if threading.current_thread().name == "journal-reader":
                spent += 1
            return 0

        db.set_progress_handler(count, 50)
        return db

    async def cost(journal: SqliteJournal) -> int:
        nonlocal spent
        await journal.read("a", 0, 1)
        spent = 0
        assert fcnts(await journal.read("a", 0, 100)) == list(range(100))
        return spent

    costs = []
    for number in (1, factor):
        journal = await open_journal(connect=connect)
        for _ in range(number):
            batch = [*entries(range(500), "a"), *entries(range(500), "b"), *entries(range(500), "a", "b")]
            await journal.append(batch)
        await journal.close()
        journal = await open_journal(connect=connect)
        costs.append(await cost(journal))
        await journal.close()
    assert costs[0] > 10
    assert costs[1] < 1.3 * costs[0]


async def test_a_session_that_keeps_up_never_reads_from_disk(open_journal: OpenJournal) -> None:
    journal = await open_journal()
    journal._reader.submit = None
    for number in range(100):
        await journal.append(entries([number], "a", "b"))
        assert await drain(journal, "a") == [number]
    assert await drain(journal, "b") == list(range(100))


async def test_appenders_wait_when_too_much_waits_and_go_on_in_order(
    open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "WAITING_BYTES", 10_000)
    journal = await open_journal()
    highest = 0
    submit = journal._writer.submit

    def watch(operation: object) -> None:
        nonlocal highest
        highest = max(highest, journal._waiting)
        submit(operation)

    journal._writer.submit = watch
    async with asyncio.TaskGroup() as tasks:
        for number in range(100):
            tasks.create_task(journal.append(entries([number], "a", size=1000)))
    assert 10_000 <= highest <= 11_000
    assert journal._waiting == 0
    assert await drain(journal, "a") == list(range(100))


async def test_a_watcher_that_fails_harms_no_other(open_journal: OpenJournal) -> None:
    journal = await open_journal()
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
    called = asyncio.Event()
    journal.watch("a", lambda: 1 // 0)
    journal.watch("b", called.set)
    await journal.append(entries([1], "a", "b"))
    await asyncio.wait_for(called.wait(), 5)
    assert reported == ["the watcher of a failed"]


async def test_settlements_that_make_no_sense_are_refused_alone(open_journal: OpenJournal) -> None:
    journal = await open_journal()
    await journal.append(entries([1, 2], "a"))
    one, two = delivered(await journal.read("a", 0, 10))
    for connection, settled in (("a", [two, one]), ("a", [Settled(99, Outcome.DELIVERED)]), ("nobody", [one])):
        with pytest.raises(ValueError):
            await journal.settle(connection, settled)
    with pytest.raises(ValueError):
        await journal.append([Entry(uplink(), ())])
    await journal.settle("a", [one, two])
    assert journal.counts() == {"a": Counts(routed=2, delivered=2)}


async def test_another_process_that_reads_the_file_does_not_stop_the_journal(
    open_journal: OpenJournal, tmp_path: Path
) -> None:
    journal = await open_journal()
    await journal.append(entries([1], "a"))
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "journal.db")) as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM uplink").fetchone()
        await journal.append(entries([2], "a"))
        assert await drain(journal, "a") == [1, 2]
        await asyncio.wait_for(journal.close(), 4)


async def test_what_is_dropped_while_it_is_read_from_disk_is_not_given(open_journal: OpenJournal) -> None:
    journal = await open_journal(max_size=2**20, when_full="drop-oldest")
    await journal.append(entries(range(200), "a", size=2000))
    await journal.close()
    journal = await open_journal(max_size=2**20, when_full="drop-oldest")
    submit = journal._reader.submit
    raced: list[asyncio.Task[None]] = []

    def submit_slowly(query: Query, future: asyncio.Future[list[Queued]]) -> None:
        async def race() -> None:
            found: asyncio.Future[list[Queued]] = asyncio.get_running_loop().create_future()
            submit(query, found)
            await found
            while journal.counts()["a"].dropped < 150:
                await journal.append(entries(range(200, 210), "a", size=2000))
            future.set_result(found.result())

        journal._reader.submit = submit
        raced.append(asyncio.create_task(race()))

    journal._reader.submit = submit_slowly
    found = await journal.read("a", 0, 100)
    assert raced
    assert fcnts(found)[0] == journal.counts()["a"].dropped >= 150
