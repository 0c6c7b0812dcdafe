"""What is told of a message from a broker before it is read as a downlink: pure."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from mqttbridge.formats.downlink import MAX_BODY
from mqttbridge.mqtt.link import Received

if TYPE_CHECKING:
    from mqttbridge.topics import Pattern

__all__ = ["ByHand", "digest_of", "unfit"]


class ByHand(Received, frozen=True, gc=False):
    """A document that no broker sent: it came on no topic, and names its device itself."""


def unfit(pattern: Pattern, topic: str) -> str:
    """Say why a topic leads back to no device, though the broker sent what it carries."""
    levels = pattern.subscription.split("/")
    given = topic.split("/")
    if len(levels) == len(given) and all(one in {"+", other} for one, other in zip(levels, given, strict=True)):
        return "the topic has no DevEUI, 16 hex digits, where downlinkTopicPattern has one"
    return "the topic does not fit downlinkTopicPattern, which may have been another one before"


def digest_of(message: Received) -> bytes:
    """Tell messages apart by topic, payload and correlation data: 16 bytes.

    Of a payload that is too large to be a downlink, the length and the beginning count.
    """
    topic = message.topic.encode("utf-8", "surrogatepass")
    digest = blake2b(digest_size=16)
    for part in (topic, message.payload, message.correlation):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part[:MAX_BODY])
    return digest.digest()
