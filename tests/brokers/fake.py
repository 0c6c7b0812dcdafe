"""A scripted MQTT broker on asyncio, for what no honest broker does, written without any MQTT library.

By itself it is a small honest broker (3.1.1 and 5, QoS 0 to 2, persistent sessions, no retained messages). A test
changes its `script` to have it lie, fall silent or break the protocol, and looks at what its clients sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

DEADLINE = 10.0


class Packet(NamedTuple):
    """A packet as it came: type (upper half of the first byte), flags (lower half), body."""

    kind: int
    flags: int
    body: bytes


class Published(NamedTuple):
    """A message that a client published."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    mid: int
    properties: bytes = b""
    """MQTT 5: without their length."""


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, rest = divmod(value, 128)
        out.append(rest | (128 if value else 0))
        if not value:
            return bytes(out)


def packet(first: int, body: bytes = b"") -> bytes:
    """Make a packet of its first byte and its body."""
    return bytes([first]) + varint(len(body)) + body


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(data)) + data


@dataclass
class Script:
    """What the broker does; change it at any time."""

    connack: int | None = 0
    """The code of CONNACK; None: never answer."""
    connack_properties: bytes = b""
    """MQTT 5: the properties, without their length. Receive Maximum 10 is `b"\\x21\\x00\\x0a"`."""
    session_present: bool | None = None
    """None: as it is."""
    puback: Callable[[Published], int | None] = lambda _: 0
    """The code for a published message; None: swallow the acknowledgement. With QoS 2 it is PUBREC's."""
    suback: int | None = None
    """The code for each filter; None: grant what was asked."""
    answer_subscribe: bool = True
    answer_ping: bool = True
    receive_maximum: int = 65535
    """More unanswered publishes than this are recorded in `Fake.violations`."""


@dataclass
class Session:
    """What the broker remembers of a client id."""

    filters: dict[str, int] = field(default_factory=dict)
    waiting: list[tuple[str, bytes, int, bytes]] = field(default_factory=list)
    unanswered: dict[int, tuple[str, bytes, int, bytes]] = field(default_factory=dict)
    last: int = 0


class Client:
    """One connection of a client."""

    def __init__(self, broker: Fake, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.broker = broker
        self.reader = reader
        self.writer = writer
        self.id = ""
        self.v5 = False
        self.clean = True
        self.keep_alive = 0
        self.username: str | None = None
        self.password: bytes | None = None
        self.session = Session()
        self.packets: list[Packet] = []
        self.unanswered: set[int] = set()
        self.ended = asyncio.Event()

    def send(self, data: bytes) -> None:
        """Send any bytes."""
        if not self.writer.is_closing():
            self.writer.write(data)

    def answer(self, kind: int, mid: int, code: int = 0) -> None:
        """Send PUBACK (4), PUBREC (5), PUBREL (6) or PUBCOMP (7)."""
        body = struct.pack("!H", mid) + (bytes([code]) if code and self.v5 else b"")
        self.send(packet(kind << 4 | (2 if kind == 6 else 0), body))

    def publish(
        self,
        topic: str | bytes,
        payload: bytes,
        qos: int = 0,
        properties: bytes = b"",
        *,
        dup: bool = False,
        mid: int = 0,
    ) -> int:
        """Send a PUBLISH; gives its packet identifier."""
        head = text(topic)
        if qos:
            if not mid:
                self.session.last = mid = self.session.last % 65535 + 1
            self.session.unanswered[mid] = (topic if isinstance(topic, str) else "", payload, qos, properties)
            head += struct.pack("!H", mid)
        if self.v5:
            head += varint(len(properties)) + properties
        self.send(packet(0x30 | qos << 1 | (8 if dup else 0), head + payload))
        return mid

    def disconnect(self, code: int, reason: str = "") -> None:
        """Send DISCONNECT (MQTT 5) and hang up."""
        properties = b"\x1f" + text(reason) if reason else b""
        self.send(packet(0xE0, bytes([code]) + varint(len(properties)) + properties))
        self.writer.close()

    def hang_up(self) -> None:
        """Close the connection without a word."""
        self.writer.close()

    def reset(self) -> None:
        """Break the connection (RST)."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def count(self, kind: int) -> int:
        """Count the packets of a type that the client sent."""
        return sum(item.kind == kind for item in self.packets)

    async def run(self) -> None:
        while True:
            item = await self._read()
            if item is None:
                return
            self.packets.append(item)
            handler = HANDLERS.get(item.kind)
            if handler is not None:
                handler(self, item)
            await self.broker.changed()
            await self.broker.reading.wait()

    async def _read(self) -> Packet | None:
        try:
            first = (await self.reader.readexactly(1))[0]
            length = shift = 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            return Packet(first >> 4, first & 15, await self.reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None

    def _skip_properties(self, body: bytes, at: int) -> int:
        if not self.v5:
            return at
        length = shift = 0
        while True:
            byte = body[at]
            length |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return at + length

    def on_connect(self, item: Packet) -> None:
        body, script = item.body, self.broker.script
        at = 2 + int.from_bytes(body[:2], "big")
        self.v5, flags = body[at] == 5, body[at + 1]
        self.clean = bool(flags & 2)
        self.keep_alive = int.from_bytes(body[at + 2 : at + 4], "big")
        at = self._skip_properties(body, at + 4)
        fields = []
        while at < len(body):
            size = int.from_bytes(body[at : at + 2], "big")
            fields.append(body[at + 2 : at + 2 + size])
            at += 2 + size
        self.id = fields.pop(0).decode()
        self.username = fields.pop(0).decode() if flags & 0x80 else None
        self.password = fields.pop(0) if flags & 0x40 else None
        if script.connack is None:
            return
        for other in self.broker.clients:
            if other is not self and other.id == self.id and not other.ended.is_set():
                other.disconnect(0x8E) if other.v5 else other.hang_up()
        present = not self.clean and self.id in self.broker.sessions
        if self.clean:
            self.broker.sessions.pop(self.id, None)
        else:
            self.session = self.broker.sessions.setdefault(self.id, self.session)
        if script.session_present is not None:
            present = script.session_present
        properties = varint(len(script.connack_properties)) + script.connack_properties if self.v5 else b""
        self.send(packet(0x20, bytes([present and script.connack == 0, script.connack]) + properties))
        if script.connack:
            self.writer.close()
        elif present:
            self._resume()

    def _resume(self) -> None:
        for mid, (topic, payload, qos, properties) in list(self.session.unanswered.items()):
            self.publish(topic, payload, qos, properties, dup=True, mid=mid)
        waiting, self.session.waiting = self.session.waiting, []
        for topic, payload, qos, properties in waiting:
            self.publish(topic, payload, qos, properties)

    def on_publish(self, item: Packet) -> None:
        qos = item.flags >> 1 & 3
        size = int.from_bytes(item.body[:2], "big")
        at, mid = 2 + size, 0
        if qos:
            mid = int.from_bytes(item.body[at : at + 2], "big")
            at += 2
            self.unanswered.add(mid)
            if len(self.unanswered) > self.broker.script.receive_maximum:
                self.broker.violations.append(f"{len(self.unanswered)} publishes without an answer")
        start, at = at, self._skip_properties(item.body, at)
        properties = item.body[start + 1 + (at - start > 128) : at] if self.v5 else b""  # up to 16 KiB of them
        topic = item.body[2 : 2 + size].decode(errors="replace")
        message = Published(topic, item.body[at:], qos, bool(item.flags & 1), bool(item.flags & 8), mid, properties)
        self.broker.published.append(message)
        code = self.broker.script.puback(message)
        if qos and code is not None:
            self.answer(4 if qos == 1 else 5, mid, code)
            if qos == 1 or code >= 0x80:
                self.unanswered.discard(mid)
        if code is None or code < 0x80:
            self.broker.deliver(message)

    def on_answer(self, item: Packet) -> None:
        mid = int.from_bytes(item.body[:2], "big")
        code = item.body[2] if len(item.body) > 2 else 0
        if item.kind in {4, 7} or (item.kind == 5 and code >= 0x80):
            self.session.unanswered.pop(mid, None)
        elif item.kind == 5:
            self.answer(6, mid)
        else:
            self.unanswered.discard(mid)
            self.answer(7, mid)

    def on_subscribe(self, item: Packet) -> None:
        mid = item.body[:2]
        at, codes = self._skip_properties(item.body, 2), []
        while at < len(item.body):
            size = int.from_bytes(item.body[at : at + 2], "big")
            topic, qos = item.body[at + 2 : at + 2 + size].decode(), item.body[at + 2 + size] & 3
            code = self.broker.script.suback
            if code is None or code < 0x80:
                self.session.filters[topic] = qos
            codes.append(qos if code is None else code)
            at += 3 + size
        if self.broker.script.answer_subscribe:
            self.send(packet(0x90, mid + (b"\x00" if self.v5 else b"") + bytes(codes)))

    def on_ping(self, _: Packet) -> None:
        if self.broker.script.answer_ping:
            self.send(packet(0xD0))

    def on_disconnect(self, _: Packet) -> None:
        self.writer.close()


HANDLERS = {
    1: Client.on_connect,
    3: Client.on_publish,
    4: Client.on_answer,
    5: Client.on_answer,
    6: Client.on_answer,
    7: Client.on_answer,
    8: Client.on_subscribe,
    12: Client.on_ping,
    14: Client.on_disconnect,
}


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic filter takes a topic."""
    levels, names = pattern.split("/"), topic.split("/")
    for index, level in enumerate(levels):
        if level == "#":
            return True
        if index >= len(names) or level not in {"+", names[index]}:
            return False
    return len(levels) == len(names)


class Fake:
    """The broker. `clients` has every connection there was, the youngest last."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.port = 0
        self.script = Script()
        self.clients: list[Client] = []
        self.sessions: dict[str, Session] = {}
        self.published: list[Published] = []
        self.violations: list[str] = []
        self.reading = asyncio.Event()  # cleared: the broker reads no more
        self.reading.set()
        self._condition = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def client(self) -> Client:
        """The connection made last."""
        return self.clients[-1]

    async def changed(self) -> None:
        async with self._condition:
            self._condition.notify_all()

    async def wait_until(self, holds: Callable[[], object], timeout: float = DEADLINE) -> None:
        """Wait until something about the broker or its clients is so."""
        async with asyncio.timeout(timeout), self._condition:
            await self._condition.wait_for(holds)

    async def wait_published(self, count: int) -> list[Published]:
        """Wait for the number of messages that clients published; gives all of them."""
        await self.wait_until(lambda: len(self.published) >= count)
        return list(self.published)

    def deliver(self, message: Published) -> None:
        """Hand a message to whoever subscribed to it, now or, for a persistent session, later."""
        online = {id(client.session): client for client in self.clients if not client.ended.is_set()}
        sessions = [client.session for client in online.values()]
        sessions += [session for session in self.sessions.values() if id(session) not in online]
        for session in sessions:
            granted = [qos for pattern, qos in session.filters.items() if matches(pattern, message.topic)]
            if not granted:
                continue
            qos = min(message.qos, max(granted))
            client = online.get(id(session))
            if client is not None:
                client.publish(message.topic, message.payload, qos, message.properties)
            elif qos:
                session.waiting.append((message.topic, message.payload, qos, message.properties))

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse new connections, end all there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client = Client(self, reader, writer)
        self.clients.append(client)
        await self.changed()
        with contextlib.suppress(asyncio.CancelledError):
            await client.run()
        client.ended.set()
        writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()
        self._tasks.discard(task)
        await self.changed()


@asynccontextmanager
async def fake_broker(tls: ssl.SSLContext | None = None) -> AsyncIterator[Fake]:
    """Run a scripted broker on a free loopback port."""
    broker = Fake()
    await broker.start(tls=tls)
    try:
        yield broker
    finally:
        await broker.stop()
