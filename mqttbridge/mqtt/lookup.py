"""DNS for the links: host names to addresses, and no name that hangs may delay another. Used by `dial`.

Invariants:

1. A name is looked up once at a time, however many ask for it and however long the system's resolver takes.
2. A lookup that hangs costs a thread, not the others' time (see `Offload`). Names that answered before need not even
   wait for a thread: their last addresses serve while the lookup goes on (as in RFC 8767).
3. What is remembered is bounded, in number and in age. A name that is gone is forgotten.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

from mqttbridge.mqtt.offload import Offload

__all__ = ["Address", "Lookups"]

Address = tuple[int, tuple[Any, ...]]
"""Family, and the address as `connect` takes it."""

SOON = 0.25
"""Seconds that a lookup may take before the last addresses are used instead."""
KEPT = 4096
"""Names remembered: more than there are connections."""
STALE = 24 * 3600.0
"""Seconds for which addresses may serve; later somebody else may have them (RFC 8767, section 5: 1 to 3 days)."""
USUAL, MOST = 32, 384
"""Threads in good and in bad times; the service's `TasksMax` leaves room for them."""

GONE = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
"""Answers that say that there is no such name; all other errors are those of the resolver."""


class Lookups:
    """The names of all links."""

    def __init__(self) -> None:
        """Start with nothing remembered."""
        self._offload = Offload(USUAL, "mqttbridge-dns", most=MOST)
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, list[Address]]] = {}  # the oldest first

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Give the addresses of a host, in the resolver's order. Raises `OSError`, `ValueError` as `getaddrinfo` does.

        Without an answer it takes as long as the resolver does, if the name never had one.
        """
        known = self._remembered(host)
        try:
            async with asyncio.timeout(SOON if known else None):
                known = await self._offload.run(host, lambda: self._look_up(host))
        except OSError as error:  # with TimeoutError: then the lookup goes on, and the next caller finds its answer
            if not known or (isinstance(error, socket.gaierror) and error.errno in GONE):
                raise
        return [(family, (address, port, *rest)) for family, (address, _, *rest) in known]

    def _look_up(self, host: str) -> list[Address]:
        """Ask the system's resolver, in a thread, and remember what it says."""
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        except socket.gaierror as error:
            if error.errno in GONE:
                with self._lock:
                    self._known.pop(host, None)
            raise
        addresses: list[Address] = [(int(family), tuple(address)) for family, _, _, _, address in found]
        with self._lock:
            self._known.pop(host, None)
            self._known[host] = time.monotonic(), addresses
            if len(self._known) > KEPT:
                del self._known[next(iter(self._known))]
        return addresses

    def _remembered(self, host: str) -> list[Address]:
        """Give the last good addresses, if they are not too old."""
        with self._lock:
            since, addresses = self._known.get(host, (0.0, []))
        return addresses if time.monotonic() - since < STALE else []
