"""The tables of the journal, and how a database file is opened. Called by the writer and reader threads only.

    uplink      one row per uplink, body once; `seq` is the order of acceptance
    route       a set of connections (their ids, as a JSON array), how many uplinks it got, its last seq
    connection  its cursor (everything up to it is settled) and how those ended
    parked      what no broker will take as it is; its uplink is kept. `number`: the n-th that ever was parked
    seen        the fingerprints of what was stored lately: one row a transaction, with its last seq and its moment

Queued for a connection: the rows of its routes with `seq > cursor`. Routed to it: the sum of `appended` over its
routes. So an append writes one row, whatever the number of connections. Routes and connections are never deleted:
the highest `last` is the highest seq ever given, and the sum of `connection.parked` the highest number of a parked one.
Their names are told apart in memory: an index for each would take the pages that the smallest journal does not have.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from mqttbridge.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Connect = Callable[[Path], sqlite3.Connection]
    """Opens a database file: the seam to the disk."""

__all__ = [
    "BUSY_TIMEOUT",
    "EMPTY_PAGES",
    "PAGE",
    "VERSION",
    "check_library",
    "connect",
    "create",
    "prepare",
    "wal_pages",
]

APPLICATION = 0x6D716272
"""`application_id` of the file: "mqbr"."""
VERSION = 3
"""`user_version` of the file. 1 had no table `seen`, 1 and 2 had no numbers of parked uplinks."""
OLDEST_SQLITE = (3, 38, 0)
PAGE = 4096
EMPTY_PAGES = 10
"""Pages of a file that holds nothing yet."""
CACHE_KIB = 2048
BUSY_TIMEOUT = 5000
"""Milliseconds to wait for another process (a backup, a curious operator) that locks the file."""
WAL_PAGES = 4096
"""The WAL is written back once it has this many pages (16 MiB), or an eighth of the journal's size if that is less."""
FEWEST_WAL_PAGES = 16

TABLE_UPLINK = """
CREATE TABLE uplink(
    seq INTEGER PRIMARY KEY, route INTEGER NOT NULL, received INTEGER NOT NULL, time INTEGER NOT NULL,
    source TEXT NOT NULL, kind TEXT NOT NULL, dev_eui TEXT NOT NULL, fcnt INTEGER, body BLOB NOT NULL) STRICT;
CREATE INDEX uplink_route ON uplink(route, seq);
"""
TABLES = """
CREATE TABLE route(
    id INTEGER PRIMARY KEY, members TEXT NOT NULL, appended INTEGER NOT NULL DEFAULT 0,
    last INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE connection(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, cursor INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0, expired INTEGER NOT NULL DEFAULT 0, parked INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE parked(
    number INTEGER PRIMARY KEY, seq INTEGER NOT NULL, connection INTEGER NOT NULL, at INTEGER NOT NULL,
    reason TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX parked_seq ON parked(seq, connection);
CREATE INDEX parked_connection ON parked(connection);
"""
TABLE_SEEN = """
CREATE TABLE seen(seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, fingerprints BLOB NOT NULL) STRICT;
"""
FROM_2 = f"""
ALTER TABLE parked RENAME TO old_parked;
ALTER TABLE route RENAME TO old_route;
ALTER TABLE connection RENAME TO old_connection;
{TABLES}
INSERT INTO route(id, members, appended, last) SELECT id, members, appended, last FROM old_route;
INSERT INTO connection(id, name, cursor, delivered, expired, parked, dropped)
    SELECT id, name, cursor, delivered, expired, parked, dropped FROM old_connection;
INSERT INTO parked(seq, connection, at, reason)
    SELECT seq, connection, at, reason FROM old_parked ORDER BY seq, connection;
DROP TABLE old_parked;
DROP TABLE old_route;
DROP TABLE old_connection;
"""  # noqa: S608 - statements of ours
"""Makes the tables of version 2 those of version 3."""


def check_library(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Refuse a SQLite that lacks what the journal's statements use. Raises `StartError`."""
    if version < OLDEST_SQLITE:
        have, need = (".".join(map(str, numbers)) for numbers in (version, OLDEST_SQLITE))
        raise StartError(f"Python's SQLite is {have}; the journal needs {need} or later: use a newer Python or system.")


def connect(path: Path) -> sqlite3.Connection:
    """Open a database file in autocommit mode. Whoever shares it between threads takes turns."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def wal_pages(max_size: int) -> int:
    """Give the number of pages after which the WAL is written back."""
    return max(FEWEST_WAL_PAGES, min(WAL_PAGES, max_size // 8 // PAGE))


def prepare(db: sqlite3.Connection, max_size: int) -> None:
    """Set what holds for this connection only: durability, and bounds for memory and WAL."""
    pages = wal_pages(max_size)
    db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute(f"PRAGMA wal_autocheckpoint = {pages}")
    db.execute(f"PRAGMA journal_size_limit = {pages * PAGE}")


def create(db: sqlite3.Connection, path: Path) -> None:
    """Create the tables in a new file, or make sure that the file is a journal of ours, of this version or an older.

    Raises `StartError`.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application == APPLICATION and version == VERSION:
        db.execute("PRAGMA journal_mode = WAL")
        return
    if application == APPLICATION and version in {1, 2}:
        db.execute("PRAGMA journal_mode = WAL")
        seen = TABLE_SEEN if version == 1 else ""
        db.executescript(f"BEGIN IMMEDIATE; {seen} {FROM_2} PRAGMA user_version = {VERSION}; COMMIT;")
        return
    if application == APPLICATION and version != 0:
        raise StartError(
            f"{path} was written by a newer mqttbridge (format {version}, this one knows {VERSION}): "
            "run that version again, or move the file away to start with an empty journal."
        )
    if tables or version or application:
        raise StartError(f"{path} is a SQLite database but not a journal: move it away, or set another stateDirectory.")
    db.execute(f"PRAGMA page_size = {PAGE}")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(
        f"BEGIN; {TABLE_UPLINK} {TABLES} {TABLE_SEEN} "
        f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
    )
