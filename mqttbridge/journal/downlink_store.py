"""The file `downlinks.db`: its tables and statements, on one SQLite connection. Called by the writer thread only.

    downlink  one row per message that came as a downlink; `seq` is the order of acceptance and never comes twice.
              `state`: 0 pending, 1 its receipt waits, 2 done. What is done is kept for a while without its content.
    device    where a device is; `id` is the order in which devices were learnt, the highest last

Rows travel as one JSON parameter a statement: Python lets go of the GIL at each step of a statement, and getting it
back from a busy loop can take 5 ms. Structs are stored as JSON texts, so that no text of theirs has a NUL in it, where
SQLite would cut. Errors are sqlite3's own; the writer translates them.

What happens between `begin` and `commit` is one transaction; `rollback` forgets it, the numbers in memory too.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import msgspec

from mqttbridge.errors import StartError
from mqttbridge.journal.downlink_protocol import PendingDownlink, Receipt, ReceiptBody, Sender
from mqttbridge.journal.schema import prepare
from mqttbridge.model import Device, Downlink

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mqttbridge.journal.downlink_protocol import AcceptedDownlink, ConcludedDownlink
    from mqttbridge.journal.schema import Connect

    Numbers = dict[str, tuple[int, int]]
    """By connection: how many are pending, and how many receipts wait. Or by how much that changed."""

__all__ = ["DownlinkStore"]

T = TypeVar("T")
PendingRow = tuple[int, str, str, int, str, str]

APPLICATION = 0x6D71646C
"""`application_id` of the file: "mqdl"."""
VERSION = 1
BUSY_TIMEOUT = 2000
"""Milliseconds to wait for another process (a backup, a curious operator) that locks the file."""
USUAL_SIZE = 64 * 1024 * 1024
"""Bytes; decides on the size of the WAL."""
REMEMBERED_MS = 7 * 24 * 3600 * 1000
REMEMBERED_ROWS = 100_000
"""What is done, and receipts that nobody publishes, go after this long; what is done, beyond this many."""
RECENT_MS = 24 * 3600 * 1000
"""How long a broker's repetition is taken for one."""
DEVICES = 1_000_000
TIDY_ROWS = 1024

PENDING, WAITS, DONE = 0, 1, 2

TABLES = """
CREATE TABLE downlink(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, connection TEXT NOT NULL, key TEXT NOT NULL, mid INTEGER NOT NULL,
    digest TEXT NOT NULL, received INTEGER NOT NULL, source TEXT NOT NULL, dev_eui TEXT,
    correlation_id TEXT COLLATE NOCASE, reference TEXT, state INTEGER NOT NULL, ended INTEGER, content TEXT,
    receipt TEXT) STRICT;
CREATE INDEX downlink_pending ON downlink(source, seq) WHERE state = 0;
CREATE INDEX downlink_receipt ON downlink(connection, seq) WHERE state = 1;
CREATE INDEX downlink_message ON downlink(connection, mid);
CREATE INDEX downlink_sender ON downlink(dev_eui, correlation_id) WHERE dev_eui IS NOT NULL;
CREATE INDEX downlink_reference ON downlink(dev_eui, reference) WHERE reference IS NOT NULL;
CREATE INDEX downlink_done ON downlink(connection, ended) WHERE state = 2;
CREATE INDEX downlink_ended ON downlink(ended) WHERE ended IS NOT NULL;
CREATE TABLE device(id INTEGER PRIMARY KEY AUTOINCREMENT, dev_eui TEXT NOT NULL UNIQUE, content TEXT NOT NULL) STRICT;
"""
ACCEPT = """
INSERT INTO downlink(seq, connection, key, mid, digest, received, source, dev_eui, correlation_id, state, ended,
                     content, receipt)
SELECT ? + key, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
       value ->> 8, value ->> 9, value ->> 10, value ->> 11
FROM json_each(?)
"""
COUNT_ENDS = """
SELECT connection, count(*), count(value ->> 1) FROM json_each(?) CROSS JOIN downlink ON seq = value ->> 0
WHERE state = 0 GROUP BY connection
"""
CONCLUDE = """
UPDATE downlink SET state = iif(value ->> 1 IS NULL, 2, 1), ended = ?, content = NULL, receipt = value ->> 1,
       reference = value ->> 2
FROM json_each(?) WHERE downlink.seq = value ->> 0 AND state = 0
"""
COUNT_RECEIPTED = """
SELECT connection, count(*) FROM downlink WHERE seq IN (SELECT value FROM json_each(?)) AND state = 1
GROUP BY connection
"""
RECEIPTED = """
UPDATE downlink SET state = 2, receipt = NULL WHERE seq IN (SELECT value FROM json_each(?)) AND state = 1
"""
PENDING_OF = """
SELECT json_group_array(json_array(seq, connection, key, received, source, content)) FROM (
    SELECT * FROM downlink WHERE source = ? AND state = 0 AND seq > ? ORDER BY seq LIMIT ?)
"""
PENDING_FOR = """
SELECT json_group_array(json_array(seq, connection, key, received, source, content)) FROM (
    SELECT * FROM downlink INDEXED BY downlink_sender WHERE dev_eui = ? AND state = 0 ORDER BY seq LIMIT ?)
"""
RECEIPTS_OF = """
SELECT json_group_array(json_array(seq, receipt)) FROM (
    SELECT seq, receipt FROM downlink WHERE connection = ? AND state = 1 AND seq > ? ORDER BY seq LIMIT ?)
"""
FORMER_KEY = """
SELECT key FROM (SELECT key, digest, received FROM downlink WHERE connection = ? AND mid = ? ORDER BY seq DESC LIMIT 1)
WHERE digest = ? AND received > ?
"""
SENDER = """
SELECT connection, correlation_id FROM downlink WHERE dev_eui = ? AND correlation_id = ? ORDER BY seq DESC LIMIT 1
"""
SENDER_BY_REFERENCE = """
SELECT connection, correlation_id FROM downlink
WHERE dev_eui = ? AND reference = ? AND reference IS NOT NULL ORDER BY seq DESC LIMIT 1
"""
OLD = """
SELECT json_group_array(json_array(seq, connection, state)) FROM (
    SELECT seq, connection, state FROM downlink WHERE ended < ? ORDER BY ended LIMIT ?)
"""
TOO_MANY = """
SELECT json_group_array(json_array(seq, connection, state)) FROM (
    SELECT seq, connection, state FROM downlink WHERE connection = ? AND state = 2 ORDER BY ended LIMIT ?)
"""
COUNT_NEW = """
SELECT count(*) FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM device WHERE dev_eui = value ->> 0)
"""
LEARN = "INSERT OR REPLACE INTO device(dev_eui, content) SELECT value ->> 0, value ->> 1 FROM json_each(?)"

DROP_DEVICES = "DELETE FROM device WHERE id IN (SELECT id FROM device ORDER BY id LIMIT ?)"
SOURCES = "SELECT DISTINCT source FROM downlink WHERE state = 0"
DEVICES_AFTER = """
SELECT json_group_array(json_array(id, content)) FROM (
    SELECT id, content FROM device WHERE dev_eui > ? ORDER BY dev_eui LIMIT ?)
"""


class Content(msgspec.Struct, array_like=True, frozen=True):
    """What is stored of a downlink until it is concluded."""

    downlink: Downlink
    way: str
    correlation: bytes
    warnings: tuple[str, ...] = ()


class DownlinkStore:
    """One open file. `last`: the highest seq ever given, in the open transaction too."""

    def __init__(self, path: Path, connect: Connect) -> None:
        """Open or create the file. Raises `StartError` if it is not ours, sqlite3.Error, OSError."""
        if not path.exists():
            path.touch(mode=0o600)
        self.last = 0
        self._done: Counter[str] = Counter()
        self._devices = 0
        self._changes: Numbers = {}
        self._before = (0, self._done, 0)
        self._db = connect(path)
        try:
            prepare(self._db, USUAL_SIZE)
            self._db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
            _create(self._db, path)
        except BaseException:
            self._db.close()
            raise

    def load(self) -> Numbers:
        """Count everything anew."""
        numbers: Numbers = {}
        self._done = Counter()
        for name, state, count in self._db.execute(
            "SELECT connection, state, count(*) FROM downlink GROUP BY connection, state"
        ).fetchall():
            pending, waits = numbers.get(name, (0, 0))
            if state == DONE:
                self._done[name] += count
            else:
                numbers[name] = (pending + count, waits) if state == PENDING else (pending, waits + count)
        (self._devices,) = self._db.execute("SELECT count(*) FROM device").fetchone()
        rows = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'downlink'").fetchall()
        self.last = max([self.last, *(seq for (seq,) in rows)])
        return numbers

    def close(self) -> None:
        """Write the WAL back, if that is possible, and close."""
        self._db.close()

    # Transactions.

    def begin(self) -> None:
        """Begin to write."""
        self._changes = {}
        self._before = (self.last, self._done.copy(), self._devices)
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> Numbers:
        """Make it durable; give what it changed."""
        self._db.execute("COMMIT")
        return {name: change for name, change in self._changes.items() if change != (0, 0)}

    def rollback(self) -> None:
        """Forget the transaction that failed, if it still is open."""
        self.last, self._done, self._devices = self._before
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def probe(self) -> None:
        """Write and sync something that changes nothing."""
        self.begin()
        self._db.execute(f"PRAGMA user_version = {VERSION}")
        self.commit()

    def undo(self, last: int) -> None:
        """Delete what was accepted beyond the last known commit: its senders were told that nothing was stored."""
        (newest,) = self._db.execute("SELECT coalesce(max(seq), 0) FROM downlink").fetchone()
        if newest > last:
            self.begin()
            self._db.execute("DELETE FROM downlink WHERE seq > ?", (last,))
            self.commit()
        self.last = max(self.last, last)

    def sync(self, *, strict: bool) -> None:
        """Write all that SQLite believes to be committed into the file, and sync that. Raises sqlite3.Error."""
        busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy and strict:
            raise sqlite3.OperationalError("another process reads the file, so it cannot be synced anew")

    # Writing.

    def accept(self, downlinks: Sequence[AcceptedDownlink], now: int) -> None:
        """Store these, in this order."""
        rows = []
        for one in downlinks:
            content = correlation_id = dev_eui = None
            state = PENDING
            if one.downlink is not None:
                content = _text(Content(one.downlink, one.way, one.correlation, one.warnings))
                dev_eui, correlation_id = one.downlink.dev_eui, one.downlink.correlation_id or one.key
            else:
                state = DONE if one.receipt is None else WAITS
            ended = None if state == PENDING else now
            receipt = None if one.receipt is None else _text(one.receipt)
            row = (one.connection, one.key, one.mid, one.digest.hex(), one.received, one.source, dev_eui)
            rows.append((*row, correlation_id, state, ended, content, receipt))
            self._count(one.connection, state == PENDING, state == WAITS)
            self._done[one.connection] += state == DONE
        self._db.execute(ACCEPT, (self.last + 1, _text(rows)))
        self.last += len(rows)

    def conclude(self, ends: Sequence[ConcludedDownlink], now: int) -> None:
        """End these, if they still are pending."""
        first: dict[int, tuple[int, str | None, str | None]] = {}
        for one in ends:
            receipt = None if one.receipt is None else _text(one.receipt)
            first.setdefault(one.seq, (one.seq, receipt, one.reference or None))
        rows = _text(list(first.values()))
        for name, count, receipts in self._db.execute(COUNT_ENDS, (rows,)).fetchall():
            self._count(name, -count, receipts)
            self._done[name] += count - receipts
        self._db.execute(CONCLUDE, (now, rows))

    def receipted(self, seqs: Sequence[int]) -> None:
        """Let go of these receipts."""
        rows = _text(seqs)
        for name, count in self._db.execute(COUNT_RECEIPTED, (rows,)).fetchall():
            self._count(name, 0, -count)
            self._done[name] += count
        self._db.execute(RECEIPTED, (rows,))

    def learn(self, devices: Sequence[Device]) -> None:
        """Store where devices are, each named once; those not learnt for longest go if there are too many."""
        rows = _text([(one.dev_eui, _text(one)) for one in devices])
        self._devices += self._db.execute(COUNT_NEW, (rows,)).fetchone()[0]
        self._db.execute(LEARN, (rows,))
        if self._devices > DEVICES:
            self._devices -= self._db.execute(DROP_DEVICES, (self._devices - DEVICES,)).rowcount

    def tidy(self, now: int) -> bool:
        """Delete some of what need not be remembered; tell whether there may be more.

        That is what was concluded more than 7 days ago, even if its receipt still waits: its connection is gone, or
        was inactive all the time. What is pending stays for ever.
        """
        limits: list[tuple[str, tuple[object, ...]]] = [(OLD, (now - REMEMBERED_MS, TIDY_ROWS))]
        if (excess := self._done.total() - REMEMBERED_ROWS) > 0:
            # Of the connection that has most: one that sends without end must not make us forget what others sent.
            largest = max(self._done, key=self._done.__getitem__)
            limits.append((TOO_MANY, (largest, min(excess, TIDY_ROWS))))
        for query, arguments in limits:
            rows = self._list(query, arguments, list[tuple[int, str, int]])
            for _, name, state in rows:
                self._count(name, 0, -(state == WAITS))
                self._done[name] -= state == DONE
            seqs = _text([seq for seq, _, _ in rows])
            self._db.execute("DELETE FROM downlink WHERE seq IN (SELECT value FROM json_each(?))", (seqs,))
            if len(rows) == TIDY_ROWS:
                return True
        return False

    # Reading.

    def pending(self, source: str, after: int, limit: int) -> list[PendingDownlink]:
        """Give pending downlinks of a source, oldest first."""
        return self._pending(PENDING_OF, (source, after, limit))

    def pending_of(self, dev_eui: str, limit: int) -> list[PendingDownlink]:
        """Give pending downlinks of a device, oldest first."""
        return self._pending(PENDING_FOR, (dev_eui, limit))

    def _pending(self, query: str, arguments: tuple[object, ...]) -> list[PendingDownlink]:
        found = []
        for seq, connection, key, received, source, text in self._list(query, arguments, list[PendingRow]):
            content = _decode(text, Content, seq)
            parts = (content.way, content.downlink, content.correlation, content.warnings)
            found.append(PendingDownlink(seq, connection, key, received, source, *parts))
        return found

    def sources(self) -> list[str]:
        """Give the sources of what is pending."""
        return [name for (name,) in self._db.execute(SOURCES).fetchall()]

    def receipts(self, connection: str, after: int, limit: int) -> list[Receipt]:
        """Give receipts that wait, in the order of their downlinks."""
        rows = self._list(RECEIPTS_OF, (connection, after, limit), list[tuple[int, str]])
        return [Receipt(seq, _decode(text, ReceiptBody, seq)) for seq, text in rows]

    def former_key(self, connection: str, mid: int, digest: bytes, now: int) -> str | None:
        """Give the key of the newest message with this mid, if it is such a one, of the last 24 hours."""
        row = self._db.execute(FORMER_KEY, (connection, mid, digest.hex(), now - RECENT_MS)).fetchone()
        return row[0] if row else None

    def sender(self, dev_eui: str, name: str) -> Sender | None:
        """Give whose the newest such downlink was; the case of hex digits means nothing."""
        for query in (SENDER, SENDER_BY_REFERENCE):
            if row := self._db.execute(query, (dev_eui, name)).fetchone():
                return Sender(*row)
        return None

    def device(self, dev_eui: str) -> Device | None:
        """Give what was stored of a device."""
        row = self._db.execute("SELECT id, content FROM device WHERE dev_eui = ?", (dev_eui,)).fetchone()
        return _decode(row[1], Device, row[0]) if row else None

    def devices(self, after: str, limit: int) -> list[Device]:
        """Give stored devices beyond this DevEUI, by DevEUI."""
        rows = self._list(DEVICES_AFTER, (after, limit), list[tuple[int, str]])
        return [_decode(text, Device, row) for row, text in rows]

    def _list(self, query: str, arguments: tuple[object, ...], shape: type[T]) -> T:
        """Run a query that gives all its rows as one JSON array."""
        return msgspec.json.decode(self._db.execute(query, arguments).fetchone()[0], type=shape)

    def _count(self, connection: str, pending: int, receipts: int) -> None:
        before = self._changes.get(connection, (0, 0))
        self._changes[connection] = (before[0] + pending, before[1] + receipts)


def _create(db: sqlite3.Connection, path: Path) -> None:
    """Create the tables in a new file, or make sure that the file is ours. Raises `StartError`."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application == APPLICATION and version == VERSION:
        db.execute("PRAGMA journal_mode = WAL")
        return
    if application == APPLICATION and version:
        raise StartError(
            f"{path} was written by a newer mqttbridge (format {version}, this one knows {VERSION}): "
            "run that version again, or move the file away to start without the downlinks that wait in it."
        )
    if tables or version or application:
        raise StartError(
            f"{path} is a SQLite database but no queue of downlinks: move it away, or set another stateDirectory."
        )
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(f"BEGIN; {TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;")


def _decode(text: str, shape: type[T], row: int) -> T:
    try:
        return msgspec.json.decode(text, type=shape)
    except msgspec.MsgspecError as error:
        raise sqlite3.DatabaseError(
            f"row {row} makes no sense ({error}); move the file away if it is damaged"
        ) from error


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
