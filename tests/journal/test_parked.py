"""What was parked: listed, shown, retried and dropped; every account stays exact, whatever the disk does."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.errors import JournalFailed, JournalFull
from mqttbridge.journal import parked as parked_module
from mqttbridge.journal import writer
from mqttbridge.journal.ledger import Account, Change, Ledger
from mqttbridge.journal.parked import Picked
from mqttbridge.journal.plan import RETRY, Plan
from mqttbridge.journal.seen import Seen
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.model import Connections, Counts, DocumentKind, Outcome, Queued, Settled
from tests.journal.samples import FixedClock, delivered, drain, entries, fcnts, until, uplink
from tests.journal.test_faults import IO_ERRORS, VERSION_1, WORK, Disk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

KIB = 1024
MIB = 1024 * KIB
NOW = FixedClock().now()


class Heard:
    """A witness that remembers what was stored."""

    def __init__(self) -> None:
        self.uplinks: list[tuple[Connections, Queued]] = []

    def stored(self, queued: Mapping[Connections, Sequence[Queued]]) -> None:
        self.uplinks += [(names, one) for names, group in queued.items() for one in group]

    def settled(self, connection: str, settled: Sequence[Settled]) -> None:
        """Nothing to remember."""

    def seen(self, connection: str, queued: Sequence[Queued]) -> None:
        """Nothing to remember."""


@contextlib.asynccontextmanager
async def opened(directory: Path, **options: object) -> AsyncIterator[SqliteJournal]:
    chosen = {"max_size": 64 * MIB, "when_full": "block", "clock": FixedClock()} | options
    journal = await SqliteJournal.open(directory, **chosen)
    try:
        yield journal
    finally:
        await journal.close()


async def park(journal: SqliteJournal, connection: str, number: int = 10_000, reason: str = "why") -> None:
    """Park so many of what is queued."""
    found = await journal.read(connection, 0, number)
    await journal.settle(connection, [Settled(one.seq, Outcome.PARKED, reason) for one in found])


async def unpark(journal: SqliteJournal, connection: str, *, retry: bool) -> int:
    """Take up all of a connection."""
    count, upto = 0, journal.last_parked
    while (done := await journal.unpark(connection, retry=retry, upto=upto)).more:
        count += done.count
    return count


def rows(directory: Path) -> tuple[int, int]:
    """Give how many uplinks and how many parked rows the file has."""
    with contextlib.closing(sqlite3.connect(directory / "journal.db")) as db:
        return db.execute("SELECT (SELECT count(*) FROM uplink), (SELECT count(*) FROM parked)").fetchone()


# -- list and show -----------------------------------------------------------------------------------------------------


async def test_parked_uplinks_are_listed_newest_first_with_all_that_is_known_of_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append([*entries([1, 2], "a", "b"), *entries([3], "b")])
        await park(journal, "a", reason="first")
        await park(journal, "b", reason="second")
        everything = await journal.parked(None, 100)
        assert [(one.number, one.connection, one.fcnt, one.reason) for one in everything] == [
            (5, "b", 3, "second"),
            (4, "b", 2, "second"),
            (3, "b", 1, "second"),
            (2, "a", 2, "first"),
            (1, "a", 1, "first"),
        ]
        newest, given = everything[0], uplink(3)
        assert (newest.at, newest.received, newest.source) == (NOW, given.received, "lrc")
        assert (newest.dev_eui, newest.kind, newest.size) == (given.dev_eui, DocumentKind.UPLINK, len(given.body))
        assert await journal.parked("a", 100) == everything[3:]
        assert await journal.parked("b", 1, before=5) == everything[1:2]
        assert await journal.parked(None, 2, before=3) == everything[3:]
        assert await journal.parked("nobody", 100) == []
        assert await journal.parked_named([4, 99, 1]) == [everything[4], everything[1]]


async def test_one_parked_uplink_is_shown_with_its_body(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append(entries([1, 2], "a"))
        await park(journal, "a")
        shown = await journal.parked_one(2)
        assert shown is not None
        assert (shown.parked.number, shown.body) == (2, uplink(2).body)
        assert await journal.parked_one(3) is None


async def test_a_number_never_comes_twice_and_outlives_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append(entries([1, 2], "a"))
        await park(journal, "a")
        assert (await journal.unpark([2], retry=False)).counts == {"a": 1}
    async with opened(tmp_path) as journal:
        assert journal.last_parked == 2
        await journal.append(entries([3], "a"))
        await park(journal, "a")
        assert [one.number for one in await journal.parked("a", 10)] == [3, 1]
        assert journal.parked_kept() == {"a": 2}


# -- retry and drop ----------------------------------------------------------------------------------------------------


async def test_a_retried_uplink_is_queued_anew_behind_the_others_for_its_connection_alone(tmp_path: Path) -> None:
    heard = Heard()
    async with opened(tmp_path, witness=heard) as journal:
        await journal.append(entries([1, 2, 3], "a", "b"))
        await park(journal, "a", 2)
        await drain(journal, "b")
        called: list[int] = []
        journal.watch("a", lambda: called.append(1))
        assert (await journal.unpark([2, 1], retry=True)).counts == {"a": 2}
        assert called == [1]
        found = await journal.read("a", 0, 10)
        assert fcnts(found) == [3, 1, 2]
        assert found[1].uplink.body == uplink(1).body
        assert found[1].uplink.received == uplink(1).received
        assert found[1].uplink.time == NOW, "it was asked for now, and does not expire by its age"
        assert await journal.read("b", 0, 10) == []
        assert journal.counts() == {"a": Counts(routed=5, parked=2), "b": Counts(routed=3, delivered=3)}
        assert journal.parked_kept() == {}
        assert await journal.parked(None, 10) == []
    names, told = heard.uplinks[-1]
    assert names == ("a",)
    assert told.uplink.origin == f"{RETRY} received 2023-11-14T22:13:21.002+00:00"
    async with opened(tmp_path) as journal:
        assert await drain(journal, "a") == [3, 1, 2]
        assert journal.counts()["a"] == Counts(routed=5, delivered=3, parked=2)


async def test_a_dropped_one_stays_counted_as_parked_and_its_content_is_gone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append(entries([1, 2], "a"))
        await park(journal, "a")
        assert (await journal.unpark([1], retry=False)).counts == {"a": 1}
        assert rows(tmp_path) == (1, 1)
        assert journal.counts()["a"] == Counts(routed=2, parked=2)
        assert (await journal.unpark([1], retry=False)).counts == {}
    async with opened(tmp_path) as journal:
        assert journal.parked_kept() == {"a": 1}
        assert journal.counts()["a"] == Counts(routed=2, parked=2)


@pytest.mark.parametrize("retry", [True, False])
async def test_the_first_row_stays_as_long_as_anybody_needs_it(tmp_path: Path, *, retry: bool) -> None:
    async with opened(tmp_path) as journal:
        await journal.append(entries([1], "a", "b", "c"))
        await park(journal, "a")
        await park(journal, "b")
        await journal.unpark("a", retry=retry)
        await journal.unpark("b", retry=retry)
        assert rows(tmp_path) == (1 + 2 * retry, 0), "c still waits for it"
        assert await drain(journal, "c") == [1]
        assert await drain(journal, "a") == [1] * retry
        assert await drain(journal, "b") == [1] * retry
        await until(lambda: rows(tmp_path) == (0, 0))

        await journal.append(entries([2], "a", "b"))
        await park(journal, "a")
        await park(journal, "b")
        await journal.unpark("a", retry=retry)
        assert rows(tmp_path) == (1 + retry, 1), "b has it parked"
        shown = await journal.parked_one(journal.last_parked)
        assert shown is not None
        assert shown.body == uplink(2).body
        await journal.unpark("b", retry=retry)
        assert rows(tmp_path) == (2 * retry, 0)


async def test_what_is_parked_again_gets_another_number_and_ends_no_retry_of_all(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append(entries(range(3), "a"))
        await park(journal, "a")
        upto = journal.last_parked
        first = await journal.unpark("a", retry=True, upto=upto)
        assert (first.count, first.more) == (3, True)
        await park(journal, "a")
        assert not (await journal.unpark("a", retry=True, upto=upto)).more
        assert [one.number for one in await journal.parked("a", 10)] == [6, 5, 4]


async def test_many_are_taken_up_in_bounded_portions_in_the_old_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append(entries(range(1200), "a"))
        await park(journal, "a")
        first = await journal.unpark("a", retry=True)
        assert first.count == parked_module.PORTION
        assert 500 + await unpark(journal, "a", retry=True) == 1200
        assert await drain(journal, "a") == list(range(1200))
        await journal.append(entries(range(6), "a", size=3 * MIB))
        await park(journal, "a")
        assert (await journal.unpark("a", retry=True)).count == 2, "4 MiB at a time, and one at least"


async def test_appends_and_settlements_go_on_around_it_in_one_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append(entries([1], "a"))
        await park(journal, "a")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(journal.append(entries([2], "a")))
            tasks.create_task(journal.unpark("a", retry=True))
            tasks.create_task(journal.append(entries([3], "a")))
        assert await drain(journal, "a") == [2, 1, 3]


# -- room --------------------------------------------------------------------------------------------------------------


async def fill(journal: SqliteJournal, *names: str, size: int = 1100) -> int:
    """Append until it is full."""
    number = 0
    with contextlib.suppress(JournalFull):
        while True:
            await journal.append(entries([number], *names, size=size))
            number += 1
    return number


@pytest.mark.parametrize("max_size", [64 * KIB, MIB])
async def test_a_full_journal_retries_and_does_not_grow(tmp_path: Path, max_size: int) -> None:
    async with opened(tmp_path, max_size=max_size) as journal:
        number = await fill(journal, "a")
        await park(journal, "a", number)
        for _ in range(3):
            assert await unpark(journal, "a", retry=True) == number
            assert journal.health().size <= max_size
            await park(journal, "a", number)
        assert await unpark(journal, "a", retry=False) == number
        await journal.append(entries([1], "a"))
        assert journal.counts()["a"] == Counts(routed=4 * number + 1, parked=4 * number)


async def test_a_full_journal_refuses_copies_of_what_others_wait_for(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size=256 * KIB) as journal:
        number = await fill(journal, "a", "b")
        await park(journal, "a", number)
        with pytest.raises(JournalFull, match="full"):
            await unpark(journal, "a", retry=True)
        assert journal.parked_kept()["a"] == number
        assert len(await drain(journal, "b")) == number
        assert await unpark(journal, "a", retry=True) == number


async def test_drop_oldest_makes_room_for_copies_and_what_it_drops_is_not_kept(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size=256 * KIB, when_full="drop-oldest") as journal:
        for number in range(170):
            await journal.append(entries([number], "a", "b", size=1100))
        before = journal.counts()["a"].dropped
        await park(journal, "a", 100)
        kept = journal.parked_kept()["a"]
        assert kept == 100
        for _ in range(3):
            await unpark(journal, "a", retry=True)
            assert journal.health().size <= 256 * KIB
            listed = await journal.parked("a", 1000)
            assert len(listed) == journal.parked_kept().get("a", 0)
            await park(journal, "a", 100)
        counts = journal.counts()["a"]
        assert counts.queued == len(await journal.read("a", 0, 1000))
        assert journal.counts()["b"].dropped > before


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", IO_ERRORS, ids=str)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("retry", [True, False])
async def test_whatever_the_disk_does_a_parked_uplink_is_in_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, when: str, *, retry: bool
) -> None:
    """Reported as failed, it may have happened: then it stays so, in memory as on disk."""
    monkeypatch.setattr(writer, "PROBE_EVERY", 0.02)
    disk = Disk()
    async with opened(tmp_path, connect=disk.connect) as journal:
        await journal.append(entries(range(4), "a"))
        await park(journal, "a", 3)
        getattr(disk, when)[WORK] = [error]
        with pytest.raises(JournalFailed):
            await journal.unpark([1, 2], retry=retry)
        await until(lambda: not journal.health().problem)
        happened = when == "after"
        assert journal.parked_kept() == {"a": 1 if happened else 3}
        assert fcnts(await journal.read("a", 0, 10)) == ([3, 0, 1] if happened and retry else [3])
        counts = journal.counts()["a"]
        assert counts == Counts(routed=6 if happened and retry else 4, parked=3)
        assert (await journal.unpark([1, 2], retry=retry)).count == (0 if happened else 2)
        await journal.append(entries([9], "a"))
        disk.after[WORK] = [IO_ERRORS[1]]
        with pytest.raises(JournalFailed):
            await journal.append(entries([10], "a"))
        assert await drain(journal, "a") == ([3, 0, 1, 9] if retry else [3, 9])


async def test_a_list_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path, connect=disk.connect) as journal:
        disk.before["SELECT"] = [IO_ERRORS[0]]
        disk.before["\nSELECT"] = [IO_ERRORS[0]]
        with pytest.raises(JournalFailed, match="cannot be read"):
            await journal.parked(None, 10)
        disk.before.clear()
        assert await journal.parked(None, 10) == []
    with pytest.raises(JournalFailed, match="closed"):
        await journal.parked(None, 10)
    with pytest.raises(JournalFailed, match="closed"):
        await journal.unpark("a", retry=True)


async def test_what_an_older_version_parked_has_numbers_in_its_order(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    db.executescript(VERSION_1)
    db.execute("CREATE TABLE seen(seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, fingerprints BLOB NOT NULL) STRICT")
    db.execute("PRAGMA user_version = 2")
    db.execute("UPDATE connection SET parked = 5, cursor = 3 WHERE id = 1")
    db.execute("INSERT INTO parked VALUES (3, 1, 9, 'later')")
    db.execute("INSERT INTO parked VALUES (2, 1, 8, 'late')")
    db.close()
    for _ in range(2):
        async with opened(tmp_path) as journal:
            found = await journal.parked(None, 10)
            assert [(one.number, one.connection, one.seq, one.at, one.reason) for one in found] == [
                (3, "a", 3, 9, "later"),
                (2, "a", 2, 8, "late"),
                (1, "b", 1, 7, "why"),
            ]
            assert journal.parked_kept() == {"a": 2, "b": 1}
            assert journal.last_parked == 6
    async with opened(tmp_path) as journal:
        assert await unpark(journal, "a", retry=True) == 2
        assert [one.uplink.body for one in await journal.read("a", 0, 10)] == [b"{2}", b"{3}"]
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
    assert not any(name.startswith("old_") for name in names)


# -- the plan ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=6, unique=True), st.integers(0, 6), st.booleans())
def test_only_what_everybody_settled_is_released(seqs: list[int], settled: int, retry: bool) -> None:
    ledger = Ledger()
    ledger.add_account("a", Account(1, Counts(0, parked=6), 7, 6))
    ledger.add_account("b", Account(2, Counts(), settled))
    ledger.add_route(("a", "b"), 1)
    ledger.apply(Change(appended=[(("a", "b"), 7, 7)]))
    plan = Plan(ledger, Seen(MIB), NOW)
    counts = plan.unpark([Picked(seq + 10, 1, seq, 1, 5, uplink(seq)) for seq in seqs], retry=retry)
    assert counts == {"a": len(seqs)}
    assert plan.unparked == [seq + 10 for seq in seqs]
    assert plan.released == [seq for seq in seqs if seq <= settled]
    change = plan.change()
    assert change.unparked == counts
    assert [number for _, number, _ in change.appended] == [len(seqs)] * retry
    assert not change.settled


def test_delivering_leaves_the_numbers_alone() -> None:
    ledger = Ledger()
    ledger.add_account("a", Account(1))
    ledger.add_route(("a",), 1)
    ledger.apply(Change(appended=[(("a",), 4, 4)]))
    plan = Plan(ledger, Seen(MIB), NOW)
    plan.settle("a", [*delivered([Queued(1, uplink(1))]), Settled(2, Outcome.PARKED), Settled(3, Outcome.PARKED)])
    assert [row[0] for row in plan.parked] == [1, 2]
    ledger.apply(plan.change())
    assert (ledger.numbered, ledger.accounts["a"].kept) == (2, 2)
