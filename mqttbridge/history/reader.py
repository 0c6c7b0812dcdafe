"""What is looked up in the history: each question on a connection of its own, in the history's reading thread.

First the blocks that may hold an answer are found by one statement of one step (see `store`), over keys that stand
there unpacked; then these blocks alone are unpacked, one by one, until there is enough. So a question takes
milliseconds among a million uplinks, and the memory of a few blocks. Errors are sqlite3's own, and ValueError.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

from mqttbridge.history.blocks import KEY, UPLINK_LIMIT, device_key, places, seqs_of, unpack_ends, unpack_uplinks
from mqttbridge.history.records import Ended, KeptEvent, Passed
from mqttbridge.history.schema import BUSY_TIMEOUT
from mqttbridge.model import DocumentKind, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from mqttbridge.history.blocks import Record
    from mqttbridge.history.schema import Connect
    from mqttbridge.model import Connections

__all__ = ["RANKS", "EventFilter", "Reader"]

READ_BYTES = 8 * 1024 * 1024
"""Of bodies in one answer, about; one uplink at least."""
CACHE_KIB = 256
PORTION = 64
"""Blocks that are looked for at once."""
RANKS = {"debug": 0, "info": 1, "warning": 2, "error": 3, "critical": 4, "exception": 3}
REPLAY = "replay"
"""How the origin of an uplink begins that passed before."""

BACKWARD = """
SELECT json_group_array(id) FROM (
    SELECT id FROM uplinks WHERE id < :at AND (:key IS NULL OR instr(keys, :key)) AND {routes}
    ORDER BY id DESC LIMIT {n})
"""
FORWARD = """
SELECT json_group_array(id) FROM (
    SELECT id FROM uplinks WHERE id > :at - {size} AND id + number > :at AND low < :end AND high >= :start
        AND (:key IS NULL OR instr(keys, :key)) AND {routes} ORDER BY id LIMIT {n})
"""
ROUTED = "(:routes IS NULL OR EXISTS (SELECT 1 FROM json_each(:routes) WHERE instr(uplinks.routes, value)))"
BLOCK = "SELECT id, number, keys, data FROM uplinks WHERE id = ?"
KEYS = "SELECT id, keys FROM uplinks WHERE id < ? ORDER BY id DESC LIMIT 1"
ENDS = """
SELECT json_group_array(id) FROM (
    SELECT id FROM ends WHERE low <= :high AND high >= :low AND EXISTS (
        SELECT 1 FROM json_each(:seqs)
        WHERE value BETWEEN ends.low AND ends.high AND instr(ends.keys, substr(:keys, key * 8 + 1, 8))))
"""
END_BLOCK = "SELECT number, keys, data FROM ends WHERE id = ?"
EVENTS = """
SELECT id, at, level, name, fields FROM event
WHERE id > :after AND at >= :since AND rank >= :rank AND (:name = '' OR name = :name OR name GLOB :pattern)
    AND (:connection = '' OR connection = :connection) AND (:source = '' OR source = :source)
    AND (:device = '' OR device = :device)
ORDER BY id {} LIMIT :limit
"""
EVENTS_PORTION = """
SELECT json_group_array(json_array(id, at, level, name, fields)) FROM ({})
"""


class EventFilter(NamedTuple):
    """Which events; empty: whatever. `name` may end in `*`."""

    limit: int
    after: int
    since: int
    level: str
    name: str
    connection: str
    source: str
    device: str


class Names(NamedTuple):
    """What the numbers in the blocks stand for."""

    connections: dict[int, str]
    routes: dict[int, Connections]


class Block(NamedTuple):
    """One block as it is read."""

    id: int
    number: int
    keys: bytes
    data: bytes


class Reader:
    """One question on one open connection: `with Reader(path, connect) as reader`."""

    def __init__(self, path: Path, connect: Connect) -> None:
        """Open the file, which is never created here."""
        if not path.exists():
            raise FileNotFoundError("there is no such file")
        self._db = connect(path)
        self._taken = 0

    def __enter__(self) -> Self:
        """Prepare."""
        try:
            self._db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
            self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._db.execute("PRAGMA query_only = ON")
            # All statements of a question see the same moment.
            self._db.execute("BEGIN")
        except BaseException:
            self._db.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def of_device(self, dev_eui: str, limit: int) -> list[Passed]:
        """Give the last uplinks of a device, the newest first."""
        try:
            key = device_key(dev_eui)
        except ValueError:
            return []
        return self._backward(limit, key, None)

    def latest(self, connection: str, limit: int) -> list[Passed]:
        """Give the last uplinks that were routed to a connection, the newest first."""
        return self._backward(limit, None, connection)

    def between(
        self, start: int, end: int, after: int, limit: int, device: str | None, connection: str | None
    ) -> list[Passed]:
        """Give the first uplinks after an id that were received in this time, the oldest first."""
        try:
            key = None if device is None else device_key(device)
        except ValueError:
            return []
        names = self._names()
        routes = None if connection is None else _routes_to(names, connection)
        if routes is not None and not routes:
            return []
        statement = FORWARD.format(routes=ROUTED, n=PORTION, size=UPLINK_LIMIT)
        values = {"start": start, "end": end, "key": key, "routes": _wanted(routes)}
        found: list[Passed] = []
        at = after + 1

        def fits(record: Record) -> bool:
            return start <= record[1] < end and (routes is None or record[7] in routes)

        while idents := self._ids(statement, values | {"at": at}):
            for ident in idents:
                block = self._block(ident)
                for one in self._records(block, key, fits, names):
                    if one.id > after:
                        found.append(one)
                        if self._enough(found, limit):
                            return found
                at = block.id + block.number
        return found

    def ends(self, seqs: Collection[int]) -> list[Ended]:
        """Give how these uplinks ended, as far as they did, by seq."""
        wanted = sorted({seq for seq in seqs if 0 < seq < 2**63})
        if not wanted:
            return []
        values = {
            "low": wanted[0],
            "high": wanted[-1],
            "seqs": msgspec.json.encode(wanted).decode(),
            "keys": b"".join([seq.to_bytes(KEY, "big") for seq in wanted]),
        }
        names = self._names().connections
        lookup = set(wanted)
        found = []
        for ident in self._ids(ENDS, values):
            number, keys, data = self._db.execute(END_BLOCK, (ident,)).fetchone()
            hits = [(place, seq) for place, seq in enumerate(seqs_of(keys)) if seq in lookup]
            rows = unpack_ends(number, data) if hits else []
            for place, seq in hits:
                connection, outcome, sent, at, topic, reason = rows[place]
                found.append(
                    Ended(
                        seq=seq,
                        connection=names[connection],
                        outcome=Outcome(outcome),
                        reason=reason,
                        topic=topic,
                        sent=sent,
                        at=at,
                    )
                )
        found.sort(key=lambda one: (one.seq, one.connection, one.at))
        return found

    def frame_counters(self, limit: int) -> dict[str, int]:
        """Give the last FCntUp of at most so many devices, those that were heard of last."""
        counters: dict[str, int] = {}
        seen: set[bytes] = set()
        at = 2**62
        while len(counters) < limit and (row := self._db.execute(KEYS, (at,)).fetchone()) is not None:
            at, keys = row
            devices = {keys[place : place + KEY] for place in range(0, len(keys), KEY)}
            if devices <= seen:
                continue
            block = self._block(at)
            records = unpack_uplinks(block.number, block.data)
            for place in reversed(range(block.number)):
                key, record = keys[place * KEY : (place + 1) * KEY], records[place]
                counted = record[4] is DocumentKind.UPLINK and record[5] is not None
                if key not in seen and counted and not record[6].startswith(REPLAY) and len(counters) < limit:
                    seen.add(key)
                    counters[key.hex().upper()] = record[5] or 0
        return counters

    def events(self, what: EventFilter) -> list[KeptEvent]:
        """Give events, the oldest first: the newest ones, or the next after an id."""
        statement = EVENTS.format("ASC" if what.after > 0 else "DESC")
        values = {
            **what._asdict(),
            "rank": RANKS.get(what.level, 0),
            "pattern": what.name if what.name.endswith("*") else "",
        }
        (text,) = self._db.execute(EVENTS_PORTION.format(statement), values).fetchone()
        rows = sorted(msgspec.json.decode(text, type=list[tuple[int, int, str, str, str]]))
        return [
            KeptEvent(id=ident, at=at, level=level, name=name, fields=_fields.decode(fields))
            for ident, at, level, name, fields in rows
        ]

    def _backward(self, limit: int, key: bytes | None, connection: str | None) -> list[Passed]:
        names = self._names()
        routes = None if connection is None else _routes_to(names, connection)
        found: list[Passed] = []
        if limit < 1 or (routes is not None and not routes):
            return found
        statement = BACKWARD.format(routes=ROUTED, n=PORTION)
        values = {"key": key, "routes": _wanted(routes)}
        at = 2**62

        def fits(record: Record) -> bool:
            return routes is None or record[7] in routes

        while idents := self._ids(statement, values | {"at": at}):
            for ident in reversed(idents):
                at = ident
                for one in reversed([*self._records(self._block(ident), key, fits, names)]):
                    found.append(one)
                    if self._enough(found, limit):
                        return found
        return found

    def _records(
        self, block: Block, key: bytes | None, fits: Callable[[Record], bool], names: Names
    ) -> Iterator[Passed]:
        """Give what fits of a block, in its order."""
        hits = range(block.number) if key is None else [*places(block.keys, key)]
        if not hits:
            return
        records = unpack_uplinks(block.number, block.data)
        for place in hits:
            record = records[place]
            if fits(record):
                seq, received, time, source, kind, fcnt, origin, route, body = record
                yield Passed(
                    id=block.id + place,
                    seq=seq,
                    received=received,
                    time=time,
                    source=source,
                    kind=kind,
                    dev_eui=block.keys[place * KEY : (place + 1) * KEY].hex().upper(),
                    fcnt=fcnt,
                    origin=origin,
                    connections=names.routes[route],
                    body=body,
                )

    def _enough(self, found: list[Passed], limit: int) -> bool:
        self._taken += len(found[-1].body)
        return len(found) >= limit or self._taken >= READ_BYTES

    def _ids(self, statement: str, values: dict[str, Any]) -> list[int]:
        """Give the ids of blocks, rising."""
        (text,) = self._db.execute(statement, values).fetchone()
        return sorted(msgspec.json.decode(text, type=list[int]))

    def _block(self, ident: int) -> Block:
        return Block(*self._db.execute(BLOCK, (ident,)).fetchone())

    def _names(self) -> Names:
        connections = dict(self._db.execute("SELECT id, name FROM connection").fetchall())
        routes: dict[int, Connections] = {0: ()}
        for number, members in self._db.execute("SELECT id, members FROM route").fetchall():
            routes[number] = tuple(connections[one] for one in msgspec.json.decode(members, type=list[int]))
        return Names(connections, routes)


_fields = msgspec.json.Decoder(dict[str, object])


def _routes_to(names: Names, connection: str) -> frozenset[int]:
    return frozenset(number for number, members in names.routes.items() if connection in members)


def _wanted(routes: frozenset[int] | None) -> str | None:
    """Give the routes as they stand in the blocks, between commas."""
    return None if routes is None else msgspec.json.encode([f",{route}," for route in sorted(routes)]).decode()
