"""Sessions against real brokers: mosquitto and NATS."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

import pytest
import trustme
from structlog.testing import capture_logs

from mqttbridge.mqtt import backoff
from mqttbridge.sessions.machine import State
from mqttbridge.settings.secret import Secret
from tests.brokers.certs import Certificates
from tests.brokers.mosquitto import free_port
from tests.brokers.recorder import recorder
from tests.sessions.bench import DEV_EUI, bench, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto
    from tests.brokers.nats import Nats
    from tests.sessions.bench import Bench

    Start = Callable[..., Awaitable[Mosquitto]]

TOPIC = f"mqtt/things/{DEV_EUI}/uplink"


@pytest.fixture(scope="module")
def certs() -> Certificates:
    return Certificates()


@pytest.fixture(scope="module")
def rsa_certs() -> Certificates:
    return Certificates(trustme.KeyType.RSA)


async def delivers(it: Bench, broker: Mosquitto | Nats, port: int, number: int = 300, **configuration: object) -> None:
    """Everything arrives once and in order, and is settled."""
    run = it.start(port, **configuration)
    async with recorder(broker) as record:
        sent = await run.put(1, number // 2)
        sent += await run.put(number // 2 + 1, number - number // 2)
        counts = await run.until_settled()
        messages = await record.wait_for(number)
        assert [message.payload for message in messages] == sent
        assert {message.topic for message in messages} == {TOPIC}
        assert (counts.routed, counts.delivered) == (number, number)
        assert await run.stop() < 2.0
        assert len(record.messages) == number
    assert run.status().state is State.CLOSED


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_uplinks_arrive_in_order_exactly_once_in_quiet_operation(
    tmp_path: Path, plain_mosquitto: Mosquitto, version: str, qos: int
) -> None:
    async with bench(tmp_path / "state") as it:
        await delivers(it, plain_mosquitto, plain_mosquitto.port, mqtt_version=version, qos=qos, max_inflight=20)


async def test_uplinks_arrive_at_nats(tmp_path: Path, nats_broker: Nats) -> None:
    async with bench(tmp_path / "state") as it:
        await delivers(it, nats_broker, nats_broker.port)


@pytest.mark.parametrize("form", ["PKCS#8", "PKCS#1"])
async def test_uplinks_arrive_over_tls_with_a_client_certificate(
    tmp_path: Path, start_mosquitto: Start, rsa_certs: Certificates, form: str
) -> None:
    lines = await asyncio.to_thread(rsa_certs.listener, tmp_path / "certs", demand=True)
    broker = await start_mosquitto(listeners={"plain": [], "tls": lines})
    key = rsa_certs.client.key if form == "PKCS#8" else rsa_certs.client.pkcs1()
    async with bench(tmp_path / "state") as it:
        await delivers(
            it,
            broker,
            broker.listeners["tls"],
            protocol="SSL",
            host_name=f"localhost:{broker.listeners['tls']}",
            trusted_ca_certificate=rsa_certs.ca,
            certificate=rsa_certs.client.certificate,
            private_key=Secret(key),
        )


async def test_uplinks_arrive_over_wss_with_a_password(
    tmp_path: Path, start_mosquitto: Start, certs: Certificates
) -> None:
    lines = await asyncio.to_thread(certs.listener, tmp_path / "certs")
    broker = await start_mosquitto(
        listeners={"plain": [], "wss": ["protocol websockets", *lines]}, users={"acme": "s3cret", "watcher": "w"}
    )
    run_args = {"protocol": "WSS", "trusted_ca_certificate": certs.ca, "username": "acme", "password": Secret("s3cret")}
    async with bench(tmp_path / "state") as it:
        run = it.start(broker.listeners["wss"], **run_args)
        async with recorder(broker, args=["-u", "watcher", "-P", "w"]) as record:
            sent = await run.put(1, 100, size=2000)
            await run.until_settled()
            assert [message.payload for message in await record.wait_for(100)] == sent


async def test_a_wrong_password_is_authentication_failed_and_waits_for_the_schedule(
    tmp_path: Path, start_mosquitto: Start
) -> None:
    broker = await start_mosquitto(users={"acme": "right"})
    async with bench(tmp_path / "state") as it:
        run = it.start(broker.port, username="acme", password=Secret("wrong"))
        status = await run.until_state(State.AUTHENTICATION_FAILED)
        assert "user name or password" in status.why or "not authorised" in status.why
        assert not status.why.endswith(".")
        assert "wrong" not in status.why.replace("is wrong", "")
        assert status.retry_at is not None
        assert status.retry_at - it.clock.monotonic() > 200, "not tried again soon: that locks accounts"
        assert await run.stop() < 2.0


@pytest.mark.parametrize("fault", ["authority", "expired", "host"])
async def test_a_certificate_that_is_not_to_be_trusted_is_unreachable_with_the_cause(
    tmp_path: Path, start_mosquitto: Start, certs: Certificates, fault: str
) -> None:
    pair = {"authority": certs.server, "expired": certs.expired, "host": certs.wrong_host}[fault]
    words = {"authority": "authority", "expired": "expired", "host": "elsewhere.example"}[fault]
    lines = await asyncio.to_thread(certs.listener, tmp_path / "certs", pair)
    broker = await start_mosquitto(listeners={"plain": [], "tls": lines})
    async with bench(tmp_path / "state") as it:
        run = it.start(
            broker.listeners["tls"],
            protocol="SSL",
            trusted_ca_certificate=Certificates().ca if fault == "authority" else certs.ca,
        )
        await run.put(1, 10)
        status = await run.until_state(State.UNREACHABLE)
        assert words in status.why or "localhost" in status.why or "127.0.0.1" in status.why
        assert "certificate" in status.why
        assert run.counts().delivered == 0


async def test_a_broker_that_comes_up_late_gets_everything_at_the_next_try(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    await plain_mosquitto.stop()
    async with bench(tmp_path / "state") as it:
        run = it.start(plain_mosquitto.port)
        await run.put(1, 500)
        status = await run.until_state(State.UNREACHABLE)
        assert "refused" in status.why
        await plain_mosquitto.start()
        came_up = time.monotonic()
        counts = await run.until_settled()
        assert counts.delivered == 500
        assert time.monotonic() - came_up < 4.0, "the backoff's first delay is a second"


async def test_nothing_is_lost_when_the_broker_restarts_amid_two_thousand_uplinks(
    tmp_path: Path, start_mosquitto: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "JITTER_LOW", 0.1)
    broker = await start_mosquitto(
        config=["persistence true", f"persistence_location {tmp_path}/", "max_queued_messages 0"]
    )
    window = 50
    async with bench(tmp_path / "state") as it:
        run = it.start(broker.port, max_inflight=window)
        await run.until_state(State.OPENED)
        # The subscriber keeps its session over the restart.
        async with recorder(broker, args=["-i", "watcher", "-c"]) as record:
            sent = set(await run.put(1, 1000))
            await run.until_delivered(300)
            await broker.restart()
            sent |= set(await run.put(1001, 1000))
            counts = await run.until_settled()
            assert counts.delivered == 2000
            await record.wait_until(lambda messages: {one.payload for one in messages} >= sent)
            repeated = len(record.messages) - len(sent)
            assert repeated <= 2 * window, "the window of ours, and the broker's own towards its subscriber"


async def test_a_frozen_broker_is_found_dead_and_gets_it_again(
    tmp_path: Path, plain_mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "JITTER_LOW", 0.1)
    async with bench(tmp_path / "state") as it:
        run = it.start(plain_mosquitto.port, action_timeout=300, connection_timeout=500)
        await run.put(1, 10)
        await run.until_settled()
        plain_mosquitto.freeze()
        frozen_at = time.monotonic()
        await run.put(11, 10)
        status = await run.until_state(State.UNREACHABLE)
        assert "actionTimeout" in status.why or "connectionTimeout" in status.why
        assert time.monotonic() - frozen_at < 2.0
        plain_mosquitto.thaw()
        counts = await run.until_settled()
        assert counts.delivered == 20
        assert counts.parked == 0


async def test_two_sessions_with_one_client_id_are_named_and_all_is_delivered_once_one_ends(
    tmp_path: Path, plain_mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "JITTER_LOW", 0.1)
    async with bench(tmp_path / "state") as it:
        with capture_logs() as lines:
            one = it.start(plain_mosquitto.port, "one", client_id="same", mqtt_version="5")
            two = it.start(plain_mosquitto.port, "two", client_id="same", mqtt_version="5")

            def named() -> set[str]:
                return {line["connection"] for line in lines if line["event"] == "connection.client_id_conflict"}

            await until(lambda: named() == {"one", "two"}, "both named")
            await two.stop()
            await one.put(1, 20)
            await one.until_settled()
        told = [line for line in lines if line["event"] == "connection.client_id_conflict"]
        assert len(told) == 2, "once each"
        assert "same" in told[0]["reason"]


async def test_sessions_do_not_wait_for_one_whose_broker_cannot_be_reached(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.settimeout(0)
        filler.connect_ex(full.getsockname())
        async with bench(tmp_path / "state") as it:
            black = [it.start(full.getsockname()[1], f"black{index}", connection_timeout=10_000) for index in range(30)]
            await black[-1].until_state(State.OPENING)
            began = time.monotonic()
            good = [it.start(plain_mosquitto.port, f"good{index}") for index in range(5)]
            for run in good:
                await run.put(1, 10)
                await run.until_settled()
            assert time.monotonic() - began < 3.0
            assert sum(run.status().state is State.OPENING for run in black) >= 28, "the backlog holds one or two"
            assert max([await run.stop() for run in black]) < 2.0


async def test_no_broker_at_all_is_unreachable_with_the_cause(tmp_path: Path) -> None:
    async with bench(tmp_path / "state") as it:
        run = it.start(free_port())
        status = await run.until_state(State.UNREACHABLE)
        assert "refused" in status.why
        assert not status.why.endswith(".")
