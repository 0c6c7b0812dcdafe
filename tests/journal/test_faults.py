"""The disk fails, at chosen statements and for real: nobody is told a lie, and it heals without a restart."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from mqttbridge.errors import JournalFailed, JournalInUse, StartError
from mqttbridge.journal import schema, writer
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.journal.store import Store
from mqttbridge.model import Counts, Entry
from tests.journal.samples import FixedClock, delivered, drain, entries, fcnts, marked, until, uplink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

MIB = 1024 * 1024
WORK = "INSERT INTO work"


VERSION_1 = """
PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
CREATE TABLE uplink(
    seq INTEGER PRIMARY KEY, route INTEGER NOT NULL, received INTEGER NOT NULL, time INTEGER NOT NULL,
    source TEXT NOT NULL, kind TEXT NOT NULL, dev_eui TEXT NOT NULL, fcnt INTEGER, body BLOB NOT NULL) STRICT;
CREATE INDEX uplink_route ON uplink(route, seq);
CREATE TABLE route(
    id INTEGER PRIMARY KEY, members TEXT NOT NULL UNIQUE, appended INTEGER NOT NULL DEFAULT 0,
    last INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE connection(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, cursor INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0, expired INTEGER NOT NULL DEFAULT 0, parked INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE parked(
    seq INTEGER NOT NULL, connection INTEGER NOT NULL, at INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (seq, connection)) STRICT, WITHOUT ROWID;
PRAGMA application_id = 0x6D716272; PRAGMA user_version = 1;
INSERT INTO connection VALUES (1, 'a', 1, 1, 0, 0, 0), (2, 'b', 1, 0, 0, 1, 0);
INSERT INTO route VALUES (1, '[1]', 2, 3), (2, '[1,2]', 1, 1);
INSERT INTO parked VALUES (1, 2, 7, 'why');
INSERT INTO uplink VALUES (1, 2, 5, 6, 's', 'DevEUI_uplink', '0018B20000000B20', 1, CAST('{1}' AS BLOB)),
    (2, 1, 5, 6, 's', 'DevEUI_uplink', '0018B20000000B20', 2, CAST('{2}' AS BLOB)),
    (3, 1, 5, 6, 's', 'DevEUI_uplink', '0018B20000000B20', 3, CAST('{3}' AS BLOB));
"""
"""A journal as the first version wrote it, with a backlog."""


def disk_error(name: str, text: str) -> sqlite3.OperationalError:
    """Make an error as the sqlite3 module raises it."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = name
    error.sqlite_errorcode = getattr(sqlite3, name)
    return error


class Disk:
    """Connects to database files, and fails on order. `before` and `after`: errors around statements, by prefix."""

    def __init__(self) -> None:
        self.before: dict[str, list[Exception]] = {}
        self.after: dict[str, list[Exception]] = {}
        self.broken = False
        self.connects = 0
        self.on_connect: Callable[[sqlite3.Connection], object] = lambda _: None

    def connect(self, path: Path) -> sqlite3.Connection:
        self.connects += 1
        if self.broken:
            raise disk_error("SQLITE_IOERR", "disk I/O error")
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
    monkeypatch.setattr(writer, "PROBE_EVERY", 0.02)
    monkeypatch.setattr(writer, "REST_AFTER", 0.02)
    return Disk()


@pytest.fixture
async def journal(tmp_path: Path, disk: Disk) -> AsyncIterator[SqliteJournal]:
    opened = await SqliteJournal.open(
        tmp_path, max_size=64 * MIB, when_full="block", clock=FixedClock(), connect=disk.connect
    )
    yield opened
    disk.broken = False
    await opened.close()


IO_ERRORS = [
    disk_error("SQLITE_IOERR_WRITE", "disk I/O error"),
    disk_error("SQLITE_IOERR_FSYNC", "disk I/O error"),
    disk_error("SQLITE_FULL", "database or disk is full"),
    disk_error("SQLITE_READONLY", "attempt to write a readonly database"),
    OSError(5, "Input/output error"),
]


async def test_a_backlog_that_cannot_be_read_is_shown_in_health_until_it_can(tmp_path: Path, disk: Disk) -> None:
    options = {"max_size": 64 * MIB, "when_full": "block", "clock": FixedClock(), "connect": disk.connect}
    journal = await SqliteJournal.open(tmp_path, **options)
    await journal.append([*entries([1], "a"), *entries([2], "b")])
    await journal.close()
    journal = await SqliteJournal.open(tmp_path, **options)
    disk.before["WITH RECURSIVE"] = [disk_error("SQLITE_CORRUPT", "database disk image is malformed")]
    with pytest.raises(JournalFailed):
        await journal.read("a", 0, 10)
    assert "cannot be read: database disk image is malformed" in journal.health().problem
    assert fcnts(await journal.read("b", 0, 10)) == [2]
    assert journal.health().problem, "what another connection can read says nothing about this one"
    assert fcnts(await journal.read("a", 0, 10)) == [1]
    assert journal.health().problem == ""
    await journal.close()


async def test_a_file_system_that_cannot_tell_the_size_of_the_wal_ends_nothing(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Store, "wal_exceeds", _raise(OSError(5, "Input/output error")))
        await journal.append(entries([1], "a"))
        await until(lambda: "Input/output error" in journal.health().problem)
    await asyncio.wait_for(journal.append(entries([2], "a")), 10)
    await until(lambda: not journal.health().problem)
    assert fcnts(await journal.read("a", 0, 10)) == [1, 2]


def _raise(error: Exception) -> Callable[..., bool]:
    def failing(*_: object) -> bool:
        raise error

    return failing


@pytest.mark.parametrize("error", IO_ERRORS, ids=str)
async def test_a_failed_append_stores_nothing_and_the_next_one_works(
    journal: SqliteJournal, disk: Disk, error: Exception
) -> None:
    await journal.append(entries([1], "a"))
    disk.before[WORK] = [error]
    with pytest.raises(JournalFailed, match=r"cannot be written.*disk"):
        await journal.append(entries([2], "a", "b"))
    assert fcnts(await journal.read("a", 0, 10)) == [1]
    await journal.append(entries([3], "a", "b"))
    assert journal.health().problem == ""
    assert fcnts(await journal.read("a", 0, 10)) == [1, 3]
    assert journal.counts() == {"a": Counts(routed=2), "b": Counts(routed=1)}


async def test_a_failure_is_seen_in_health_and_heals_without_any_request(journal: SqliteJournal, disk: Disk) -> None:
    await journal.append(entries([1], "a"))
    disk.broken = True
    disk.before[WORK] = [IO_ERRORS[0]]
    with pytest.raises(JournalFailed):
        await journal.append(entries([2], "a"))
    assert "disk I/O error" in journal.health().problem
    tries = disk.connects
    await until(lambda: disk.connects > tries + 2)
    with pytest.raises(JournalFailed):
        await journal.append(entries([3], "a"))
    assert journal.health().problem
    disk.broken = False
    await until(lambda: not journal.health().problem)
    assert await drain(journal, "a") == [1]


async def test_a_commit_whose_fsync_failed_is_undone_though_sqlite_finds_it_again(
    journal: SqliteJournal, disk: Disk
) -> None:
    await journal.append(entries([1], "a"))
    (first,) = await journal.read("a", 0, 10)
    disk.after[WORK] = [disk_error("SQLITE_IOERR_FSYNC", "disk I/O error")]
    with pytest.raises(JournalFailed):
        await journal.append([*entries([2], "a"), *entries([3], "b")])
    await until(lambda: not journal.health().problem)
    assert fcnts(await journal.read("a", 0, 10)) == [1]
    assert journal.counts() == {"a": Counts(routed=1), "b": Counts()}
    await journal.append(entries([2], "a", "b"))
    found = await journal.read("a", 0, 10)
    assert fcnts(found) == [1, 2]
    assert found[1].seq > first.seq
    assert await drain(journal, "b") == [2]


async def test_a_full_disk_that_failed_after_the_commit_is_undone_too(journal: SqliteJournal, disk: Disk) -> None:
    disk.after[WORK] = [disk_error("SQLITE_FULL", "database or disk is full")]
    with pytest.raises(JournalFailed):
        await journal.append(entries([1], "a"))
    await journal.append(entries([2], "a"))
    assert await drain(journal, "a") == [2]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_settlement_that_failed_can_be_repeated_and_counts_once(
    journal: SqliteJournal, disk: Disk, when: str
) -> None:
    await journal.append(entries(range(5), "a"))
    queued = await journal.read("a", 0, 10)
    getattr(disk, when)[WORK] = [IO_ERRORS[0]]
    with pytest.raises(JournalFailed):
        await journal.settle("a", delivered(queued[:3]))
    await journal.settle("a", delivered(queued[:3]))
    assert journal.counts()["a"] == Counts(routed=5, delivered=3)
    assert fcnts(await journal.read("a", 0, 10)) == [3, 4]


async def test_a_failed_read_says_so_and_the_next_one_works(tmp_path: Path, disk: Disk) -> None:
    options = {"max_size": 64 * MIB, "when_full": "block", "clock": FixedClock(), "connect": disk.connect}
    journal = await SqliteJournal.open(tmp_path, **options)
    await journal.append(entries([1], "a"))
    await journal.close()
    journal = await SqliteJournal.open(tmp_path, **options)
    disk.before["WITH RECURSIVE"] = [IO_ERRORS[0]]
    with pytest.raises(JournalFailed, match="cannot be read"):
        await journal.read("a", 0, 10)
    assert fcnts(await journal.read("a", 0, 10)) == [1]
    await journal.close()


async def test_a_failure_while_tidying_heals_too(journal: SqliteJournal, disk: Disk) -> None:
    await journal.append(entries(range(100), "a", size=1000))
    disk.before["DELETE FROM uplink"] = [IO_ERRORS[0]]
    await drain(journal, "a")
    await until(lambda: not disk.before["DELETE FROM uplink"])
    await until(lambda: not journal.health().problem)
    await until(lambda: journal.health().size < 100_000)
    assert journal.counts()["a"] == Counts(routed=100, delivered=100)


@pytest.mark.parametrize("error", IO_ERRORS, ids=str)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_failed_and_is_sent_again_is_stored_once(
    journal: SqliteJournal, disk: Disk, error: Exception, when: str
) -> None:
    """After the commit: SQLite finds the uplink again, and its fingerprint, and both are undone."""
    await journal.append(marked([1], "a"))
    getattr(disk, when)[WORK] = [error]
    with pytest.raises(JournalFailed):
        await journal.append(marked([1, 2, 3], "a"))
    assert await journal.append(marked([1], "a")) == [0]
    assert await journal.append(marked([3, 2, 1], "a")) == [2]
    assert await journal.append(marked([1, 2, 3], "a")) == [0, 1, 2]
    assert await drain(journal, "a") == [1, 3, 2]
    assert journal.counts() == {"a": Counts(routed=3, delivered=3)}


async def test_a_copy_in_the_transaction_that_fails_fails_with_its_original(journal: SqliteJournal, disk: Disk) -> None:
    disk.before[WORK] = [IO_ERRORS[0]] * 100
    answers = await asyncio.gather(*[journal.append(marked([7], "a")) for _ in range(5)], return_exceptions=True)
    assert all(isinstance(answer, JournalFailed) for answer in answers)
    disk.before.clear()
    assert await journal.append(marked([7, 7], "a")) == [1]
    assert await drain(journal, "a") == [7]


async def test_fingerprints_are_found_again_after_the_file_was_opened_again(journal: SqliteJournal, disk: Disk) -> None:
    for number in range(50):
        await journal.append(marked([number, 100 + number], "a"))
    disk.before[WORK] = [IO_ERRORS[1]]
    with pytest.raises(JournalFailed):
        await journal.append(marked([1000], "a"))
    copies = marked([*range(50), *range(100, 150)], "a")
    assert await journal.append(copies) == list(range(100))
    assert journal.counts()["a"] == Counts(routed=100)


async def test_a_copy_of_what_cannot_be_stored_is_no_duplicate(journal: SqliteJournal) -> None:
    (good,) = marked([1], "a")
    bad = replace(good, uplink=replace(good.uplink, source="\ud800"))
    answers = await asyncio.gather(*[journal.append([one]) for one in (bad, good, good)], return_exceptions=True)
    assert isinstance(answers[0], JournalFailed)
    assert answers[1:] == [[], [0]]
    assert await drain(journal, "a") == [1]


async def test_a_journal_of_version_1_is_taken_over_with_all_that_is_in_it(tmp_path: Path) -> None:
    options = {"max_size": MIB, "when_full": "block", "clock": FixedClock()}
    db = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    db.executescript(VERSION_1)
    db.close()
    for _ in range(2):
        journal = await SqliteJournal.open(tmp_path, **options)
        assert journal.counts() == {"a": Counts(routed=3, delivered=1), "b": Counts(routed=1, parked=1)}
        assert [(one.seq, one.uplink.body) for one in await journal.read("a", 0, 10)] == [(2, b"{2}"), (3, b"{3}")]
        await journal.close()
    journal = await SqliteJournal.open(tmp_path, **options)
    assert await journal.append(marked([4, 4], "a")) == [1]
    assert await drain(journal, "a") == [2, 3, 4]
    await journal.close()
    db = sqlite3.connect(tmp_path / "journal.db")
    assert db.execute("PRAGMA user_version").fetchone() == (3,)
    assert db.execute("SELECT seq, at, length(fingerprints) FROM seen").fetchall() == [(4, FixedClock().now(), 8)]
    db.close()


async def test_a_journal_of_version_1_on_a_disk_that_fails_stays_one(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    db = sqlite3.connect(file, isolation_level=None)
    db.executescript(VERSION_1)
    db.close()

    def connect(path: Path) -> sqlite3.Connection:
        db = schema.connect(path)
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
        return db

    with pytest.raises(StartError, match="full"):
        await SqliteJournal.open(tmp_path, max_size=MIB, when_full="block", clock=FixedClock(), connect=connect)
    db = sqlite3.connect(file)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'seen'").fetchone() == (0,)
    db.close()
    journal = await SqliteJournal.open(tmp_path, max_size=MIB, when_full="block", clock=FixedClock())
    assert fcnts(await journal.read("a", 0, 10)) == [2, 3]
    await journal.close()


async def test_a_database_that_may_not_grow_refuses_and_recovers(journal: SqliteJournal, disk: Disk) -> None:
    """SQLite's own page limit gives a genuine SQLITE_FULL from inside a transaction."""
    disk.on_connect = lambda db: db.execute("PRAGMA max_page_count = 60")
    disk.before[WORK] = [IO_ERRORS[0]]
    with pytest.raises(JournalFailed):
        await journal.append(entries([0], "a"))
    stored = []
    with pytest.raises(JournalFailed, match="full"):  # noqa: PT012 - which of them is refused is open
        for number in range(1000):
            await journal.append(entries([number], "a", size=1000))
            stored.append(number)
    assert 10 < len(stored) < 300
    assert await drain(journal, "a") == stored
    await until(lambda: not journal.health().problem)
    await journal.append(entries([7], "a", size=1000))
    assert await drain(journal, "a") == [7]


async def test_writes_that_the_kernel_refuses_fail_and_recover(journal: SqliteJournal) -> None:
    """A file size limit of the process: write(2) itself fails, with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    stored = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    try:
        with pytest.raises(JournalFailed):  # noqa: PT012 - which of them is refused is open
            for number in range(1000):
                await journal.append(entries([number], "a", size=5000))
                stored.append(number)
        assert journal.health().problem
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await until(lambda: not journal.health().problem)
    await journal.append(entries([5000], "a"))
    assert await drain(journal, "a") == [*stored, 5000]
    assert journal.counts()["a"] == Counts(routed=len(stored) + 1, delivered=len(stored) + 1)


async def test_a_second_daemon_is_refused_by_name(journal: SqliteJournal, tmp_path: Path) -> None:
    import os

    with pytest.raises(JournalInUse) as caught:
        await SqliteJournal.open(tmp_path, max_size=MIB, when_full="block", clock=FixedClock())
    assert f"pid {os.getpid()}" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    await journal.append(entries([1], "a"))


async def refused(directory: Path) -> str:
    """Give the sentence with which a start is refused, twice: the lock must be free again after the first."""
    for _ in range(2):
        with pytest.raises(StartError) as caught:
            await SqliteJournal.open(directory, max_size=MIB, when_full="block", clock=FixedClock())
        assert not isinstance(caught.value, JournalInUse)
    return str(caught.value)


async def test_files_that_are_no_journal_are_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    file.write_bytes(b"this is no database at all" * 100)
    assert "move it away" in await refused(tmp_path)
    assert file.read_bytes() == b"this is no database at all" * 100
    file.unlink()
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE recipes(name)")
    db.close()
    assert "not a journal" in await refused(tmp_path)


async def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path, max_size=MIB, when_full="block", clock=FixedClock())
    await journal.close()
    db = sqlite3.connect(tmp_path / "journal.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    assert "newer mqttbridge" in await refused(tmp_path)


async def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path, max_size=MIB, when_full="block", clock=FixedClock())
    await journal.append(entries(range(100), "a", size=1000))
    await journal.close()
    file = tmp_path / "journal.db"
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    assert "damaged" in await refused(tmp_path)


async def test_a_directory_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "stateDirectory" in await refused(tmp_path / "file")
    assert "stateDirectory" in await refused(tmp_path / "file" / "below")


async def test_the_directory_is_private(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path / "a" / "b", max_size=MIB, when_full="block", clock=FixedClock())
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    await journal.append(entries([1], "a"))
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "a" / "b").iterdir()} == {0o600}
    await journal.close()
    shutil.rmtree(tmp_path / "a")


def test_an_old_sqlite_is_refused() -> None:
    with pytest.raises(StartError, match=r"3\.37\.2.*3\.38\.0"):
        schema.check_library((3, 37, 2))


async def test_what_cannot_be_stored_fails_alone(journal: SqliteJournal) -> None:
    async with asyncio.TaskGroup() as tasks:
        good = [tasks.create_task(journal.append(entries([number], "a"))) for number in range(5)]
        bad = [
            tasks.create_task(failure(journal, [Entry(uplink(2**70), ("a",))])),
            tasks.create_task(failure(journal, [Entry(replace(uplink(1), source="\ud800"), ("a",))])),
        ]
        good += [tasks.create_task(journal.append(entries([number], "a"))) for number in range(5, 10)]
    assert all(task.done() for task in good)
    assert all(isinstance(task.result(), JournalFailed) for task in bad)
    await until(lambda: not journal.health().problem)
    assert await drain(journal, "a") == list(range(10))


async def failure(journal: SqliteJournal, batch: list[Entry]) -> Exception:
    """Append what cannot be appended; give the error."""
    with pytest.raises(JournalFailed) as caught:
        await journal.append(batch)
    return caught.value


async def test_a_disk_that_fails_at_the_end_loses_nothing(tmp_path: Path, disk: Disk) -> None:
    options = {"max_size": 64 * MIB, "when_full": "block", "clock": FixedClock(), "connect": disk.connect}
    journal = await SqliteJournal.open(tmp_path, **options)
    await journal.append(entries(range(10), "a"))
    await journal.settle("a", delivered(await journal.read("a", 0, 5)))
    disk.before["DELETE FROM uplink"] = [IO_ERRORS[0]] * 100
    await journal.close()
    disk.before.clear()
    journal = await SqliteJournal.open(tmp_path, **options)
    assert await drain(journal, "a") == list(range(5, 10))
    await journal.close()


async def test_it_can_be_closed_while_the_disk_fails(journal: SqliteJournal, disk: Disk) -> None:
    disk.broken = True
    disk.before[WORK] = [IO_ERRORS[0]]
    with pytest.raises(JournalFailed):
        await journal.append(entries([1], "a"))
    await asyncio.wait_for(journal.close(), 5)


async def test_rows_that_make_no_sense_are_told_in_a_sentence_at_the_start(tmp_path: Path) -> None:
    options = {"max_size": 64 * MIB, "when_full": "block", "clock": FixedClock()}
    journal = await SqliteJournal.open(tmp_path, **options)
    await journal.append(entries([1], "a"))
    await journal.close()
    db = sqlite3.connect(tmp_path / "journal.db")
    with db:
        db.execute("UPDATE route SET members = '[99]'")
    db.close()
    with pytest.raises(StartError) as caught:
        await SqliteJournal.open(tmp_path, **options)
    assert "move it away" in str(caught.value)
