"""The journal's statements on one SQLite connection: each takes a whole batch in one JSON parameter.

The reason is the GIL: Python's sqlite3 lets go of it for each step of a statement and takes it back, and each taking
back can cost a switch interval (5 ms) while the loop thread is busy. So a transaction is one statement of one step,
however large: with seven statements, ten sessions and a busy loop got a quarter of the uplinks through.
Bodies travel beside the JSON, joined into one blob, and are cut by offset and length. Called by the writer thread
only; errors are sqlite3's own, the writer translates them.
"""

from __future__ import annotations

import itertools
import sqlite3
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.journal.ledger import Account, Change, Ledger, Settlement, count_dropped
from mqttbridge.journal.parked import pick
from mqttbridge.journal.plan import ROW, estimate
from mqttbridge.journal.schema import BUSY_TIMEOUT, PAGE, VERSION, create, prepare, wal_pages
from mqttbridge.journal.seen import ROW as SEEN_ROW
from mqttbridge.journal.seen import Row, Seen, pack, unpack
from mqttbridge.journal.tail import READ_BYTES
from mqttbridge.model import Counts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mqttbridge.journal.operations import Unpark
    from mqttbridge.journal.parked import Picked
    from mqttbridge.journal.plan import Plan
    from mqttbridge.journal.schema import Connect

__all__ = ["Store"]

DROP_ROWS = 1024
VACUUM_PAGES = 256

UPDATE_CONNECTIONS = """
UPDATE connection SET cursor = value ->> 1, delivered = delivered + (value ->> 2), expired = expired + (value ->> 3),
       parked = parked + (value ->> 4), dropped = dropped + (value ->> 5)
FROM json_each({}) WHERE connection.id = value ->> 0
"""
COLLECT = """
DELETE FROM uplink WHERE seq IN (
    SELECT u.seq FROM json_each({}) CROSS JOIN uplink u
    ON u.route = value ->> 0 AND u.seq > value ->> 1 AND u.seq <= value ->> 2
    WHERE NOT EXISTS (SELECT 1 FROM parked p WHERE p.seq = u.seq))
"""
TRANSACTION = f"""
CREATE TEMP VIEW work AS SELECT NULL AS connections, NULL AS routes, NULL AS before, NULL AS uplinks, NULL AS bodies,
                                NULL AS appended, NULL AS parked, NULL AS settled, NULL AS collect,
                                NULL AS unparked, NULL AS released,
                                NULL AS forget, NULL AS last, NULL AS at, NULL AS fingerprints;
CREATE TEMP TRIGGER transact INSTEAD OF INSERT ON work BEGIN
    DELETE FROM parked WHERE number IN (SELECT value FROM json_each(NEW.unparked));
    DELETE FROM uplink WHERE seq IN (SELECT value FROM json_each(NEW.released))
        AND NOT EXISTS (SELECT 1 FROM parked p WHERE p.seq = uplink.seq);
    INSERT INTO connection(id, name) SELECT value ->> 0, value ->> 1 FROM json_each(NEW.connections);
    INSERT INTO route(id, members) SELECT value ->> 0, value -> 1 FROM json_each(NEW.routes);
    INSERT INTO uplink(seq, route, received, time, source, kind, dev_eui, fcnt, body)
        SELECT NEW.before + 1 + key, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
               value ->> 6, substr(NEW.bodies, value ->> 7, value ->> 8)
        FROM json_each(NEW.uplinks);
    UPDATE route SET appended = appended + (value ->> 1), last = value ->> 2
        FROM json_each(NEW.appended) WHERE route.id = value ->> 0;
    INSERT INTO parked(number, seq, connection, at, reason)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(NEW.parked);
    {UPDATE_CONNECTIONS.format("NEW.settled")};
    {COLLECT.format("NEW.collect")};
    DELETE FROM seen WHERE seq <= NEW.forget;
    INSERT INTO seen(seq, at, fingerprints)
        SELECT NEW.last, NEW.at, NEW.fingerprints WHERE NEW.last IS NOT NULL;
END;
"""  # noqa: S608 - statements of ours
"""Everything that one transaction does, as the effect of one INSERT: one step, one release of the GIL."""
TRANSACT = "INSERT INTO work VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
ALL_SEEN = """
SELECT json_group_array(json_array(seq, at, length(fingerprints))), CAST(group_concat(fingerprints, '') AS BLOB)
FROM (SELECT seq, at, fingerprints FROM seen ORDER BY seq)
"""
RESTORE_ROUTES = """
UPDATE route SET appended = coalesce((SELECT value ->> 1 FROM json_each(?) WHERE value ->> 0 = route.id), 0)
"""
OLDEST_ROWS = f"""
SELECT json_group_array(json_array(seq, route, length(body)))
FROM (SELECT seq, route, body FROM uplink ORDER BY seq LIMIT {DROP_ROWS})
"""  # noqa: S608 - a number of ours
OLDEST_QUEUED = """
SELECT json_group_array(json_array(name, seq, received)) FROM (
    SELECT value ->> 0 AS name,
           min((SELECT min(u.seq) FROM uplink u WHERE u.route = value ->> 2 AND u.seq > value ->> 1)) AS head
    FROM json_each(?) GROUP BY 1) CROSS JOIN uplink ON seq = head
"""
PARKED_UPTO = """
SELECT json_group_array(json_array(connection, number))
FROM (SELECT connection, count(*) AS number FROM parked WHERE seq <= ? GROUP BY connection)
"""
PAGES = """
SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count
"""


class Store:
    """One open database file. `free`: bytes of unused pages when last measured."""

    def __init__(self, path: Path, max_size: int, connect: Connect) -> None:
        """Open or create the file. Raises `StartError` if it is not ours, sqlite3.Error if it cannot be used."""
        self.free = 0
        self._measured = 0
        self._unmeasured = 0
        self._max_size = max_size
        self._wal = path.with_name(f"{path.name}-wal")
        self._db = connect(path)
        try:
            prepare(self._db, max_size)
            create(self._db, path)
            self._db.executescript(TRANSACTION)
            self.measure()
        except BaseException:
            self._db.close()
            raise

    @property
    def used(self) -> int:
        """Bytes of pages in use: as measured, and an estimate of what was added since."""
        return self._measured + self._unmeasured

    def close(self) -> None:
        """Write the WAL back, if that is possible, and close."""
        self._db.close()

    def probe(self) -> None:
        """Write and sync something that changes nothing."""
        self._begin()
        self._db.execute("UPDATE route SET last = last WHERE id = 1")
        self._db.execute(f"PRAGMA user_version = {VERSION}")
        self._commit()

    def resize(self, max_size: int) -> None:
        """Go on with this size: what depends on it is the write-ahead log."""
        self._max_size = max_size
        prepare(self._db, max_size)

    def wal_exceeds(self, factor: int) -> bool:
        """Tell whether the WAL has grown beyond this multiple of its usual size."""
        try:
            return self._wal.stat().st_size > factor * wal_pages(self._max_size) * PAGE + PAGE
        except FileNotFoundError:
            return False

    def measure(self) -> None:
        """Ask SQLite how much of the file is in use."""
        pages, free = self._db.execute(PAGES).fetchone()
        self._measured, self.free = (pages - free) * PAGE, free * PAGE
        self._unmeasured = 0

    def vacant(self) -> bool:
        """Tell whether the file holds no uplink at all."""
        return bool(self._db.execute("SELECT NOT EXISTS (SELECT 1 FROM uplink)").fetchone()[0])

    def load(self) -> Ledger:
        """Read all accounts and routes."""
        ledger = Ledger()
        names = {}
        rows = self._db.execute("SELECT id, name, cursor, delivered, expired, parked, dropped FROM connection")
        kept = dict(self._db.execute("SELECT connection, count(*) FROM parked GROUP BY connection").fetchall())
        for ident, name, cursor, *numbers in rows.fetchall():
            names[ident] = name
            ledger.add_account(name, Account(ident, Counts(0, *numbers), cursor, kept.get(ident, 0)))
        rows = self._db.execute("SELECT id, members, appended, last FROM route")
        for ident, members, appended, last in rows.fetchall():
            key = tuple(names[member] for member in msgspec.json.decode(members, type=list[int]))
            ledger.add_route(key, ident)
            ledger.apply(Change(appended=[(key, appended, last)]))
        return ledger

    def load_seen(self) -> Seen:
        """Read the fingerprints of what was stored lately, in one step."""
        seen = Seen(self._max_size)
        text, blob = self._db.execute(ALL_SEEN).fetchone()
        start = 0
        for seq, moment, length in msgspec.json.decode(text, type=list[tuple[int, int, int]]):
            seen.add(seq, moment, unpack(blob[start : start + length]))
            start += length
        return seen

    def forget(self, upto: int) -> None:
        """Delete the fingerprints of transactions up to this seq."""
        self._db.execute("DELETE FROM seen WHERE seq <= ?", (upto,))
        self.measure()

    def undo_appends(self, known: Ledger) -> None:
        """Delete uplinks beyond the last known commit, whose appenders were told that nothing was stored.

        Their fingerprints too, or they would be refused as copies of themselves when they come again.
        """
        appended = [(route.id, route.appended) for route in known.routes.values()]
        self._begin()
        self._db.execute("DELETE FROM uplink WHERE seq > ?", (known.last_seq,))
        self._db.execute("DELETE FROM seen WHERE seq > ?", (known.last_seq,))
        self._db.execute(RESTORE_ROUTES, (_json(appended),))
        self._commit()

    def commit(self, plan: Plan, change: Change, collect: list[tuple[int, int, int]], row: Row | None) -> None:
        """Do all that the plan says, and delete settled uplinks, in one transaction. On disk when it returns.

        `row`: what the plan does to the table of fingerprints.
        """
        work = (
            _json([(ident, name) for name, ident in plan.connections.items()]),
            _json([(ident, plan.members(key)) for key, ident in plan.routes.items()]),
            plan.before,
            _json(plan.rows),
            b"".join(plan.bodies) or b" ",  # an empty blob would be NULL to substr
            _json([(plan.groups[key].id, number, last) for key, number, last in change.appended]),
            _json(plan.parked),
            _json([plan.moved(one) for one in change.settled]),
            _json(collect),
            _json(plan.unparked),
            _json(plan.released),
            *((None,) * 4 if row is None else (row.forget, row.seq, row.moment, pack(row.prints))),
        )
        self._db.execute(TRANSACT, work)
        # Asking costs two more steps: estimate while it does not matter.
        self._unmeasured += estimate(map(len, plan.bodies))
        if row is not None:
            self._unmeasured += 8 * len(row.prints) + SEEN_ROW
        if self._unmeasured > self._max_size // 64 or plan.unparked:
            self.measure()

    def drop_oldest(self, ledger: Ledger, room: int) -> Change:
        """Delete the oldest uplinks, parked ones too, until about `room` bytes are free; count them as dropped."""
        moves: dict[str, Settlement] = {}
        released: dict[str, int] = {}
        self._begin()
        while room > 0:
            rows = _decode_oldest(self._db.execute(OLDEST_ROWS).fetchone()[0])
            if not rows:
                break
            sizes = itertools.accumulate(length + ROW for _, _, length in rows)
            enough = next((number for number, size in enumerate(sizes, 1) if size >= room), len(rows))
            rows = rows[:enough]
            room -= sum(length + ROW for _, _, length in rows)
            count_dropped(ledger, [(seq, route) for seq, route, _ in rows], moves)
            self._db.execute("DELETE FROM uplink WHERE seq <= ?", (rows[-1][0],))
            self._release(ledger, rows[-1][0], released)
        change = Change(settled=list(moves.values()), unparked=released)
        accounts = ledger.accounts
        self._db.execute(
            UPDATE_CONNECTIONS.format("?"),
            (_json([(accounts[move.connection].id, move.cursor, 0, 0, 0, move.dropped) for move in change.settled]),),
        )
        self._commit()
        return change

    def _release(self, ledger: Ledger, upto: int, released: dict[str, int]) -> None:
        """Delete the parked rows up to this seq; add to `released` how many of which connection."""
        (text,) = self._db.execute(PARKED_UPTO, (upto,)).fetchone()
        found = dict(msgspec.json.decode(text, type=list[tuple[int, int]]))
        if not found:
            return
        self._db.execute("DELETE FROM parked WHERE seq <= ?", (upto,))
        for name, account in ledger.accounts.items():
            if account.id in found:
                released[name] = released.get(name, 0) + found[account.id]

    def picked(self, ledger: Ledger, operation: Unpark, *, bodies: bool) -> list[Picked]:
        """Give the first portion of the parked uplinks that are to be taken up."""
        which: int | Sequence[int]
        if isinstance(operation.which, str):
            if (account := ledger.accounts.get(operation.which)) is None:
                return []
            which = account.id
        else:
            which = operation.which
        most = max(1, min(READ_BYTES, self._max_size // 16))
        return pick(self._db, which, operation.upto, most, bodies=bodies)

    def collect(self, ranges: list[tuple[int, int, int]]) -> None:
        """Delete settled uplinks."""
        self._db.execute(COLLECT.format("?"), (_json(ranges),))
        self.measure()

    def vacuum(self) -> None:
        """Give some free pages back to the file system."""
        # executescript takes all the steps of this statement in one go.
        self._db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        self.measure()

    def checkpoint(self) -> bool:
        """Write the whole WAL back and cut it to nothing; the journal's own reader must stand still.

        False: another process reads the file, and nothing was lost but the opportunity. It is not waited for.
        """
        self._db.execute("PRAGMA busy_timeout = 0")
        try:
            busy, _, _ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self._db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
        return not busy

    def sync(self, *, strict: bool) -> None:
        """Write all that SQLite believes to be committed into the file, and sync that."""
        if not self.checkpoint() and strict:
            raise sqlite3.OperationalError("another process reads the file, so it cannot be synced anew")

    def oldest(self, ledger: Ledger) -> dict[str, tuple[int, int]]:
        """For each connection with a backlog, (seq, received) of its oldest uplink."""
        backlogs = [
            (name, account.cursor, route.id)
            for name, account in ledger.accounts.items()
            for route in account.routes
            if route.last > account.cursor
        ]
        (text,) = self._db.execute(OLDEST_QUEUED, (_json(backlogs),)).fetchone()
        rows = msgspec.json.decode(text, type=list[tuple[str, int, int]])
        return {name: (seq, received) for name, seq, received in rows}

    def last_seq(self) -> int:
        """Give the highest seq ever given, as the file has it."""
        (last,) = self._db.execute("SELECT coalesce(max(last), 0) FROM route").fetchone()
        return int(last)

    def _begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        self._db.execute("COMMIT")
        self.measure()

    def rollback(self) -> None:
        """Forget the transaction that failed, if it still is open."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _decode_oldest(text: str) -> list[tuple[int, int, int]]:
    return msgspec.json.decode(text, type=list[tuple[int, int, int]])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
