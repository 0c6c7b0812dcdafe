"""The accounts of all connections, in memory: a pure mirror of what is committed.

There are two of them: one belongs to the writer thread, one to the event loop. Neither is ever changed but by
`apply`, with a change that is on disk. Nothing here knows SQLite, threads or time.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.model import Connections, Counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Account", "Change", "Ledger", "Route", "Settlement", "count_dropped"]


class Settlement(msgspec.Struct, gc=False):
    """How far one connection moved in one transaction: its new cursor, and how many ended in which way."""

    connection: str
    cursor: int
    delivered: int = 0
    expired: int = 0
    parked: int = 0
    dropped: int = 0


class Change(msgspec.Struct):
    """What one transaction did to the accounts. `appended` has (route, how many, last seq).

    `unparked`: by connection, how many of its parked uplinks are not kept any more.
    """

    connections: dict[str, int] = {}
    """Name and id of each new one."""
    routes: dict[Connections, int] = {}
    """Members and id of each new one."""
    appended: list[tuple[Connections, int, int]] = []
    settled: list[Settlement] = []
    unparked: dict[str, int] = {}


class Account:
    """One connection. Everything of it with `seq <= cursor` is settled."""

    __slots__ = ("cursor", "delivered", "dropped", "expired", "id", "kept", "parked", "routed", "routes")

    def __init__(self, ident: int, counts: Counts | None = None, cursor: int = 0, kept: int = 0) -> None:
        """Start with what was counted so far; `routed` comes from the routes. `kept`: parked uplinks still there."""
        counts = counts or Counts()
        self.id = ident
        self.cursor = cursor
        self.routed = 0
        self.delivered = counts.delivered
        self.expired = counts.expired
        self.parked = counts.parked
        self.dropped = counts.dropped
        self.kept = kept
        self.routes: list[Route] = []

    @property
    def counts(self) -> Counts:
        """The account as a value. Never remembered: a scrape asks in a thread, and would leave an old one behind."""
        return Counts(self.routed, self.delivered, self.expired, self.parked, self.dropped)

    @property
    def queued(self) -> int:
        """Uplinks still to be delivered."""
        return self.routed - self.done

    @property
    def done(self) -> int:
        """Uplinks that are settled."""
        return self.delivered + self.expired + self.parked + self.dropped

    def appended(self, number: int) -> None:
        """Count what was routed here."""
        self.routed += number

    def settled(self, settlement: Settlement) -> None:
        """Move the cursor and count."""
        self.cursor = max(self.cursor, settlement.cursor)
        self.delivered += settlement.delivered
        self.expired += settlement.expired
        self.parked += settlement.parked
        self.kept += settlement.parked
        self.dropped += settlement.dropped


class Route:
    """A set of connections that some uplinks went to. `last` is the seq of its newest uplink."""

    __slots__ = ("appended", "collected", "id", "last", "members")

    def __init__(self, ident: int, members: tuple[Account, ...]) -> None:
        """Start without uplinks."""
        self.id = ident
        self.members = members
        self.appended = 0
        self.last = 0
        self.collected = 0
        """Up to this seq, nothing is left to delete. The writer's own; not part of the mirror."""

    @property
    def settled(self) -> int:
        """Up to this seq, every member settled everything."""
        return min(self.last, *(member.cursor for member in self.members))


class Ledger:
    """All accounts and routes. `last_seq` is the highest seq ever given: no seq comes twice.

    `numbered`: how many uplinks ever were parked, and the highest number that was given to one.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.accounts: dict[str, Account] = {}
        self.routes: dict[Connections, Route] = {}
        self.last_seq = 0
        self.numbered = 0

    def add_account(self, name: str, account: Account) -> None:
        """Take over an account as it is on disk."""
        self.accounts[name] = account
        self.numbered += account.parked

    def apply(self, change: Change) -> None:
        """Take over what a committed transaction did."""
        for name, ident in change.connections.items():
            self.accounts[name] = Account(ident)
        for names, ident in change.routes.items():
            self.add_route(names, ident)
        for names, number, last in change.appended:
            route = self.routes[names]
            route.appended += number
            route.last = max(route.last, last)
            self.last_seq = max(self.last_seq, last)
            for member in route.members:
                member.appended(number)
        for settlement in change.settled:
            self.accounts[settlement.connection].settled(settlement)
            self.numbered += settlement.parked
        for name, number in change.unparked.items():
            self.accounts[name].kept -= number

    def add_route(self, names: Connections, ident: int) -> Route:
        """Intern a set of connections whose accounts exist."""
        route = Route(ident, tuple(self.accounts[name] for name in names))
        self.routes[names] = route
        for member in route.members:
            member.routes.append(route)
        return route

    def settled_upto(self, idents: Iterable[int]) -> dict[int, int]:
        """Give for each of these routes, by id, up to which seq everybody settled everything."""
        wanted = set(idents)
        return {route.id: route.settled for route in self.routes.values() if route.id in wanted}

    def collectable(self) -> list[tuple[int, int, int]]:
        """Give (route id, after, up to) where settled uplinks may still lie on disk."""
        return [
            (route.id, route.collected, upto)
            for route in self.routes.values()
            if route.collected < route.last and (upto := route.settled) > route.collected
        ]

    def collected(self, ranges: Iterable[tuple[int, int, int]]) -> None:
        """Note that these ranges were deleted."""
        upto = {ident: last for ident, _, last in ranges}
        for route in self.routes.values():
            route.collected = max(route.collected, upto.get(route.id, 0))


def count_dropped(ledger: Ledger, rows: Sequence[tuple[int, int]], moves: dict[str, Settlement]) -> None:
    """Add to `moves` what it means that these rows, (seq, route id) and the oldest of all, are deleted."""
    routes = {route.id: names for names, route in ledger.routes.items()}
    by_route: dict[int, list[int]] = {}
    last = rows[-1][0]
    for seq, ident in rows:
        by_route.setdefault(ident, []).append(seq)
    before = {name: move.cursor for name, move in moves.items()}
    for ident, seqs in by_route.items():
        for name in routes[ident]:
            cursor = before.get(name, ledger.accounts[name].cursor)
            dropped = len(seqs) - bisect.bisect_right(seqs, cursor)
            if dropped:
                move = moves.setdefault(name, Settlement(name, cursor))
                move.cursor = last
                move.dropped += dropped
