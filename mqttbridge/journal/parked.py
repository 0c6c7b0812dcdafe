"""Parked uplinks: what no broker takes as it is, kept until an operator retries or drops it. Structs and statements.

Each has a number that an operator can type: the n-th uplink that ever was parked has number n, so none comes twice.
The readings are for the reader thread, `pick` is for the writer's. Each is one statement of one step (see `store`).
Nothing here changes anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mqttbridge.model import DocumentKind, Uplink

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

__all__ = ["Parked", "ParkedUplink", "Picked", "Unparked", "body_of", "listed", "named", "pick"]

PORTION = 500
"""Parked uplinks that one transaction takes up at most."""

COLUMNS = """
p.number AS number, p.seq AS seq, c.name AS connection, p.at AS at, p.reason AS reason, u.received AS received,
u.source AS source, u.dev_eui AS dev_eui, u.fcnt AS fcnt, u.kind AS kind, length(u.body) AS size
"""
FROM = "FROM parked p CROSS JOIN uplink u ON u.seq = p.seq CROSS JOIN connection c ON c.id = p.connection"
AS_JSON = """
json_group_array(json_array(number, seq, connection, at, reason, received, source, dev_eui, fcnt, kind, size))
"""
LIST = f"""
SELECT {AS_JSON} FROM (SELECT {COLUMNS} {FROM} WHERE p.number < ?1 ORDER BY p.number DESC LIMIT ?2)
"""  # noqa: S608 - statements of ours
LIST_OF = f"""
SELECT {AS_JSON} FROM (
    SELECT {COLUMNS} {FROM} WHERE p.connection = ?3 AND p.number < ?1 ORDER BY p.number DESC LIMIT ?2)
"""  # noqa: S608 - likewise
NAMED = f"""
SELECT {AS_JSON} FROM (
    SELECT {COLUMNS} {FROM} WHERE p.number IN (SELECT value FROM json_each(?)) ORDER BY p.number)
"""  # noqa: S608 - likewise
BODY = "SELECT u.body FROM parked p CROSS JOIN uplink u ON u.seq = p.seq WHERE p.number = ?"
PICK = f"""
WITH picked AS ({{}} ORDER BY number LIMIT {PORTION}),
sized AS (
    SELECT p.*, u.route, u.source, u.kind, u.dev_eui, u.received, u.fcnt, length(u.body) AS size,
           sum(length(u.body)) OVER (ORDER BY p.number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM picked p CROSS JOIN uplink u ON u.seq = p.seq),
found AS (
    SELECT s.*, CASE WHEN ?3 THEN u.body ELSE x'' END AS body FROM sized s CROSS JOIN uplink u ON u.seq = s.seq
    WHERE coalesce(before, 0) < ?4 ORDER BY s.number)
SELECT json_group_array(
           json_array(number, connection, seq, route, source, kind, dev_eui, received, fcnt, size)),
       CAST(group_concat(body, '') AS BLOB)
FROM found
"""  # noqa: S608 - likewise
PICK_OF = PICK.format("SELECT number, connection, seq FROM parked WHERE connection = ?1 AND number <= ?2")
PICK_NAMED = PICK.format(
    "SELECT number, connection, seq FROM parked WHERE number IN (SELECT value FROM json_each(?1)) AND number <= ?2"
)
HIGHEST = 2**63 - 1


class Parked(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One parked uplink; a number stands for one uplink of one connection. Times in ms, `size` in bytes."""

    number: int
    seq: int
    connection: str
    at: int
    """When it was parked."""
    reason: str
    received: int
    source: str
    dev_eui: str
    fcnt: int | None
    kind: DocumentKind
    size: int


class ParkedUplink(msgspec.Struct, frozen=True, gc=False):
    """One parked uplink with its document."""

    parked: Parked
    body: bytes


class Unparked(msgspec.Struct, frozen=True):
    """What one call took up: how many by connection. `more`: there may be others of those that were asked for."""

    counts: dict[str, int]
    more: bool

    @property
    def count(self) -> int:
        """How many in all."""
        return sum(self.counts.values())


class Picked(msgspec.Struct, frozen=True, gc=False):
    """One parked uplink as the writer takes it up: the ids of its connection and route, and the uplink."""

    number: int
    connection: int
    seq: int
    route: int
    size: int
    uplink: Uplink


_Row = tuple[int, int, int, int, str, DocumentKind, str, int, int | None, int]
_decode_picked = msgspec.json.Decoder(list[_Row]).decode
_decode_parked = msgspec.json.Decoder(list[Parked]).decode


def listed(db: sqlite3.Connection, connection: int | None, limit: int, before: int) -> list[Parked]:
    """Give those of a connection (its id; None: of all) with a number below `before` (0: any), newest first."""
    if connection is None:
        rows = db.execute(LIST, (before or HIGHEST, limit))
    else:
        rows = db.execute(LIST_OF, (before or HIGHEST, limit, connection))
    return _decode_parked(rows.fetchone()[0])


def named(db: sqlite3.Connection, numbers: Sequence[int]) -> list[Parked]:
    """Give those with these numbers, as far as there are such."""
    return _decode_parked(db.execute(NAMED, (msgspec.json.encode(numbers).decode(),)).fetchone()[0])


def body_of(db: sqlite3.Connection, number: int) -> list[ParkedUplink]:
    """Give the one with this number, or nothing."""
    found = named(db, [number])
    row = db.execute(BODY, (number,)).fetchone()
    return [ParkedUplink(found[0], row[0])] if found and row is not None else []


def pick(
    db: sqlite3.Connection, which: int | Sequence[int], upto: int, most_bytes: int, *, bodies: bool
) -> list[Picked]:
    """Give the first of a connection (its id), or of those numbers, up to this number; bounded in number and bytes.

    `bodies`: with their bodies; else each uplink has an empty one.
    """
    if isinstance(which, int):
        row = db.execute(PICK_OF, (which, upto, bodies, most_bytes)).fetchone()
    else:
        row = db.execute(PICK_NAMED, (msgspec.json.encode(which).decode(), upto, bodies, most_bytes)).fetchone()
    text, joined = row
    found = []
    start = 0
    for number, connection, seq, route, source, kind, dev_eui, received, fcnt, size in _decode_picked(text):
        end = start + size if bodies else start
        body = joined[start:end] if bodies else b""
        uplink = Uplink(source, kind, dev_eui, 0, received, fcnt, body)
        found.append(Picked(number, connection, seq, route, size, uplink))
        start = end
    return found
