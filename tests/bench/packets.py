"""The bytes that the load generators send, made before the clock starts, and the counting of what comes back.

Own and minimal on purpose: what is measured must not share code with what measures it.
"""

from __future__ import annotations

import itertools
import socket
import time
from typing import TYPE_CHECKING

from mqttbridge.formats.sample import uplink

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DEVICES", "Splitter", "body", "mqtt_connect", "posts", "publishes", "subscribe", "uplinks"]

CYCLE = 100_000
"""Packets that are built and then sent over and over: more than the journal remembers to tell a copy by."""
DEVICES = 10_000
IDENTIFIERS = 60_000
"""Packet identifiers: more than any window."""
PUBLISH = 3
NDJSON = b"application/x-ndjson"
JSON = b"application/json"


def body(index: int) -> bytes:
    """Give the document of one device, of now: it must not be older than `uplinkTimeValidity`."""
    return uplink(f"{index:016x}", fcnt=index % 65536, time_ms=int(time.time() * 1000))


def uplinks(count: int, devices: int = DEVICES, first: int = 0) -> list[bytes]:
    """Give so many documents, of all different uplinks of so many devices. `first`: where their numbers begin."""
    now = int(time.time() * 1000)
    return [
        uplink(f"{index % devices:016x}", fcnt=index // devices, payload_hex=f"{index:08x}", time_ms=now)
        for index in range(first, first + count)
    ]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()


def _packet(first: int, *parts: bytes) -> bytes:
    rest = b"".join(parts)
    return bytes((first,)) + _varint(len(rest)) + rest


def publishes(count: int) -> list[bytes]:
    """Give PUBLISH packets with QoS 1 on `network/<DevEUI>/uplink`, as many as the cycle has."""
    made = enumerate(uplinks(min(count, CYCLE)))
    return [
        _packet(0x32, _text(f"network/{index:016x}/uplink"), (index % IDENTIFIERS + 1).to_bytes(2, "big"), payload)
        for index, payload in made
    ]


def posts(count: int, batch: int, port: int, devices: int = DEVICES, first: int = 0) -> list[bytes]:
    """Give HTTP requests for `/uplink/http`: single documents, or NDJSON if `batch` is more than 1."""
    requests = []
    documents = itertools.cycle(uplinks(min(count, CYCLE), devices, first))
    for start in range(0, min(count, max(CYCLE, batch)), batch):
        content = b"\n".join(itertools.islice(documents, min(batch, count - start)))
        requests.append(
            b"POST /uplink/http HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (port, NDJSON if batch > 1 else JSON, len(content), content)
        )
    return requests


def mqtt_connect(port: int, client_id: str) -> socket.socket:
    """Connect to a broker on loopback with MQTT 3.1.1, a clean session and no keep alive."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(_packet(0x10, _text("MQTT"), b"\x04\x02\x00\x00", _text(client_id)))
    connack = sock.recv(4)
    if connack != b"\x20\x02\x00\x00":
        raise RuntimeError(f"the broker answered CONNECT with {connack!r}")
    return sock


def subscribe(sock: socket.socket, topic: str) -> None:
    """Subscribe with QoS 0."""
    sock.sendall(_packet(0x82, b"\x00\x01", _text(topic), b"\x00"))
    suback = sock.recv(5)
    if suback != b"\x90\x03\x00\x01\x00":
        raise RuntimeError(f"the broker answered SUBSCRIBE with {suback!r}")


class Splitter:
    """Finds PUBLISH packets by their lengths alone."""

    def __init__(self) -> None:
        """Start with nothing held."""
        self._rest = b""

    def feed(self, data: bytes) -> int:
        """Give how many complete PUBLISH packets these bytes bring."""
        return sum(1 for _ in self.packets(data))

    def packets(self, data: bytes) -> Iterable[bytes]:
        """Give each complete PUBLISH packet from its topic on; a view would cost more than the few bytes copied."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while end - at >= 5:
            start, length, shift = at + 1, 0, 0
            while True:
                byte = data[start]
                start += 1
                length |= (byte & 127) << shift
                if byte < 128:
                    break
                shift += 7
            if start + length > end:
                break
            if data[at] >> 4 == PUBLISH:
                yield data[start + 2 : start + 64]
            at = start + length
        self._rest = data[at:]
