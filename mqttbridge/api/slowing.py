"""How wrong tokens slow their sender down: bounded in memory, in waiting answers, and in guesses a second. Pure.

Each wrong token makes the answer to it wait: 0.1 s, doubled up to 5 s. While `PER_CLIENT` answers to one client wait,
no further token of that client is looked at; so it guesses at most that many times in 5 s, however it hangs up or in
how many connections. A client is an IPv4 address, or the /64 of an IPv6 address. Others are not slowed by it.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

__all__ = ["LONGEST", "PER_CLIENT", "Slowing", "client_of"]

FIRST, LONGEST = 0.1, 5.0
"""Seconds that an answer waits."""
DOUBLINGS = 6
FORGET = 600.0
"""Seconds without a wrong token until a client is as good as new."""
PER_CLIENT = 4
"""Answers that wait, of one client;"""
MAX_WAITING = 64
"""of all."""
MAX_CLIENTS = 4096
PREFIX = 64


def client_of(address: str) -> str:
    """Give what is counted as one client."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found) >> PREFIX << PREFIX, PREFIX)))


class _Client:
    """What one client did lately."""

    __slots__ = ("closed_until", "failures", "last", "waiting")

    def __init__(self) -> None:
        self.failures = 0
        self.last = 0.0
        self.waiting = 0
        self.closed_until = 0.0
        """Before this, no token of it is looked at."""


class Slowing:
    """Remembers who sent wrong tokens. Times are monotonic seconds."""

    def __init__(self) -> None:
        """Start without memories."""
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self.waiting = 0
        """How many answers wait, of all clients."""

    def __len__(self) -> int:
        """Tell how many clients are remembered."""
        return len(self._clients)

    def closed_for(self, client: str, now: float) -> float:
        """Tell for how many seconds no token of this client is looked at; 0: it is looked at."""
        one = self._clients.get(client)
        if one is None:
            return 0.0
        if one.waiting >= PER_CLIENT:
            return LONGEST
        return max(0.0, one.closed_until - now)

    def failed(self, client: str, now: float) -> float | None:
        """Count a wrong token. Gives how many seconds its answer waits, and `waited` must follow; or None.

        None: so many answers wait that this one does not, but no token of this client is looked at for as long.
        """
        self._forget(now)
        one = self._clients.get(client)
        if one is None:
            one = self._clients[client] = _Client()
        one.failures += 1
        one.last = now
        self._clients.move_to_end(client)
        delay = min(LONGEST, FIRST * 2.0 ** min(one.failures - 1, DOUBLINGS))
        if self.waiting >= MAX_WAITING:
            one.closed_until = now + delay
            return None
        one.waiting += 1
        self.waiting += 1
        return delay

    def waited(self, client: str) -> None:
        """Note that an answer has waited."""
        self.waiting -= 1
        one = self._clients.get(client)
        if one is not None:
            one.waiting -= 1

    def _forget(self, now: float) -> None:
        """Let go of who was well for long, and of the longest gone if there are too many. They stand in that order."""
        while self._clients:
            client, one = next(iter(self._clients.items()))
            too_many = len(self._clients) >= MAX_CLIENTS
            if not too_many and now - one.last < FORGET:
                return
            if one.waiting:
                # At most `MAX_WAITING` of them, which are young as a rule.
                self._clients.move_to_end(client)
                if not too_many or all(each.waiting for each in self._clients.values()):
                    return
                continue
            del self._clients[client]
