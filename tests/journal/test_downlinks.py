"""The queue of downlinks as the daemon sees it: what was answered is kept, each ends once, counts are exact."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from mqttbridge.errors import JournalFailed
from mqttbridge.journal import downlink_devices, downlink_store, downlink_writer, downlinks
from mqttbridge.journal.downlink_protocol import ConcludedDownlink, Receipt, Sender
from mqttbridge.journal.downlinks import SqliteDownlinks
from mqttbridge.model import Downlink
from tests.journal.downlink_samples import (
    DAY,
    NOW,
    Clock,
    Disk,
    be_impatient,
    device,
    disk_error,
    downlink,
    ends,
    eui,
    numbers,
    query,
    receipt,
    rejected,
    seqs,
)
from tests.journal.samples import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_impatient(monkeypatch)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def journal(tmp_path: Path, disk: Disk, clock: Clock) -> AsyncIterator[SqliteDownlinks]:
    opened = await SqliteDownlinks.open(tmp_path, clock=clock, connect=disk.connect)
    yield opened
    disk.broken = False
    await opened.close()


# The life of a downlink.


async def test_what_is_accepted_comes_back_whole_and_in_order(journal: SqliteDownlinks) -> None:
    full = Downlink(eui(3), 224, None, b'{"a": 1}', confirmed=True, flush=True, expires=NOW, correlation_id="AB" * 8)
    first, other = downlink(7, warnings=("a \x00 word", "or two")), downlink(2, source="tts")
    last = downlink(3, downlink=full, connection="b")
    await journal.accept([first, other])
    await journal.accept([last])
    one, two = await journal.pending("lrc", 0, 10)
    for found, given in ((one, first), (two, last)):
        assert (found.connection, found.key, found.received) == (given.connection, given.key, given.received)
        assert (found.source, found.way, found.correlation) == ("lrc", given.way, given.correlation)
        assert (found.downlink, found.warnings) == (given.downlink, given.warnings)
    assert 0 < one.seq < two.seq
    assert await journal.pending("lrc", one.seq, 10) == [two]
    assert await journal.pending("lrc", 0, 1) == [one]
    assert await journal.pending("lrc", 0, 0) == []
    assert sorted(await journal.sources()) == ["lrc", "tts"]


async def test_a_conclusion_leaves_a_receipt_that_waits_until_it_was_published(journal: SqliteDownlinks) -> None:
    await journal.accept([downlink(1), rejected(2), downlink(3)])
    first, third = await seqs(journal)
    assert (journal.unfinished("a"), journal.waiting("a")) == (3, 2)
    await journal.conclude(ends([third, first]))
    assert await numbers(journal) == []
    found = await journal.receipts("a", 0, 10)
    assert [one.seq for one in found] == [first, first + 1, third]
    assert found[0] == Receipt(first, receipt(first))
    assert found[1].content == rejected(2).receipt
    assert await journal.receipts("a", first, 1) == found[1:2]
    assert await journal.receipts("b", 0, 10) == []
    assert (journal.unfinished("a"), journal.waiting("a")) == (3, 0)
    await journal.receipted(one.seq for one in found[:2])
    assert await journal.receipts("a", 0, 10) == found[2:]
    assert journal.unfinished("a") == 1
    await journal.receipted([first, third, third, 99])
    assert journal.unfinished("a") == 0


async def test_a_downlink_ends_once_and_with_its_first_outcome(journal: SqliteDownlinks) -> None:
    await journal.accept([downlink(1), downlink(2)])
    one, two = await seqs(journal)
    await journal.conclude(
        [ConcludedDownlink(one, receipt(1, b"first")), ConcludedDownlink(one, receipt(1, b"second"))]
    )
    await journal.conclude([ConcludedDownlink(one), ConcludedDownlink(two), ConcludedDownlink(77, receipt(7))])
    await journal.conclude([ConcludedDownlink(two, receipt(2, b"late"))])
    assert [found.content.body for found in await journal.receipts("a", 0, 10)] == [b"first"]
    assert (journal.unfinished("a"), journal.waiting("a")) == (1, 0)
    await journal.receipted([one])
    await journal.conclude([ConcludedDownlink(one, receipt(1, b"third"))])
    assert await journal.receipts("a", 0, 10) == []


async def test_conclusions_that_are_committed_together_end_a_downlink_once(journal: SqliteDownlinks) -> None:
    await journal.accept([downlink(1)])
    (seq,) = await seqs(journal)
    await asyncio.gather(*(journal.conclude([ConcludedDownlink(seq, receipt(1, b"%d" % n))]) for n in range(20)))
    assert [found.content.body for found in await journal.receipts("a", 0, 10)] == [b"0"]
    assert journal.unfinished("a") == 1


async def test_nothing_to_do_is_nothing_done(journal: SqliteDownlinks, disk: Disk) -> None:
    disk.before["BEGIN"] = [AssertionError("it wrote")] * 9
    await journal.accept([])
    await journal.conclude([])
    await journal.receipted([])
    disk.before.clear()
    assert journal.problem() == ""


async def test_a_downlink_to_be_sent_that_has_a_receipt_is_a_mistake(journal: SqliteDownlinks) -> None:
    with pytest.raises(ValueError):
        await journal.accept([downlink(1, receipt=receipt(1))])


# What is remembered.


async def test_a_message_that_comes_again_finds_its_newest_key_for_a_day(
    journal: SqliteDownlinks, clock: Clock
) -> None:
    digest = b"\x00" * 16
    await journal.accept([downlink(1, mid=5, digest=digest), rejected(2, None, mid=5, digest=digest)])
    await journal.accept([downlink(3, mid=6, digest=digest), downlink(4, mid=5, digest=digest, connection="b")])
    assert await journal.former_key("a", 5, digest) == f"{2:016x}"
    assert await journal.former_key("b", 5, digest) == f"{4:016x}"
    assert await journal.former_key("a", 5, b"other") is None
    assert await journal.former_key("a", 7, digest) is None
    clock.time += DAY
    assert await journal.former_key("a", 5, digest) is None


async def test_a_message_is_no_copy_of_one_whose_packet_identifier_was_used_again_since(
    journal: SqliteDownlinks,
) -> None:
    digest = b"\x00" * 16
    await journal.accept([downlink(1, mid=1, digest=digest), downlink(2, mid=1, digest=b"\x01" * 16)])
    assert await journal.former_key("a", 1, digest) is None
    assert await journal.former_key("a", 1, b"\x01" * 16) == f"{2:016x}"


async def test_news_of_a_downlink_finds_its_sender_by_correlation_id_or_key(journal: SqliteDownlinks) -> None:
    named = Downlink(eui(1), 1, "00", correlation_id="00FF" * 4)
    await journal.accept([downlink(1, downlink=named), downlink(2, connection="b")])
    await journal.accept([downlink(3, downlink=named, connection="c")])
    await journal.conclude(ends(await seqs(journal), silent=True))
    assert await journal.sender(eui(1), "00ff" * 4) == Sender("c", "00FF" * 4)
    assert await journal.sender(eui(2), f"{2:016X}") == Sender("b", f"{2:016x}")
    assert await journal.sender(eui(1), f"{1:016x}") is None
    assert await journal.sender(eui(2), "00FF" * 4) is None


async def test_news_of_a_downlink_finds_its_sender_by_what_the_network_server_calls_it(
    journal: SqliteDownlinks,
) -> None:
    await journal.accept([downlink(1)])
    (seq,) = await seqs(journal)
    await journal.conclude([ConcludedDownlink(seq, None, "7b1c2d3e")])
    assert await journal.sender(eui(1), "7b1c2d3e") == Sender("a", f"{1:016x}")
    assert await journal.sender(eui(2), "7b1c2d3e") is None
    assert await journal.sender(eui(1), "") is None


async def test_all_of_it_is_there_after_reopening(tmp_path: Path, clock: Clock) -> None:
    journal = await SqliteDownlinks.open(tmp_path, clock=clock)
    await journal.accept([downlink(1), downlink(2, connection="b"), rejected(3), rejected(4, None), downlink(5)])
    last = (await seqs(journal))[-1]
    await journal.conclude(ends([last], silent=True))
    journal.learn([device(1)])
    await journal.close()
    await journal.close()
    journal = await SqliteDownlinks.open(tmp_path, clock=clock)
    assert await numbers(journal) == [1, 2]
    assert (journal.unfinished("a"), journal.waiting("a"), journal.unfinished("b")) == (2, 1, 1)
    assert len(await journal.receipts("a", 0, 9)) == 1
    assert await journal.former_key("a", 4, (4).to_bytes(16)) == f"{4:016x}"
    assert await journal.sender(eui(5), f"{5:016x}") == Sender("a", f"{5:016x}")
    assert await journal.device(eui(1)) == device(1)
    await journal.accept([downlink(6)])
    assert (await seqs(journal))[-1] > last
    await journal.close()


async def test_what_is_done_keeps_nothing_of_its_content(journal: SqliteDownlinks, tmp_path: Path) -> None:
    await journal.accept([downlink(1), downlink(2)])
    found = await seqs(journal)
    await journal.conclude(ends(found[:1], silent=True))
    await journal.conclude(ends(found[1:]))
    await journal.receipted(found)
    rows = query(tmp_path, "SELECT state, content, receipt FROM downlink")
    assert rows == [(2, None, None)] * 2


async def test_what_is_done_and_receipts_that_nobody_publishes_go_after_a_week(
    journal: SqliteDownlinks, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink_store, "TIDY_ROWS", 2)
    await journal.accept([downlink(1), *(rejected(number) for number in range(2, 6)), rejected(6, None)])
    called: list[int] = []
    journal.watch("a", lambda: called.append(journal.unfinished("a")))
    clock.time += 7 * DAY
    await journal.accept([rejected(7)])
    clock.time += 1
    await until(lambda: journal.unfinished("a") == 2)
    assert called[-1] == 2
    await until(lambda: query(tmp_path, "SELECT mid FROM downlink ORDER BY mid") == [(1,), (7,)])
    assert await numbers(journal) == [1]


async def test_of_what_is_done_the_newest_are_kept_whatever_their_number(
    journal: SqliteDownlinks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink_store, "REMEMBERED_ROWS", 10)
    monkeypatch.setattr(downlink_store, "TIDY_ROWS", 3)
    await journal.accept([downlink(0), rejected(1), *(rejected(number, None) for number in range(2, 32))])
    await until(lambda: len(query(tmp_path, "SELECT seq FROM downlink")) == 12)
    kept = [mid for (mid,) in query(tmp_path, "SELECT mid FROM downlink ORDER BY seq")]
    assert kept == [0, 1, *range(22, 32)]


async def test_a_connection_that_sends_without_end_makes_nothing_forgotten_of_another(
    journal: SqliteDownlinks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink_store, "REMEMBERED_ROWS", 10)
    await journal.accept([downlink(1, connection="quiet")])
    await journal.conclude(ends(await seqs(journal), silent=True))
    for number in range(2, 60):
        await journal.accept([rejected(number, None, connection="loud")])
    await until(lambda: len(query(tmp_path, "SELECT seq FROM downlink")) == 10)
    assert await journal.sender(eui(1), f"{1:016x}") == Sender("quiet", f"{1:016x}")


async def test_work_without_a_pause_does_not_keep_it_from_tidying(
    journal: SqliteDownlinks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink_writer, "REST_AFTER", 600)
    monkeypatch.setattr(downlink_writer, "TIDY_AFTER", 4)
    monkeypatch.setattr(downlink_store, "REMEMBERED_ROWS", 10)
    for number in range(40):
        await journal.accept([rejected(number, None)])
    await journal.sources()
    assert len(query(tmp_path, "SELECT seq FROM downlink")) < 20


# Counts and watchers.


async def test_what_waits_is_told_for_every_connection_that_ever_sent_it(journal: SqliteDownlinks) -> None:
    await journal.accept([downlink(1), downlink(2, connection="gone"), rejected(3, connection="other")])
    assert journal.all_waiting() == {"a": 1, "gone": 1}
    await journal.conclude(ends(await seqs(journal), silent=True))
    assert journal.all_waiting() == {}


async def test_watchers_are_called_after_each_change_of_their_connection(journal: SqliteDownlinks) -> None:
    seen: list[tuple[str, int, int]] = []

    def failing() -> None:
        raise RuntimeError("a mistake in a session")

    def note(name: str) -> None:
        seen.append((name, journal.unfinished(name), journal.waiting(name)))

    handled: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: handled.append(context))
    journal.watch("bad", failing)
    for name in ("a", "b"):
        journal.watch(name, lambda name=name: note(name))
    await journal.accept([downlink(0, connection="bad"), downlink(1), downlink(2)])
    assert seen == [("a", 2, 2)]
    await journal.conclude(ends((await seqs(journal))[1:2]))
    assert seen[1:] == [("a", 2, 1)]
    await journal.receipted(one.seq for one in await journal.receipts("a", 0, 9))
    assert seen[2:] == [("a", 1, 1)]
    await journal.accept([rejected(4, None, connection="b")])
    assert len(seen) == 3
    assert [str(context["exception"]) for context in handled] == ["a mistake in a session"]


async def test_a_waiter_that_is_cancelled_disturbs_nobody(journal: SqliteDownlinks) -> None:
    tasks = [asyncio.create_task(journal.accept([downlink(number)])) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks[1::2])
    await asyncio.gather(*tasks[::2], return_exceptions=True)
    found = await numbers(journal)
    assert set(range(1, 20, 2)) <= set(found)
    assert journal.waiting("a") == len(found)


async def test_who_asks_for_too_much_waits(journal: SqliteDownlinks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downlinks, "MOST_ASKED", 3)
    highest = 0

    async def accept(number: int) -> None:
        nonlocal highest
        await journal.accept([downlink(number)])
        highest = max(highest, journal._asked)

    await asyncio.gather(*(accept(number) for number in range(50)))
    assert highest <= 3
    assert sorted(await numbers(journal)) == list(range(50))


async def test_a_closed_queue_says_so(tmp_path: Path, clock: Clock) -> None:
    journal = await SqliteDownlinks.open(tmp_path, clock=clock)
    last = asyncio.create_task(journal.accept([downlink(1)]))
    await asyncio.sleep(0)
    await journal.close()
    await last
    journal.learn([device(1)])
    with pytest.raises(JournalFailed, match=r"downlinks\.db is closed"):
        await journal.accept([downlink(2)])


# Devices.


async def test_a_device_is_known_at_once_and_changes_are_learnt(
    journal: SqliteDownlinks, tmp_path: Path, clock: Clock
) -> None:
    assert await journal.device(eui(1)) is None
    journal.learn([device(1), device(2), device(1, "tts", "app/dev\x00")])
    assert await journal.device(eui(1)) == device(1, "tts", "app/dev\x00")
    await until(lambda: len(query(tmp_path, "SELECT id FROM device")) == 2)
    journal.learn([device(2, way="new")])
    assert await journal.device(eui(2)) == device(2, way="new")
    await journal.close()
    again = await SqliteDownlinks.open(tmp_path, clock=clock)
    assert await again.device(eui(1)) == device(1, "tts", "app/dev\x00")
    assert await again.device(eui(2)) == device(2, way="new")
    assert await again.device(eui(3)) is None
    await again.close()


async def test_what_is_learnt_while_the_disk_is_asked_counts(journal: SqliteDownlinks) -> None:
    asked = asyncio.create_task(journal.device(eui(1)))
    await asyncio.sleep(0)
    journal.learn([device(1)])
    assert await asked == device(1)


async def test_what_is_known_is_not_written_again(journal: SqliteDownlinks, tmp_path: Path, disk: Disk) -> None:
    journal.learn([device(1)])
    await until(lambda: bool(query(tmp_path, "SELECT id FROM device")))
    disk.before["INSERT OR REPLACE INTO device"] = [AssertionError("it wrote")]
    for _ in range(3):
        journal.learn([device(1)])
    await journal.accept([downlink(1)])
    assert not journal._devices.take()
    assert journal.problem() == ""


async def test_devices_that_could_not_be_written_are_learnt_again(
    journal: SqliteDownlinks, tmp_path: Path, disk: Disk
) -> None:
    disk.before["INSERT OR REPLACE INTO device"] = [disk_error("SQLITE_IOERR_WRITE")]
    journal.learn([device(1)])
    await until(lambda: not disk.before["INSERT OR REPLACE INTO device"] and journal._devices.find(eui(1)) is None)
    assert await journal.device(eui(1)) is None
    journal.learn([device(1)])
    await until(lambda: query(tmp_path, "SELECT dev_eui FROM device") == [(eui(1),)])
    assert await journal.device(eui(1)) == device(1)


async def test_the_table_of_devices_is_bounded_and_those_not_learnt_for_longest_go(
    journal: SqliteDownlinks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink_store, "DEVICES", 10)
    monkeypatch.setattr(downlink_devices, "KNOWN", 2)

    def stored() -> set[object]:
        return {name for (name,) in query(tmp_path, "SELECT dev_eui FROM device")}

    journal.learn(device(number) for number in range(10))
    await until(lambda: len(stored()) == 10)
    journal.learn([device(0)])
    await until(lambda: not journal._devices._new and not journal._devices._writing)
    journal.learn(device(number) for number in range(10, 15))
    await until(lambda: eui(14) in stored())
    assert stored() == {eui(number) for number in [0, *range(6, 15)]}
    assert await journal.device(eui(1)) is None
    assert await journal.device(eui(6)) == device(6)


async def test_a_device_is_asked_about_by_itself_and_all_of_them_in_pages(journal: SqliteDownlinks) -> None:
    await journal.accept([downlink(number) for number in (1, 2)])
    assert [one.key for one in await journal.pending_of(eui(2))] == [f"{2:016x}"]
    await journal.conclude(ends([2]))
    assert await journal.pending_of(eui(2)) == []
    journal.learn([device(1), device(2), device(3)])
    async with asyncio.timeout(5):
        while len(await journal.devices("", 9)) < 3:  # noqa: ASYNC110 (they are stored soon)
            await asyncio.sleep(0.01)
    assert await journal.devices("", 2) == [device(1), device(2)]
    assert await journal.devices(eui(2), 9) == [device(3)]
