"""Lets uplinks expire for connections that are not open: dead, given up, inactive, or no longer configured.

An open session sees to it itself, when it comes to an uplink. Without this, the backlog of one broker that never comes
back would grow until the journal is full, and then stop every source. Run by the daemon as one task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from mqttbridge.errors import JournalError
from mqttbridge.observe.log import get_logger
from mqttbridge.sessions.outgoing import expired

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mqttbridge.clock import Clock
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.model import Settled

__all__ = ["Expiry"]

log = get_logger()

EVERY = 60.0
"""Seconds between two rounds."""
BATCH = 500
DEFAULT_VALIDITY = 72 * 3600 * 1000
"""Milliseconds; for queues whose connection is no longer configured."""


class Expiry:
    """Goes round the connections once a minute."""

    def __init__(
        self,
        journal: Journal,
        validity: Mapping[str, int],
        is_open: Callable[[str], bool],
        *,
        clock: Clock,
    ) -> None:
        """Take `uplinkTimeValidity` (ms) of each configured connection, and who tells which are open."""
        self._journal = journal
        self._validity = validity
        self._is_open = is_open
        self._clock = clock

    async def run(self) -> None:
        """Go round, until cancelled."""
        while True:
            await self.round()
            await anyio.sleep(EVERY)

    async def round(self) -> None:
        """Settle what has expired, connection by connection."""
        for name, counts in list(self._journal.counts().items()):
            if not counts.queued or self._is_open(name):
                continue
            try:
                number, last = await self._sweep(name)
            except JournalError:
                return  # the journal tells that itself; the next round tries again
            if last is not None:
                log.warning("uplink.expired", connection=name, count=number, reason=last.reason)

    async def _sweep(self, name: str) -> tuple[int, Settled | None]:
        """Settle the expired beginning of one backlog; gives how many they were, and the last."""
        validity = self._validity.get(name, DEFAULT_VALIDITY)
        number, last, limit = 0, None, 1  # mostly the first is good, and one is enough to look at
        while True:
            batch = await self._journal.read(name, 0, limit)
            ends: list[Settled] = []
            for queued in batch:
                end = expired(queued, validity, now=self._clock.now())
                if end is None:
                    break
                ends.append(end)
            # What a session has sent meanwhile it settles itself; the journal counts each uplink once.
            if not ends or self._is_open(name):
                return number, last
            await self._journal.settle(name, ends)
            number, last, limit = number + len(ends), ends[-1], BATCH
            if len(ends) < len(batch):
                return number, last
