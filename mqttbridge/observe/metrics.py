"""Metrics for Prometheus: what the sources took, what became of it for each connection, how the journal is.

One `Metrics` for the daemon, with a registry of its own. Sources count through it; what the journal and the sessions
know already is read from them at the moment of a scrape, never kept twice. No label names a device: the number of
series is bounded by the configuration. docs/metrics.md has the table; a test holds it against the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from mqttbridge.model import DownlinkOutcome
from mqttbridge.observe.families import STATES, Connections, Counter, JournalHealth, Numbers, Total

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from mqttbridge.model import Counts
    from mqttbridge.observe.families import Health

__all__ = ["REJECTIONS", "STATES", "DownlinkMetrics", "Metrics", "Taken"]

REJECTIONS = (
    "malformed",
    "unauthorised",
    "too_large",
    "media_type",
    "method",
    "cut_short",
    "unknown_source",
    "overloaded",
    "journal_full",
    "journal_failed",
    "other",
)
"""Why a source did not take something. A fixed set: it is a label."""
SECOND = 1000
"""In ms."""


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What a source brought: uplinks that were accepted, what was not taken, and when the last uplink came (ms)."""

    accepted: int = 0
    rejected: int = 0
    last: int | None = None


class Metrics:
    """All metrics of one daemon."""

    def __init__(
        self,
        counts: Callable[[], Mapping[str, Counts]],
        states: Callable[[], Mapping[str, str]],
        journal_health: Callable[[], Health],
        downlinks_waiting: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """Read all this at each scrape: accounts, states and waiting downlinks are by connection id."""
        self._registry = CollectorRegistry()
        self._counts = counts
        self._downlinks_waiting = downlinks_waiting
        self.certificates: Callable[[], Mapping[str, float]] = dict
        """When certificates of the configuration expire (Unix seconds), by whose they are. To be set by who knows."""
        self.parked_kept: Callable[[], Mapping[str, int]] = dict
        """How many parked uplinks are kept, by connection. Likewise."""
        self.history_lost: Callable[[], int] | None = None
        """How much the history could not keep since the start. Likewise."""
        self._last_uplink: dict[str, int] = {}
        # Of families without labels: the one number is that of nobody.
        self._reload: dict[str, float] = {}
        self._taken_at: dict[str, float] = {}
        uplinks = "mqttbridge_source_uplinks"
        accepted = "Uplinks that were stored and acknowledged to the source."
        rejected = "Requests or messages of a source that were not taken, by reason."
        unrouted = "Uplinks that no flow leads to an active connection."
        duplicates = "Accepted uplinks that were not stored, because they had come before."
        missing = "Uplinks that did not come here, as the frame counters of the devices tell."
        self._accepted = self._by_source(f"{uplinks}_accepted", accepted)
        self._rejected = self._by_source(f"{uplinks}_rejected", rejected, "reason")
        self._unrouted = self._by_source(f"{uplinks}_unrouted", unrouted)
        self._duplicates = self._by_source(f"{uplinks}_duplicate", duplicates)
        self._missing = self._by_source("mqttbridge_uplinks_missing", missing)
        self.downlinks = DownlinkMetrics(self._registry)
        # What is sent to a URL of no source is nobody's: its label is empty.
        self._rejected.announce("", "unknown_source")
        self._registry.register(Connections(counts, states))
        self._registry.register(JournalHealth(journal_health))
        self._read_later()
        ProcessCollector(registry=self._registry)

    def _on_disk(self) -> set[str]:
        """Give the connections that uplinks or downlinks wait for."""
        queued = {name for name, account in dict(self._counts()).items() if account.queued}
        return queued | {name for name, waiting in dict(self._downlinks_waiting()).items() if waiting}

    def _by_source(self, name: str, text: str, *labels: str) -> Counter:
        counter = Counter(name, text, "source", *labels)
        self._registry.register(counter)
        return counter

    def _read_later(self) -> None:
        """Show what is read at a scrape, from whoever is known by then."""
        downlinks = "Downlinks that wait for their network server."
        parked = "Parked uplinks whose document is kept, for `mqttbridge parked`."
        expiry = "When a certificate of the configuration expires."
        successful = "1 if the configuration was taken when it was last read, 0 if it was refused."
        lost = "Uplinks, ends of uplinks and events that the history could not keep."
        for collector in (
            Numbers("mqttbridge_connection_downlinks_waiting", downlinks, "connection", self._downlinks_waiting),
            Numbers("mqttbridge_uplinks_parked_kept", parked, "connection", lambda: dict(self.parked_kept())),
            Numbers(
                "mqttbridge_certificate_expiry_timestamp_seconds", expiry, "owner", lambda: dict(self.certificates())
            ),
            Numbers("mqttbridge_config_last_reload_successful", successful, "", lambda: self._reload),
            Numbers(
                "mqttbridge_config_last_reload_success_timestamp_seconds",
                "When a configuration was last taken.",
                "",
                lambda: self._taken_at,
            ),
            Total("mqttbridge_history_lost", lost, lambda: None if self.history_lost is None else self.history_lost()),
        ):
            self._registry.register(collector)

    def announce(self, source: str) -> None:
        """Show a source from its start, with zeros: a rate over a counter that appears late misses its first step.

        After a reload again, for all: what is shown already keeps its numbers.
        """
        for counter in (self._accepted, self._unrouted, self._duplicates, self._missing):
            counter.announce(source)
        for reason in REJECTIONS:
            self._rejected.announce(source, reason)
        self.downlinks.announce_source(source)

    def forget(self, source: str) -> None:
        """Show a source no more that is not configured any more, whatever still counts for it."""
        for counter in (self._accepted, self._rejected, self._unrouted, self._duplicates, self._missing):
            counter.forget(source)
        self._last_uplink.pop(source, None)
        self.downlinks.forget_source(source)

    def reloaded(self, ok: bool, at: int) -> None:
        """Tell whether a configuration was taken, at this wall time (ms): at the start and after each reload."""
        self._reload = {"": float(ok)}
        if ok:
            self._taken_at = {"": at / SECOND}

    def accepted(self, source: str, count: int = 1, *, at: int = 0) -> None:
        """Count uplinks that were stored and acknowledged, at this wall time (ms)."""
        self._accepted.add(count, source)
        if count and at:
            self._last_uplink[source] = at

    def taken(self) -> dict[str, Taken]:
        """Give what each source brought since the start. Cheap; for the event loop."""
        rejected = self._rejected.sums()
        return {
            source: Taken(accepted, rejected.get(source, 0), self._last_uplink.get(source))
            for source, accepted in self._accepted.sums().items()
        }

    def rejected(self, source: str, reason: str, count: int = 1) -> None:
        """Count what was not taken; a reason beyond `REJECTIONS` is counted as `other`."""
        self._rejected.add(count, source, reason if reason in REJECTIONS else "other")

    def unrouted(self, source: str, count: int = 1) -> None:
        """Count uplinks that go nowhere."""
        self._unrouted.add(count, source)

    def duplicates(self, source: str, count: int = 1) -> None:
        """Count uplinks that had come before."""
        self._duplicates.add(count, source)

    def missing(self, source: str, count: int = 1) -> None:
        """Count uplinks that a gap in a device's FCntUp tells of."""
        self._missing.add(count, source)

    def render(self) -> tuple[bytes, str]:
        """Give the text format 0.0.4 and its content type. Raises whatever the callables raise.

        It reads files in /proc, and takes some 50 ms with 1,000 connections: the event loop hands it to a thread.
        Plain dicts are copied in one step, so the loop may change them meanwhile.
        """
        self.downlinks.prune(self._on_disk)
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


class DownlinkMetrics:
    """What became of the downlinks. Over the life of a process: received + waiting before = all outcomes + waiting."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Show them in this registry."""
        self._received = Counter(
            "mqttbridge_connection_downlinks_received",
            "Messages that came to a connection as downlinks.",
            "connection",
        )
        self._ended = Counter(
            "mqttbridge_connection_downlinks",
            "Downlinks that ended, by outcome.",
            "connection",
            "outcome",
        )
        self._delayed = Counter(
            "mqttbridge_connection_downlinks_delayed",
            "How often downlinks of a connection had to wait, for downlinkRate or for room.",
            "connection",
        )
        self._receipts_lost = Counter(
            "mqttbridge_connection_receipts_lost",
            "Receipts that the connection's broker does not take.",
            "connection",
        )
        self._retried = Counter(
            "mqttbridge_source_downlinks_retried",
            "Attempts to hand over a downlink that the network server of a source did not take at that time.",
            "source",
        )
        self._by_connection = (self._received, self._ended, self._delayed, self._receipts_lost)
        self._leaving: set[str] = set()
        for counter in (*self._by_connection, self._retried):
            registry.register(counter)

    def announce(self, connection: str) -> None:
        """Show a connection that takes downlinks from its start, with zeros; what is shown keeps its numbers."""
        self._leaving.discard(connection)
        for counter in (self._received, self._delayed, self._receipts_lost):
            counter.announce(connection)
        for outcome in DownlinkOutcome:
            self._ended.announce(connection, outcome)

    def forget(self, connection: str) -> None:
        """Show a connection no more that is not configured any more: once nothing waits for it."""
        self._leaving.add(connection)

    def prune(self, kept: Callable[[], Collection[str]]) -> None:
        """Let go of forgotten connections but for those that `kept` gives. Called by a scrape, in its thread."""
        if not self._leaving:
            return
        for connection in self._leaving.difference(kept()):
            for counter in self._by_connection:
                counter.forget(connection)
            self._leaving.discard(connection)

    def announce_source(self, source: str) -> None:
        """Show a source from its start."""
        self._retried.announce(source)

    def forget_source(self, source: str) -> None:
        """Show a source no more."""
        self._retried.forget(source)

    def downlink_received(self, connection: str, count: int = 1) -> None:
        """Count messages that came."""
        self._received.add(count, connection)

    def downlink_ended(self, connection: str, outcome: DownlinkOutcome) -> None:
        """Count one that ended."""
        self._ended.add(1, connection, outcome)

    def downlink_delayed(self, connection: str) -> None:
        """Count a wait."""
        self._delayed.add(1, connection)

    def receipt_lost(self, connection: str) -> None:
        """Count a receipt that was given up."""
        self._receipts_lost.add(1, connection)

    def downlink_retried(self, source: str, count: int = 1) -> None:
        """Count an attempt that was in vain."""
        self._retried.add(count, source)
