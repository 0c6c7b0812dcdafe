"""Gives a report about a downlink the CorrelationID that the downlink's sender knows it by. Pure; for the sources.

Everything else in the report stays as it was written. Must never raise, whatever the report holds: its source would get
it again for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw
from msgspec.structs import replace

if TYPE_CHECKING:
    from mqttbridge.model import Uplink

__all__ = ["correlated"]

# Not into values: a number that is out of Python's range is none of our business.
decode = msgspec.json.Decoder(dict[str, dict[str, Raw]]).decode
encode = msgspec.json.Encoder().encode


def correlated(report: Uplink, correlation_id: str) -> Uplink:
    """Give the report with this CorrelationID; itself if it has it, or goes out as its network server wrote it."""
    if report.correlation_id == correlation_id:
        return report
    try:
        content = decode(report.body).get(report.kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return report
    if content is None:
        return report
    body = encode({report.kind.value: content | {"CorrelationID": Raw(encode(correlation_id))}})
    return replace(report, body=body, correlation_id=correlation_id)
