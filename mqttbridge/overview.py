"""Puts together what GET /status shows, from all parts as they are at this moment. For the composition root alone.

It keeps nothing but a minute of samples of the totals, for the rates: no work for each uplink.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
import msgspec

from mqttbridge import __version__
from mqttbridge.control.figures import SAMPLE_EVERY, Window, drain_time, expiring, per_second
from mqttbridge.control.status import (
    ConnectionStatus,
    DownlinksStatus,
    JournalStatus,
    Rates,
    SourceStatus,
    Status,
)
from mqttbridge.formats.times import moment
from mqttbridge.model import Counts
from mqttbridge.observe.metrics import Taken
from mqttbridge.sessions.expiry import DEFAULT_VALIDITY
from mqttbridge.sessions.machine import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from mqttbridge.clock import Clock
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.observe.metrics import Metrics
    from mqttbridge.parts import Parts
    from mqttbridge.sessions.runner import SessionStatus
    from mqttbridge.settings.loader import Loaded
    from mqttbridge.settings.schema import Connection

__all__ = ["Overview", "Remarks"]

BEHIND = 60.0
"""Seconds: a queue that is older, and does not become shorter, is something to see to."""
REMOVED = "REMOVED"
INACTIVE = "active is false"
GONE = "it is not configured any more; what it has queued is kept until it expires"


class Remarks(msgspec.Struct, frozen=True):
    """What others say: `reasons` and `attention` as in `Status`, and of connections by id, as in `ConnectionStatus`."""

    reasons: tuple[str, ...] = ()
    attention: tuple[str, ...] = ()
    parked: Mapping[str, int] = {}
    low_rate: Mapping[str, str] = {}


class Sample(msgspec.Struct, frozen=True, gc=False):
    """All totals at one moment: accounts by connection, and what came by source."""

    counts: Mapping[str, Counts]
    taken: Mapping[str, Taken]


class Overview:
    """What is known of one running daemon. `run` it as a task, until cancelled."""

    def __init__(
        self,
        config: Path,
        journal: Journal,
        waiting: Callable[[], Mapping[str, int]],
        *,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """Begin to count here. `waiting` gives how many downlinks wait, by connection; it is cheap."""
        self._config = str(config.absolute())
        self._journal = journal
        self._waiting = waiting
        self._metrics = metrics
        self._clock = clock
        self._window: Window[Sample] = Window()
        self._started = clock.now()
        self.sample()

    async def run(self) -> None:
        """Take a sample now and then, until cancelled."""
        while True:
            await anyio.sleep(SAMPLE_EVERY)
            self.sample()

    def sample(self) -> None:
        """Remember the totals of this moment. Cheap."""
        self._window.note(self._clock.monotonic(), Sample(self._journal.counts(), self._metrics.taken()))

    def status(self, loaded: Loaded, parts: Parts, remarks: Remarks) -> Status:
        """Show everything, now."""
        shot = _Shot(self, loaded, parts, remarks)
        connections, sources = shot.connections(), shot.sources()
        health = self._journal.health()
        ok = (
            not (remarks.reasons or remarks.attention)
            and all(one.ok for one in connections)
            and all(one.ok for one in sources)
        )
        return Status(
            ok=ok,
            version=__version__,
            pid=os.getpid(),
            config=self._config,
            state_directory=str(loaded.state_directory),
            started=moment(self._started),
            now=moment(shot.wall),
            reasons=remarks.reasons,
            attention=remarks.attention,
            journal=JournalStatus(
                health.problem, health.size, health.max_size, sum(counts.queued for counts in shot.counts.values())
            ),
            connections=connections,
            sources=sources,
        )

    def connection(self, name: str, loaded: Loaded, parts: Parts, remarks: Remarks) -> ConnectionStatus:
        """Show one connection, now."""
        return _Shot(self, loaded, parts, remarks).connection(name)


class _Shot:
    """One moment."""

    def __init__(self, overview: Overview, loaded: Loaded, parts: Parts, remarks: Remarks) -> None:
        self._journal, self._window = overview._journal, overview._window  # noqa: SLF001 (its own other half)
        self._started = overview._started  # noqa: SLF001 (likewise)
        self._settings, self._parts, self._remarks = loaded.settings, parts, remarks
        self.wall, self._mono = overview._clock.now(), overview._clock.monotonic()  # noqa: SLF001 (likewise)
        self.counts, self._taken = self._journal.counts(), overview._metrics.taken()  # noqa: SLF001 (likewise)
        self._waiting = overview._waiting()  # noqa: SLF001 (likewise)
        self._minute = self._window.before(self._mono)

    def _at(self, mono: float) -> datetime:
        """Give the wall time of a moment on the monotonic clock."""
        return moment(self.wall + round((mono - self._mono) * 1000))

    # -- connections

    def connections(self) -> tuple[ConnectionStatus, ...]:
        """Show those that are configured, and those that are not, but still have something."""
        known = self._settings.connections
        gone = [
            name
            for name, counts in self.counts.items()
            if name not in known and (counts.queued or self._waiting.get(name))
        ]
        return tuple(self._connection(name, known.get(name)) for name in (*known, *gone))

    def connection(self, name: str) -> ConnectionStatus:
        """Show one."""
        return self._connection(name, self._settings.connections.get(name))

    def _connection(self, name: str, settings: Connection | None) -> ConnectionStatus:
        session = self._parts.sessions.get(name)
        now = session.status() if session is not None else None
        counts = self.counts.get(name, Counts())
        oldest = self._journal.oldest(name)
        age = 0.0 if oldest is None else max(self.wall - oldest, 0) / 1000
        validity = settings.configuration.uplink_time_validity if settings is not None else DEFAULT_VALIDITY
        rates = self._rates(counts, self._minute, name)
        drain, late = self._outlook(name, counts, now, age, validity / 1000)
        is_open = now is not None and now.state is State.OPENED
        behind = is_open and late is not None and drain is None and age > BEHIND
        losing = rates is not None and (rates.expired or rates.dropped)
        downlinks = self._connection_downlinks(name, settings, now)
        low = self._remarks.low_rate.get(name, "")
        told = low or (downlinks is not None and downlinks.why)
        return ConnectionStatus(
            id=name,
            ok=now is None or (is_open and not (behind or losing or told or late)),
            state=str(now.state) if now is not None else REMOVED if settings is None else str(State.DEACTIVATED),
            since=self._at(now.since) if now is not None else None,
            down_since=self._at(now.down_since) if now is not None and now.down_since is not None else None,
            attempts=now.attempts if now is not None else 0,
            why=now.why if now is not None else GONE if settings is None else INACTIVE,
            retry_at=self._at(now.retry_at) if now is not None and now.retry_at is not None else None,
            queued=counts.queued,
            in_flight=now.in_flight if now is not None else 0,
            oldest=moment(oldest) if oldest is not None else None,
            expires=moment(oldest + validity) if oldest is not None else None,
            rates=rates,
            drain_seconds=drain,
            expiring=late,
            totals=counts,
            downlinks=downlinks,
            parked=self._remarks.parked.get(name, 0),
            low_rate=low,
        )

    def _rates(self, counts: Counts, since: tuple[float, Sample] | None, name: str) -> Rates | None:
        if since is None:
            return None
        seconds, sample = since
        before = sample.counts.get(name, Counts())
        return Rates(
            per_second(counts.routed - before.routed, seconds),
            per_second(counts.delivered - before.delivered, seconds),
            per_second(counts.expired - before.expired, seconds),
            per_second(counts.parked - before.parked, seconds),
            per_second(counts.dropped - before.dropped, seconds),
        )

    def _outlook(
        self, name: str, counts: Counts, now: SessionStatus | None, age: float, validity: float
    ) -> tuple[float | None, int | None]:
        """Give the seconds until its queue is empty, and how many of it will expire first."""
        if not counts.queued:
            return 0.0, 0
        if now is None or now.state is not State.OPENED:
            wait: float | None = 0.0
            if now is None or (now.retry_at is None and now.state is State.CLOSED):
                wait = None
            elif now.retry_at is not None:
                wait = max(now.retry_at - self._mono, 0.0)
            return None, expiring(counts.queued, age, validity, wait, None)
        # What was before it opened says nothing of how fast it takes uplinks.
        since = self._window.before(self._mono, min(self._mono - now.since, 60.0))
        rates = self._rates(counts, since, name)
        if rates is None:
            return None, None
        leaving = rates.delivered + rates.parked
        return (
            drain_time(counts.queued, leaving, rates.routed),
            expiring(counts.queued, age, validity, 0.0, leaving),
        )

    def _connection_downlinks(
        self, name: str, settings: Connection | None, now: SessionStatus | None
    ) -> DownlinksStatus | None:
        """Show its downlinks, if it takes any or still has some."""
        waiting = self._waiting.get(name, 0)
        takes = settings is not None and settings.configuration.takes_downlinks
        if not takes and not waiting:
            return None
        return DownlinksStatus(waiting, now.downlinks if now is not None else "")

    # -- sources

    def sources(self) -> tuple[SourceStatus, ...]:
        """Show all of them."""
        return tuple(self._source(name) for name in self._settings.sources)

    def _source(self, name: str) -> SourceStatus:
        settings = self._settings.sources[name]
        link = self._parts.sources.get(name)
        now = link.status() if link is not None else None
        taken = self._taken.get(name, Taken())
        rate = rejected = None
        if self._minute is not None:
            seconds, sample = self._minute
            before = sample.taken.get(name, Taken())
            rate = per_second(taken.accepted - before.accepted, seconds)
            rejected = per_second(taken.rejected - before.rejected, seconds)
        dispatcher = self._parts.dispatchers.get(name)
        way = dispatcher.status() if dispatcher is not None else None
        downlinks = DownlinksStatus(way.waiting, way.why) if way is not None else DownlinksStatus(0, "")
        return SourceStatus(
            id=name,
            ok=(now is None or now.open) and not downlinks.why,
            transport=str(type(settings).__struct_config__.tag),
            format=settings.format,
            open=now is None or now.open,
            since=self._at(now.since) if now is not None else moment(self._started),
            why=now.why if now is not None else "",
            retry_at=self._at(now.retry_at) if now is not None and now.retry_at is not None else None,
            rate=rate,
            rejected_rate=rejected,
            last_uplink=moment(taken.last) if taken.last is not None else None,
            accepted=taken.accepted,
            rejected=taken.rejected,
            downlinks=downlinks,
        )
