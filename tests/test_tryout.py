"""A connection is tried out in the daemon's loop: what is found, that it ends in time, and what it never tells."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mqttbridge import tryout as room
from mqttbridge.api.seam import Refused
from mqttbridge.clock import SystemClock
from mqttbridge.settings.schema import Configuration, Connection
from mqttbridge.settings.secret import Secret
from mqttbridge.tryout import TryOut
from tests.brokers.certs import Certificates
from tests.brokers.mosquitto import mosquitto
from tests.brokers.recorder import recorder
from tests.support.bridge import NOBODY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mqttbridge.api.seam import Tested
    from tests.brokers.mosquitto import Mosquitto

PASSWORD = "correct-horse-battery"
CLOCK = SystemClock()
CERTIFICATES = Certificates()


def connection(port: int, **configuration: Any) -> Connection:  # noqa: ANN401 (properties of any kind)
    whole = {"host_name": f"localhost:{port}", "protocol": "TCP", **configuration}
    return Connection(configuration=Configuration(**whole))


def outcomes(tested: Tested) -> dict[str, str]:
    return {step.name: step.outcome for step in tested.steps}


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """Run a server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_a_good_broker_passes_every_step_and_hears_nothing_but_a_subscription(
    tmp_path: Path,
) -> None:
    async with mosquitto(tmp_path, users={"acme": PASSWORD}) as broker:
        given = connection(
            broker.port, username="acme", password=Secret(PASSWORD), downlink_topic_pattern="down/{DevEUI}"
        )
        async with recorder(broker, args=("-u", "acme", "-P", PASSWORD)) as record:
            tested = await TryOut(CLOCK).try_out("acme", given)
            assert tested.ok
            assert record.messages == []
        assert outcomes(tested) == {
            "configuration": "ok",
            "DNS": "ok",
            "TCP": "ok",
            "CONNACK": "ok",
            "SUBACK": "ok",
            "PUBACK": "skipped",
        }
        assert tested.warnings == ()
        for step in tested.steps:
            assert step.detail
            assert "--" not in step.detail
            assert "unless you ask" not in step.detail  # here nobody can
        assert next(step for step in tested.steps if step.name == "TCP").milliseconds is not None
        log = await broker.read_log()
        assert re.search(r" as mqttbridge-acme-t[0-9a-f]{4} ", log)
        assert " as mqttbridge-acme " not in log


async def test_a_wrong_password_fails_at_the_login_and_is_not_told(tmp_path: Path) -> None:
    async with mosquitto(tmp_path, users={"acme": PASSWORD}) as broker:
        tested = await TryOut(CLOCK).try_out(
            "acme", connection(broker.port, username="acme", password=Secret("not-the-right-one"))
        )
    assert not tested.ok
    assert outcomes(tested)["CONNACK"] == "failed"
    assert outcomes(tested)["SUBACK"] == "skipped"
    failed = next(step for step in tested.steps if step.outcome == "failed")
    assert "password" in (failed.detail + failed.advice).lower()
    assert "clientId" in failed.advice
    assert "--" not in failed.advice
    assert b"not-the-right-one" not in msgspec.json.encode(tested)


async def test_a_wrong_port_fails_where_nobody_listens_and_says_what_to_do() -> None:
    tested = await TryOut(CLOCK).try_out("acme", connection(NOBODY))
    assert not tested.ok
    failed = next(step for step in tested.steps if step.outcome == "failed")
    assert failed.name == "TCP"
    assert failed.advice


async def test_a_wrong_protocol_is_found_out(plain_mosquitto: Mosquitto) -> None:
    given = connection(plain_mosquitto.port, protocol="SSL", trusted_ca_certificate=CERTIFICATES.ca)
    tested = await TryOut(CLOCK).try_out("acme", given)
    assert not tested.ok
    failed = next(step for step in tested.steps if step.outcome == "failed")
    assert failed.name == "TLS"
    assert "TCP" in failed.detail + failed.advice


async def test_no_secret_is_told_wherever_it_stands(plain_mosquitto: Mosquitto) -> None:
    given = connection(plain_mosquitto.port, host_name=Secret(f"localhost:{plain_mosquitto.port}"))
    tested = await TryOut(CLOCK).try_out("acme", given)
    assert tested.ok
    assert f"localhost:{plain_mosquitto.port}" not in msgspec.json.encode(tested).decode()


async def test_a_session_of_the_daemon_goes_on(plain_mosquitto: Mosquitto) -> None:
    async with recorder(plain_mosquitto, args=("-i", "mqttbridge-acme")):
        tested = await asyncio.gather(
            *(TryOut(CLOCK).try_out("acme", connection(plain_mosquitto.port)) for _ in range(4))
        )
        assert all(one.ok for one in tested)
        log = await plain_mosquitto.read_log()
        assert log.count(" as mqttbridge-acme ") == 1
        assert "already connected" not in log


async def test_one_that_takes_too_long_ends_in_time_and_says_so() -> None:
    async with silent() as port:
        tested = await TryOut(CLOCK, limit=0.2).try_out("acme", connection(port))
    assert not tested.ok
    (step,) = tested.steps
    assert "0.2 s" in step.detail


async def test_a_long_connection_timeout_is_cut_and_told() -> None:
    tested = await TryOut(CLOCK).try_out("acme", connection(NOBODY, connection_timeout=10_000))
    (warning,) = tested.warnings
    assert "connectionTimeout" in warning
    whole = 3 * room.PATIENCE / 1000
    assert whole < room.LIMIT, "entering, looking and speaking have their turn"


async def test_only_so_many_are_tried_at_once_and_the_place_is_free_afterwards() -> None:
    trying = TryOut(CLOCK, at_once=2)
    async with silent() as port:
        given = connection(port, connection_timeout=60_000)
        tasks = [asyncio.create_task(trying.try_out("acme", given)) for _ in range(2)]
        await asyncio.sleep(0)
        assert trying._under_way == 2
        with pytest.raises(Refused, match="at once") as refused:
            await trying.try_out("acme", given)
        assert refused.value.status == 503
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert not (await trying.try_out("acme", connection(NOBODY))).ok


async def test_a_bug_is_a_failed_step_and_tells_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    async def examine(*_: object) -> None:
        raise ZeroDivisionError(PASSWORD)

    monkeypatch.setattr(room, "examine", examine)
    tested = await TryOut(CLOCK).try_out("acme", connection(NOBODY, password=Secret(PASSWORD)))
    assert not tested.ok
    assert "ZeroDivisionError" in tested.steps[0].detail
    assert PASSWORD not in tested.steps[0].detail
