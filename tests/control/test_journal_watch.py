"""What the log says of the journal."""

from __future__ import annotations

import structlog

from mqttbridge.control.journal_watch import JournalWatch
from mqttbridge.journal.protocol import JournalHealth
from mqttbridge.model import Counts


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.seconds


class Journal:
    """Only what the watch looks at."""

    def __init__(self) -> None:
        self.problem = ""
        self.dropped = 5

    def health(self) -> JournalHealth:
        return JournalHealth(self.problem, 0, 1)

    def counts(self) -> dict[str, Counts]:
        return {"acme": Counts(routed=10, dropped=self.dropped)}


def test_a_failure_and_its_end_are_told_once_each() -> None:
    journal = Journal()
    watch = JournalWatch(journal, Clock())
    with structlog.testing.capture_logs() as lines:
        watch.look()
        journal.problem = "disk full"
        watch.look()
        watch.look()
        journal.problem = ""
        watch.look()
        watch.look()
    assert [line["event"] for line in lines] == ["journal.failed", "journal.recovered"]
    assert lines[0]["reason"] == "disk full"


def test_dropped_uplinks_are_told_by_number_once_a_minute() -> None:
    journal, clock = Journal(), Clock()
    watch = JournalWatch(journal, clock)
    with structlog.testing.capture_logs() as lines:
        watch.look()
        for _ in range(100):
            journal.dropped += 1
            clock.seconds += 1
            watch.look()
        clock.seconds += 60
        watch.look()
    assert [line["event"] for line in lines] == ["uplink.dropped"] * 3
    assert sum(line["count"] for line in lines) == 100
