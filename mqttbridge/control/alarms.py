"""Watches how many uplinks each connection gets, and warns when its `alarms` ask for more. Run by the daemon.

An hour is judged when the alarm's window was open for all of it, so that the night does not count; and when all of it
was seen, so that a daemon that has just started waits. Documents of every kind count, as in ThingPark.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from mqttbridge.control.alarm_windows import open_throughout
from mqttbridge.formats.times import moment
from mqttbridge.model import Counts
from mqttbridge.observe.log import get_logger
from mqttbridge.settings.alarms import SPAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from mqttbridge.clock import Clock
    from mqttbridge.settings.alarms import Alarm, Schedule
    from mqttbridge.settings.schema import Connection

__all__ = ["Alarms"]

log = get_logger()

EVERY: Final = 60.0
TELL_AGAIN: Final = 24 * 3600.0
STEADY: Final = 15 * 60.0
"""How long a rate must be good again: one that hovers about its minimum is one episode."""
BREAK: Final = 3 * EVERY
"""After a longer time between two looks what was seen before is forgotten. All in seconds."""
STEP: Final = 25
"""Connections looked at in one step of the loop."""
SAMPLES: Final = 128
"""More than an hour of them, even if it looks twice as often."""


class _Episode(msgspec.Struct):
    """A time of low rate. Moments are monotonic."""

    told_at: float
    good_since: float | None = None


class Alarms:
    """Looks at the connections with alarms. `run` it as a task, until cancelled."""

    def __init__(
        self,
        connections: Mapping[str, Connection],
        counts: Callable[[], Mapping[str, Counts]],
        clock: Clock,
    ) -> None:
        """Take the connections in force (looked at anew each time), and what the journal counts."""
        self._connections = connections
        self._counts = counts
        self._clock = clock
        self._samples: dict[str, deque[tuple[float, int]]] = {}
        """When, and how many uplinks were routed until then: the last hour of each connection that has alarms."""
        self._episodes: dict[tuple[str, Alarm], _Episode] = {}
        self._schedules: dict[Alarm, Schedule] = {}
        self._open: dict[Schedule, bool] = {}
        """Whether the windows were open for the last hour, at this look: many alarms have the same."""
        self._low: dict[str, str] = {}

    async def run(self) -> None:
        """Look once a minute, until cancelled."""
        while True:
            for _ in self._steps():
                await checkpoint()
            await anyio.sleep(EVERY)

    def low(self) -> Mapping[str, str]:
        """Tell which connections get too few uplinks now, each with a sentence without its subject."""
        return self._low

    def look(self) -> None:
        """Take a sample, and tell what has changed."""
        for _ in self._steps():
            pass

    def _steps(self) -> Iterator[None]:
        """Look, with a break after every few connections: when a source fails, all of them may have news at once."""
        now, wall = self._clock.monotonic(), moment(self._clock.now())
        counts = self._counts()
        watched = {name: each.alarms for name, each in self._connections.items() if each.active and each.alarms}
        self._forget(watched)
        self._open = {}
        low: dict[str, str] = {}
        for number, (name, alarms) in enumerate(watched.items()):
            if number % STEP == STEP - 1:
                yield
            rate = self._rate(name, counts.get(name, Counts()).routed, now)
            if rate is None:
                continue
            too_low = [alarm for alarm in alarms if self._judge(name, alarm, rate, now, wall)]
            if too_low:
                low[name] = "; ".join(_sentence(alarm, rate) for alarm in too_low)
        self._low = low

    def _forget(self, watched: Mapping[str, tuple[Alarm, ...]]) -> None:
        """Forget what a reload took away."""
        current = {(name, alarm) for name, alarms in watched.items() for alarm in alarms}
        used = {alarm for _, alarm in current}
        self._samples = {name: each for name, each in self._samples.items() if name in watched}
        self._episodes = {key: each for key, each in self._episodes.items() if key in current}
        self._schedules = {alarm: each for alarm, each in self._schedules.items() if alarm in used}

    def _rate(self, name: str, routed: int, now: float) -> int | None:
        """Give how many uplinks came in the last hour; None while less than that was seen."""
        samples = self._samples.setdefault(name, deque(maxlen=SAMPLES))
        if samples and (now - samples[-1][0] > BREAK or routed < samples[-1][1]):
            samples.clear()
        if not samples or now - samples[-1][0] > EVERY / 2:
            samples.append((now, routed))
        hour = SPAN.total_seconds()
        while len(samples) > 1 and now - samples[1][0] >= hour:
            samples.popleft()
        since, before = samples[0]
        return routed - before if now - since >= hour else None

    def _judge(self, name: str, alarm: Alarm, rate: int, now: float, wall: datetime) -> bool:
        """Tell whether the connection has too few uplinks by this alarm now, and the log when that changes."""
        episode, minimum = self._episodes.get((name, alarm)), alarm.uplink_rate_min_per_hour
        if episode is None and rate >= minimum:
            return False
        if not self._in_window(alarm, wall):
            # The episode waits: tomorrow may begin as today ended.
            if episode is not None:
                episode.good_since = None
            return False
        if rate < minimum:
            if episode is None or now - episode.told_at >= TELL_AGAIN:
                reason = alarm.message or _sentence(alarm, rate)
                log.warning("connection.low_rate", connection=name, rate=rate, minimum=minimum, reason=reason)
                self._episodes[name, alarm] = _Episode(now)
            else:
                episode.good_since = None
            return True
        if episode is not None and episode.good_since is None:
            episode.good_since = now
        if episode is not None and episode.good_since is not None and now - episode.good_since >= STEADY:
            del self._episodes[name, alarm]
            log.info("connection.rate_recovered", connection=name, rate=rate, minimum=minimum)
        return False

    def _in_window(self, alarm: Alarm, wall: datetime) -> bool:
        schedule = self._schedules.get(alarm)
        if schedule is None:
            schedule = self._schedules[alarm] = alarm.schedule()
        if schedule not in self._open:
            self._open[schedule] = open_throughout(schedule, wall - SPAN, wall)
        return self._open[schedule]


def _sentence(alarm: Alarm, rate: int) -> str:
    message = f" ({alarm.message})" if alarm.message else ""
    came = "1 uplink" if rate == 1 else f"{rate} uplinks"
    return f"{came} in the last hour, and {alarm.uplink_rate_min_per_hour} at least are expected{message}"
