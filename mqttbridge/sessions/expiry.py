"""Lets uplinks expire for connections that are not open: dead, given up, inactive; and drops those of removed ones.

An open session sees to it itself, when it comes to an uplink. Without this, the backlog of one broker that never comes
back would grow until the journal is full, and then stop every source. Run by the daemon as one task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from mqttbridge.errors import JournalError
from mqttbridge.model import Outcome, Settled
from mqttbridge.observe.log import get_logger
from mqttbridge.sessions.outgoing import expired

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mqttbridge.clock import Clock
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.model import Queued
    from mqttbridge.settings.schema import Connection

__all__ = ["Expiry"]

log = get_logger()

EVERY = 60.0
"""Seconds between two rounds."""
BATCH = 500
HOUR = 3600 * 1000
DEFAULT_VALIDITY = 72 * HOUR
"""Milliseconds that uplinks wait for a connection that is no longer configured, in case it comes back."""


class Expiry:
    """Goes round the connections once a minute."""

    def __init__(
        self,
        journal: Journal,
        connections: Mapping[str, Connection],
        is_open: Callable[[str], bool],
        *,
        clock: Clock,
    ) -> None:
        """Take the configured connections, looked up at each use, and who tells which are open."""
        self._journal = journal
        self._connections = connections
        self._is_open = is_open
        self._clock = clock

    async def run(self) -> None:
        """Go round, until cancelled."""
        while True:
            await self.round()
            await anyio.sleep(EVERY)

    async def round(self) -> None:
        """Settle what has waited too long, connection by connection."""
        for name, counts in list(self._journal.counts().items()):
            if not counts.queued or self._is_open(name):
                continue
            try:
                await self._sweep(name)
            except JournalError:
                return  # the journal tells that itself; the next round tries again

    async def _sweep(self, name: str) -> None:
        """Settle the beginning of one backlog, and tell of it. Raises `JournalError`, after what it could settle."""
        number, last, limit = 0, None, 1  # mostly the first is good, and one is enough to look at
        try:
            while True:
                batch = await self._journal.read(name, 0, limit)
                ends = self._ends(name, batch)
                # What a session has sent meanwhile it settles itself; the journal counts each uplink once.
                if not ends or self._is_open(name):
                    return
                await self._journal.settle(name, ends)
                number, last, limit = number + len(ends), ends[-1], BATCH
                if len(ends) < len(batch):
                    return
        finally:
            if last is not None:
                dropped = last.outcome is Outcome.DROPPED
                event = "connection.queue_dropped" if dropped else "uplink.expired"
                log.warning(event, connection=name, count=number, reason=last.reason)

    def _ends(self, name: str, batch: list[Queued]) -> list[Settled]:
        """Give the ends of the uplinks at the beginning that have waited too long, all of one kind."""
        connection, now = self._connections.get(name), self._clock.now()
        ends: list[Settled] = []
        for queued in batch:
            if connection is None:
                end = _dropped(name, queued, now=now)
            else:
                end = expired(queued, connection.configuration.uplink_time_validity, now=now)
            if end is None:
                break
            ends.append(end)
        return ends


def _dropped(name: str, queued: Queued, *, now: int) -> Settled | None:
    """Give the end of an uplink that has waited too long for a connection to come back; None: it may go on."""
    if now - queued.uplink.received <= DEFAULT_VALIDITY:
        return None
    reason = f"connection {name} is not configured any more, and this uplink waited {DEFAULT_VALIDITY // HOUR} hours"
    return Settled(queued.seq, Outcome.DROPPED, reason, at=now)
