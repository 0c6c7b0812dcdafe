"""The disk fails, or the file is damaged: it is told once, costs nobody else anything, and heals by itself."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from mqttbridge.errors import HistoryFailed
from mqttbridge.history import schema, writer
from mqttbridge.model import Outcome, Queued, Settled
from tests.history.samples import DEVICE, MIB, NOW, Told, all_of, ended, opened, queued, seqs, until, uplink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mqttbridge.history.history import History

WORK = "INSERT INTO work"


def disk_error(name: str, text: str) -> sqlite3.OperationalError:
    """Make an error as the sqlite3 module raises it."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = name
    error.sqlite_errorcode = getattr(sqlite3, name)
    return error


FULL = disk_error("SQLITE_FULL", "database or disk is full")
IO_ERROR = disk_error("SQLITE_IOERR", "disk I/O error")


class Disk:
    """Connects to database files, and fails on order. `before` and `after`: errors around statements, by prefix."""

    def __init__(self) -> None:
        self.before: dict[str, list[Exception]] = {}
        self.after: dict[str, list[Exception]] = {}
        self.broken: Exception | None = None
        self.tries = 0
        self.on_connect: Callable[[sqlite3.Connection], object] = lambda _: None

    def connect(self, path: Path) -> sqlite3.Connection:
        self.tries += 1
        if self.broken is not None:
            raise self.broken
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
                disk._fail(disk.before, sql)
                cursor = super().execute(sql, *args)
                disk._fail(disk.after, sql)
                return cursor

        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Connection)
        self.on_connect(db)
        return db

    @staticmethod
    def _fail(planned: dict[str, list[Exception]], sql: str) -> None:
        for prefix, errors in planned.items():
            if errors and sql.strip().startswith(prefix):
                raise errors.pop(0)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(writer, "PAUSE", 0.01)
    monkeypatch.setattr(writer, "PROBE_EVERY", 0.01)
    monkeypatch.setattr(writer, "TIDY_EVERY", 0.05)
    return Disk()


@pytest.fixture
def told() -> Told:
    return Told()


async def test_a_disk_that_fails_for_a_while_loses_nothing_and_is_told_once(
    tmp_path: Path, disk: Disk, told: Told
) -> None:
    history = await opened(tmp_path, connect=disk.connect, tell=told)
    disk.before[WORK] = [FULL] * 10 + [IO_ERROR] * 10
    history.stored({("a",): queued([1, 2])})
    history.settled("a", ended([1]))
    await until(lambda: "full" in history.problem())
    history.stored({("a", "b"): queued([3])})
    await until(lambda: not history.problem())
    assert seqs(await all_of(history)) == [1, 2, 3]
    assert [one.seq for one in await history.ends([1, 2])] == [1]
    assert told.names == ["history.failed", "history.recovered"]
    assert "history.db cannot be used: database or disk is full" in str(told.lines[0][2]["reason"])
    assert not disk.before[WORK]
    await history.close()


@pytest.mark.parametrize("error", [FULL, IO_ERROR], ids=str)
async def test_what_was_committed_before_the_error_came_is_not_written_twice(
    tmp_path: Path, disk: Disk, told: Told, error: Exception
) -> None:
    history = await opened(tmp_path, connect=disk.connect, tell=told)
    disk.after[WORK] = [error]
    history.stored({("a",): queued([1])})
    history.event(NOW, "info", "a.b", {})
    await until(lambda: told.names == ["history.failed", "history.recovered"])
    history.stored({("b",): queued([2])})
    found = await all_of(history)
    assert [(one.seq, one.connections) for one in found] == [(1, ("a",)), (2, ("b",))]
    assert len(await history.events(limit=5)) == 1
    assert history.lost == 0
    await history.close()


async def test_a_directory_that_cannot_be_used_keeps_nobody_from_starting(
    tmp_path: Path, disk: Disk, told: Told
) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("in the way")
    history = await opened(blocked, connect=disk.connect, tell=told)
    assert history.problem()
    history.stored({("a",): queued([1])})
    with pytest.raises(HistoryFailed, match="cannot be read"):
        await history.of_device(DEVICE, limit=1)
    assert await history.frame_counters(10) == {}, "this is asked at the start"
    blocked.unlink()
    await until(lambda: not history.problem())
    assert seqs(await all_of(history)) == [1]
    assert told.names == ["history.failed", "history.recovered"]
    await history.close()


async def test_while_the_disk_fails_what_waits_is_bounded_and_what_is_left_out_is_counted(
    tmp_path: Path, disk: Disk, told: Told
) -> None:
    history = await opened(tmp_path, connect=disk.connect, tell=told)
    disk.broken = IO_ERROR
    disk.before[WORK] = [IO_ERROR]
    for number in range(1, 41):
        history.stored({("a",): queued([number], size=MIB)})
        if number == 1:
            await until(lambda: bool(history.problem()))
    assert history.lost == 32
    tries = disk.tries
    await until(lambda: disk.tries > tries + 3)
    disk.broken = None
    await until(lambda: not history.problem())
    assert seqs(await all_of(history)) == list(range(1, 9))
    await until(lambda: "history.behind" in told.names)
    (line,) = [fields for _, name, fields in told.lines if name == "history.behind"]
    assert line["count"] == 32
    await history.close()


async def test_it_can_be_closed_while_the_disk_fails_and_counts_what_it_could_not_write(
    tmp_path: Path, disk: Disk, told: Told
) -> None:
    history = await opened(tmp_path, connect=disk.connect, tell=told)
    disk.broken = IO_ERROR
    disk.before[WORK] = [IO_ERROR]
    history.stored({("a",): queued([1, 2])})
    history.event(NOW, "info", "a.b", {})
    await history.close()
    assert history.lost == 3
    await until(lambda: told.names == ["history.failed", "history.behind"])


async def test_a_failure_while_tidying_heals_too(tmp_path: Path, disk: Disk, told: Told) -> None:
    history = await opened(tmp_path, connect=disk.connect, tell=told)
    history.stored({("a",): queued([1])})
    disk.before["DELETE FROM"] = [IO_ERROR]
    history.configure(retention=1, max_size=MIB)
    await until(lambda: told.names == ["history.failed", "history.recovered"])
    history.configure(retention=NOW, max_size=MIB)
    history.stored({("a",): queued([2])})
    assert 2 in seqs(await all_of(history))
    await history.close()


async def test_a_file_that_may_not_grow_fails_and_recovers(tmp_path: Path, disk: Disk, told: Told) -> None:
    """SQLite's own page limit gives a genuine SQLITE_FULL from inside a transaction."""
    import os

    disk.on_connect = lambda db: db.execute("PRAGMA max_page_count = 40")
    history = await opened(tmp_path, connect=disk.connect, tell=told)
    history.stored({("a",): [Queued(n, uplink(n, body=os.urandom(1000))) for n in range(1, 301)]})
    await until(lambda: "full" in history.problem())
    assert await all_of(history) == []
    disk.on_connect = lambda _: None
    await until(lambda: not history.problem())
    assert seqs(await all_of(history)) == list(range(1, 301))
    await history.close()


async def test_values_that_sqlite_does_not_take_cost_their_batch_and_no_more(
    tmp_path: Path, disk: Disk, told: Told
) -> None:
    history = await opened(tmp_path, connect=disk.connect, tell=told)
    history.stored({("\ud800",): queued([1])})
    await history.ends([1])
    history.stored({("a",): [Queued(2, uplink(2, received=2**63))]})
    await history.ends([1])
    history.settled("a", [Settled(2**63, Outcome.DELIVERED, at=1)])
    await history.ends([1])
    history.stored({("a",): queued([3])})
    assert seqs(await all_of(history)) == [3]
    assert history.lost == 3
    assert set(told.names) == {"history.behind"}
    await history.close()


def aside(directory: Path) -> list[str]:
    """Give the names of what was moved aside, without the logs beside it."""
    return sorted(one.name for one in directory.glob("history.db.damaged-*") if not one.name.endswith(("-wal", "-shm")))


async def starts_anew(directory: Path, told: Told, why: str) -> None:
    """Open it: what is there must be moved aside, and the history must work."""
    history = await opened(directory, tell=told)
    await until(lambda: told.names == ["history.failed", "history.recovered"])
    reason = str(told.lines[0][2]["reason"])
    assert why in reason
    (name,) = aside(directory)
    assert name == "history.db.damaged-20231114T221320Z"
    assert name in reason
    await usable(history)
    await history.close()


async def usable(history: History) -> None:
    """Keep something, and find it."""
    history.stored({("a",): queued([77])})
    assert seqs(await all_of(history)) == [77]
    assert not history.problem()


async def test_what_is_no_database_is_moved_aside(tmp_path: Path, told: Told) -> None:
    (tmp_path / "history.db").write_bytes(b"this is no database at all" * 100)
    await starts_anew(tmp_path, told, "not a database")
    assert (tmp_path / aside(tmp_path)[0]).read_bytes() == b"this is no database at all" * 100


async def test_a_foreign_database_is_moved_aside(tmp_path: Path, told: Told) -> None:
    db = sqlite3.connect(tmp_path / "history.db")
    db.execute("CREATE TABLE recipes(name)")
    db.close()
    await starts_anew(tmp_path, told, "not a history")


async def test_a_directory_in_its_place_is_moved_aside(tmp_path: Path, told: Told) -> None:
    (tmp_path / "history.db").mkdir()
    await starts_anew(tmp_path, told, "not a file")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("PRAGMA user_version = 99", "newer mqttbridge"),
        ("DELETE FROM state", "make no sense"),
        ("UPDATE route SET members = '[99]'", "make no sense"),
    ],
)
async def test_a_history_that_this_version_cannot_read_is_moved_aside(
    tmp_path: Path, told: Told, change: str, why: str
) -> None:
    history = await opened(tmp_path)
    history.stored({("a",): queued([1])})
    await history.close()
    db = sqlite3.connect(tmp_path / "history.db", isolation_level=None)
    db.execute(change)
    db.close()
    await starts_anew(tmp_path, told, why)


async def test_a_file_that_is_damaged_inside_is_moved_aside_when_that_is_found(
    tmp_path: Path, disk: Disk, told: Told
) -> None:
    import os

    history = await opened(tmp_path)
    history.stored({("a",): [Queued(n, uplink(n, body=os.urandom(1000))) for n in range(1, 301)]})
    await history.close()
    file = tmp_path / "history.db"
    data = bytearray(file.read_bytes())
    # All but the first pages, which hold the names of the tables.
    data[20 * 4096 :] = b"\xff" * (len(data) - 20 * 4096)
    file.write_bytes(data)
    history = await opened(tmp_path, connect=disk.connect, tell=told)
    # It is found by this question, or by the thread's own tidying before it.
    with contextlib.suppress(HistoryFailed):
        await all_of(history)
    await until(lambda: told.names == ["history.failed", "history.recovered"])
    assert len(aside(tmp_path)) == 1
    await usable(history)
    await history.close()


async def test_a_block_that_is_damaged_is_found_by_whoever_needs_it(tmp_path: Path, disk: Disk, told: Told) -> None:
    history = await opened(tmp_path, connect=disk.connect, tell=told)
    history.stored({("a",): queued([1])})
    await history.ends([1])
    other = sqlite3.connect(tmp_path / "history.db", isolation_level=None)
    other.execute("UPDATE uplinks SET data = zeroblob(100)")
    other.close()
    with pytest.raises(HistoryFailed, match="a block is damaged"):
        await all_of(history)
    await until(lambda: told.names == ["history.failed", "history.recovered"])
    await usable(history)
    await history.close()


async def test_several_who_find_it_damaged_have_one_file_moved_aside(tmp_path: Path, disk: Disk, told: Told) -> None:
    history = await opened(tmp_path, connect=disk.connect, tell=told)
    history.stored({("a",): queued([1])})
    await history.ends([1])
    history._writer.submit(writer.Damaged(schema.NotOursError("bad"), 0))
    history._writer.submit(writer.Damaged(schema.NotOursError("bad"), 0))
    await until(lambda: told.names == ["history.failed", "history.recovered"])
    await usable(history)
    assert len(aside(tmp_path)) == 1
    await history.close()


async def test_a_disk_that_damages_every_file_is_not_filled_with_them(tmp_path: Path, disk: Disk, told: Told) -> None:
    history = await opened(tmp_path, connect=disk.connect, tell=told)
    disk.before[WORK] = [disk_error("SQLITE_CORRUPT", "database disk image is malformed") for _ in range(20)]
    history.stored({("a",): queued([1])})
    await until(lambda: not disk.before[WORK])
    await until(lambda: not history.problem())
    assert len(aside(tmp_path)) == writer.MOVES
    assert seqs(await all_of(history)) == [1]
    await history.close()


async def test_a_file_that_was_deleted_under_it_is_told_of_to_those_who_ask(tmp_path: Path, told: Told) -> None:
    history = await opened(tmp_path / "state", tell=told)
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(HistoryFailed, match="no such file"):
        await history.of_device(DEVICE, limit=1)
    await history.close()


async def test_another_process_that_holds_the_file_is_waited_for(
    tmp_path: Path, disk: Disk, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT", 20)
    history = await opened(tmp_path, connect=disk.connect, tell=told)
    other = sqlite3.connect(tmp_path / "history.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    history.stored({("a",): queued([1])})
    await until(lambda: "locked" in history.problem())
    other.execute("ROLLBACK")
    other.close()
    await until(lambda: not history.problem())
    assert seqs(await all_of(history)) == [1]
    assert aside(tmp_path) == []
    await history.close()
