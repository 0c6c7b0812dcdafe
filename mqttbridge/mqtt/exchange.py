"""The publishes of one link, without I/O: who awaits which answer, both ways (MQTT section 4.3).

Invariants:

1. A packet identifier in `_waiting` is never given to another packet.
2. Every publish with QoS 1 or 2 ends in at most one `Ack`: by PUBACK, PUBCOMP, or a PUBREC that refuses.
3. A QoS 2 message is handed up until it was acknowledged, and not again until the broker released it (PUBREL).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.mqtt import packets
from mqttbridge.mqtt.link import REFUSED, Ack, Publish, Received

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Exchange"]

IDENTIFIERS = 65535
TOPIC_NAME_INVALID = 0x90
UNKNOWN_IDENTIFIER = 0x92
EXACTLY_ONCE = 2


class Exchange:
    """What is in flight on one link. `acks` and `messages` collect what is to be told; `out` what is to be sent."""

    def __init__(self, *, qos: int, retain: bool, v5: bool) -> None:
        """Take how the link publishes."""
        self.qos = qos
        self.retain = retain
        self.acks: list[Ack] = []
        self.messages: list[Received] = []
        self.out: list[bytes] = []
        self._v5 = v5
        self._last = 0
        self._waiting: dict[int, int] = {}  # packet identifier -> token
        self._unwritten: list[int] = []  # tokens of QoS 0
        self._held: set[int] = set()  # QoS 2 messages acknowledged (PUBREC sent), not released yet

    def identifier(self) -> int:
        """Give a packet identifier that nothing in flight uses."""
        if len(self._waiting) >= IDENTIFIERS:
            raise RuntimeError("All 65535 packet identifiers are in flight: the caller's window is too large.")
        while True:
            self._last = self._last % IDENTIFIERS + 1
            if self._last not in self._waiting:
                return self._last

    def publish(self, batch: Sequence[Publish]) -> None:
        """Queue PUBLISH packets. What cannot be encoded is refused as an invalid topic would be."""
        for item in batch:
            mid = self.identifier() if self.qos else 0
            try:
                packet = packets.publish(
                    item.topic.encode(),
                    item.payload,
                    qos=self.qos,
                    retain=self.retain and item.retain,
                    mid=mid,
                    v5=self._v5,
                    correlation=item.correlation,
                )
            except ValueError:
                self.acks.append(Ack(item.token, TOPIC_NAME_INVALID))
                continue
            self.out.append(packet)
            if mid:
                self._waiting[mid] = item.token
            else:
                self._unwritten.append(item.token)

    def written(self) -> None:
        """All that was queued is in the socket: the QoS 0 publishes are done."""
        if self._unwritten:
            self.acks += [Ack(token, 0) for token in self._unwritten]
            self._unwritten.clear()

    def acknowledge(self, messages: Sequence[Received]) -> None:
        """Queue the answers to received messages."""
        for message in messages:
            if message.qos == 1:
                self.out.append(packets.answer(packets.PUBACK, message.mid))
            elif message.qos == EXACTLY_ONCE:
                self._held.add(message.mid)
                self.out.append(packets.answer(packets.PUBREC, message.mid))

    def take(self, first: int, body: bytes) -> bool:
        """Take a packet from the broker; False if it is none of these. Raises `packets.Malformed`."""
        kind = first >> 4
        if kind == packets.PUBLISH:
            self._received(packets.published(first, body, v5=self._v5))
        elif kind == packets.PUBACK or kind == packets.PUBCOMP:  # noqa: PLR1714 - a set would be made every time
            mid, code = packets.answered(body)
            self._settle(mid, code)
        elif kind == packets.PUBREC:
            mid, code = packets.answered(body)
            if code >= REFUSED:
                self._settle(mid, code)
            else:
                unknown = self._v5 and mid not in self._waiting
                self.out.append(packets.answer(packets.PUBREL, mid, UNKNOWN_IDENTIFIER if unknown else 0))
        elif kind == packets.PUBREL:
            mid, _ = packets.answered(body)
            unknown = self._v5 and mid not in self._held
            self._held.discard(mid)
            self.out.append(packets.answer(packets.PUBCOMP, mid, UNKNOWN_IDENTIFIER if unknown else 0))
        else:
            return False
        return True

    def _settle(self, mid: int, code: int) -> None:
        token = self._waiting.pop(mid, None)
        if token is not None:
            self.acks.append(Ack(token, code))

    def _received(self, message: Received) -> None:
        if message.qos == EXACTLY_ONCE and message.mid in self._held:
            self.out.append(packets.answer(packets.PUBREC, message.mid))  # our PUBREC was lost with its link
        else:
            self.messages.append(message)
