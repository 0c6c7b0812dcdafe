"""The one way in: parsed uplinks are routed and stored, whatever brought them.

Both sources call `accept`, and tell their network server "taken" only after it has returned. It never waits for a
customer's broker.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from mqttbridge.errors import JournalError
from mqttbridge.formats.report import correlated
from mqttbridge.model import Device, DocumentKind, Entry
from mqttbridge.observe.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.clock import Clock
    from mqttbridge.errors import MqttBridgeError
    from mqttbridge.journal.downlink_protocol import DownlinkJournal
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.model import Connections, Uplink
    from mqttbridge.observe.metrics import Metrics
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.routing import Router

__all__ = ["MAX_BODY", "Intake", "device_in"]

log = get_logger()

MAX_BODY = 8 * 1024 * 1024
"""Bytes that come at once, at most."""
DEVICE = re.compile(rb'(?:"DevEUI"\s*:\s*"|LrnDevEui=)((?:[0-9A-Fa-f]{2}[-:]?){7}[0-9A-Fa-f]{2})').search
SEARCHED = 64 * 1024
"""Bytes."""


def device_in(refused: bytes) -> str:
    """Find the DevEUI in what was refused, a document or a query string, for the log; empty if there is none."""
    found = DEVICE(refused, 0, SEARCHED)
    return "" if found is None else found[1].decode().replace("-", "").replace(":", "").upper()


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
    ) -> None:
        """Take what it works with; `devices` learns where each one is, for its downlinks."""
        self._journal = journal
        self._devices = devices
        self._router = router
        self._metrics = metrics
        self._throttle = throttle
        self._clock = clock

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
        route = self._router.route
        entries: list[Entry] = []
        unrouted: list[Uplink] = []
        for uplink in uplinks:
            connections = route(uplink)
            if uplink.correlation_id:
                uplink, connections = await self._with_sender(uplink, connections)  # noqa: PLW2901 (told better)
            if connections:
                entries.append(Entry(uplink, connections, window))
            else:
                unrouted.append(uplink)
        again = await self._journal.append(entries) if entries else []
        self._metrics.accepted(source, len(uplinks), at=self._clock.now())
        # Not from copies: of two sources that hand over the same uplinks, the first one to do so has the device.
        copies = {id(entries[place].uplink) for place in again}
        self._devices.learn(
            [
                Device(uplink.dev_eui, source, uplink.way, uplink.tags)
                for uplink in uplinks
                if uplink.kind is DocumentKind.UPLINK and id(uplink) not in copies
            ]
        )
        if again:
            self._metrics.duplicates(source, len(again))
        if log.is_enabled_for(logging.DEBUG):
            _tell_accepted(source, entries, set(again))
        if unrouted:
            self._metrics.unrouted(source, len(unrouted))
            for uplink in unrouted:
                self._tell_unrouted(uplink)

    async def _with_sender(self, uplink: Uplink, connections: Connections) -> tuple[Uplink, Connections]:
        """Have a report about a downlink go to the connection that sent it, too, by the name that this one knows."""
        try:
            sender = await self._devices.sender(uplink.dev_eui, uplink.correlation_id)
        except JournalError:
            # It says so itself. A report without its sender is better than none.
            return uplink, connections
        if sender is None:
            return uplink, connections
        known = self._router.with_sender(connections, sender.connection)
        return correlated(uplink, sender.correlation_id), known

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
