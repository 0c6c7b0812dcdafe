"""The most common mistake, a port of another protocol: the message says what to check."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mqttbridge.errors import LinkError
from mqttbridge.mqtt.client import open_link
from mqttbridge.mqtt.link import Step
from mqttbridge.mqtt.options import LinkOptions
from mqttbridge.mqtt.reasons import CHECK_PORT
from mqttbridge.settings.secret import Secret
from tests.brokers.certs import Certificates
from tests.brokers.fake import fake_broker
from tests.mqtt.listening import Listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto

    Start = Callable[..., Awaitable[Mosquitto]]

CERTIFICATES = Certificates()


def link_options(port: int, protocol: str, **changes: object) -> LinkOptions:
    return LinkOptions(
        **{"host": "localhost", "port": port, "client_id": "x", "protocol": protocol, "ca": CERTIFICATES.ca, **changes}
    )


async def why(options: LinkOptions, within: float = 5.0) -> str:
    """Give the message of a link that cannot be entered; of one that is never answered, the step where it hangs."""
    link = open_link(options, Listener())
    try:
        async with asyncio.timeout(within):
            await link.connect()
            await link.login()
    except TimeoutError:
        return f"{link.step} did not come"
    except LinkError as error:
        return str(error)
    finally:
        await link.close()
    raise AssertionError("it was entered")


@pytest.mark.parametrize(
    ("protocol", "listener", "words"),
    [
        ("TCP", "tls", ""),
        ("TCP", "wss", ""),
        ("SSL", "plain", "during the TLS handshake"),
        ("WSS", "plain", "during the TLS handshake"),
        ("SSL", "ws", "TLS"),
        ("WSS", "ws", "TLS"),
        ("WSS", "tls", "WebSocket upgrade failed"),
        ("SSL", "wss", ""),
    ],
)
async def test_a_link_to_a_port_of_another_protocol_is_told_to_check_port_and_protocol(
    start_mosquitto: Start, tmp_path: Path, protocol: str, listener: str, words: str
) -> None:
    tls = CERTIFICATES.listener(tmp_path)
    listeners = {"plain": [], "tls": tls, "ws": ["protocol websockets"], "wss": [*tls, "protocol websockets"]}
    broker = await start_mosquitto(listeners=listeners)
    sentence = await why(link_options(broker.listeners[listener], protocol))
    assert sentence.endswith(CHECK_PORT)
    assert words in sentence


@asynccontextmanager
async def peer(answer: bytes | None, *, reset: bool = False, tls: object = None) -> AsyncIterator[int]:
    """Run a server that takes what comes, answers with these bytes (None: not at all), and ends the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
            await writer.drain()
        if reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\n" + b" " * 100
ALERT = b"\x15\x03\x03\x00\x02\x02\x46"


@pytest.mark.parametrize("answer", [b"", HTTP, ALERT, b"220 mail.example ESMTP\r\n", b"\x20"])
@pytest.mark.parametrize("protocol", ["TCP", "SSL", "WSS"])
@pytest.mark.parametrize("reset", [False, True])
async def test_whatever_a_stranger_answers_the_message_names_port_and_protocol(
    protocol: str, answer: bytes, reset: bool
) -> None:
    async with peer(answer, reset=reset) as port:
        sentence = await why(link_options(port, protocol))
    if answer == ALERT and protocol != "TCP" and CHECK_PORT not in sentence:
        assert "TLS" in sentence  # it does speak TLS
    else:
        assert sentence.endswith(CHECK_PORT)


@pytest.mark.parametrize("protocol", ["SSL", "WSS"])
async def test_a_stranger_behind_tls_is_told_from_a_broker(tmp_path: Path, protocol: str) -> None:
    for answer in (b"", HTTP, b"\x20\x02\x00\x05" if protocol == "WSS" else b"220 mail.example\r\n"):
        async with peer(answer, tls=CERTIFICATES.server_context(tmp_path)) as port:
            sentence = await why(link_options(port, protocol))
        assert sentence.endswith(CHECK_PORT)


async def test_a_broker_that_goes_by_certificates_and_closes_is_worth_a_look_at_the_certificate(tmp_path: Path) -> None:
    pair = CERTIFICATES.client
    async with peer(b"", tls=CERTIFICATES.server_context(tmp_path)) as port:
        sentence = await why(link_options(port, "SSL", certificate=pair.certificate, private_key=Secret(pair.key)))
    assert f"{CHECK_PORT}, and that the broker allows this certificate and clientId" in sentence


async def test_after_the_login_nobody_is_sent_to_check_the_port() -> None:
    async with fake_broker() as broker:
        for end in (broker_hangs_up, broker_resets, broker_babbles):
            listener = Listener()
            link = open_link(link_options(broker.port, "TCP", host=broker.host), listener)
            await link.connect()
            await link.login()
            end(broker.client)
            assert "check the port" not in str(await listener.until_lost())
            await link.close()


def broker_hangs_up(client: object) -> None:
    client.hang_up()


def broker_resets(client: object) -> None:
    client.reset()


def broker_babbles(client: object) -> None:
    client.send(HTTP)


# --- where it hangs ------------------------------------------------------------------------------------------------


async def test_a_tls_handshake_that_stalls_is_named_as_the_step_that_hangs(tmp_path: Path) -> None:
    async with peer(None) as port:
        assert await why(link_options(port, "SSL"), 0.3) == "TLS handshake did not come"
        assert await why(link_options(port, "TCP"), 0.3) == "CONNACK did not come"
    async with peer(None, tls=CERTIFICATES.server_context(tmp_path)) as port:
        assert await why(link_options(port, "WSS"), 0.5) == "WebSocket upgrade did not come"


async def test_every_step_is_named_in_its_turn(tmp_path: Path, start_mosquitto: Start) -> None:
    listeners = {"wss": [*CERTIFICATES.listener(tmp_path), "protocol websockets"]}
    broker = await start_mosquitto(listeners=listeners)
    link = open_link(link_options(broker.port, "WSS"), Listener())
    seen = [link.step]

    async def enter() -> None:
        await link.connect()
        await link.login()

    entering = asyncio.create_task(enter())
    async with asyncio.timeout(5):
        while not entering.done():
            if link.step is not seen[-1]:
                seen.append(link.step)
            await asyncio.sleep(0)
    await entering
    assert [step for step in Step if step in seen] == seen  # none comes back
    assert {Step.NONE, Step.TCP, Step.TLS, Step.WEBSOCKET, Step.CONNACK} <= set(seen)
    assert link.step is Step.NONE
    await link.close()
