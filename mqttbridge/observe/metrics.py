"""Metrics for Prometheus: what the sources took, what became of it for each connection, how the journal is.

One `Metrics` for the daemon, with a registry of its own. Sources count through it; what the journal and the sessions
know already is read from them at the moment of a scrape, never kept twice. No label names a device: the number of
series is bounded by the configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from mqttbridge.model import DownlinkOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric

    from mqttbridge.model import Counts

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
STATES = (
    "CLOSED",
    "OPENING",
    "AUTHENTICATING",
    "OPENED",
    "AUTHENTICATION_FAILED",
    "CLOSING",
    "UNREACHABLE",
    "DEACTIVATED",
)
"""What a connection can be, as ThingPark names it."""
OUTCOMES = ("routed", "delivered", "expired", "parked", "dropped")


class Health(Protocol):
    """How the journal is: `problem` is empty while all is well; sizes are bytes."""

    @property
    def problem(self) -> str:
        """A sentence, or nothing."""
        ...

    @property
    def size(self) -> int:
        """Bytes on disk."""
        ...

    @property
    def max_size(self) -> int:
        """Bytes that it may have."""
        ...


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
        self._accepted = _Counter(
            "mqttbridge_source_uplinks_accepted",
            "Uplinks that were stored and acknowledged to the source.",
            "source",
        )
        self._rejected = _Counter(
            "mqttbridge_source_uplinks_rejected",
            "Requests or messages of a source that were not taken, by reason.",
            "source",
            "reason",
        )
        self._unrouted = _Counter(
            "mqttbridge_source_uplinks_unrouted",
            "Uplinks that no flow leads to an active connection.",
            "source",
        )
        self._duplicates = _Counter(
            "mqttbridge_source_uplinks_duplicate",
            "Accepted uplinks that were not stored, because they had come before.",
            "source",
        )
        for counter in (self._accepted, self._rejected, self._unrouted, self._duplicates):
            self._registry.register(counter)
        self._last_uplink: dict[str, int] = {}
        self.downlinks = DownlinkMetrics(self._registry)
        # What is sent to a URL of no source is nobody's: its label is empty.
        self._rejected.add(0, "", "unknown_source")
        self._registry.register(_Connections(counts, states))
        self._registry.register(_JournalHealth(journal_health))
        self._registry.register(_Waiting(downlinks_waiting))
        ProcessCollector(registry=self._registry)

    def announce(self, source: str) -> None:
        """Show a source from its start, with zeros: a rate over a counter that appears late misses its first step."""
        self._accepted.add(0, source)
        self._unrouted.add(0, source)
        self._duplicates.add(0, source)
        self.downlinks.downlink_retried(source, 0)
        for reason in REJECTIONS:
            self._rejected.add(0, source, reason)

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

    def render(self) -> tuple[bytes, str]:
        """Give the text format 0.0.4 and its content type. Raises whatever the callables raise.

        It reads files in /proc, and takes some 50 ms with 1,000 connections: the event loop hands it to a thread.
        Plain dicts are copied in one step, so the loop may change them meanwhile.
        """
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


class _Counter(Collector):
    """A counter with labels, plain numbers until a scrape: counted in the event loop, so no lock is needed."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._values: dict[tuple[str, ...], int] = {}

    def add(self, count: int, *labels: str) -> None:
        """Count under these labels."""
        self._values[labels] = self._values.get(labels, 0) + count

    def sums(self) -> dict[str, int]:
        """Give the numbers by the first label, whatever the others."""
        sums: dict[str, int] = {}
        for labels, value in self._values.items():
            sums[labels[0]] = sums.get(labels[0], 0) + value
        return sums

    def collect(self) -> Iterator[Metric]:
        """Give the family."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in list(self._values.items()):
            family.add_metric(labels, value)
        yield family


class DownlinkMetrics:
    """What became of the downlinks. Over the life of a process: received + waiting before = all outcomes + waiting."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Show them in this registry."""
        self._received = _Counter(
            "mqttbridge_connection_downlinks_received",
            "Messages that came to a connection as downlinks.",
            "connection",
        )
        self._ended = _Counter(
            "mqttbridge_connection_downlinks",
            "Downlinks that ended, by outcome.",
            "connection",
            "outcome",
        )
        self._delayed = _Counter(
            "mqttbridge_connection_downlinks_delayed",
            "How often downlinks of a connection had to wait, for downlinkRate or for room.",
            "connection",
        )
        self._receipts_lost = _Counter(
            "mqttbridge_connection_receipts_lost",
            "Receipts that the connection's broker does not take.",
            "connection",
        )
        self._retried = _Counter(
            "mqttbridge_source_downlinks_retried",
            "Attempts to hand over a downlink that the network server of a source did not take at that time.",
            "source",
        )
        for counter in (self._received, self._ended, self._delayed, self._receipts_lost, self._retried):
            registry.register(counter)

    def announce(self, connection: str) -> None:
        """Show a connection that takes downlinks from its start, with zeros."""
        for counter in (self._received, self._delayed, self._receipts_lost):
            counter.add(0, connection)
        for outcome in DownlinkOutcome:
            self._ended.add(0, connection, outcome)

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


class _Waiting(Collector):
    """The downlinks that wait, read at a scrape."""

    def __init__(self, waiting: Callable[[], Mapping[str, int]]) -> None:
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        """Give the gauge."""
        text = "Downlinks that wait for their network server."
        gauge = GaugeMetricFamily("mqttbridge_connection_downlinks_waiting", text, labels=["connection"])
        for connection, number in dict(self._waiting()).items():
            gauge.add_metric([connection], number)
        yield gauge


class _Connections(Collector):
    """The accounts and states of the connections, read at a scrape."""

    def __init__(self, counts: Callable[[], Mapping[str, Counts]], states: Callable[[], Mapping[str, str]]) -> None:
        self._counts = counts
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """Give the families, one moment's picture of each."""
        uplinks = CounterMetricFamily(
            "mqttbridge_connection_uplinks",
            "Uplinks by outcome: routed = delivered + expired + parked + dropped + queued.",
            labels=["connection", "outcome"],
        )
        queued = GaugeMetricFamily(
            "mqttbridge_connection_uplinks_queued",
            "Uplinks still to be delivered.",
            labels=["connection"],
        )
        for connection, account in dict(self._counts()).items():
            for outcome in OUTCOMES:
                uplinks.add_metric([connection, outcome], getattr(account, outcome))
            queued.add_metric([connection], account.queued)
        yield uplinks
        yield queued
        states = GaugeMetricFamily(
            "mqttbridge_connection_state",
            "1 for the state that a connection is in, 0 for the others.",
            labels=["connection", "state"],
        )
        for connection, present in dict(self._states()).items():
            for state in STATES:
                states.add_metric([connection, state], float(state == present))
        yield states


class _JournalHealth(Collector):
    """How the journal is, read at a scrape."""

    def __init__(self, health: Callable[[], Health]) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """Give the three gauges."""
        health = self._health()
        used = "What the journal's file holds: without its free pages and its write-ahead log."
        yield GaugeMetricFamily("mqttbridge_journal_size_bytes", used, health.size)
        yield GaugeMetricFamily("mqttbridge_journal_max_size_bytes", "What journal.maxSize allows.", health.max_size)
        yield GaugeMetricFamily(
            "mqttbridge_journal_healthy",
            "1 while the journal takes uplinks, 0 while it has a problem.",
            float(not health.problem),
        )
