"""What the log says of the journal."""

from __future__ import annotations

import structlog

from mqttbridge.control.journal_watch import JournalWatch
from mqttbridge.journal.protocol import JournalHealth
from mqttbridge.model import Counts, Outcome, Settled


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
        self.size = 0

    def health(self) -> JournalHealth:
        return JournalHealth(self.problem, self.size, 1000)

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


def test_what_others_dropped_is_not_told_again() -> None:
    journal = Journal()
    watch = JournalWatch(journal, Clock())
    journal.dropped += 3
    watch.settled("acme", [Settled(seq, Outcome.DROPPED) for seq in (1, 2)] + [Settled(3, Outcome.DELIVERED)])
    with structlog.testing.capture_logs() as lines:
        watch.look()
    assert [(line["event"], line["count"]) for line in lines] == [("uplink.dropped", 1)]


def test_a_journal_that_fills_up_is_told_with_its_growth_and_its_largest_queues() -> None:
    journal, clock = Journal(), Clock()
    watch = JournalWatch(journal, clock)
    with structlog.testing.capture_logs() as lines:
        for second in range(961):
            clock.seconds, journal.size = float(second), second
            watch.look()
        for second in range(961, 0, -1):
            clock.seconds, journal.size = 2000.0 - second, second
            watch.look()
    assert [(line["event"], line["percent"]) for line in lines] == [
        ("journal.filling", 50),
        ("journal.filling", 80),
        ("journal.filling", 95),
        ("journal.relieved", 39),
    ]
    assert lines[0]["log_level"] == "warning"
    assert (lines[0]["size"], lines[0]["max_size"]) == (500, 1000)
    assert lines[0]["reason"] == (
        "it grows by 60 bytes a minute, and is full in about 8 minutes at this rate; most queued: acme 5"
    )


def test_a_journal_that_is_rather_full_at_the_start_is_told() -> None:
    journal = Journal()
    journal.size = 870
    watch = JournalWatch(journal, Clock())
    with structlog.testing.capture_logs() as lines:
        watch.look()
        watch.look()
    assert [line["reason"] for line in lines] == ["how fast it grows is not known yet; most queued: acme 5"]
