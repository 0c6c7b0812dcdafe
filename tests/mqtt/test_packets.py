"""PUBLISH and its answers: to bytes and back, whole or in pieces, and never a crash."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import _packet as reference

from mqttbridge.mqtt import packets
from mqttbridge.mqtt.packets import Malformed, Splitter

TOPICS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300).filter(
    lambda text: "\0" not in text
)


def split(data: bytes) -> list[tuple[int, bytes]]:
    return list(Splitter().feed(data))


@given(TOPICS, st.binary(max_size=500), st.integers(0, 2), st.booleans(), st.integers(1, 65535), st.booleans())
def test_a_publish_reads_back_here_and_in_another_implementation(
    topic: str, payload: bytes, qos: int, retain: bool, mid: int, v5: bool
) -> None:
    data = packets.publish(topic.encode(), payload, qos=qos, retain=retain, mid=mid, v5=v5)
    [(first, body)] = split(data)
    message = packets.published(first, body, v5=v5)
    expected = (topic, payload, qos, retain, mid if qos else 0)
    assert (message.topic, message.payload, message.qos, message.retain, message.mid) == expected
    theirs = reference.decode_publish(first, bytearray(body), 5 if v5 else 4)
    assert (theirs.topic.decode(), theirs.payload, theirs.qos, theirs.retain) == expected[:4]


CORRELATIONS = st.one_of(st.binary(max_size=300), st.just(b"c" * 65535))


@given(TOPICS, st.binary(max_size=50), st.integers(0, 2), CORRELATIONS)
def test_correlation_data_reads_back_here_and_in_another_implementation(
    topic: str, payload: bytes, qos: int, correlation: bytes
) -> None:
    data = packets.publish(topic.encode(), payload, qos=qos, retain=False, mid=9, v5=True, correlation=correlation)
    [(first, body)] = split(data)
    message = packets.published(first, body, v5=True)
    assert (message.topic, message.payload, message.correlation) == (topic, payload, correlation)
    theirs = reference.decode_publish(first, bytearray(body), 5)
    assert theirs.payload == payload
    assert getattr(theirs.properties, "CorrelationData", b"") == correlation


def test_mqtt_3_has_no_correlation_data() -> None:
    plain = packets.publish(b"t", b"x", qos=1, retain=False, mid=9, v5=False)
    assert packets.publish(b"t", b"x", qos=1, retain=False, mid=9, v5=False, correlation=b"c") == plain


def test_correlation_data_that_no_packet_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="65535"):
        packets.publish(b"t", b"", qos=0, retain=False, mid=0, v5=True, correlation=b"c" * 65536)


EVERY_PROPERTY = (
    b"\x01\x01"  # Payload Format Indicator
    b"\x02\x00\x00\x00\x05"  # Message Expiry Interval
    b"\x08\x00\x01r"  # Response Topic
    b"\x26\x00\x01a\x00\x02bb"  # User Property
    b"\x0b\x80\x01"  # Subscription Identifier
    b"\x09\x00\x03c\x00d"  # Correlation Data
    b"\x26\x00\x00\x00\x00"
    b"\x0b\x01"
    b"\x03\x00\x01t"  # Content Type
)


def with_properties(properties: bytes, *, length: int | None = None) -> bytes:
    return b"\x00\x01a" + bytes([len(properties) if length is None else length]) + properties + b"payload"


def test_correlation_data_is_found_among_all_other_properties() -> None:
    message = packets.published(0x30, with_properties(EVERY_PROPERTY), v5=True)
    assert (message.correlation, message.payload) == (b"c\x00d", b"payload")


@pytest.mark.parametrize("size", set(range(1, len(EVERY_PROPERTY))) - {2, 7, 11, 19, 22, 28, 33, 35})
def test_properties_that_are_cut_off_are_malformed(size: int) -> None:
    with pytest.raises(Malformed):
        packets.published(0x30, with_properties(EVERY_PROPERTY[:size]), v5=True)


@pytest.mark.parametrize(
    "properties",
    [
        b"\x09\x00\x01a\x09\x00\x01b",  # twice
        b"\x11\x00\x00\x00\x01",  # Session Expiry Interval: not of a PUBLISH
        b"\x09\xff\xffa",
        b"\x0b\x80\x80\x80\x80\x01",
    ],
)
def test_properties_that_a_publish_cannot_have_are_malformed(properties: bytes) -> None:
    with pytest.raises(Malformed):
        packets.published(0x30, with_properties(properties), v5=True)


@pytest.mark.parametrize(("first", "dup"), [(0x3A, True), (0x32, False), (0x3C, True), (0x38, False)])
def test_only_what_is_answered_is_ever_sent_again(first: int, dup: bool) -> None:
    qos = first >> 1 & 3
    message = packets.published(first, b"\x00\x01a" + (b"\x00\x07" if qos else b""), v5=False)
    assert message.dup is dup


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=20), st.data())
def test_packets_are_the_same_however_the_stream_is_cut(stream: list[tuple[int, bytes]], data: st.DataObject) -> None:
    raw = b"".join(packets.encode(first, body) for first, body in stream)
    splitter = Splitter()
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(raw):
        size = data.draw(st.integers(1, 60))
        found += splitter.feed(raw[at : at + size])
        at += size
    assert found == stream


@given(st.binary(max_size=200), st.booleans())
def test_whatever_comes_is_understood_or_malformed(data: bytes, v5: bool) -> None:
    with suppress(Malformed):
        for first, body in Splitter().feed(data):
            packets.published(first, body, v5=v5)
            packets.answered(body)


@given(st.binary(max_size=40), st.integers(0, 40))
def test_whatever_stands_as_properties_is_understood_or_malformed(data: bytes, length: int) -> None:
    with suppress(Malformed):
        message = packets.published(0x30, b"\x00\x01a" + bytes([length]) + data, v5=True)
        assert message.payload == data[length:]


@pytest.mark.parametrize("kind", [packets.PUBACK, packets.PUBREC, packets.PUBREL, packets.PUBCOMP])
@pytest.mark.parametrize("code", [0, 0x10, 0x92])
def test_answers_read_back(kind: int, code: int) -> None:
    [(first, body)] = split(packets.answer(kind, 0x1234, code))
    assert first == kind << 4 | (2 if kind == packets.PUBREL else 0)
    assert packets.answered(body) == (0x1234, code)


def test_an_answer_with_properties_reads_too() -> None:
    assert packets.answered(b"\x00\x07\x97\x05\x1f\x00\x02no") == (7, 0x97)


@pytest.mark.parametrize(
    ("first", "body", "v5"),
    [
        (0x36, b"\x00\x01a\x00\x01", False),  # QoS 3
        (0x30, b"\x00\x00", False),  # no topic
        (0x30, b"", False),
        (0x32, b"\x00\x01a", False),  # no packet identifier
        (0x32, b"\x00\x01a\x00\x00", False),  # packet identifier 0
        (0x30, b"\x00\x01a", True),  # no properties
        (0x30, b"\x00\x01a\x09", True),  # properties longer than the packet
        (0x30, b"\x00\x05a", False),  # topic longer than the packet
    ],
)
def test_a_broken_publish_is_malformed(first: int, body: bytes, v5: bool) -> None:
    with pytest.raises(Malformed):
        packets.published(first, body, v5=v5)


def test_a_topic_that_is_not_utf_8_keeps_its_payload() -> None:
    message = packets.published(0x30, b"\x00\x03a\xff/body", v5=False)
    assert message.topic == "a\ufffd/"
    assert message.payload == b"body"


def test_lengths_beyond_the_bounds_are_refused() -> None:
    with pytest.raises(Malformed):
        split(b"\x30\xff\xff\xff\xff\x01")
    with pytest.raises(Malformed):
        split(b"\x30" + b"\xff\xff\xff\x7f")
    with pytest.raises(ValueError):
        packets.publish(b"", b"", qos=0, retain=False, mid=0, v5=False)
    with pytest.raises(ValueError):
        packets.publish(b"t" * 65536, b"", qos=0, retain=False, mid=0, v5=False)


def test_what_comes_before_a_broken_length_is_still_given() -> None:
    stream = Splitter().feed(b"\x40\x02\x00\x01\x30\xff\xff\xff\xff\x01")
    assert next(stream) == (0x40, b"\x00\x01")
    with pytest.raises(Malformed):
        next(stream)
