"""How the end of a downlink is logged and counted: the same, wherever it ended.

Called once a downlink, by the intake and by the dispatchers, and only after the end is on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.downlinks.receipts import short
from mqttbridge.model import DownlinkOutcome
from mqttbridge.observe.log import get_logger

if TYPE_CHECKING:
    from mqttbridge.downlinks.receipts import Ended
    from mqttbridge.observe.metrics import DownlinkMetrics

__all__ = ["tell_ended"]

log = get_logger()

MAX_TOPIC = 200
"""Characters of a foreign topic."""
EVENTS = {
    DownlinkOutcome.REJECTED: "downlink.rejected",
    DownlinkOutcome.EXPIRED: "downlink.expired",
    DownlinkOutcome.FAILED: "downlink.failed",
}


def tell_ended(ended: Ended, metrics: DownlinkMetrics) -> None:
    """Write the line of this outcome, and count it. Empty fields are left out."""
    metrics.downlink_ended(ended.connection, ended.outcome)
    facts: dict[str, str | int] = {
        "connection": ended.connection,
        "dev_eui": short(ended.dev_eui),
        "source": ended.source,
        "key": ended.key,
        "correlation_id": short(ended.correlation_id) or ended.key,
    }
    if ended.outcome is DownlinkOutcome.QUEUED:
        log.info("downlink.queued", **_told(facts), attempts=ended.attempts)
        return
    facts |= {"topic": short(ended.topic, MAX_TOPIC), "field": short(ended.field), "reason": short(ended.reason)}
    log.warning(EVENTS[ended.outcome], **_told(facts))


def _told(facts: dict[str, str | int]) -> dict[str, str | int]:
    """Leave out what is empty."""
    return {name: value for name, value in facts.items() if value != ""}
