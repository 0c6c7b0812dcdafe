"""The disk under the downlinks fails: nobody is told a lie, nothing comes twice or late, and it heals by itself."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from typing import TYPE_CHECKING

import pytest

from mqttbridge.errors import JournalFailed, StartError
from mqttbridge.journal import downlink_writer
from mqttbridge.journal.downlinks import SqliteDownlinks
from tests.journal.downlink_samples import (
    DAY,
    Clock,
    Disk,
    be_impatient,
    disk_error,
    downlink,
    ends,
    eui,
    numbers,
    query,
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


IO_ERRORS = [
    disk_error("SQLITE_IOERR_WRITE"),
    disk_error("SQLITE_IOERR_FSYNC"),
    disk_error("SQLITE_FULL", "database or disk is full"),
    disk_error("SQLITE_BUSY", "database is locked"),
    OSError(5, "disk error"),
]


@pytest.mark.parametrize("error", IO_ERRORS, ids=str)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("statement", ["INSERT INTO downlink", "COMMIT"])
async def test_a_failed_accept_stores_nothing_and_the_next_one_works(
    journal: SqliteDownlinks, disk: Disk, error: Exception, when: str, statement: str
) -> None:
    await journal.accept([downlink(1)])
    getattr(disk, when)[statement] = [error]
    with pytest.raises(JournalFailed, match=r"downlinks\.db cannot be written.*(disk|locked)"):
        await journal.accept([downlink(2), rejected(3, connection="b")])
    assert await numbers(journal) == [1]
    assert await journal.former_key("a", 2, (2).to_bytes(16)) is None
    assert (journal.unfinished("a"), journal.unfinished("b")) == (1, 0)
    await journal.accept([downlink(4)])
    assert journal.problem() == ""
    assert await numbers(journal) == [1, 4]
    assert journal.waiting("a") == 2
    found = await seqs(journal)
    assert found == sorted(set(found))


async def test_a_failed_accept_that_was_committed_all_the_same_is_gone_after_a_restart(
    tmp_path: Path, disk: Disk, clock: Clock
) -> None:
    journal = await SqliteDownlinks.open(tmp_path, clock=clock, connect=disk.connect)
    disk.after["COMMIT"] = [disk_error("SQLITE_IOERR_FSYNC")]
    with pytest.raises(JournalFailed):
        await journal.accept([downlink(1)])
    await journal.close()
    journal = await SqliteDownlinks.open(tmp_path, clock=clock)
    assert await numbers(journal) == []
    await journal.close()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_conclusion_that_failed_can_be_repeated_and_counts_once(
    journal: SqliteDownlinks, disk: Disk, when: str
) -> None:
    await journal.accept([downlink(1), downlink(2)])
    found = await seqs(journal)
    called: list[int] = []
    journal.watch("a", lambda: called.append(journal.waiting("a")))
    for seq in found:
        getattr(disk, when)["COMMIT"] = [disk_error("SQLITE_IOERR_FSYNC")]
        with pytest.raises(JournalFailed):
            await journal.conclude(ends([seq]))
    await journal.conclude(ends(found))
    assert (journal.unfinished("a"), journal.waiting("a")) == (2, 0)
    assert called[-1] == 0
    assert len(await journal.receipts("a", 0, 9)) == 2
    getattr(disk, when)["COMMIT"] = [disk_error("SQLITE_IOERR_FSYNC")]
    with pytest.raises(JournalFailed):
        await journal.receipted(found)
    await journal.receipted(found)
    assert journal.unfinished("a") == 0


async def test_a_failure_is_told_and_heals_without_any_request(journal: SqliteDownlinks, disk: Disk) -> None:
    await journal.accept([downlink(1)])
    disk.broken = True
    disk.before["COMMIT"] = [IO_ERRORS[0]]
    with pytest.raises(JournalFailed):
        await journal.accept([downlink(2)])
    assert "disk I/O error" in journal.problem()
    tries = disk.connects
    await until(lambda: disk.connects > tries + 2)
    with pytest.raises(JournalFailed):
        await journal.accept([downlink(3)])
    with pytest.raises(JournalFailed):
        await journal.pending("lrc", 0, 10)
    assert journal.problem()
    disk.broken = False
    await until(lambda: not journal.problem())
    assert await numbers(journal) == [1]


async def test_it_heals_though_reads_come_without_a_pause(
    journal: SqliteDownlinks, disk: Disk, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink_writer, "PROBE_EVERY", 600)
    disk.before["COMMIT"] = [IO_ERRORS[0]]
    with pytest.raises(JournalFailed):
        await journal.accept([downlink(1)])
    await journal.sources()
    assert journal.problem()
    monkeypatch.setattr(clock, "monotonic", lambda: 601.0)
    await journal.sources()
    await until(lambda: not journal.problem())


async def test_writes_that_the_kernel_refuses_fail_and_recover(journal: SqliteDownlinks) -> None:
    """A file size limit of the process: write(2) itself fails, with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    stored = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        with pytest.raises(JournalFailed):  # noqa: PT012 - which of them is refused is open
            for number in range(1000):
                await journal.accept([downlink(number, way="x" * 5000)])
                stored.append(number)
        assert journal.problem()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await until(lambda: not journal.problem())
    assert len(stored) > 5
    await journal.accept([downlink(5000)])
    assert await numbers(journal) == [*stored, 5000]
    assert journal.waiting("a") == len(stored) + 1


async def test_a_file_that_another_process_locks_is_told_and_heals(
    journal: SqliteDownlinks, tmp_path: Path, disk: Disk
) -> None:
    await journal.accept([downlink(1)])
    # The timeout of a connection that was opened before the test shortened it.
    other = sqlite3.connect(tmp_path / "downlinks.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalFailed, match="locked"):
        await journal.accept([downlink(2)])
    assert await numbers(journal) == [1], "what is there can be read all the same"
    assert "locked" in journal.problem()
    other.execute("ROLLBACK")
    other.close()
    await until(lambda: not journal.problem())
    assert disk.connects == 1
    await journal.accept([downlink(3)])
    assert await numbers(journal) == [1, 3]


async def test_after_a_failed_fsync_nothing_is_believed_while_another_process_keeps_it_from_being_synced(
    journal: SqliteDownlinks, tmp_path: Path, disk: Disk
) -> None:
    await journal.accept([downlink(1)])
    other = sqlite3.connect(tmp_path / "downlinks.db", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM downlink").fetchone()
    await journal.accept([downlink(2)])
    disk.after["COMMIT"] = [disk_error("SQLITE_IOERR_FSYNC")]
    with pytest.raises(JournalFailed):
        await journal.accept([downlink(3)])
    with pytest.raises(JournalFailed, match="another process reads the file"):
        await journal.pending("lrc", 0, 9)
    assert "another process" in journal.problem()
    other.close()
    await until(lambda: not journal.problem())
    assert await numbers(journal) == [1, 2]


async def test_a_failed_read_is_told_until_it_works_again(journal: SqliteDownlinks, disk: Disk) -> None:
    await journal.accept([downlink(1), rejected(2)])
    disk.before["SELECT json_group_array(json_array(seq, receipt))"] = [disk_error("SQLITE_CORRUPT", "malformed")]
    with pytest.raises(JournalFailed, match="cannot be read: malformed"):
        await journal.receipts("a", 0, 9)
    assert "malformed" in journal.problem()
    assert await numbers(journal) == [1]
    assert journal.problem()
    assert len(await journal.receipts("a", 0, 9)) == 1
    assert journal.problem() == ""


async def test_a_failed_read_that_nobody_repeats_is_tried_again_by_itself(
    journal: SqliteDownlinks, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downlink_writer, "REST_AFTER", 600)
    disk.before["SELECT connection, correlation_id FROM downlink"] = [disk_error("SQLITE_IOERR_READ")] * 3
    with pytest.raises(JournalFailed):
        await journal.sender(eui(1), "00")
    assert "disk I/O error" in journal.problem()
    await until(lambda: not journal.problem())
    assert not disk.before["SELECT connection, correlation_id FROM downlink"]


async def test_a_failure_that_changed_nothing_calls_no_watcher(journal: SqliteDownlinks, disk: Disk) -> None:
    await journal.accept([downlink(1)])
    called: list[int] = []
    journal.watch("a", lambda: called.append(journal.unfinished("a")))
    disk.before["COMMIT"] = [disk_error("SQLITE_IOERR_FSYNC")]
    with pytest.raises(JournalFailed):
        await journal.accept([downlink(2)])
    await until(lambda: not journal.problem())
    assert called == []


async def test_a_row_that_makes_no_sense_is_named(journal: SqliteDownlinks, tmp_path: Path) -> None:
    await journal.accept([downlink(1), downlink(2, source="tts")])
    query(tmp_path, "UPDATE downlink SET content = '[1]' WHERE seq = 1")
    with pytest.raises(JournalFailed, match="row 1 makes no sense"):
        await journal.pending("lrc", 0, 9)
    assert await numbers(journal, "tts") == [2]
    assert "row 1" in journal.problem()
    query(tmp_path, "UPDATE downlink SET state = 2 WHERE seq = 1")
    await until(lambda: not journal.problem())


async def test_what_cannot_be_stored_fails_alone(journal: SqliteDownlinks) -> None:
    bad = [downlink(50, mid=2**70), downlink(51, connection="\ud800")]
    good = [downlink(number) for number in range(10)]
    results = await asyncio.gather(
        *(journal.accept([one]) for one in good[:5] + bad + good[5:]), return_exceptions=True
    )
    assert [isinstance(result, JournalFailed) for result in results] == [False] * 5 + [True] * 2 + [False] * 5
    assert await numbers(journal) == list(range(10))
    assert journal.waiting("a") == 10
    assert journal.problem() == ""
    with pytest.raises(JournalFailed):
        await journal.sender("\ud800", "0")
    assert journal.problem() == ""


async def test_a_failure_while_tidying_heals(journal: SqliteDownlinks, disk: Disk, clock: Clock) -> None:
    disk.before["DELETE FROM downlink"] = [IO_ERRORS[0]]
    await journal.accept([rejected(1)])
    clock.time += 8 * DAY
    await until(lambda: not disk.before["DELETE FROM downlink"])
    await journal.accept([rejected(2)])
    await until(lambda: journal.unfinished("a") == 1)
    assert journal.problem() == ""


async def test_it_can_be_closed_while_the_disk_fails(tmp_path: Path, disk: Disk, clock: Clock) -> None:
    journal = await SqliteDownlinks.open(tmp_path, clock=clock, connect=disk.connect)
    await journal.accept([downlink(1)])
    disk.broken = True
    disk.before["COMMIT"] = [IO_ERRORS[0]]
    with pytest.raises(JournalFailed):
        await journal.accept([downlink(2)])
    await asyncio.wait_for(journal.close(), 5)
    journal = await SqliteDownlinks.open(tmp_path, clock=clock)
    assert await numbers(journal) == [1]
    await journal.close()


# Files that cannot be used.


async def refused(directory: Path) -> str:
    with pytest.raises(StartError) as caught:
        await SqliteDownlinks.open(directory, clock=Clock())
    return str(caught.value)


async def test_files_that_are_not_ours_are_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "downlinks.db"
    file.write_bytes(b"this is no database at all" * 100)
    assert "move it away" in await refused(tmp_path)
    assert file.read_bytes() == b"this is no database at all" * 100
    file.unlink()
    query(tmp_path, "CREATE TABLE recipes(name)")
    assert "no queue of downlinks" in await refused(tmp_path)
    assert "cannot be opened" in await refused(tmp_path / "missing")


async def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    await (await SqliteDownlinks.open(tmp_path, clock=Clock())).close()
    query(tmp_path, "PRAGMA user_version = 99")
    assert "newer mqttbridge (format 99" in await refused(tmp_path)


async def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    journal = await SqliteDownlinks.open(tmp_path, clock=Clock())
    await journal.accept([downlink(number) for number in range(200)])
    await journal.close()
    file = tmp_path / "downlinks.db"
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    assert "damaged" in await refused(tmp_path)


def modes(directory: Path) -> set[int]:
    return {file.stat().st_mode & 0o777 for file in directory.iterdir()}


async def test_the_files_are_private(journal: SqliteDownlinks, tmp_path: Path) -> None:
    await journal.accept([downlink(1)])
    assert modes(tmp_path) == {0o600}
