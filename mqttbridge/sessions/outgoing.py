"""From a queued uplink to what its connection publishes, or to why it is not published: pure.

Called by `delivery` for each uplink. It must never raise for what stands in a document: an uplink that cannot be
published is parked, or all behind it would wait for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.errors import DocumentError, TopicError
from mqttbridge.formats.shape import shape
from mqttbridge.model import Outcome, Queued, Settled
from mqttbridge.mqtt.link import Publish
from mqttbridge.settings.secret import plain
from mqttbridge.topics import Pattern, compile_pattern

if TYPE_CHECKING:
    from mqttbridge.settings.schema import Configuration

__all__ = ["Outgoing", "expired", "outgoing", "prepare", "too_large"]

PUBLISH_OVERHEAD = 6
"""Bytes of a PUBLISH besides topic, payload and remaining length: first byte, topic length, packet identifier, and
the length of its properties (MQTT 5, section 3.3). Only brokers of MQTT 5 state a limit."""
CORRELATION_OVERHEAD = 5
"""Bytes of Correlation Data besides itself: identifier, length, and two more of the properties' length at most."""

UNITS = ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1000, "s"))
"""Milliseconds."""


class Outgoing(msgspec.Struct, frozen=True):
    """What of a connection's configuration shapes its uplinks. `validity` in milliseconds."""

    pattern: Pattern
    validity: int
    send_metadata: bool
    send_raw_decoded: bool


def outgoing(configuration: Configuration) -> Outgoing:
    """Compile a configuration. Raises `PatternError`, which a checked configuration never does."""
    return Outgoing(
        pattern=compile_pattern(plain(configuration.uplink_topic_pattern)),
        validity=configuration.uplink_time_validity,
        send_metadata=configuration.send_metadata,
        send_raw_decoded=configuration.send_raw_decoded_format,
    )


def prepare(queued: Queued, out: Outgoing, *, now: int, maximum_packet: int) -> Publish | Settled:
    """Give the message to publish (its token is the seq), or how the uplink ends instead.

    `now`: wall time in ms, the moment of such an end. `maximum_packet`: bytes, MQTT 5 section 3.2.2.3.6.
    """
    uplink = queued.uplink
    if (end := expired(queued, out.validity, now=now)) is not None:
        return end

    def document() -> dict[str, Any]:
        return msgspec.json.decode(uplink.body, type=dict[str, Any])

    topic = ""
    try:
        topic = out.pattern.render(uplink.dev_eui, document)
        payload = shape(uplink, send_metadata=out.send_metadata, send_raw_decoded=out.send_raw_decoded)
    except (TopicError, DocumentError) as error:
        return Settled(queued.seq, Outcome.PARKED, str(error), topic, at=now)
    publish = Publish(queued.seq, topic, payload)
    if reason := too_large(publish, maximum_packet):
        return Settled(queued.seq, Outcome.PARKED, reason, topic, at=now)
    return publish


def too_large(publish: Publish, maximum_packet: int) -> str:
    """Say why a message cannot be sent to this broker; nothing if it can."""
    size = _packet_size(publish)
    return (
        f"{size} bytes, but the broker takes packets of at most {maximum_packet} bytes" if size > maximum_packet else ""
    )


def expired(queued: Queued, validity: int, *, now: int) -> Settled | None:
    """Give the end of an uplink whose `Time` lies more than `validity` ms back; None: it is still good."""
    age = now - queued.uplink.time
    if age <= validity:
        return None
    reason = f"its Time is {_span(age)} old, uplinkTimeValidity is {_span(validity)}"
    return Settled(queued.seq, Outcome.EXPIRED, reason, at=now)


def _span(milliseconds: int) -> str:
    """Write a time span in the largest unit that it fills twice."""
    for size, unit in UNITS:
        if milliseconds >= 2 * size:
            return (
                f"{milliseconds / size:.3g} {unit}" if milliseconds < 100 * size else f"{milliseconds // size} {unit}"
            )
    return f"{milliseconds} ms"


def _packet_size(publish: Publish) -> int:
    """Give the size of the packet in bytes, as MQTT 5 counts it."""
    size = len(publish.topic.encode()) + len(publish.payload) + PUBLISH_OVERHEAD
    if publish.correlation:
        size += len(publish.correlation) + CORRELATION_OVERHEAD
    # The remaining length, without the first byte, takes a byte for each seven bits.
    return size + max(1, -(-(size - 1).bit_length() // 7))
