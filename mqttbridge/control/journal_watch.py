"""Tells the log when the journal stops or starts taking uplinks, and what it had to drop.

The journal itself does not log: it says how it is, and this looks once a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from mqttbridge.observe.log import get_logger

if TYPE_CHECKING:
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.observe.throttle import Throttle

__all__ = ["JournalWatch"]

log = get_logger()

EVERY = 1.0
"""Seconds."""


class JournalWatch:
    """Looks at one journal. `run` it as a task, until cancelled."""

    def __init__(self, journal: Journal, throttle: Throttle) -> None:
        """Begin with what the journal is now: only changes are news."""
        self._journal = journal
        self._throttle = throttle
        self._problem = ""
        self._dropped = {name: counts.dropped for name, counts in journal.counts().items()}

    async def run(self) -> None:
        """Look once a second."""
        while True:
            self.look()
            await anyio.sleep(EVERY)

    def look(self) -> None:
        """Tell what has changed since the last look."""
        problem = self._journal.health().problem
        if problem and not self._problem:
            log.error("journal.failed", reason=problem)
        elif self._problem and not problem:
            log.info("journal.recovered")
        self._problem = problem
        for name, counts in self._journal.counts().items():
            dropped = counts.dropped - self._dropped.get(name, 0)
            if dropped and self._throttle.due((name, "uplink.dropped")) is not None:
                self._dropped[name] = counts.dropped
                log.error("uplink.dropped", connection=name, count=dropped, reason="the journal is full (drop-oldest)")
