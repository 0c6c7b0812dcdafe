"""The kinds of metrics that are on the page: counters of our own, and what is read from others at a scrape.

For `observe/metrics.py` alone. Collected in a thread while the event loop counts: whatever is iterated is copied in
one step first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric

    from mqttbridge.model import Counts

__all__ = ["OUTCOMES", "STATES", "Connections", "Counter", "Health", "JournalHealth", "Numbers", "Total"]

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


class Counter(Collector):
    """A counter with labels, plain numbers until a scrape: counted in the event loop, so no lock is needed."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        """Name it as Prometheus does, without `_total`."""
        self._name = name
        self._text = text
        self._labels = labels
        self._values: dict[tuple[str, ...], int] = {}
        self._gone: set[str] = set()

    def add(self, count: int, *labels: str) -> None:
        """Count under these labels, unless the first of them is forgotten."""
        if labels[0] not in self._gone:
            self._values[labels] = self._values.get(labels, 0) + count

    def announce(self, *labels: str) -> None:
        """Show these labels with what is counted, zero at first; what was forgotten begins anew."""
        self._gone.discard(labels[0])
        self._values.setdefault(labels, 0)

    def forget(self, first: str) -> None:
        """Show nothing more with this first label, until it is announced again."""
        self._gone.add(first)
        for labels in [labels for labels in list(self._values) if labels[0] == first]:
            self._values.pop(labels, None)

    def sums(self) -> dict[str, int]:
        """Give the numbers by the first label, whatever the others."""
        sums: dict[str, int] = {}
        for labels, value in list(self._values.items()):
            sums[labels[0]] = sums.get(labels[0], 0) + value
        return sums

    def collect(self) -> Iterator[Metric]:
        """Give the family."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in list(self._values.items()):
            family.add_metric(labels, value)
        yield family


class Numbers(Collector):
    """A gauge that is read at a scrape, by one label; without a label's name, by none."""

    def __init__(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """`read` is called in the thread of the scrape."""
        self._name = name
        self._text = text
        self._labels = [label] if label else []
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Give the family."""
        gauge = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for value_of, number in dict(self._read()).items():
            gauge.add_metric([value_of][: len(self._labels)], number)
        yield gauge


class Total(Collector):
    """A counter without labels that is read at a scrape; None: it is not known, and not shown."""

    def __init__(self, name: str, text: str, read: Callable[[], int | None]) -> None:
        """`read` is called in the thread of the scrape."""
        self._name = name
        self._text = text
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Give the family."""
        yield CounterMetricFamily(self._name, self._text, self._read())


class Connections(Collector):
    """The accounts and states of the connections, read at a scrape."""

    def __init__(self, counts: Callable[[], Mapping[str, Counts]], states: Callable[[], Mapping[str, str]]) -> None:
        """Both are by connection id."""
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


class JournalHealth(Collector):
    """How the journal is, read at a scrape."""

    def __init__(self, health: Callable[[], Health]) -> None:
        """`health` is called in the thread of the scrape."""
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
