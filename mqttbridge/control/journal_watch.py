"""Tells the log when the journal fills up, stops or starts taking uplinks, and what it dropped. Run by the daemon.

The journal itself does not log: it says how it is, and this looks once a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from mqttbridge.control.filling import Growth, Level, largest_queues, outlook
from mqttbridge.model import Outcome
from mqttbridge.observe.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mqttbridge.clock import Clock
    from mqttbridge.journal.protocol import Journal, JournalHealth
    from mqttbridge.model import Counts, Settled

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
        self._level = Level()
        self._growth = Growth()

    async def run(self) -> None:
        """Look once a second, until cancelled; then tell what was not told yet."""
        try:
            while True:
                self.look()
                await anyio.sleep(EVERY)
        finally:
            self._told_at.clear()
            self.look()

    def settled(self, connection: str, settled: Sequence[Settled]) -> None:
        """Hear how uplinks ended (`Witness`): what was dropped for another reason is told by whoever dropped it."""
        dropped = sum(each.outcome is Outcome.DROPPED for each in settled)
        if dropped:
            self._dropped[connection] = self._dropped.get(connection, 0) + dropped

    def look(self) -> None:
        """Tell what has changed since the last look; what is dropped once a minute, with its number."""
        health, counts, now = self._journal.health(), self._journal.counts(), self._clock.monotonic()
        self._look_at_problem(health.problem)
        self._look_at_size(health, counts, now)
        self._look_at_dropped(counts, now)

    def _look_at_problem(self, problem: str) -> None:
        if problem and not self._problem:
            log.error("journal.failed", reason=problem)
        elif self._problem and not problem:
            log.info("journal.recovered")
        self._problem = problem

    def _look_at_size(self, health: JournalHealth, counts: Mapping[str, Counts], now: float) -> None:
        size, max_size = health.size, health.max_size
        percent = 100 * size / max(1, max_size)
        self._growth.see(size, now)
        if self._level.rises(percent):
            queues = largest_queues(counts)
            reason = outlook(size, max_size, self._growth.rate(size, now)) + (f"; most queued: {queues}" * bool(queues))
            log.warning("journal.filling", size=size, max_size=max_size, percent=int(percent), reason=reason)
        elif self._level.falls(percent):
            log.info("journal.relieved", size=size, max_size=max_size, percent=int(percent))

    def _look_at_dropped(self, counts: Mapping[str, Counts], now: float) -> None:
        for name, each in counts.items():
            dropped = each.dropped - self._dropped.get(name, 0)
            told_at = self._told_at.get(name)
            if dropped and (told_at is None or now - told_at >= TELL_DROPPED_EVERY):
                self._dropped[name], self._told_at[name] = each.dropped, now
                log.error("uplink.dropped", connection=name, count=dropped, reason="the journal is full (drop-oldest)")
