"""The history's writing statements on one SQLite connection. Called by the writer thread only.

What is stored all the time is one statement of one step, however much it is: Python's sqlite3 lets go of the GIL for
each step, and taking it back can cost a switch interval (5 ms) while the loop is busy. Errors are sqlite3's own.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from mqttbridge.history.blocks import END_LIMIT, FULL, UPLINK_LIMIT, Block, grade, join, prefix
from mqttbridge.history.schema import PAGE, NotOursError, open_writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mqttbridge.history.schema import Connect
    from mqttbridge.model import Connections

__all__ = ["Event", "Names", "Store"]

TRANSACT = "INSERT INTO work VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
PAGES = "SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count"
STATE = "SELECT batch, uplink, event FROM state"
OLDEST = "SELECT (SELECT last FROM uplinks ORDER BY id LIMIT 1), (SELECT last FROM ends ORDER BY id LIMIT 1)"
FORGET = """
DELETE FROM {0} WHERE id IN (SELECT id FROM (SELECT id, {2} AS moment FROM {0} ORDER BY id LIMIT {1}) WHERE moment < ?)
"""
DROP = "DELETE FROM {0} WHERE id IN (SELECT id FROM {0} ORDER BY id LIMIT {1})"
NEWEST = """
SELECT json_group_array(json_array(id, number, size)) FROM (SELECT id, number, size FROM {} ORDER BY id DESC LIMIT 64)
"""
FORGET_ROWS = 32
DROP_ROWS = 8
DROP_EVENTS = 256
FAN = 8
"""Blocks of one grade that are made one."""
MOST = 32
"""Blocks that are made one, whatever their grades."""
VACUUM_PAGES = 256
LIMITS = {"uplinks": UPLINK_LIMIT, "ends": END_LIMIT}

Event = tuple[int, int, str, str, str, str, str, str]
"""A row of the table: at, rank, level, name, connection, source, device, fields."""


class Names(NamedTuple):
    """The numbers that stand for connections and for sets of them, and those that the file does not have yet."""

    connections: dict[str, int]
    routes: dict[Connections, int]
    new_connections: list[tuple[int, str]]
    new_routes: list[tuple[int, list[int]]]

    def connection(self, name: str) -> int:
        """Give the number of a connection."""
        number = self.connections.get(name)
        if number is None:
            number = self.connections[name] = len(self.connections) + 1
            self.new_connections.append((number, name))
        return number

    def route(self, connections: Connections) -> int:
        """Give the number of a set of connections; 0 for none."""
        number = self.routes.get(connections)
        if number is None:
            number = self.routes[connections] = len(self.routes)
            self.new_routes.append((number, [self.connection(name) for name in connections]))
        return number


class Store:
    """One open file. `batch`: how many transactions it has had; `uplink`, `event`: the next ids."""

    def __init__(self, path: Path, connect: Connect) -> None:
        """Open or create the file. Raises `NotOursError`, sqlite3.Error and OSError."""
        self._db = open_writing(path, connect)
        try:
            self.batch, self.uplink, self.event = self._db.execute(STATE).fetchone()
            self.names = self._load_names()
            self.used = self.free = 0
            self.measure()
        except (KeyError, ValueError, TypeError) as error:
            self.close()
            raise NotOursError("its tables make no sense") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Write the WAL back, if that is possible, and close."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def measure(self) -> None:
        """Ask SQLite for the bytes of pages in use, and free."""
        pages, free = self._db.execute(PAGES).fetchone()
        self.used, self.free = (pages - free) * PAGE, free * PAGE

    def write(self, uplinks: Sequence[Block], ends: Sequence[Block], events: Sequence[Event]) -> None:
        """Store these in one transaction. The ids of the uplinks begin at `uplink`, those of the events at `event`."""
        parts: list[bytes] = []
        places = _Places(parts)
        number = self.uplink
        rows = []
        for block in uplinks:
            rows.append(places.row(number, block))
            number += block.number
        names = self.names
        values = (
            _json(names.new_connections),
            _json(names.new_routes),
            _json(rows),
            _json([places.row(0, block) for block in ends]),
            b"".join(parts) or b" ",  # an empty blob would be NULL to substr
            _json(events),
            self.batch + 1,
            number,
            self.event,
        )
        self._db.execute(TRANSACT, values)
        names.new_connections.clear()
        names.new_routes.clear()
        self.batch += 1
        self.uplink = number
        self.event += len(events)
        self.used += len(values[4]) + PAGE

    def probe(self) -> None:
        """Write something that changes nothing."""
        self._db.execute("UPDATE state SET batch = batch")

    def forget(self, before: int) -> bool:
        """Delete some of the blocks that hold nothing as late as this moment; tell whether there were any."""
        gone = sum(self._db.execute(FORGET.format(table, FORGET_ROWS, "last"), (before,)).rowcount for table in LIMITS)
        return gone > 0

    def forget_events(self, before: int) -> bool:
        """Delete some of the events before this moment; tell whether there were any."""
        return self._db.execute(FORGET.format("event", DROP_EVENTS, "at"), (before,)).rowcount > 0

    def drop_oldest(self) -> bool:
        """Delete some of the oldest blocks, or events if there are no blocks; tell whether there were any."""
        uplinks, ends = self._db.execute(OLDEST).fetchone()
        table, rows = "event", DROP_EVENTS
        if uplinks is not None or ends is not None:
            table = "ends" if uplinks is None or (ends is not None and ends < uplinks) else "uplinks"
            rows = DROP_ROWS
        gone = self._db.execute(DROP.format(table, rows)).rowcount
        self.measure()
        return gone > 0

    def vacuum(self) -> None:
        """Give some free pages back to the file system."""
        # executescript takes all the steps of this statement in one go.
        self._db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        self.measure()

    def merge(self) -> bool:
        """Make one block of several small ones, where many came slowly; tell whether there were any."""
        # Both, not the first alone.
        return sum([self._merge(table, limit) for table, limit in LIMITS.items()]) > 0

    def _merge(self, table: str, limit: int) -> bool:
        newest = _rows.decode(self._db.execute(NEWEST.format(table)).fetchone()[0])
        newest.sort(reverse=True)
        for bound in range(FULL):
            run = _run(newest, bound, limit, gaps=table == "ends")
            fitting = prefix([(number, size) for _, number, size in run], limit)
            equal = sum(grade(number, size, limit) == bound for _, number, size in run)
            if fitting > 1 and (equal >= FAN or len(run) >= MOST):
                self._replace(table, [ident for ident, _, _ in run[:fitting]])
                return True
        return False

    def _replace(self, table: str, idents: list[int]) -> None:
        select = f"SELECT * FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id"  # noqa: S608 - a table of ours
        rows = self._db.execute(select, (idents[0], idents[-1])).fetchall()
        joined = join([Block(*row[1:]) for row in rows])
        self._db.execute("BEGIN IMMEDIATE")
        try:
            delete = f"DELETE FROM {table} WHERE id BETWEEN ? AND ?"  # noqa: S608 - likewise
            self._db.execute(delete, (idents[0], idents[-1]))
            insert = f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - likewise
            self._db.execute(insert, (idents[0], *joined))
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def _load_names(self) -> Names:
        connections = dict(self._db.execute("SELECT name, id FROM connection").fetchall())
        names = {number: name for name, number in connections.items()}
        routes: dict[Connections, int] = {(): 0}
        for number, members in self._db.execute("SELECT id, members FROM route").fetchall():
            routes[tuple(names[one] for one in msgspec.json.decode(members, type=list[int]))] = number
        return Names(connections, routes, [], [])


def _run(newest: Sequence[tuple[int, int, int]], bound: int, limit: int, *, gaps: bool) -> list[tuple[int, int, int]]:
    """Give the newest blocks up to a grade, oldest first, but for those of lower grades that came last.

    Without `gaps` their ids follow each other: a gap is left where the clock jumped, and a block went.
    """
    run: list[tuple[int, int, int]] = []
    for ident, number, size in newest:
        if grade(number, size, limit) > bound or (run and not gaps and ident + number != run[-1][0]):
            break
        run.append((ident, number, size))
    last = next((place for place, one in enumerate(run) if grade(one[1], one[2], limit) == bound), 0)
    return run[last:][::-1]


class _Places:
    """Lays bytes one behind the other, and says where they are."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts
        self._end = 1

    def row(self, ident: int, block: Block) -> tuple[object, ...]:
        """Give what the transaction needs to know of a block: places count from 1."""
        return (ident, *block[:6], *self._place(block.keys), *self._place(block.data))

    def _place(self, part: bytes) -> tuple[int, int]:
        self._parts.append(part)
        start = self._end
        self._end += len(part)
        return start, len(part)


_rows = msgspec.json.Decoder(list[tuple[int, int, int]])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
