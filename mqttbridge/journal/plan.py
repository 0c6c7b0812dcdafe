"""What one transaction will do, decided before the disk is touched. Pure; used by the writer thread only.

A plan collects appends, settlements and declarations in the order in which they came. It never changes the ledger:
that happens when the plan is on disk.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mqttbridge.journal.ledger import Change, Ledger, Settlement
from mqttbridge.journal.schema import PAGE
from mqttbridge.journal.seen import Row, Seen, Sieve
from mqttbridge.model import Connections, Entry, Outcome, Queued, Settled, Uplink

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mqttbridge.journal.parked import Picked

__all__ = ["RETRY", "Group", "Plan", "copied", "estimate", "without"]

RETRY = "retry of the parked uplink"
"""How the origin of an uplink begins that was parked and is queued again."""
NO_TAGS: frozenset[str] = frozenset()
ROW = 120
"""Bytes of a row and its index entry beside the body, about."""


def estimate(lengths: Iterable[int]) -> int:
    """Give how many bytes of pages uplinks with bodies of these lengths take, about, and rather too many.

    A row is not cut to fill a page, unless it is longer than a page: then it has pages of its own.
    """
    full = left = 0
    for length in lengths:
        row = length + ROW
        if row >= PAGE:
            full += (row // PAGE + 2) * PAGE
        elif row <= left:
            left -= row
        else:
            full += PAGE
            left = PAGE - row
    return full - left


def without(entries: Sequence[Entry], need: int, places: Sequence[int]) -> tuple[Sequence[Entry], int]:
    """Give the entries but for those in these places, and the bytes that they take instead of `need`."""
    if not places:
        return entries, need
    gone = set(places)
    rest = [entry for place, entry in enumerate(entries) if place not in gone]
    return rest, estimate(len(entry.uplink.body) for entry in rest)


def copied(ledger: Ledger, picked: Sequence[Picked]) -> int:
    """Give the bytes that a retry of these adds: of those whose first row stays, since others wait for it."""
    settled = ledger.settled_upto(one.route for one in picked)
    return estimate(one.size for one in picked if one.seq > settled[one.route])


class Group:
    """The new uplinks of one route."""

    __slots__ = ("id", "queued")

    def __init__(self, ident: int) -> None:
        """Start empty."""
        self.id = ident
        self.queued: list[Queued] = []


class Plan:
    """One transaction to be. `rows` and `bodies` are for the uplink table, `parked` for its table.

    `unparked`: numbers that are to be deleted there; `released`: uplinks that only a parked row may still need.
    """

    def __init__(self, ledger: Ledger, seen: Seen, now: int) -> None:
        """Start with nothing to do, on top of what is committed."""
        self._ledger = ledger
        self._sieve = Sieve(seen, now)
        self._now = now
        self._settled: dict[str, Settlement] = {}
        self._last_seq = self.before = ledger.last_seq
        self._offset = 1
        self.connections: dict[str, int] = {}
        self.routes: dict[Connections, int] = {}
        self.groups: dict[Connections, Group] = {}
        self.rows: list[tuple[object, ...]] = []
        self.bodies: list[bytes] = []
        self.parked: list[tuple[int, int, int, int, str]] = []
        self.unparked: list[int] = []
        self.released: list[int] = []
        self._moved: dict[str, int] = {}

    def duplicates(self, entries: Sequence[Entry]) -> list[int]:
        """Give the places of those that are stored already, or planned, and not to be appended."""
        return self._sieve.sift(entries)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add uplinks, in this order: those that were asked for with `duplicates` just before, without these."""
        groups, rows, bodies = self.groups, self.rows, self.bodies
        seq, offset = self._last_seq, self._offset
        names: Connections | None = None
        for entry in entries:
            # Hashing a thousand names takes longer than all the rest, and they mostly are the same object.
            if entry.connections is not names:
                names = entry.connections
                group = groups.get(names) or self._group(names)
            uplink = entry.uplink
            seq += 1
            length = len(uplink.body)
            rows.append(
                (
                    group.id,
                    uplink.received,
                    uplink.time,
                    uplink.source,
                    uplink.kind,
                    uplink.dev_eui,
                    uplink.fcnt,
                    offset,
                    length,
                )
            )
            bodies.append(uplink.body)
            offset += length
            group.queued.append(Queued(seq, replace(uplink, tags=NO_TAGS) if uplink.tags else uplink))
        self._last_seq, self._offset = seq, offset
        self._sieve.take()

    def settle(self, connection: str, settled: Sequence[Settled]) -> None:
        """Add a settlement; what lies at or below the cursor is done already. Raises `ValueError`."""
        account = self._ledger.accounts.get(connection)
        if account is None:
            raise ValueError(f"connection {connection!r} has nothing to settle")
        if any(one.seq >= two.seq for one, two in itertools.pairwise(settled)):
            raise ValueError("settlements must rise by seq")
        if settled and settled[-1].seq > self._ledger.last_seq:
            raise ValueError(f"no uplink has seq {settled[-1].seq}")
        move = self._settled.get(connection) or Settlement(connection, account.cursor)
        numbers = [0] * len(Outcome)
        for one in settled:
            if one.seq <= move.cursor:
                continue
            numbers[one.outcome] += 1
            if one.outcome is Outcome.PARKED:
                number = self._ledger.numbered + len(self.parked) + 1
                self.parked.append((number, one.seq, account.id, self._now, one.reason))
        if sum(numbers):
            move.cursor = settled[-1].seq
            move.delivered += numbers[Outcome.DELIVERED]
            move.expired += numbers[Outcome.EXPIRED]
            move.parked += numbers[Outcome.PARKED]
            move.dropped += numbers[Outcome.DROPPED]
            self._settled[connection] = move

    def unpark(self, picked: Sequence[Picked], *, retry: bool) -> dict[str, int]:
        """Take up parked uplinks; `retry`: append each anew, for its connection alone. Gives how many by connection.

        Its time is now: what an operator sends again does not expire by its age. For a plan that does nothing else.
        """
        names = {account.id: name for name, account in self._ledger.accounts.items()}
        settled = self._ledger.settled_upto(one.route for one in picked)
        for one in picked:
            self.unparked.append(one.number)
            if one.seq <= settled[one.route]:
                self.released.append(one.seq)
            name = names[one.connection]
            self._moved[name] = self._moved.get(name, 0) + 1
        if retry:
            self.append([Entry(self._again(one.uplink), (names[one.connection],)) for one in picked])
        return self._moved

    def _again(self, uplink: Uplink) -> Uplink:
        received = datetime.fromtimestamp(uplink.received / 1000, UTC).isoformat(timespec="milliseconds")
        return replace(uplink, time=self._now, origin=f"{RETRY} received {received}")

    def declare(self, connections: Iterable[str]) -> None:
        """Give these connections an account, if they have none."""
        for name in connections:
            if name not in self._ledger.accounts and name not in self.connections:
                self.connections[name] = len(self._ledger.accounts) + len(self.connections) + 1

    def change(self) -> Change:
        """Sum up what this does to the accounts."""
        appended = [(names, len(group.queued), group.queued[-1].seq) for names, group in self.groups.items()]
        return Change(self.connections, self.routes, appended, list(self._settled.values()), self._moved)

    def row(self) -> Row | None:
        """Give what this does to the table of fingerprints, if anything."""
        return self._sieve.row(self._last_seq)

    def moved(self, move: Settlement) -> tuple[int, ...]:
        """Give the row of a settlement: id, new cursor, numbers by outcome."""
        ident = self._ledger.accounts[move.connection].id
        return (ident, move.cursor, move.delivered, move.expired, move.parked, move.dropped)

    def members(self, names: Connections) -> list[int]:
        """Ids of the connections of a route."""
        accounts, new = self._ledger.accounts, self.connections
        return [new[name] if name in new else accounts[name].id for name in names]

    def _group(self, names: Connections) -> Group:
        known = self._ledger.routes.get(names)
        if known is not None:
            ident = known.id
        else:
            self.declare(names)
            ident = self.routes[names] = len(self._ledger.routes) + len(self.routes) + 1
        group = self.groups[names] = Group(ident)
        return group
