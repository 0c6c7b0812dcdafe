"""Downlinks for the tests of their queue, and a disk that fails on order."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from mqttbridge.journal import downlink_store, downlink_writer, downlinks
from mqttbridge.journal.downlink_protocol import AcceptedDownlink, ConcludedDownlink, ReceiptBody
from mqttbridge.model import Device, Downlink

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

    from mqttbridge.journal.downlinks import SqliteDownlinks

NOW = 1_700_000_000_000
DAY = 24 * 3600 * 1000


def be_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten every wait."""
    monkeypatch.setattr(downlink_writer, "PROBE_EVERY", 0.02)
    monkeypatch.setattr(downlink_writer, "REST_AFTER", 0.02)
    monkeypatch.setattr(downlinks, "LEARN_AFTER", 0.01)
    monkeypatch.setattr(downlink_store, "BUSY_TIMEOUT", 50)


def query(directory: Path, sql: str) -> list[tuple[object, ...]]:
    """Ask or change the file from outside, as another process would."""
    with contextlib.closing(sqlite3.connect(directory / "downlinks.db")) as db, db:
        return db.execute(sql).fetchall()


class Clock:
    """A clock whose hands are turned by hand."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> int:
        return self.time

    def monotonic(self) -> float:
        return 0.0


def eui(number: int) -> str:
    return f"{number:016X}"


def downlink(number: int, **changes: object) -> AcceptedDownlink:
    """One valid downlink, told apart by its payload, its key and its mid."""
    values: dict[str, object] = {
        "connection": "a",
        "key": f"{number:016x}",
        "mid": number,
        "digest": number.to_bytes(16),
        "received": NOW,
        "source": "lrc",
        "way": 'app\x00"é"/😀',
        "downlink": Downlink(eui(number), 1, payload_hex=f"{number:08x}"),
        "correlation": b"\x00\xff",
    }
    return AcceptedDownlink(**(values | changes))


def rejected(number: int, body: bytes | None = b'{"outcome":"rejected"}', **changes: object) -> AcceptedDownlink:
    """One message that ended as it came; `body` None: without a receipt."""
    receipt = None if body is None else ReceiptBody("", body, b"c")
    values = {"source": "", "way": "", "downlink": None, "correlation": b"", "receipt": receipt}
    return downlink(number, **(values | changes))


def receipt(number: int, body: bytes = b"{}\x00\xff") -> ReceiptBody:
    return ReceiptBody(eui(number), body, b"\x00c")


def ends(seqs: Iterable[int], *, silent: bool = False) -> list[ConcludedDownlink]:
    return [ConcludedDownlink(seq, None if silent else receipt(seq)) for seq in seqs]


def device(number: int, source: str = "lrc", way: str = "") -> Device:
    return Device(eui(number), source, way, frozenset({"tag", "müll"}))


async def numbers(journal: SqliteDownlinks, source: str = "lrc") -> list[int]:
    """Give the numbers of what is pending, in order."""
    return [int(one.key, 16) for one in await journal.pending(source, 0, 100_000)]


async def seqs(journal: SqliteDownlinks, source: str = "lrc") -> list[int]:
    return [one.seq for one in await journal.pending(source, 0, 100_000)]


def disk_error(name: str, text: str = "disk I/O error") -> sqlite3.OperationalError:
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

    def connect(self, path: Path) -> sqlite3.Connection:
        self.connects += 1
        if self.broken:
            raise disk_error("SQLITE_IOERR")
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
                disk._fail(disk.before, sql)
                cursor = super().execute(sql, *args)
                disk._fail(disk.after, sql)
                return cursor

        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Connection)

    @staticmethod
    def _fail(planned: dict[str, list[Exception]], sql: str) -> None:
        for prefix, errors in planned.items():
            if errors and sql.strip().startswith(prefix):
                raise errors.pop(0)
