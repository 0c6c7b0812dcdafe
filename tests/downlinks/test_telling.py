"""The log line and the count of each end."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from mqttbridge.downlinks.receipts import Ended
from mqttbridge.downlinks.telling import tell_ended
from mqttbridge.model import DownlinkOutcome
from tests.downlinks.memory import DEV_EUI, NOW, CountedMetrics

KEY = "0123456789abcdef"


@pytest.mark.parametrize("outcome", list(DownlinkOutcome))
def test_each_outcome_has_one_line_and_one_count(outcome: DownlinkOutcome) -> None:
    metrics = CountedMetrics()
    with capture_logs() as lines:
        tell_ended(Ended("acme", KEY, outcome, NOW, dev_eui=DEV_EUI), metrics)
    (line,) = lines
    assert line["event"] == f"downlink.{outcome.value}"
    assert line["log_level"] == ("info" if outcome is DownlinkOutcome.QUEUED else "warning")
    assert metrics.ended == {("acme", outcome.value): 1}


def test_what_is_empty_is_left_out_and_foreign_text_is_short_and_escaped() -> None:
    ended = Ended("acme", KEY, DownlinkOutcome.REJECTED, NOW, topic="a\n" * 1000, reason="x" * 1000)
    with capture_logs() as lines:
        tell_ended(ended, CountedMetrics())
    (line,) = lines
    assert set(line) == {"event", "log_level", "connection", "key", "correlation_id", "topic", "reason"}
    assert line["correlation_id"] == KEY
    assert "\n" not in line["topic"]
    assert len(line["topic"]) < 400
    assert len(line["reason"]) < 500
