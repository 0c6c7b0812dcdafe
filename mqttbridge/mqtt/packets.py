"""The MQTT packets that flow by the thousand: PUBLISH and its answers, to and from bytes. Pure.

Everything else (CONNECT, CONNACK, SUBSCRIBE, PINGREQ, …) is left to the MQTT client library. Whatever a broker sends,
these functions either understand it or raise `Malformed`; sizes are bounded by `LARGEST`.
Sections are those of MQTT 3.1.1 and MQTT 5.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from mqttbridge.mqtt.link import Received

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CONNACK",
    "DISCONNECT",
    "LARGEST",
    "PINGRESP",
    "PUBACK",
    "PUBCOMP",
    "PUBLISH",
    "PUBREC",
    "PUBREL",
    "SUBACK",
    "UNSUBACK",
    "Malformed",
    "Splitter",
    "answer",
    "answered",
    "encode",
    "publish",
    "published",
]

# Packet types: the upper half of the first byte (section 2.1.2).
CONNACK = 2
PUBLISH = 3
PUBACK = 4
PUBREC = 5
PUBREL = 6
PUBCOMP = 7
SUBACK = 9
UNSUBACK = 11
PINGRESP = 13
DISCONNECT = 14

LARGEST = 16 * 1024 * 1024
"""Bytes of the largest packet taken from a broker. LoRaWAN documents are a thousandth of it."""

LARGEST_LENGTH = 268_435_455
LONGEST_STRING = 65535
QOS_MASK = 0x06
QOS_NEVER = 0x06
DUP = 0x08

# Properties of a PUBLISH (MQTT 5, section 3.3.2.3): what stands behind each identifier.
FIXED = {0x01: 1, 0x02: 4, 0x23: 2}
"""Payload Format Indicator, Message Expiry Interval, Topic Alias: so many bytes."""
LENGTHY = {0x03: 1, 0x08: 1, 0x09: 1, 0x26: 2}
"""Content Type, Response Topic, Correlation Data, User Property: so many strings, each behind its length."""
SUBSCRIPTION_IDENTIFIER = 0x0B
CORRELATION = 0x09
REPEATABLE = frozenset({0x26, SUBSCRIPTION_IDENTIFIER})

_pack_short = Struct("!H").pack
_pack_answer = Struct("!BBH").pack
_pack_answer_code = Struct("!BBHB").pack


class Malformed(ValueError):
    """The broker broke the protocol; the message says how."""


def _header(first: int, length: int) -> bytes:
    """Encode a fixed header: the first byte, and the length (section 1.5.5 of MQTT 5)."""
    if 127 < length < 16384:  # noqa: PLR2004 - two bytes of length: almost every document
        return bytes((first, length & 0x7F | 0x80, length >> 7))
    out = bytearray((first,))
    while length > 127:  # noqa: PLR2004 - seven bits a byte
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Decode a length; gives it and where it ends, or -1 for the end if it is not complete yet."""
    value = shift = 0
    for byte in data[position : position + 4]:
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, position
        shift += 7
    if shift < 28:  # noqa: PLR2004 - four bytes of seven bits
        return 0, -1
    raise Malformed("a length of more than four bytes")


def publish(
    topic: bytes, payload: bytes, *, qos: int, retain: bool, mid: int, v5: bool, correlation: bytes = b""
) -> bytes:
    """Encode a PUBLISH (section 3.3). Raises `ValueError` for what no packet can hold."""
    size = len(topic)
    if not 0 < size <= LONGEST_STRING:
        raise ValueError(f"A topic has 1 to 65535 bytes, not {size}.")
    properties = (_correlated(correlation) if correlation else b"\x00") if v5 else b""
    length = 2 + size + (2 if qos else 0) + len(properties) + len(payload)
    if length > LARGEST_LENGTH:
        raise ValueError(f"A message of {length} bytes is larger than MQTT allows.")
    header = _header(PUBLISH << 4 | qos << 1 | retain, length)
    identifier = _pack_short(mid) if qos else b""
    return b"".join((header, _pack_short(size), topic, identifier, properties, payload))


def _correlated(correlation: bytes) -> bytes:
    """Encode properties that hold Correlation Data alone, with their length."""
    if len(correlation) > LONGEST_STRING:
        raise ValueError(f"Correlation Data has at most 65535 bytes, not {len(correlation)}.")
    data = bytes((CORRELATION,)) + _pack_short(len(correlation)) + correlation
    return _header(0, len(data))[1:] + data


def encode(first: int, body: bytes) -> bytes:
    """Put a packet together again."""
    return _header(first, len(body)) + body


def answer(kind: int, mid: int, code: int = 0) -> bytes:
    """Encode PUBACK, PUBREC, PUBREL or PUBCOMP; a code other than 0 is for MQTT 5 alone (section 3.4)."""
    first = kind << 4 | (2 if kind == PUBREL else 0)
    return _pack_answer_code(first, 3, mid, code) if code else _pack_answer(first, 2, mid)


def answered(body: bytes) -> tuple[int, int]:
    """Decode the body of PUBACK, PUBREC, PUBREL or PUBCOMP: packet identifier and reason code (section 3.4.2)."""
    size = len(body)
    if size < 2:  # noqa: PLR2004 - the packet identifier
        raise Malformed("an acknowledgement without a packet identifier")
    return body[0] << 8 | body[1], (body[2] if size > 2 else 0)  # noqa: PLR2004 - a missing code is 0


def published(first: int, body: bytes, *, v5: bool) -> Received:
    """Decode a PUBLISH. A topic that is not UTF-8 comes with replacement characters: its payload is still good."""
    qos = (first & QOS_MASK) >> 1
    if first & QOS_MASK == QOS_NEVER:
        raise Malformed("a PUBLISH with QoS 3")
    size = len(body)
    at = 2 + (body[0] << 8 | body[1]) if size > 2 else 2  # noqa: PLR2004 - the topic's length
    topic = body[2:at]
    if not topic:  # MQTT 5 allows it with a topic alias, which the client never offered
        raise Malformed("a PUBLISH without a topic")
    mid = 0
    if qos:
        mid = body[at] << 8 | body[at + 1] if size > at + 1 else 0
        at += 2
        if not mid:
            raise Malformed("a PUBLISH without a packet identifier")
    correlation = b""
    if v5:
        if size > at and not body[at]:  # no properties: almost every document
            at += 1
        else:
            correlation, at = _properties(body, at)
    if at > size:
        raise Malformed("a PUBLISH that is too short")
    dup = bool(qos and first & DUP)
    return Received(topic.decode("utf-8", "replace"), body[at:], qos, bool(first & 1), mid, dup, correlation)


def _properties(body: bytes, at: int) -> tuple[bytes, int]:
    """Read the properties of a PUBLISH (MQTT 5, section 3.3.2.3); gives Correlation Data, and where they end."""
    length, at = _read_varint(body, at)
    end = at + length
    if at < 0 or end > len(body):
        raise Malformed("a PUBLISH without its properties")
    correlation = b""
    seen = set()
    while at < end:
        kind = body[at]
        if kind in seen and kind not in REPEATABLE:
            raise Malformed(f"a PUBLISH with property 0x{kind:02X} twice")
        seen.add(kind)
        start, at = at + 1, _behind(body, kind, at + 1, end)
        if not 0 <= at <= end:
            raise Malformed("a PUBLISH with a property that is too short")
        if kind == CORRELATION:
            correlation = body[start + 2 : at]
    return correlation, end


def _behind(body: bytes, kind: int, at: int, end: int) -> int:
    """Give where the value of a property that begins here ends; something below 0 or beyond `end` if it is cut off."""
    if kind in FIXED:
        return at + FIXED[kind]
    if kind == SUBSCRIPTION_IDENTIFIER:
        return _read_varint(body[:end], at)[1]
    if kind not in LENGTHY:
        raise Malformed(f"a PUBLISH with property 0x{kind:02X}, which it cannot have")
    for _ in range(LENGTHY[kind]):
        if at + 2 > end:
            return -1
        at += 2 + (body[at] << 8 | body[at + 1])
    return at


class Splitter:
    """Cuts what comes from the socket into packets. Holds at most one incomplete packet of at most `LARGEST` bytes."""

    def __init__(self) -> None:
        """Start with nothing held."""
        self._rest = bytearray()
        self._need = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Give each complete packet: its first byte and its body. Raises `Malformed` where the packets end."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        position, end = 0, len(data)
        self._need = 0
        while end - position >= 2:  # noqa: PLR2004 - the shortest packet
            length, start = data[position + 1], position + 2
            if length > 127:  # noqa: PLR2004 - more than one byte of length
                if start < end and data[start] < 0x80:  # noqa: PLR2004 - two bytes: almost every document
                    length, start = length & 0x7F | data[start] << 7, start + 1
                else:
                    length, start = _read_varint(data, position + 1)
                if start < 0:
                    break
                if length > LARGEST:
                    raise Malformed(f"a packet of {length} bytes; at most {LARGEST} are taken")
            stop = start + length
            if stop > end:
                self._need = stop - position
                break
            yield data[position], data[start:stop]
            position = stop
        self._rest += data[position:]
