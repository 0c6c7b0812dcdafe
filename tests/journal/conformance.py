"""What every journal promises: apply it by subclassing `JournalConformance` beside a fixture `open_journal`.

`open_journal()` opens the journal of this test, empty at first; after `close` it may be opened again, and finds
what was there. Keyword arguments: `max_size` (bytes), `when_full`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from mqttbridge.errors import JournalError, JournalFailed, JournalFull
from mqttbridge.journal.protocol import Journal
from mqttbridge.model import Counts, DocumentKind, Entry, Outcome, Settled, Uplink
from tests.journal.samples import FixedClock, delivered, drain, entries, fcnts, marked, uplink

OpenJournal = Callable[..., Awaitable[Journal]]
MIB = 1024 * 1024


class JournalConformance:
    """The suite."""

    async def test_what_was_appended_is_read_back_whole_and_without_tags(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        body = '{"DevEUI_uplink": {"name": "Zürich \\u0000 ☂",  "x": 1.50}}'.encode() + bytes(range(256))
        kept = Uplink("s", DocumentKind.LOCATION, "0018B20000000B20", -5, 7, None, body)
        tagged = Uplink("s", DocumentKind.LOCATION, "0018B20000000B20", -5, 7, None, body, frozenset({"tag"}))
        await journal.append([Entry(tagged, ("a",))])
        assert [one.uplink for one in await journal.read("a", 0, 10)] == [kept]
        await journal.close()
        journal = await open_journal()
        assert [one.uplink for one in await journal.read("a", 0, 10)] == [kept]

    async def test_an_empty_body_is_a_body(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        await journal.append([Entry(uplink(n, body=b"" if n % 2 else b"{}"), ("a",)) for n in range(4)])
        await journal.close()
        journal = await open_journal()
        assert [one.uplink.body for one in await journal.read("a", 0, 10)] == [b"{}", b"", b"{}", b""]

    async def test_each_connection_gets_its_own_in_the_order_of_acceptance(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        await journal.append([*entries([1], "a"), *entries([2], "b"), *entries([3], "a", "b"), *entries([4], "a")])
        await journal.append([*entries([5], "b"), *entries([6], "a", "b")])
        for _ in range(2):
            found = await journal.read("a", 0, 10)
            assert fcnts(found) == [1, 3, 4, 6]
            assert [one.seq for one in found] == sorted({one.seq for one in found})
            assert fcnts(await journal.read("b", 0, 10)) == [2, 3, 5, 6]
            assert fcnts(await journal.read("a", found[1].seq, 1)) == [4]
            await journal.close()
            journal = await open_journal()

    async def test_concurrent_appends_are_stored_in_the_order_of_the_calls(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        async with asyncio.TaskGroup() as tasks:
            for number in range(200):
                tasks.create_task(journal.append(entries([number], "a")))
        assert fcnts(await journal.read("a", 0, 1000)) == list(range(200))

    async def test_read_of_nothing_is_empty(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        await journal.append([])
        await journal.settle("nobody", [])
        await journal.append(entries([1], "a"))
        (one,) = await journal.read("a", 0, 10)
        assert await journal.read("nobody", 0, 10) == []
        assert await journal.read("a", one.seq, 10) == []
        assert await journal.read("a", 0, 0) == []

    @pytest.mark.parametrize("reopened", [False, True])
    async def test_a_read_is_bounded_in_bytes_but_gives_one_at_least(
        self, open_journal: OpenJournal, *, reopened: bool
    ) -> None:
        journal = await open_journal()
        await journal.append(entries([1], "a", size=5 * MIB))
        await journal.append(entries([2, 3, 4], "a", size=2 * MIB))
        if reopened:
            await journal.close()
            journal = await open_journal()
        assert fcnts(found := await journal.read("a", 0, 10)) == [1]
        assert fcnts(await journal.read("a", found[-1].seq, 10)) == [2, 3]
        assert await drain(journal, "a") == [1, 2, 3, 4]

    async def test_settled_uplinks_do_not_come_back_and_are_counted(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        await journal.append(entries(range(6), "a", "b"))
        queued = await journal.read("a", 0, 10)
        outcomes = [Outcome.DELIVERED, Outcome.EXPIRED, Outcome.PARKED, Outcome.DROPPED, Outcome.DELIVERED]
        await journal.settle("a", [Settled(q.seq, o, "why") for q, o in zip(queued, outcomes, strict=False)])
        for _ in range(2):
            assert fcnts(await journal.read("a", 0, 10)) == [5]
            assert fcnts(await journal.read("b", 0, 10)) == [0, 1, 2, 3, 4, 5]
            assert journal.counts()["a"] == Counts(routed=6, delivered=2, expired=1, parked=1, dropped=1)
            assert journal.counts()["a"].queued == 1
            assert journal.counts()["b"] == Counts(routed=6)
            await journal.close()
            journal = await open_journal()

    async def test_settling_again_counts_nothing_twice(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        await journal.append(entries(range(4), "a"))
        queued = await journal.read("a", 0, 10)
        await journal.settle("a", delivered(queued[:2]))
        await journal.settle("a", delivered(queued[:3]))
        assert journal.counts()["a"] == Counts(routed=4, delivered=3)

    async def test_seqs_rise_even_after_everything_was_settled(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        seqs = []
        for number in range(4):
            await journal.append(entries([number], "a"))
            (one,) = await journal.read("a", 0, 10)
            seqs.append(one.seq)
            await journal.settle("a", delivered([one]))
            await journal.close()
            journal = await open_journal()
        assert seqs == sorted(set(seqs))
        assert seqs[0] > 0

    async def test_the_watcher_is_called_when_something_was_stored(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        called = {"a": asyncio.Event(), "b": asyncio.Event()}
        for name, event in called.items():
            journal.watch(name, event.set)
        await journal.append(entries([1], "a"))
        await asyncio.wait_for(called["a"].wait(), 5)
        assert not called["b"].is_set()
        assert fcnts(await journal.read("a", 0, 10)) == [1]

    async def test_oldest_follows_the_backlog(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        assert journal.oldest("a") is None
        await journal.append([Entry(uplink(n, received=n), ("a",)) for n in (10, 20, 30)])
        assert journal.oldest("a") == 10
        await journal.settle("a", delivered((await journal.read("a", 0, 10))[:1]))
        await journal.read("a", 0, 10)
        assert journal.oldest("a") == 20
        await journal.close()
        journal = await open_journal()
        assert journal.oldest("a") == 20
        await drain(journal, "a")
        assert journal.oldest("a") is None

    async def test_a_full_journal_refuses_and_takes_again_after_settling(self, open_journal: OpenJournal) -> None:
        journal = await open_journal(max_size=MIB, when_full="block")
        stored = 0
        with pytest.raises(JournalFull) as caught:  # noqa: PT012 - which of them is refused is open
            for number in range(1000):
                await journal.append(entries([number, number], "a", size=2000))
                stored += 2
        assert "full" in str(caught.value)
        assert stored > 200
        assert journal.counts()["a"] == Counts(routed=stored)
        assert "full" in journal.health().problem
        assert journal.health().size <= journal.health().max_size == MIB
        assert len(await drain(journal, "a")) == stored
        await journal.append(entries([1], "a", size=2000))
        assert journal.health().problem == ""

    async def test_a_batch_that_does_not_fit_is_refused_whole(self, open_journal: OpenJournal) -> None:
        for when_full in ("block", "drop-oldest"):
            journal = await open_journal(max_size=MIB, when_full=when_full)
            await journal.append(entries([1], "a"))
            with pytest.raises(JournalFull, match="at most: send less at once"):
                await journal.append(entries(range(2000), "a", size=1000))
            assert journal.health().problem == ""
            assert fcnts(await journal.read("a", 0, 10)) == [1]
            assert await drain(journal, "a") == [1]
            await journal.close()

    @pytest.mark.parametrize("when_full", ["block", "drop-oldest"])
    @pytest.mark.parametrize("max_size", [64 * 1024, MIB])
    async def test_a_quarter_in_one_uplink_or_a_sixteenth_in_many_is_never_too_large(
        self, open_journal: OpenJournal, when_full: str, max_size: int
    ) -> None:
        journal = await open_journal(max_size=max_size, when_full=when_full)
        for size, number in ((max_size // 4, 1), *((size, max_size // 16 // size) for size in (48, 300, 1100, 2100))):
            await journal.append(entries(range(number), "a", size=size))
            assert await drain(journal, "a") == list(range(number))

    async def test_drop_oldest_makes_room_and_accounts_for_it(self, open_journal: OpenJournal) -> None:
        journal = await open_journal(max_size=MIB, when_full="drop-oldest")
        await journal.append(entries(range(100), "a", "b", size=2000))
        await journal.settle("b", delivered(await journal.read("b", 0, 50)))
        for number in range(100, 2000, 10):
            await journal.append(entries(range(number, number + 10), "a", "b", size=2000))
            assert journal.health().size <= MIB
        for name, settled in (("a", 0), ("b", 50)):
            counts = journal.counts()[name]
            left = await drain(journal, name)
            assert left == list(range(2000 - len(left), 2000))
            assert len(left) > 150
            assert counts == Counts(routed=2000, delivered=settled, dropped=2000 - settled - len(left))

    async def test_what_was_dropped_meanwhile_is_skipped_when_settled(self, open_journal: OpenJournal) -> None:
        journal = await open_journal(max_size=MIB, when_full="drop-oldest")
        await journal.append(entries(range(100), "a", size=2000))
        inflight = await journal.read("a", 0, 100)
        while journal.counts()["a"].dropped < 50:
            await journal.append(entries(range(20), "a", size=2000))
        before = journal.counts()["a"]
        await journal.settle("a", delivered(inflight))
        after = journal.counts()["a"]
        assert (after.delivered, after.dropped) == (max(0, 100 - before.dropped), before.dropped)

    async def test_a_duplicate_is_told_by_its_place_and_goes_nowhere(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        assert await journal.append(marked([1, 2], "a")) == []
        called: list[str] = []
        journal.watch("b", lambda: called.append("b"))
        assert await journal.append([*marked([3], "a"), *marked([1], "a", "b"), *marked([2, 4], "a")]) == [1, 2]
        assert await journal.append(marked([4, 3, 2, 1], "b")) == [0, 1, 2, 3]
        assert fcnts(found := await journal.read("a", 0, 10)) == [1, 2, 3, 4]
        assert [one.seq for one in found] == list(range(found[0].seq, found[0].seq + 4))
        assert journal.counts()["a"] == Counts(routed=4)
        assert journal.counts().get("b", Counts()) == Counts()
        assert called == []

    async def test_a_duplicate_in_the_same_append_is_found(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        assert await journal.append(marked([1, 2, 1, 3, 2, 1], "a")) == [2, 4, 5]
        assert fcnts(await journal.read("a", 0, 10)) == [1, 2, 3]
        assert journal.counts()["a"] == Counts(routed=3)

    async def test_of_concurrent_appends_of_one_uplink_the_first_is_stored(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        answers = await asyncio.gather(*[journal.append(marked([n // 4, 1000 + n], "a")) for n in range(200)])
        assert answers == [[] if n % 4 == 0 else [0] for n in range(200)]
        assert journal.counts()["a"] == Counts(routed=250)
        assert len(set(fcnts(await journal.read("a", 0, 1000)))) == 250

    async def test_a_duplicate_is_found_though_its_original_is_settled_and_the_journal_reopened(
        self, open_journal: OpenJournal
    ) -> None:
        journal = await open_journal()
        for number in range(30):
            assert await journal.append(marked([number], "a")) == []
        assert await journal.append(marked(range(30, 50), "a")) == []
        await drain(journal, "a")
        for _ in range(2):
            assert await journal.append(marked(range(50), "a", "b")) == list(range(50))
            assert journal.counts()["a"] == Counts(routed=50, delivered=50)
            await journal.close()
            journal = await open_journal()

    async def test_once_the_window_has_passed_it_is_a_new_uplink(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        stored = FixedClock().now()

        def copy(after: int, window: int) -> list[Entry]:
            return [Entry(replace(uplink(1, received=stored + after), fingerprint=7), ("a",), window)]

        assert await journal.append(copy(0, 5000)) == []
        for _ in range(2):
            assert await journal.append(copy(5000, 5000)) == [0]
            assert await journal.append(copy(-100, 5000)) == [0]
            await journal.close()
            journal = await open_journal()
        assert await journal.append(copy(5001, 5000)) == []
        assert await journal.append(copy(5001, 6000)) == [0]
        assert journal.counts()["a"] == Counts(routed=2)

    async def test_without_a_fingerprint_or_a_window_nothing_is_a_duplicate(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        unknown = [Entry(uplink(1), ("a",), 60_000)]
        assert await journal.append(unknown * 3) == []
        assert await journal.append(unknown) == []
        assert await journal.append(marked([1, 1], "a", window=0)) == []
        assert await journal.append(marked([1], "a", window=0)) == []
        assert journal.counts()["a"] == Counts(routed=7)
        assert await journal.append([*unknown, *marked([1], "a"), *unknown]) == [1]

    async def test_duplicates_are_taken_by_a_full_journal_and_fill_it_no_further(
        self, open_journal: OpenJournal
    ) -> None:
        journal = await open_journal(max_size=MIB, when_full="block")
        stored = 0
        with pytest.raises(JournalFull):  # noqa: PT012 - which of them is refused is open
            for number in range(10_000):
                await journal.append(marked([number], "a", size=2000))
                stored += 1
        before = journal.health()
        assert await journal.append(marked(range(stored - 5, stored), "a", size=2000)) == [0, 1, 2, 3, 4]
        assert journal.health() == before
        assert "full" in before.problem
        with pytest.raises(JournalFull):
            await journal.append(marked([stored - 1, stored], "a", size=2000))
        assert await drain(journal, "a") == list(range(stored))
        assert await journal.append(marked([stored - 1, stored], "a", size=2000)) == [0], "what is refused is not seen"
        assert journal.counts()["a"] == Counts(routed=stored + 1, delivered=stored)

    async def test_nothing_is_dropped_for_duplicates(self, open_journal: OpenJournal) -> None:
        journal = await open_journal(max_size=MIB, when_full="drop-oldest")
        number = 0
        while not journal.counts().get("a", Counts()).dropped:
            await journal.append(marked([number], "a", size=2000))
            number += 1
        before = journal.counts()
        newest = marked(range(number - 100, number), "a", size=2000)
        for first in range(0, 100, 20):
            assert await journal.append(newest[first : first + 20]) == list(range(20))
        assert journal.counts() == before
        again = marked([number], "a", size=2000)
        answers = await asyncio.gather(*[journal.append(again) for _ in range(300)])
        assert answers == [[], *[[0]] * 299]
        assert journal.counts()["a"].dropped < before["a"].dropped + 50

    @pytest.mark.parametrize("when_full", ["block", "drop-oldest"])
    @pytest.mark.parametrize("max_size", [64 * 1024, 128 * 1024, MIB])
    async def test_fingerprints_never_take_the_room_of_uplinks(
        self, open_journal: OpenJournal, when_full: str, max_size: int
    ) -> None:
        journal = await open_journal(max_size=max_size, when_full=when_full)
        number = 0
        for size, many in ((48, max_size // 16 // 48), (max_size // 4, 1)):
            for _ in range(40):
                batch = range(number, number + many)
                assert await journal.append(marked(batch, "a", size=size)) == []
                assert await journal.append(marked(batch[-20:], "a", size=size)) == list(range(min(20, many)))
                assert journal.health().size <= max_size
                assert await drain(journal, "a") == list(batch)
                number += many
        assert journal.counts()["a"] == Counts(routed=number, delivered=number)

    async def test_a_closed_journal_says_so(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        pending = asyncio.ensure_future(journal.append(entries([1], "a")))
        await asyncio.sleep(0)
        await journal.close()
        await pending
        await journal.close()
        with pytest.raises(JournalFailed, match="closed"):
            await journal.append(entries([2], "a"))
        journal = await open_journal()
        assert fcnts(await journal.read("a", 0, 10)) == [1]

    async def test_a_cancelled_append_harms_nobody(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        pending = asyncio.ensure_future(journal.append(entries([1], "a")))
        await asyncio.sleep(0)
        pending.cancel()
        await journal.append(entries([2], "a"))
        assert fcnts(await journal.read("a", 0, 10))[-1] == 2
        assert issubclass(JournalFull, JournalError)

    async def test_a_parked_uplink_is_kept_until_it_is_retried_or_dropped(self, open_journal: OpenJournal) -> None:
        journal = await open_journal()
        await journal.append(entries(range(6), "a", "b"))
        found = await journal.read("a", 0, 4)
        await journal.settle("a", [Settled(one.seq, Outcome.PARKED, "why") for one in found])
        await drain(journal, "b")
        numbers = [one.number for one in await journal.parked("a", 100)]
        assert numbers == sorted(numbers, reverse=True)
        assert await journal.parked("b", 100) == []
        assert journal.parked_kept() == {"a": 4}
        assert (await journal.unpark(numbers[2:], retry=True)).count == 2
        assert (await journal.unpark(numbers[1:2], retry=False)).count == 1
        for _ in range(2):
            assert [one.number for one in await journal.parked(None, 100)] == numbers[:1]
            shown = await journal.parked_one(numbers[0])
            assert shown is not None
            assert shown.body == uplink(3).body
            assert await journal.parked_one(numbers[1]) is None
            assert fcnts(await journal.read("a", 0, 100)) == [4, 5, 0, 1]
            assert journal.counts() == {"a": Counts(routed=8, parked=4), "b": Counts(routed=6, delivered=6)}
            assert journal.last_parked == numbers[0]
            await journal.close()
            journal = await open_journal()
        seqs = [one.seq for one in await journal.read("a", 0, 100)]
        await journal.settle("a", delivered(await journal.read("a", 0, 3)))
        assert [journal.is_queued("a", seq) for seq in seqs] == [False, False, False, True]

    async def test_a_full_journal_that_may_be_larger_takes_uplinks(self, open_journal: OpenJournal) -> None:
        journal = await open_journal(max_size=MIB)
        with pytest.raises(JournalFull):  # noqa: PT012 - which of them is refused is open
            for number in range(3000):
                await journal.append(entries([number], "a", size=1000))
        await journal.configure(max_size=2 * MIB, when_full="block")
        assert journal.health().problem == ""
        await journal.append(entries([1], "a", size=1000))
        await journal.configure(max_size=MIB, when_full="block")
        with pytest.raises(JournalFull):
            await journal.append(entries([1], "a", size=1000))
