"""The brokers of the tests keep their own promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.brokers.mosquitto import find
from tests.brokers.recorder import publish, recorder

if TYPE_CHECKING:
    from tests.brokers.mosquitto import Mosquitto


def test_a_missing_program_skips_and_in_ci_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no-such-broker is not installed"):
        find("no-such-broker")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-broker is not installed"):
        find("no-such-broker")


async def test_the_recorder_sees_what_arrives_as_it_is(plain_mosquitto: Mosquitto) -> None:
    async with recorder(plain_mosquitto, "a/#") as record:
        await publish(plain_mosquitto, "a/ä", bytes(range(256)), qos=1)
        await publish(plain_mosquitto, "b", b"not asked for")
        await publish(plain_mosquitto, 'a/"x"', b"2")
        messages = await record.wait_for(2)
    assert [(message.topic, message.payload) for message in messages] == [("a/ä", bytes(range(256))), ('a/"x"', b"2")]
    assert (messages[0].qos, messages[0].retain) == (1, False)


async def test_a_broker_survives_restart_on_its_port(plain_mosquitto: Mosquitto) -> None:
    port = plain_mosquitto.port
    await plain_mosquitto.restart()
    await plain_mosquitto.kill()
    await plain_mosquitto.start()
    assert plain_mosquitto.port == port
    async with recorder(plain_mosquitto) as record:
        await publish(plain_mosquitto, "t", b"1")
        await record.wait_for(1)
    assert "mosquitto version" in await plain_mosquitto.read_log()
