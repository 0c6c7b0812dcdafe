"""Who awaits which answer."""

from __future__ import annotations

import pytest

from mqttbridge.mqtt import packets
from mqttbridge.mqtt.exchange import Exchange
from mqttbridge.mqtt.link import Ack, Publish, Received
from mqttbridge.mqtt.packets import Splitter


def exchange(qos: int = 1, *, v5: bool = True) -> Exchange:
    return Exchange(qos=qos, retain=False, v5=v5)


def sent(subject: Exchange) -> list[tuple[int, bytes]]:
    data = b"".join(subject.out)
    subject.out.clear()
    return list(Splitter().feed(data))


def answer(subject: Exchange, kind: int, mid: int, code: int = 0) -> None:
    for first, body in Splitter().feed(packets.answer(kind, mid, code)):
        assert subject.take(first, body)


def test_puback_carries_the_code_to_its_token() -> None:
    subject = exchange()
    subject.publish([Publish(10, "a", b""), Publish(20, "a", b"")])
    answer(subject, packets.PUBACK, 2, 0x87)
    answer(subject, packets.PUBACK, 1)
    answer(subject, packets.PUBACK, 1)
    answer(subject, packets.PUBACK, 99)
    assert subject.acks == [Ack(20, 0x87), Ack(10, 0)]


def test_a_qos_2_publish_ends_with_pubcomp() -> None:
    subject = exchange(2)
    subject.publish([Publish(10, "a", b"")])
    sent(subject)
    answer(subject, packets.PUBREC, 1)
    assert subject.acks == []
    assert sent(subject) == [(0x62, b"\x00\x01")]
    answer(subject, packets.PUBCOMP, 1)
    assert subject.acks == [Ack(10, 0)]


def test_a_refusing_pubrec_is_the_answer_and_gets_no_pubrel() -> None:
    subject = exchange(2)
    subject.publish([Publish(10, "a", b"")])
    sent(subject)
    answer(subject, packets.PUBREC, 1, 0x97)
    assert subject.acks == [Ack(10, 0x97)]
    assert sent(subject) == []


def test_a_pubrec_for_nothing_is_released_as_unknown() -> None:
    subject = exchange(2)
    answer(subject, packets.PUBREC, 5)
    assert sent(subject) == [(0x62, b"\x00\x05\x92")]
    old = exchange(2, v5=False)
    answer(old, packets.PUBREC, 5)
    assert sent(old) == [(0x62, b"\x00\x05")]


def test_a_received_qos_2_message_is_given_once_until_it_is_released() -> None:
    subject = exchange(v5=False)
    packet = packets.publish(b"t", b"x", qos=2, retain=False, mid=7, v5=False)
    [(first, body)] = Splitter().feed(packet)
    subject.take(first, body)
    subject.take(first, body)  # not acknowledged yet: the broker may repeat it
    assert len(subject.messages) == 2
    subject.acknowledge(subject.messages[:1])
    assert sent(subject) == [(0x50, b"\x00\x07")]
    subject.take(first, body)
    assert len(subject.messages) == 2
    assert sent(subject) == [(0x50, b"\x00\x07")]
    answer(subject, packets.PUBREL, 7)
    assert sent(subject) == [(0x70, b"\x00\x07")]
    subject.take(first, body)
    assert len(subject.messages) == 3


def test_only_what_needs_it_is_acknowledged() -> None:
    subject = exchange()
    subject.acknowledge([Received("t", b"", 0, False, 0), Received("t", b"", 1, False, 3)])  # noqa: FBT003 - a struct
    assert sent(subject) == [(0x40, b"\x00\x03")]


def test_what_is_not_to_be_retained_is_not_on_a_link_that_retains() -> None:
    subject = Exchange(qos=1, retain=True, v5=True)
    subject.publish([Publish(1, "a", b""), Publish(2, "a", b"", b"c", retain=False)])
    assert [first for first, _ in sent(subject)] == [0x33, 0x32]


def test_qos_0_is_done_when_it_is_written() -> None:
    subject = exchange(0)
    subject.publish([Publish(1, "a", b""), Publish(2, "a", b"")])
    assert subject.acks == []
    subject.written()
    subject.written()
    assert subject.acks == [Ack(1, 0), Ack(2, 0)]


def test_identifiers_in_flight_are_never_given_again() -> None:
    subject = exchange()
    subject.publish([Publish(0, "a", b"")])
    given = {subject.identifier() for _ in range(65534 * 2)}
    assert given == set(range(2, 65536))


def test_a_window_of_all_identifiers_is_full() -> None:
    subject = exchange()
    subject.publish([Publish(token, "a", b"") for token in range(65535)])
    with pytest.raises(RuntimeError, match="65535"):
        subject.identifier()


def test_other_packets_are_not_taken() -> None:
    assert not exchange().take(0xD0, b"")
    with pytest.raises(packets.Malformed):
        exchange().take(0x40, b"\x01")
