"""Looking at a peer from outside: what it shows and speaks, and that nothing of the user's is sent."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mqttbridge.errors import LinkError
from mqttbridge.mqtt import probe
from mqttbridge.mqtt.client import open_link
from mqttbridge.mqtt.facts import Addresses, Attempt, Fact, Secured
from mqttbridge.mqtt.link import Step
from mqttbridge.mqtt.options import LinkOptions
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
PATIENCE = 5.0


def to(port: int, **changes: object) -> LinkOptions:
    client = CERTIFICATES.client
    return LinkOptions(
        **{
            "host": "localhost",
            "port": port,
            "client_id": "users-own-id",
            "protocol": "SSL",
            "username": "users-name",
            "password": Secret("users-password"),
            "certificate": client.certificate,
            "private_key": Secret(client.key),
            **changes,
        }
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("demand", [False, True])
async def test_a_look_shows_the_certificates_and_whether_one_is_wanted_and_gives_none(
    tmp_path: Path, version: ssl.TLSVersion, demand: bool
) -> None:
    context = CERTIFICATES.server_context(tmp_path, CERTIFICATES.expired, demand=demand)
    context.maximum_version = version
    async with fake_broker(context) as broker:
        look = await probe.look(to(broker.port))
        assert look.wants_certificate is demand
        leaf = ssl.PEM_cert_to_DER_cert(CERTIFICATES.expired.certificate)
        assert look.secured.chain[0] == leaf
        assert not any(client.packets for client in broker.clients)


async def test_a_look_offers_the_alpn_names(tmp_path: Path) -> None:
    context = CERTIFICATES.server_context(tmp_path)
    context.set_alpn_protocols(["mqtt"])
    async with fake_broker(context) as broker:
        assert (await probe.look(to(broker.port, alpn=("other", "mqtt")))).secured.alpn == "mqtt"


async def test_a_look_at_what_speaks_no_tls_fails(plain_mosquitto: Mosquitto) -> None:
    with pytest.raises(LinkError):
        await probe.look(to(plain_mosquitto.port))


@pytest.mark.parametrize(("listener", "spoken"), [("plain", "TCP"), ("tls", "SSL"), ("ws", "WS"), ("wss", "WSS")])
async def test_what_a_broker_speaks_is_heard(
    tmp_path: Path, start_mosquitto: Start, listener: str, spoken: str
) -> None:
    tls = CERTIFICATES.listener(tmp_path)
    listeners = {"plain": [], "tls": tls, "ws": ["protocol websockets"], "wss": [*tls, "protocol websockets"]}
    broker = await start_mosquitto(listeners=listeners, users={"bob": "geheim"})
    assert await probe.speaks(to(broker.listeners[listener]), PATIENCE) == spoken


async def test_nothing_of_the_users_is_sent_to_hear_it() -> None:
    heard = bytearray()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        options = to(server.sockets[0].getsockname()[1], web_socket_path="/users-path", alpn=("users-alpn",))
        assert await probe.speaks(options, PATIENCE) == ""
    assert b"MQTT" in heard
    assert b"users-" not in heard


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_who_says_nothing_is_waited_for_no_longer_than_told() -> None:
    async with silent() as port:
        started = time.monotonic()
        assert await probe.speaks(to(port), 0.2) == ""
        assert time.monotonic() - started < 2


async def test_a_link_tells_who_listens_what_it_finds_on_the_way_in(tmp_path: Path) -> None:
    facts: list[Fact] = []
    async with fake_broker(CERTIFICATES.server_context(tmp_path)) as broker:
        link = open_link(to(broker.port, ca=CERTIFICATES.ca), Listener(), facts.append)
        await link.connect()
        await link.login()
        await link.close()
    assert [fact for fact in facts if isinstance(fact, Step)] == [
        Step.CERTIFICATES, Step.DNS, Step.TCP, Step.TLS, Step.CONNACK, Step.NONE,
    ]  # fmt: skip
    assert Attempt("127.0.0.1") in facts
    (addresses,) = [fact for fact in facts if isinstance(fact, Addresses)]
    assert "127.0.0.1" in addresses.addresses
    (secured,) = [fact for fact in facts if isinstance(fact, Secured)]
    assert secured.version == "TLSv1.3"
    assert secured.chain[0] == ssl.PEM_cert_to_DER_cert(CERTIFICATES.server.certificate)
