"""What was told is found again, by device, time, connection and seq; the bounds hold, and can be changed."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.errors import HistoryFailed
from mqttbridge.history import schema, writer
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.model import DocumentKind, Entry, Outcome, Queued, Settled
from tests.history.samples import (
    DEVICE,
    HOUR,
    MIB,
    NOW,
    OTHER,
    HandClock,
    Told,
    all_of,
    ended,
    opened,
    queued,
    seqs,
    until,
    uplink,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mqttbridge.history.history import History
    from mqttbridge.history.records import Passed


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    told = Told()
    history = await opened(tmp_path, tell=told)
    yield history
    assert not history.problem()
    assert not history.lost
    await history.close()
    assert not told.lines


def expected(one: Queued, connections: tuple[str, ...]) -> dict[str, object]:
    """Give what must be found of an uplink, but for its id."""
    up = one.uplink
    names = ("received", "time", "source", "kind", "dev_eui", "fcnt", "origin", "body")
    return {"seq": one.seq, "connections": connections} | {name: getattr(up, name) for name in names}


def told(one: Passed) -> dict[str, object]:
    """Give what was found of an uplink, but for its id."""
    return {name: getattr(one, name) for name in one.__struct_fields__ if name != "id"}


UPLINKS = st.builds(
    uplink,
    st.integers(0, 2**32),
    st.sampled_from([DEVICE, OTHER, "00" * 8, "FF" * 8]),
    received=st.integers(NOW - HOUR, NOW + HOUR),
    source=st.text(st.characters(codec="utf-8"), max_size=10),
    kind=st.sampled_from(DocumentKind),
    fcnt=st.none() | st.integers(0, 2**32),
    origin=st.text(st.characters(codec="utf-8"), max_size=30),
    body=st.binary(max_size=500),
)
ROUTES = st.sampled_from([(), ("a",), ("b",), ("a", "b"), ("ab",)])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.tuples(ROUTES, UPLINKS), min_size=1, max_size=10), max_size=6), st.data())
def test_everything_is_found_again_as_it_was_told(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple]], data: st.DataObject
) -> None:
    async def check() -> None:
        directory = tmp_path_factory.mktemp("history")
        history = await opened(directory)
        seq, model = 0, []
        for batch in batches:
            report: dict[tuple[str, ...], list[Queued]] = {}
            for route, up in batch:
                if not route:
                    continue
                seq += 1
                report.setdefault(route, []).append(Queued(seq, up))
                model.append(expected(Queued(seq, up), route))
            history.stored(report)
            for up in [up for route, up in batch if not route]:
                history.unrouted([up])
                model.append(expected(Queued(0, up), ()))
            if data.draw(st.booleans()):
                assert len(await history.latest("a", 1000)) == len([one for one in model if "a" in one["connections"]])
        if data.draw(st.booleans()):
            await history.close()
            history = await opened(directory)
        found = await all_of(history)
        assert [told(one) for one in found] == model
        assert [one.id for one in found] == list(range(1, len(model) + 1))
        for device in (DEVICE, "00" * 8):
            of_it = [one for one in model if one["dev_eui"] == device]
            limit = data.draw(st.integers(1, 20))
            assert [told(one) for one in await history.of_device(device, limit=limit)] == of_it[::-1][:limit]
        start, end = NOW - HOUR // 2, NOW + HOUR // 2
        page = await history.between(start, end, limit=1000, device=DEVICE, connection="a")
        assert [told(one) for one in page] == [
            one
            for one in model
            if one["dev_eui"] == DEVICE and "a" in one["connections"] and start <= one["received"] < end
        ]
        await history.close()

    asyncio.run(check())


async def test_a_device_is_found_among_many_whose_keys_only_look_like_it(history: History) -> None:
    # Side by side, the second half of one and the first half of the next are the device that is looked for.
    halves = ["0B200018B2000000"[8:] + "0018B200", "00000B20" + "11111111", "22222222" + "0018B200", "00000B20" * 2]
    history.stored({("a",): [Queued(n, uplink(n, halves[n % 4])) for n in range(1, 1001)]})
    assert await history.of_device(DEVICE, limit=10) == []
    history.stored({("a",): queued([1001])})
    history.stored({("a",): [Queued(n, uplink(n, halves[n % 4])) for n in range(1002, 2001)]})
    assert seqs(await history.of_device(DEVICE, limit=10)) == [1001]
    assert seqs(await history.of_device(DEVICE.lower(), limit=10)) == [1001]
    assert await history.of_device("nonsense", limit=10) == []
    assert await history.between(0, 2**62, limit=5, device="nonsense") == []


async def test_the_last_uplinks_of_a_device_come_newest_first_from_many_blocks(history: History) -> None:
    for start in range(1, 4001, 500):
        history.stored(
            {("a",): [Queued(n, uplink(n, OTHER if n % 100 else DEVICE)) for n in range(start, start + 500)]}
        )
    assert seqs(await history.of_device(DEVICE, limit=30)) == list(range(4000, 1000, -100))
    assert seqs(await history.of_device(DEVICE, limit=1)) == [4000]
    assert await history.of_device(DEVICE, limit=0) == []


async def test_pages_of_a_time_follow_each_other_and_end(history: History) -> None:
    history.stored({("a",): [Queued(n, uplink(n, received=NOW + n)) for n in range(1, 1001)]})
    found: list[int] = []
    after = 0
    while page := await history.between(NOW + 100, NOW + 900, after=after, limit=37):
        assert len(page) <= 37
        found += seqs(page)
        after = page[-1].id
    assert found == list(range(100, 900))
    assert await history.between(NOW + 2000, NOW + 3000, limit=5) == []
    assert await history.between(0, 2**62, limit=5, connection="unknown") == []


async def test_an_answer_is_bounded_in_bytes_and_the_next_page_goes_on(history: History) -> None:
    for number in range(1, 13):
        history.stored({("a",): queued([number], size=MIB)})
        await history.ends([1])
    first = await history.between(0, 2**62, limit=100)
    assert seqs(first) == list(range(1, 9))
    assert seqs(await history.between(0, 2**62, after=first[-1].id, limit=100)) == [9, 10, 11, 12]


async def test_the_latest_of_a_connection_are_those_routed_to_it(history: History) -> None:
    for n in range(1, 601):
        history.stored({("rare",) if n % 100 == 1 else ("often",): queued([n])})
    history.stored({("often", "rare"): queued([601])})
    assert seqs(await history.latest("rare", 3)) == [601, 501, 401]
    assert seqs(await history.latest("often", 3)) == [601, 600, 599]
    assert await history.latest("never", 3) == []


async def test_ends_of_several_connections_are_found_with_their_reasons(history: History) -> None:
    history.settled("b", ended(range(1, 3001)))
    history.settled("a", ended(range(1, 2000)))
    history.settled("a", [Settled(2000, Outcome.PARKED, "{DevEUI} is empty", "", 0, NOW)])
    history.settled("a", ended([2001], Outcome.EXPIRED, "older than 72h"))
    history.settled("late", ended([7, 2000]))
    found = await history.ends([2001, 7, 2000, 9999])
    assert [(one.seq, one.connection, one.outcome, one.reason) for one in found] == [
        (7, "a", Outcome.DELIVERED, ""),
        (7, "b", Outcome.DELIVERED, ""),
        (7, "late", Outcome.DELIVERED, ""),
        (2000, "a", Outcome.PARKED, "{DevEUI} is empty"),
        (2000, "b", Outcome.DELIVERED, ""),
        (2000, "late", Outcome.DELIVERED, ""),
        (2001, "a", Outcome.EXPIRED, "older than 72h"),
        (2001, "b", Outcome.DELIVERED, ""),
    ]
    assert (found[0].topic, found[0].sent, found[0].at) == ("up/7", NOW + 7, NOW + 14)
    assert await history.ends([]) == []
    assert await history.ends([0, -5, 2**70]) == []


async def test_frame_counters_are_the_last_of_each_device_without_replays_and_reports(history: History) -> None:
    devices = [f"{number:016X}" for number in range(300)]
    for fcnt in (1, 2, 3):
        history.stored({("a",): [Queued(1 + n, uplink(fcnt, device)) for n, device in enumerate(devices)]})
    history.stored({("a",): [Queued(5000, uplink(1, devices[0], origin="replay of the uplink received then"))]})
    history.unrouted([uplink(9, devices[1]), uplink(77, devices[2], kind=DocumentKind.DOWNLINK_SENT)])
    history.unrouted([uplink(0, devices[3], fcnt=None)])
    counters = await history.frame_counters(1000)
    assert counters == dict.fromkeys(devices, 3) | {devices[1]: 9}
    assert len(await history.frame_counters(10)) == 10


async def test_it_is_a_witness_of_the_journal(tmp_path: Path, history: History) -> None:
    options = {"max_size": 64 * MIB, "when_full": "block", "clock": HandClock()}
    journal = await SqliteJournal.open(tmp_path / "journal", **options, witness=history)
    await journal.append([Entry(uplink(1), ("a", "b")), Entry(uplink(2), ("b",))])
    found = await journal.read("b", 0, 10)
    await journal.settle("b", ended([one.seq for one in found]))
    passed = await history.of_device(DEVICE, limit=10)
    assert [(one.seq, one.fcnt, one.connections) for one in passed] == [(2, 2, ("b",)), (1, 1, ("a", "b"))]
    assert [(one.seq, one.connection) for one in await history.ends([1, 2])] == [(1, "b"), (2, "b")]
    await journal.close()


async def test_small_blocks_of_slow_days_are_joined_and_all_stays_findable(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "TIDY_EVERY", 0.01)
    for number in range(1, 201):
        history.stored({("a",): queued([number], OTHER if number % 5 else DEVICE)})
        history.settled("a", ended([number]))
        await history.ends([number])
    await until(lambda: blocks(history, "uplinks") <= 40)
    await until(lambda: blocks(history, "ends") <= 40)
    found = await all_of(history)
    assert [one.id for one in found] == seqs(found) == list(range(1, 201))
    assert len(await history.ends(range(1, 201))) == 200
    assert len(await history.of_device(DEVICE, limit=1000)) == 40


def blocks(history: History, table: str) -> int:
    """Count the blocks on disk."""
    db = schema.connect(history._path)
    (number,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - a table of ours
    db.close()
    return number


async def test_what_is_older_than_the_retention_goes_and_ids_go_on(tmp_path: Path) -> None:
    clock = HandClock()
    history = await opened(tmp_path, clock=clock, retention=HOUR)
    history.stored({("a",): queued(range(1, 1001))})
    history.settled("a", ended(range(1, 1001)))
    history.event(NOW, "info", "daemon.started", {})
    assert len(await all_of(history)) == 1000
    clock.wall += HOUR + 10_000
    history.stored({("a",): queued([1001], received=clock.wall)})
    history.configure(retention=HOUR, max_size=64 * MIB)
    await until(lambda: blocks(history, "uplinks") == 1 and blocks(history, "ends") == 0)
    assert [(one.id, one.seq) for one in await all_of(history)] == [(1001, 1001)]
    assert len(await history.events(limit=10)) == 1, "events stay longer"
    clock.wall += HOUR + 10_000
    history.configure(retention=HOUR, max_size=64 * MIB)
    await until(lambda: blocks(history, "uplinks") == 0)
    await history.close()
    history = await opened(tmp_path, clock=clock, retention=HOUR)
    history.stored({("a",): queued([1002], received=clock.wall)})
    assert [one.id for one in await all_of(history)] == [1002]
    await history.close()


async def test_without_retention_only_events_are_kept_and_it_can_be_changed(tmp_path: Path) -> None:
    history = await opened(tmp_path, retention=0)
    history.stored({("a",): queued([1])})
    history.unrouted([uplink(2)])
    history.settled("a", ended([1]))
    history.event(NOW, "info", "daemon.started", {})
    assert await all_of(history) == []
    assert await history.ends([1]) == []
    assert len(await history.events(limit=10)) == 1
    history.configure(retention=HOUR, max_size=64 * MIB)
    history.stored({("a",): queued([3])})
    assert seqs(await all_of(history)) == [3]
    history.configure(retention=0, max_size=64 * MIB)
    await until(lambda: blocks(history, "uplinks") == 0)
    assert history.lost == 0, "what is not to be kept is not lost"
    await history.close()


async def test_the_file_stays_within_its_size_and_shrinks_when_less_is_allowed(tmp_path: Path) -> None:
    import os

    history = await opened(tmp_path, max_size=4 * MIB)
    for start in range(1, 8001, 100):
        many = [Queued(n, uplink(n, body=os.urandom(1000))) for n in range(start, start + 100)]
        history.stored({("a",): many})
        history.settled("a", ended(range(start, start + 100)))
        await history.ends([1])
    file = history._path
    assert file.stat().st_size <= 4.5 * MIB
    found = seqs(await all_of(history))
    assert found == list(range(found[0], 8001)), "the oldest went, without a gap"
    assert 2000 < len(found) < 4500
    history.configure(retention=24 * HOUR, max_size=MIB)
    await until(lambda: file.stat().st_size < 2.5 * MIB)
    assert seqs(await all_of(history))[-1] == 8000
    await history.close()


async def test_events_are_found_by_what_they_say(history: History) -> None:
    history.event(NOW, "info", "connection.opened", {"connection": "acme", "topic": "x"})
    history.event(NOW + 1, "warning", "uplink.parked", {"connection": "acme", "source": "lrc", "dev_eui": DEVICE})
    history.event(NOW + 2, "error", "uplink.failed", {"connection": "other"})
    history.event(NOW + 3, "debug", "uplink.accepted", {"source": "lrc"})

    async def found(**filters: object) -> list[int]:
        return [one.id for one in await history.events(**({"limit": 10} | filters))]

    assert await found() == [1, 2, 3]
    assert await found(level="debug") == [1, 2, 3, 4]
    assert await found(level="warning") == [2, 3]
    assert await found(level="error") == [3]
    assert await found(connection="acme") == [1, 2]
    assert await found(source="lrc", level="debug") == [2, 4]
    assert await found(device=DEVICE.lower()) == [2]
    assert await found(name="uplink.parked") == [2]
    assert await found(name="uplink.*") == [2, 3]
    assert await found(since=NOW + 2) == [3]
    assert await found(limit=2) == [2, 3], "the newest"
    assert await found(limit=1, after=1) == [2], "the next"
    assert await found(after=3) == []
    (one,) = await history.events(limit=1, name="uplink.parked")
    assert (one.at, one.level, one.name) == (NOW + 1, "warning", "uplink.parked")
    assert one.fields == {"connection": "acme", "source": "lrc", "dev_eui": DEVICE}


async def test_events_may_come_from_many_threads_at_once(history: History) -> None:
    def tell(thread: int) -> None:
        for number in range(200):
            history.event(NOW, "info", "a.b", {"thread": thread, "number": number})

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*[asyncio.to_thread(thread.join) for thread in threads])
    found = await history.events(limit=10_000)
    assert len(found) == 1600
    for thread in range(8):
        assert [one.fields["number"] for one in found if one.fields["thread"] == thread] == list(range(200))


async def test_only_the_newest_events_are_kept_and_none_for_longer_than_30_days(tmp_path: Path) -> None:
    clock = HandClock()
    history = await opened(tmp_path, clock=clock)
    for number in range(schema.KEPT_EVENTS + 500):
        history.event(clock.wall, "info", "a.b", {"number": number})
        if number % 1000 == 0:
            await history.ends([1])
    found = await history.events(limit=100_000)
    assert [found[0].fields, len(found)] == [{"number": 500}, schema.KEPT_EVENTS]
    clock.wall += 31 * 24 * HOUR
    history.configure(retention=HOUR, max_size=64 * MIB)
    await until(lambda: blocks(history, "event") == 0)
    history.event(clock.wall, "info", "a.b", {})
    assert [one.id for one in await history.events(limit=5)] == [found[-1].id + 1]
    await history.close()


async def test_what_is_told_is_written_within_a_moment_without_anybody_asking(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PAUSE", 0.01)
    history.stored({("a",): queued([1])})
    await until(lambda: blocks(history, "uplinks") == 1)


async def test_what_waits_is_written_at_the_end_and_questions_are_refused_after_it(tmp_path: Path) -> None:
    history = await opened(tmp_path)
    history.stored({("a",): queued([1])})
    await history.close()
    await history.close()
    history.stored({("a",): queued([2])})
    history.event(NOW, "info", "a.b", {})
    with pytest.raises(HistoryFailed, match="closed"):
        await history.of_device(DEVICE, limit=1)
    history = await opened(tmp_path)
    assert seqs(await all_of(history)) == [1]
    await history.close()


async def test_a_cancelled_question_disturbs_no_other(history: History) -> None:
    history.stored({("a",): queued([1])})
    asked = [asyncio.create_task(history.of_device(DEVICE, limit=1)) for _ in range(6)]
    await asyncio.sleep(0)
    for one in asked[::2]:
        one.cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [seqs(one) for one in answers[1::2]] == [[1]] * 3


async def test_the_files_are_private(history: History) -> None:
    history.stored({("a",): queued([1])})
    await history.ends([1])
    assert {file.stat().st_mode & 0o777 for file in history._path.parent.glob("history.db*")} == {0o600}


async def test_beyond_what_may_wait_things_are_left_out_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mqttbridge.history.waiting.WAITING_RECORDS", 50)
    lines = Told()
    history = await opened(tmp_path, tell=lines)
    # All in one step of the loop, or nearly: far more than may wait.
    for start in range(1, 5001, 10):
        history.stored({("a",): queued(range(start, start + 10))})
    found = seqs(await all_of(history))
    assert history.lost == 5000 - len(found) > 0
    await until(lambda: bool(lines.lines))
    history.configure(retention=HOUR, max_size=MIB)
    await history.ends([1])
    await history.close()
    assert {name for _, name, _ in lines.lines} == {"history.behind"}
    assert lines.lines[0][0] == "warning"
    assert sum(fields["count"] for _, _, fields in lines.lines) == history.lost
    assert len(lines.lines) <= 2, "the first at once, the others together: here at the end"


async def test_who_asks_while_it_is_closed_gets_an_answer_or_an_error(tmp_path: Path) -> None:
    history = await opened(tmp_path)
    history.stored({("a",): queued([1])})
    asked = [asyncio.create_task(history.of_device(DEVICE, limit=1)) for _ in range(5)]
    await asyncio.sleep(0)
    await history.close()
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(answer, HistoryFailed) or seqs(answer) == [1]
