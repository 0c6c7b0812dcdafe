"""A journal that is full, in both modes and in all sizes: what is refused, what is dropped, and what is said."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.errors import JournalFull
from mqttbridge.journal import room
from mqttbridge.journal.operations import Append, Settle
from mqttbridge.journal.plan import estimate
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.model import Counts, Entry, Outcome, Settled
from tests.journal.samples import FixedClock, delivered, drain, entries, fcnts, until, uplink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KIB = 1024
MIB = 1024 * KIB
SMALLEST = 64 * KIB
BODY = 1100


@contextlib.asynccontextmanager
async def full_journal(directory: Path, max_size: int, when_full: str) -> AsyncIterator[SqliteJournal]:
    journal = await SqliteJournal.open(directory, max_size=max_size, when_full=when_full, clock=FixedClock())
    try:
        yield journal
    finally:
        await journal.close()


# -- drop-oldest -------------------------------------------------------------------------------------------------------


async def test_drop_oldest_refuses_no_single_uplink_after_large_batches(tmp_path: Path) -> None:
    async with full_journal(tmp_path, 4 * MIB, "drop-oldest") as journal:
        for number in range(40):
            await journal.append(entries(range(number * 1000, number * 1000 + 1000), "a", size=BODY // 2))
        for number in range(40_000, 40_600):
            await journal.append(entries([number], "a", size=BODY))
            assert journal.health().size <= 4 * MIB
        assert journal.health().problem == ""
        counts = journal.counts()["a"]
        assert counts.routed == 40_600
        assert counts.queued > 3000
        left = await drain(journal, "a")
        assert left == list(range(40_600 - len(left), 40_600))


async def test_drop_oldest_refuses_none_of_many_at_once(tmp_path: Path) -> None:
    """Together they do not fit: each gets its turn."""
    async with full_journal(tmp_path, SMALLEST, "drop-oldest") as journal, asyncio.TaskGroup() as tasks:
        for number in range(100):
            tasks.create_task(journal.append(entries([number], "a", size=15 * KIB)))
    async with full_journal(tmp_path, SMALLEST, "drop-oldest") as journal:
        assert journal.counts()["a"].routed == 100
        assert (await drain(journal, "a"))[-1] == 99


async def test_drop_oldest_drops_parked_uplinks_too_and_then_goes_on(tmp_path: Path) -> None:
    async with full_journal(tmp_path, SMALLEST, "drop-oldest") as journal:
        for number in range(100):
            await journal.append(entries([number], "a", size=BODY))
            found = await journal.read("a", 0, 10)
            await journal.settle("a", [Settled(one.seq, Outcome.PARKED, "why") for one in found])
        assert journal.counts()["a"] == Counts(routed=100, parked=100)


async def test_drop_oldest_drops_little_more_than_it_needs(tmp_path: Path) -> None:
    async with full_journal(tmp_path, MIB, "drop-oldest") as journal:
        for number in range(2000):
            await journal.append(entries([number], "a", size=BODY))
        assert journal.counts()["a"].queued > 0.9 * 3 * (MIB / 4096)


async def test_drop_oldest_drops_nothing_for_a_request_that_it_refuses(tmp_path: Path) -> None:
    async with full_journal(tmp_path, SMALLEST, "drop-oldest") as journal:
        await journal.append(entries(range(10), "a", size=BODY))
        before = journal.counts()
        for batch in (entries(range(100), "a", size=BODY), entries([1], "a", size=SMALLEST)):
            with pytest.raises(JournalFull, match="at most: send less at once") as caught:
                await journal.append(batch)
            assert "drop-oldest" not in str(caught.value)
            assert "raise journal.maxSize" in str(caught.value)
        assert journal.counts() == before
        assert journal.health().problem == ""


async def test_drop_oldest_takes_uplinks_though_the_accounts_alone_are_too_large(tmp_path: Path) -> None:
    names = [f"connection-{number:04}-{'x' * 40}" for number in range(1000)]
    async with full_journal(tmp_path, SMALLEST, "drop-oldest") as journal:
        await journal.declare(names)
        for number in range(30):
            await journal.append(entries([number], *names, size=BODY))
        assert fcnts(await journal.read(names[7], 0, 100))[-1] == 29
        assert journal.health().problem == ""


batches = st.lists(st.sampled_from([0, 2, 300, BODY, 2100, 5_000, 15_000, 26_000]), min_size=1, max_size=12)
rounds = st.lists(st.tuples(st.lists(batches, min_size=1, max_size=6), st.integers(0, 5), st.booleans()), max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([SMALLEST, SMALLEST + 5000, 128 * KIB, MIB]), rounds)
def test_drop_oldest_refuses_nothing_that_fits_whatever_came_before(
    max_size: int, sequence: list[tuple[list[list[int]], int, bool]]
) -> None:
    async def run(directory: Path) -> None:
        routed = number = 0
        for requests, settle, parked in sequence:
            async with full_journal(directory, max_size, "drop-oldest") as journal:
                together = []
                for sizes in requests:
                    number += 1
                    batch = [Entry(uplink(number, body=b"x" * size), ("a", "b")[: 1 + size % 2]) for size in sizes]
                    together.append(journal.append(batch))
                answers = await asyncio.gather(*together, return_exceptions=True)
                for sizes, answer in zip(requests, answers, strict=True):
                    fits = estimate(sizes) <= room.capacity(max_size)
                    assert (answer == []) == fits, (sizes, answer)
                    routed += fits * len(sizes)
                found = await journal.read("a", 0, settle)
                outcome = Outcome.PARKED if parked else Outcome.DELIVERED
                await journal.settle("a", [Settled(one.seq, outcome, "why") for one in found])
                counts = journal.counts().get("a", Counts())
                assert counts.routed == routed
                assert counts.queued == len(await journal.read("a", 0, 10_000))
                assert journal.health().problem == ""
                assert journal.health().size <= max_size

    with tempfile.TemporaryDirectory(prefix="journal-full-") as directory:
        asyncio.run(run(Path(directory)))


# -- block -------------------------------------------------------------------------------------------------------------


async def test_the_smallest_journal_takes_several_refuses_and_takes_again_after_draining(tmp_path: Path) -> None:
    async with full_journal(tmp_path, SMALLEST, "block") as journal:
        for _ in range(3):
            stored: list[int] = []
            with pytest.raises(JournalFull, match="drop-oldest"):  # noqa: PT012 - which of them is refused is open
                for number in range(100):
                    await journal.append(entries([number], "a", "b", "c", size=BODY))
                    stored.append(number)
            assert len(stored) >= 12
            assert "full" in journal.health().problem
            assert journal.health().size <= SMALLEST
            for name in "abc":
                assert await drain(journal, name) == stored
            await until(lambda: journal.health().problem == "")


@pytest.mark.parametrize("when_full", ["block", "drop-oldest"])
@pytest.mark.parametrize("max_size", [SMALLEST, SMALLEST + 1, 100_000, 256 * KIB, MIB])
async def test_an_uplink_of_a_quarter_of_the_size_always_fits(tmp_path: Path, when_full: str, max_size: int) -> None:
    async with full_journal(tmp_path, max_size, when_full) as journal:
        await journal.append([Entry(uplink(1, body=b"x" * (max_size // 4)), ("a",))])
        assert journal.health().size <= max_size
        assert await drain(journal, "a") == [1]


async def test_a_journal_without_uplinks_takes_one_though_the_accounts_alone_are_too_large(tmp_path: Path) -> None:
    names = [f"connection-{number:04}-{'x' * 40}" for number in range(1000)]
    async with full_journal(tmp_path, SMALLEST, "block") as journal:
        for number in range(3):
            await journal.append(entries([number], *names, size=BODY))
            with pytest.raises(JournalFull, match="is full"):
                await journal.append(entries([number], *names, size=BODY))
            assert "full" in journal.health().problem
            for name in names:
                assert await drain(journal, name) == [number]
            await until(lambda: journal.health().problem == "")


@pytest.mark.parametrize(("parked", "said"), [(10, True), (2, False)])
async def test_health_says_when_parked_uplinks_fill_the_journal(tmp_path: Path, parked: int, *, said: bool) -> None:
    for _ in range(2):
        async with full_journal(tmp_path, SMALLEST, "block") as journal:
            if "a" not in journal.counts():
                await journal.append(entries(range(12), "a", size=BODY))
                found = await journal.read("a", 0, parked)
                await journal.settle("a", [Settled(one.seq, Outcome.PARKED, "why") for one in found])
            with pytest.raises(JournalFull) as caught:
                await journal.append(entries(range(12), "a", size=BODY))
            assert (f"{parked} parked" in str(caught.value)) == said
            assert journal.health().problem == str(caught.value)


# -- on disk -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when_full", ["block", "drop-oldest"])
@pytest.mark.parametrize("max_size", [SMALLEST, MIB, 16 * MIB])
async def test_the_files_are_no_larger_than_the_settings_say(tmp_path: Path, when_full: str, max_size: int) -> None:
    """An eighth for the WAL, 64 KiB at least; four times as much at times, and the last transaction."""
    step = max_size // 40
    async with full_journal(tmp_path, max_size, when_full) as journal:
        for _ in range(100):
            with contextlib.suppress(JournalFull):
                await journal.append(entries(range(max(1, step // BODY)), "a", size=BODY))
            assert (tmp_path / "journal.db").stat().st_size <= max_size
            wal = (tmp_path / "journal.db-wal").stat().st_size
            assert wal <= 4 * max(SMALLEST, max_size // 8) + 2 * step + SMALLEST


@pytest.mark.parametrize(
    ("when_full", "portions"), [("drop-oldest", [["Settle"], ["Append"]]), ("block", [["Append", "Settle"]])]
)
async def test_what_was_delivered_is_settled_before_the_oldest_are_dropped(
    tmp_path: Path, when_full: str, portions: list[list[str]]
) -> None:
    """A settlement that waits behind an append found its uplinks dropped, and counted as that."""
    async with full_journal(tmp_path, SMALLEST, when_full) as journal:
        await journal.append(entries(range(10), "a", size=BODY))
        future = asyncio.get_running_loop().create_future()
        more = entries(range(10, 25), "a", size=BODY)
        append = Append(more, 15 * BODY, room.capacity(SMALLEST), future)
        settle = Settle("a", delivered(await journal.read("a", 0, 10)), future)
        found = list(journal._writer._portions([append, settle]))
    assert [[type(one).__name__ for one in portion] for portion in found] == portions
