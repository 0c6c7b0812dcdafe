"""The tables of the history, and how its file is opened. Called by the history's threads only.

uplinks     blocks of uplinks (see `blocks`); `id` is that of its first record, the others follow
ends        blocks of ends of uplinks
event       what was logged; `fields` is JSON, and what is asked for stands beside it
connection  names, for the numbers in `ends` and `route`
route       sets of connections (their numbers, as a JSON array), for the numbers in `uplinks`
state       one row: how many transactions there were, and the next id of an uplink and of an event
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from mqttbridge.history.blocks import BlockDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Connect = Callable[[Path], sqlite3.Connection]
    """Opens a database file: the seam to the disk."""

__all__ = ["KEPT_EVENTS", "PAGE", "NotOursError", "connect", "damaged", "move_aside", "open_writing", "touch"]

APPLICATION = 0x6D716268
"""`application_id` of the file: "mqbh"."""
VERSION = 1
PAGE = 4096
CACHE_KIB = 512
WAL_PAGES = 256
BUSY_TIMEOUT = 2000
"""Milliseconds to wait for another process that locks the file."""
KEPT_EVENTS = 20_000

TABLES = """
CREATE TABLE uplinks(
    id INTEGER PRIMARY KEY, number INTEGER NOT NULL, size INTEGER NOT NULL, low INTEGER NOT NULL,
    high INTEGER NOT NULL, last INTEGER NOT NULL, routes TEXT NOT NULL, keys BLOB NOT NULL, data BLOB NOT NULL) STRICT;
CREATE TABLE ends(
    id INTEGER PRIMARY KEY, number INTEGER NOT NULL, size INTEGER NOT NULL, low INTEGER NOT NULL,
    high INTEGER NOT NULL, last INTEGER NOT NULL, routes TEXT NOT NULL, keys BLOB NOT NULL, data BLOB NOT NULL) STRICT;
CREATE INDEX ends_range ON ends(low, high);
CREATE TABLE event(
    id INTEGER PRIMARY KEY, at INTEGER NOT NULL, rank INTEGER NOT NULL, level TEXT NOT NULL, name TEXT NOT NULL,
    connection TEXT NOT NULL, source TEXT NOT NULL, device TEXT NOT NULL, fields TEXT NOT NULL) STRICT;
CREATE TABLE connection(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE route(id INTEGER PRIMARY KEY, members TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE state(batch INTEGER NOT NULL, uplink INTEGER NOT NULL, event INTEGER NOT NULL) STRICT;
INSERT INTO state VALUES (0, 1, 1);
"""
BLOCKS = """
    INSERT INTO {0}({1}number, size, low, high, last, routes, keys, data)
        SELECT {2}value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
               substr(NEW.blob, value ->> 7, value ->> 8), substr(NEW.blob, value ->> 9, value ->> 10)
        FROM json_each(NEW.{0});
"""
TRANSACTION = f"""
CREATE TEMP VIEW work AS SELECT NULL AS connections, NULL AS routes, NULL AS uplinks, NULL AS ends, NULL AS blob,
                                NULL AS events, NULL AS batch, NULL AS uplink, NULL AS event;
CREATE TEMP TRIGGER transact INSTEAD OF INSERT ON work BEGIN
    INSERT INTO connection(id, name) SELECT value ->> 0, value ->> 1 FROM json_each(NEW.connections);
    INSERT INTO route(id, members) SELECT value ->> 0, value -> 1 FROM json_each(NEW.routes);
    {BLOCKS.format("uplinks", "id, ", "value ->> 0, ")}
    {BLOCKS.format("ends", "", "")}
    INSERT INTO event(id, at, rank, level, name, connection, source, device, fields)
        SELECT NEW.event + key, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
               value ->> 6, value ->> 7
        FROM json_each(NEW.events);
    UPDATE state SET batch = NEW.batch, uplink = NEW.uplink, event = NEW.event + json_array_length(NEW.events);
    DELETE FROM event WHERE id < (SELECT event FROM state) - {KEPT_EVENTS};
END;
"""  # noqa: S608 - statements of ours
"""Everything that one transaction does, as the effect of one INSERT: one step, one release of the GIL."""


class NotOursError(Exception):
    """The file is no history that this program can go on with. `str()` of it says why."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a database file in autocommit mode. One thread at a time uses it."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def touch(path: Path) -> None:
    """Create the file and its directory, private, if need be. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)


def open_writing(path: Path, connect: Connect) -> sqlite3.Connection:
    """Open the file for writing; a new one gets its tables. Raises `NotOursError`, sqlite3.Error and OSError."""
    if path.exists() and not path.is_file():
        raise NotOursError("it is not a file")
    touch(path)
    db = connect(path)
    try:
        db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
        _create(db)
        # What the last moments before a power failure held may be missing, but the file stays whole.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA secure_delete = OFF")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        db.execute(f"PRAGMA journal_size_limit = {WAL_PAGES * PAGE}")
        db.executescript(TRANSACTION)
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.close()
        raise
    return db


def _create(db: sqlite3.Connection) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application == APPLICATION and version == VERSION:
        db.execute("PRAGMA journal_mode = WAL")
        return
    if application == APPLICATION and version > VERSION:
        raise NotOursError(f"it was written by a newer mqttbridge (format {version}, this one knows {VERSION})")
    if tables or version or application:
        raise NotOursError("it is a SQLite database, but not a history")
    db.execute(f"PRAGMA page_size = {PAGE}")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(
        f"BEGIN IMMEDIATE; {TABLES}PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
    )


def damaged(error: Exception) -> bool:
    """Tell whether this file will never do again, other than for a disk that is full or fails."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return isinstance(error, (NotOursError, BlockDamagedError))


def move_aside(path: Path, stamp: str) -> Path:
    """Give the file, and what SQLite keeps beside it, another name; give that of the file. Raises OSError."""
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    # First what belongs to it: a new file must never find the log of the old one.
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside
