"""Dialling: addresses, WebSockets, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
import pytest_asyncio

from mqttbridge.errors import ConnectFailed, ResolveFailed
from mqttbridge.mqtt import dial, lookup
from mqttbridge.mqtt.client import open_link
from mqttbridge.mqtt.options import LinkOptions
from tests.brokers.certs import Certificates
from tests.brokers.fake import fake_broker
from tests.brokers.websocket import Front, websocket_front
from tests.mqtt.conformance import LinkConformance, batch, descriptors, options
from tests.mqtt.listening import Listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from mqttbridge.mqtt.link import Link, LinkListener
    from tests.brokers.mosquitto import Mosquitto
    from tests.mqtt.conformance import OpenLink

    Start = Callable[..., Awaitable[Mosquitto]]

CERTIFICATES = Certificates()


class Overlay(LinkConformance):
    """The suite again, over TLS or WebSocket."""

    protocol = "SSL"

    @pytest.fixture
    def open_link(self) -> OpenLink:
        def make(link_options: LinkOptions, listener: LinkListener) -> Link:
            changed = msgspec.structs.replace(
                link_options, protocol=self.protocol, ca=CERTIFICATES.ca, web_socket_path="/mqtt"
            )
            return open_link(changed, listener)

        return make


class TestTls(Overlay):
    """mosquitto behind TLS."""

    @pytest_asyncio.fixture
    async def broker(self, start_mosquitto: Start, tmp_path: Path) -> Mosquitto:
        return await start_mosquitto(listeners={"tls": CERTIFICATES.listener(tmp_path)})


class TestWebSocket(Overlay):
    """A broker behind TLS and WebSocket frames that cut packets apart."""

    protocol = "WSS"

    @pytest_asyncio.fixture
    async def broker(self, tmp_path: Path) -> AsyncIterator[Front]:
        context = CERTIFICATES.server_context(tmp_path)
        async with fake_broker() as behind, websocket_front(behind, context, fragment=1000) as front:
            yield front


async def test_mosquitto_is_entered_over_websocket(start_mosquitto: Start, tmp_path: Path) -> None:
    broker = await start_mosquitto(listeners={"wss": [*CERTIFICATES.listener(tmp_path), "protocol websockets"]})
    listener = Listener()
    link = open_link(options(broker, protocol="WSS", ca=CERTIFICATES.ca, host="localhost"), listener)
    await link.connect()
    await link.login()
    listener.on_received = link.acknowledge
    await link.subscribe(["t/#"], 1)
    link.publish(batch(20))
    await listener.until_received(20)
    await listener.until_acked(20)
    assert listener.payloads == [b"%d" % token for token in range(20)]
    await link.close()


async def test_a_websocket_that_the_broker_closes_is_lost_and_its_ping_is_answered(tmp_path: Path) -> None:
    context = CERTIFICATES.server_context(tmp_path)
    async with fake_broker() as behind, websocket_front(behind, context) as front:
        listener = Listener()
        link = open_link(options(front, protocol="WSS", ca=CERTIFICATES.ca), listener)
        await link.connect()
        await link.login()
        pong = await front.connections[0].ping()
        async with asyncio.timeout(5):
            await pong
        await front.connections[0].close()
        assert "closed" in str(await listener.until_lost())
        await link.close()


@pytest_asyncio.fixture
async def http_server(tmp_path: Path) -> AsyncIterator[Callable[[bytes], Awaitable[LinkOptions]]]:
    """Run a TLS server that answers every request with the same bytes."""
    servers: list[asyncio.Server] = []

    async def start(answer: bytes) -> LinkOptions:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=CERTIFICATES.server_context(tmp_path))
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        return LinkOptions(
            host="localhost", port=port, client_id="x", protocol="WSS", ca=CERTIFICATES.ca, web_socket_path="/ws"
        )

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP 404; check webSocketPath"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno!!", "HTTP 403"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "WebSocket upgrade failed"),
        (b"\x20\x02\x00\x00", "WebSocket upgrade failed"),
        (b"", "WebSocket upgrade failed"),
    ],
)
async def test_a_refused_upgrade_is_named(
    http_server: Callable[[bytes], Awaitable[LinkOptions]], answer: bytes, words: str
) -> None:
    link_options = await http_server(answer)
    before = descriptors()
    link = open_link(link_options, Listener())
    with pytest.raises(ConnectFailed) as caught:
        await link.connect()
    assert words in str(caught.value)
    await link.close()
    assert descriptors() <= before + 1  # the server's end may close a little later


def test_the_families_take_turns() -> None:
    v6, v4 = socket.AF_INET6, socket.AF_INET
    six = [(v6, (f"::{n}", 1)) for n in (1, 2, 3)]
    four = [(v4, (f"127.0.0.{n}", 1)) for n in (1, 2)]
    assert dial.interleave([*six, *four]) == [six[0], four[0], six[1], four[1], six[2]]
    assert dial.interleave([*four, *six]) == [four[0], six[0], four[1], six[1], six[2]]
    assert dial.interleave(six) == six


async def test_the_next_address_is_tried_when_one_does_not_answer(
    plain_mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = plain_mosquitto.port  # it listens on 127.0.0.1 alone
    dead = socket.socket()
    silent = _full_backlog(dead, ("127.0.0.2", port))
    addresses = [(host, port) for host in ("127.0.0.2", "127.0.0.3", "127.0.0.1")]
    monkeypatch.setattr(
        lookup.socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 0, 0, "", address) for address in addresses]
    )
    link = open_link(options(plain_mosquitto, host="many.example"), Listener())
    before = descriptors()
    started = time.monotonic()
    await link.connect()
    assert time.monotonic() - started >= dial.STAGGER  # the first did not answer
    assert descriptors() == before + 1
    await link.login()
    await link.close()
    for sock in (dead, *silent):
        sock.close()


def _full_backlog(sock: socket.socket, address: tuple[str, int]) -> list[socket.socket]:
    """Make a listener that answers no further connection; gives what fills it."""
    sock.bind(address)
    sock.listen(0)
    fillers = []
    for _ in range(3):
        filler = socket.socket()
        filler.settimeout(0)
        filler.connect_ex(sock.getsockname())
        fillers.append(filler)
    return fillers


async def test_lookups_that_hang_delay_neither_other_links_nor_close(
    plain_mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    real = socket.getaddrinfo

    def hang(host: str, *args: object, **kwargs: object) -> object:
        if host.startswith("hang"):
            release.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(lookup.socket, "getaddrinfo", hang)
    links = [open_link(options(plain_mosquitto, host=f"hang{n}.example"), Listener()) for n in range(300)]
    tasks = [asyncio.create_task(link.connect()) for link in links]
    await asyncio.sleep(0.01)
    started = time.monotonic()
    good = open_link(options(plain_mosquitto, host="localhost"), Listener())
    await good.connect()
    await good.login()
    await good.close()
    for task in tasks[:10]:
        task.cancel()
    for link in links:
        await link.close()
    await asyncio.wait(tasks)
    assert time.monotonic() - started < 3
    assert {task.cancelled() for task in tasks[:10]} == {True}
    assert not any(task.cancelled() for task in tasks[10:])
    release.set()


async def test_a_name_that_is_none_fails_to_resolve(plain_mosquitto: Mosquitto) -> None:
    for name in ("a" * 64 + ".example", "..", "ü" * 70):
        link = open_link(options(plain_mosquitto, host=name), Listener())
        with pytest.raises(ResolveFailed):
            await link.connect()
        await link.close()


async def test_an_ipv6_address_is_reached(start_mosquitto: Start) -> None:
    broker = await start_mosquitto(listeners={"plain": []})

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(broker.host, broker.port)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    try:
        server = await asyncio.start_server(relay, "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    listener = Listener()
    link = open_link(options(broker, host="::1", port=server.sockets[0].getsockname()[1]), listener)
    await link.connect()
    await link.login()
    link.publish(batch(3))
    await listener.until_acked(3)
    await link.close()
    server.close()
