"""Gives a report about a downlink the CorrelationID that the downlink's sender knows it by. Pure; for the sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from mqttbridge.model import Uplink

__all__ = ["correlated"]


def correlated(report: Uplink, correlation_id: str) -> Uplink:
    """Give the report with this CorrelationID; itself if it has it, or goes out as its network server wrote it."""
    if report.correlation_id == correlation_id:
        return report
    document: dict[str, Any] = msgspec.json.decode(report.body, type=dict[str, Any])
    content = document.get(report.kind)
    if not isinstance(content, dict):
        return report
    body = msgspec.json.encode({report.kind.value: content | {"CorrelationID": correlation_id}})
    return replace(report, body=body, correlation_id=correlation_id)
