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
