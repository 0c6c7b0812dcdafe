"""Tells the log when the journal stops or starts taking uplinks, and what it had to drop. Run by the daemon.

The journal itself does not log: it says how it is, and this looks once a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from mqttbridge.observe.log import get_logger

if TYPE_CHECKING:
    from mqttbridge.clock import Clock
    from mqttbridge.journal.protocol import Journal

__all__ = ["JournalWatch"]

log = get_logger()

EVERY = 1.0
TELL_DROPPED_EVERY = 60.0
"""Seconds."""


class JournalWatch:
    """Looks at one journal. `run` it as a task, until cancelled."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        """Begin with what the journal is now: only changes are news."""
        self._journal = journal
        self._clock = clock
        self._problem = ""
        self._dropped = {name: counts.dropped for name, counts in journal.counts().items()}
        self._told_at: dict[str, float] = {}

    async def run(self) -> None:
        """Look once a second, until cancelled; then tell what was not told yet."""
        try:
            while True:
                self.look()
                await anyio.sleep(EVERY)
        finally:
            self._told_at.clear()
            self.look()

    def look(self) -> None:
        """Tell what has changed since the last look; what is dropped once a minute, with its number."""
        problem = self._journal.health().problem
        if problem and not self._problem:
            log.error("journal.failed", reason=problem)
        elif self._problem and not problem:
            log.info("journal.recovered")
        self._problem = problem
        now = self._clock.monotonic()
        for name, counts in self._journal.counts().items():
            dropped = counts.dropped - self._dropped.get(name, 0)
            told_at = self._told_at.get(name)
            if dropped and (told_at is None or now - told_at >= TELL_DROPPED_EVERY):
                self._dropped[name], self._told_at[name] = counts.dropped, now
                log.error("uplink.dropped", connection=name, count=dropped, reason="the journal is full (drop-oldest)")
