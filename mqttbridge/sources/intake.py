"""The one way in: parsed uplinks are routed and stored, whatever brought them.

Both sources call `accept`, and tell their network server "taken" only after it has returned. It never waits for a
customer's broker.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Protocol

from mqttbridge.errors import JournalError
from mqttbridge.formats.report import correlated
from mqttbridge.model import Device, DocumentKind, Entry
from mqttbridge.observe.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.clock import Clock
    from mqttbridge.errors import MqttBridgeError
    from mqttbridge.journal.downlink_protocol import DownlinkJournal, Sender
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.model import Uplink
    from mqttbridge.observe.metrics import Metrics
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.routing import Router
    from mqttbridge.sources.gaps import FrameCounters

__all__ = ["MAX_BODY", "Intake", "Passage", "device_in"]

log = get_logger()

MAX_BODY = 8 * 1024 * 1024
"""Bytes that come at once, at most."""
DEVICE = re.compile(rb'(?:"DevEUI"\s*:\s*"|LrnDevEui=)((?:[0-9A-Fa-f]{2}[-:]?){7}[0-9A-Fa-f]{2})').search
SEARCHED = 64 * 1024
"""Bytes."""
COUNTER = 65_536
"""A frame counter of 16 bits rolls over here; a larger one does so nowhere near."""


def device_in(refused: bytes) -> str:
    """Find the DevEUI in what was refused, a document or a query string, for the log; empty if there is none."""
    found = DEVICE(refused, 0, SEARCHED)
    return "" if found is None else found[1].decode().replace("-", "").replace(":", "").upper()


class Passage(Protocol):
    """Who hears of uplinks that were taken and do not go into the journal. Quick, and never raises."""

    def unrouted(self, uplinks: Sequence[Uplink], /) -> None:
        """Hear of uplinks that no connection gets."""
        ...

    def duplicates(self, source: str, uplinks: Sequence[Uplink], /) -> None:
        """Hear of copies of uplinks that came before."""
        ...


class Intake:
    """Routes and stores. Shared by all sources."""

    def __init__(
        self,
        journal: Journal,
        devices: DownlinkJournal,
        router: Router,
        *,
        clock: Clock,
        metrics: Metrics,
        throttle: Throttle,
        passage: Passage | None = None,
        counters: FrameCounters | None = None,
    ) -> None:
        """Take what it works with; `devices` learns where each one is, for its downlinks.

        `counters`: has the FCntUp of each device; without it gaps are not told.
        """
        self._journal = journal
        self._devices = devices
        self._router = router
        self._metrics = metrics
        self._throttle = throttle
        self._clock = clock
        self._passage = passage
        self._counters = counters

    def use(self, router: Router) -> None:
        """Route by other flows and connections from the next uplink on."""
        self._router = router

    @property
    def largest(self) -> int:
        """How large one document may be, in bytes: what can never be stored must not hold up the others for ever."""
        return min(MAX_BODY, self._journal.health().max_size // 4)

    def now(self) -> int:
        """Give the time of reception, in ms."""
        return self._clock.now()

    async def accept(self, source: str, uplinks: Sequence[Uplink], *, window: int = 0) -> None:
        """Store all of them durably, or raise `JournalError` and store none.

        `window`: ms within which a copy of an uplink is not stored again (`duplicateWindow`).
        """
        # All waiting is done before: no reload comes between the routing and the journal.
        reports = [uplink for uplink in uplinks if uplink.correlation_id]
        senders = await self._senders(reports) if reports else {}
        entries: list[Entry] = []
        unrouted: list[Uplink] = []
        route = self._router.route
        for uplink in uplinks:
            connections = route(uplink)
            if senders and (sender := senders.get(id(uplink))):
                # A report goes to the connection that sent the downlink too, by the name that this one knows.
                connections = self._router.with_sender(connections, sender.connection)
                uplink = correlated(uplink, sender.correlation_id)  # noqa: PLW2901 (told better)
            if connections:
                entries.append(Entry(uplink, connections, window))
            else:
                unrouted.append(uplink)
        again = await self._journal.append(entries) if entries else []
        self._metrics.accepted(source, len(uplinks), at=self._clock.now())
        # Not from copies: of two sources that hand over the same uplinks, the first one to do so has the device.
        copies = {id(entries[place].uplink) for place in again}
        new = [uplink for uplink in uplinks if uplink.kind is DocumentKind.UPLINK and id(uplink) not in copies]
        self._devices.learn([Device(uplink.dev_eui, source, uplink.way, uplink.tags) for uplink in new])
        self._look_for_gaps(source, new)
        if log.is_enabled_for(logging.DEBUG):
            _tell_accepted(source, entries, set(again))
        if again:
            self._duplicates(source, [entries[place].uplink for place in again])
        if unrouted:
            self._unrouted(source, unrouted)

    async def _senders(self, reports: Sequence[Uplink]) -> dict[int, Sender]:
        """Find out who sent the downlinks that reports are about, by the `id` of the report."""
        senders: dict[int, Sender] = {}
        for report in reports:
            try:
                sender = await self._devices.sender(report.dev_eui, report.correlation_id)
            except JournalError:
                continue  # it says so itself; a report without its sender is better than none
            if sender is not None:
                senders[id(report)] = sender
        return senders

    def _look_for_gaps(self, source: str, uplinks: Sequence[Uplink]) -> None:
        """Count and tell the uplinks that are missing before these, which are no copies."""
        if self._counters is None:
            return
        note = self._counters.note
        for uplink in uplinks:
            if uplink.fcnt is not None and (missing := note(uplink.dev_eui, uplink.fcnt)):
                self._tell_missing(source, uplink.dev_eui, uplink.fcnt, missing)

    def _tell_missing(self, source: str, dev_eui: str, fcnt: int, count: int) -> None:
        self._metrics.missing(source, count)
        before = fcnt - count - 1
        before += COUNTER if before < 0 else 0
        what = "1 uplink" if count == 1 else f"{count} uplinks"
        reason = f"{what} missing between FCntUp {before} and {fcnt}"
        facts: dict[str, Any] = {"source": source, "dev_eui": dev_eui, "fcnt": fcnt, "count": count}
        self._throttle.tell("info", "uplink.missing", source, reason=reason, **facts)

    def _duplicates(self, source: str, uplinks: Sequence[Uplink]) -> None:
        self._metrics.duplicates(source, len(uplinks))
        if self._passage is not None:
            self._passage.duplicates(source, uplinks)

    def _unrouted(self, source: str, uplinks: Sequence[Uplink]) -> None:
        self._metrics.unrouted(source, len(uplinks))
        if self._passage is not None:
            self._passage.unrouted(uplinks)
        for uplink in uplinks:
            self._tell_unrouted(uplink)

    def _tell_unrouted(self, uplink: Uplink) -> None:
        self._throttle.tell(
            "warning",
            "uplink.unrouted",
            uplink.source,
            source=uplink.source,
            dev_eui=uplink.dev_eui,
            fcnt=uplink.fcnt,
            reason="no active connection gets this uplink: no flow matches it, or none is configured",
        )

    def rejected(
        self, source: str, kind: str, error: MqttBridgeError | str, *, near: str = "", **facts: object
    ) -> None:
        """Count and tell what was not taken.

        `source` is empty for what was sent to no source, and `near` is then the one that was meant, perhaps. `kind`
        is one of a small fixed set, for the metrics. `facts` are fields for the log; those that are empty are left out.
        """
        self._metrics.rejected(source, kind)
        told: dict[str, Any] = {
            name: value for name, value in {"source": source, **facts}.items() if value not in {None, ""}
        }
        self._throttle.tell("warning", "uplink.rejected", (source, kind, near), kind=kind, reason=str(error), **told)


def _tell_accepted(source: str, entries: Sequence[Entry], again: set[int]) -> None:
    """Tell a line per uplink, at DEBUG."""
    for place, entry in enumerate(entries):
        facts = {"source": source, "dev_eui": entry.uplink.dev_eui, "fcnt": entry.uplink.fcnt}
        if place in again:
            log.debug("uplink.duplicate", **facts)
        else:
            log.debug("uplink.accepted", **facts, connections=entry.connections)
