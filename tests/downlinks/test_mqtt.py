"""Downlinks over MQTT: through a real broker to fakes that check them, and through brokers that fail."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mqttbridge.clock import SystemClock
from mqttbridge.downlinks.mqtt import MqttNetwork
from mqttbridge.downlinks.network import Later, Refused, Taken
from mqttbridge.downlinks.networks import make_network
from mqttbridge.downlinks.ways import ChirpStackCommands
from tests.brokers.fake import fake_broker
from tests.brokers.mosquitto import free_port
from tests.networks import chirpstack, tts
from tests.networks.samples import APPLICATION, DEV_EUI, mqtt_source, pending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.brokers.mosquitto import Mosquitto

    Start = Callable[..., Awaitable[Mosquitto]]

EUI = DEV_EUI.lower()
USER = "app@ttn"
TOPIC = f"application/{APPLICATION}/device/{EUI}/command/down"
QUICK = {"connection_timeout": 2000, "action_timeout": 2000}


@asynccontextmanager
async def to(port: int, kind: str = "chirpstack", **changes: Any) -> AsyncIterator[MqttNetwork]:  # noqa: ANN401
    network = make_network("ns", mqtt_source(kind, port, **{**QUICK, **changes}), {}, clock=SystemClock())
    assert isinstance(network, MqttNetwork)
    try:
        yield network
    finally:
        await network.close()


@asynccontextmanager
async def idling(port: int, idle: float) -> AsyncIterator[MqttNetwork]:
    source = mqtt_source("chirpstack", port, **QUICK)
    network = MqttNetwork("ns", source, ChirpStackCommands(APPLICATION), idle=idle)
    try:
        yield network
    finally:
        await network.close()


async def logged(broker: Mosquitto, text: str, count: int = 1) -> str:
    """Wait until the broker's log has a text so many times."""
    async with asyncio.timeout(10):
        while (log := await broker.read_log()).count(text) < count:  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.01)
    return log


# -- through a real broker ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_chirpstack_takes_commands_at_its_broker(plain_mosquitto: Mosquitto, version: str) -> None:
    queue = chirpstack.Queue()
    broker = plain_mosquitto
    async with (
        chirpstack.watch_commands(broker.host, broker.port, queue) as watcher,
        to(broker.port, mqtt_version=version) as network,
    ):
        assert await network.send(pending(1, way=APPLICATION)) == Taken()
        assert await network.send(pending(2, way=APPLICATION, confirmed=True, expires=2_000_000_000_000)) == Taken()
        assert await network.send(pending(3, way=APPLICATION, payload_hex=None, payload=b'{"led":1}')) == Taken()
        assert await watcher.wait_for(3) == [(TOPIC, "")] * 3
    first, second, third = queue.items[EUI]
    assert (first["data"], second["confirmed"], third["object"]) == ("AQM=", True, {"led": 1})


async def test_the_things_stack_takes_pushes_and_replaces_at_its_mqtt_server(start_mosquitto: Start) -> None:
    broker = await start_mosquitto(users={USER: "NNSXS.KEY"})
    queue = tts.Queue()
    async with (
        tts.watch_commands(broker.host, broker.port, USER, queue, password="NNSXS.KEY") as watcher,
        to(broker.port, "tts", username=USER, password="NNSXS.KEY") as network,
    ):
        for number, flush in ((1, False), (2, False), (3, True)):
            assert await network.send(pending(number, way="app/dev-1", flush=flush)) == Taken()
            await watcher.wait_for(number)
        root = f"v3/{USER}/devices/dev-1/down"
        assert watcher.verdicts == [(f"{root}/push", ""), (f"{root}/push", ""), (f"{root}/replace", "")]
    assert [item["correlation_ids"][1] for item in queue.items["dev-1"]] == [f"mqttbridge:key:{3:016x}"]


async def test_many_sends_at_once_share_one_link_of_their_own(plain_mosquitto: Mosquitto) -> None:
    broker, queue = plain_mosquitto, chirpstack.Queue()
    async with chirpstack.watch_commands(broker.host, broker.port, queue) as watcher, to(broker.port) as network:
        sends = [network.send(pending(number, way=APPLICATION)) for number in range(1, 201)]
        assert await asyncio.gather(*sends) == [Taken()] * 200
        assert await watcher.wait_for(200) == [(TOPIC, "")] * 200
    log = await logged(broker, "Client mqttbridge-source-ns-downlinks disconnected")
    assert log.count("as mqttbridge-source-ns-downlinks") == 1


async def test_mqtt_5_tells_that_nobody_is_subscribed(plain_mosquitto: Mosquitto) -> None:
    async with to(plain_mosquitto.port, mqtt_version="5") as network:
        answer = await network.send(pending(way=APPLICATION))
    assert isinstance(answer, Later)
    assert answer.everyone
    assert "ChirpStack is not connected" in answer.reason


async def test_a_broker_that_denies_the_topic_refuses_by_name(start_mosquitto: Start) -> None:
    broker = await start_mosquitto(acl="topic read #\n")
    async with to(broker.port, mqtt_version="5") as network:
        answer = await network.send(pending(way=APPLICATION))
    assert isinstance(answer, Refused)
    assert "not authorised (0x87)" in answer.reason


async def test_a_refused_login_is_for_later_and_named_without_the_password(start_mosquitto: Start) -> None:
    broker = await start_mosquitto(users={"someone": "right"})
    async with to(broker.port, username="someone", password="WRONG-ONE") as network:
        answer = await network.send(pending(way=APPLICATION))
    assert isinstance(answer, Later)
    assert answer.everyone
    assert "check username and password" in answer.reason
    assert "WRONG-ONE" not in answer.reason


async def test_a_broker_that_is_away_is_for_later_and_comes_back(plain_mosquitto: Mosquitto) -> None:
    broker, queue = plain_mosquitto, chirpstack.Queue()
    async with to(broker.port) as network:
        assert await network.send(pending(1, way=APPLICATION)) == Taken()
        await broker.stop()
        answer = await network.send(pending(2, way=APPLICATION))
        assert isinstance(answer, Later)
        assert answer.everyone
        answer = await network.send(pending(2, way=APPLICATION))
        assert isinstance(answer, Later)
        assert f"the source's broker: 127.0.0.1:{broker.port}" in answer.reason
        await broker.start()
        async with chirpstack.watch_commands(broker.host, broker.port, queue) as watcher:
            assert await network.send(pending(2, way=APPLICATION)) == Taken()
            await watcher.wait_for(1)


async def test_a_frozen_broker_is_given_up_on_in_time_and_all_who_wait_hear_of_it(plain_mosquitto: Mosquitto) -> None:
    broker = plain_mosquitto
    async with to(broker.port, action_timeout=300, connection_timeout=300) as network:
        assert await network.send(pending(1, way=APPLICATION)) == Taken()
        broker.freeze()
        try:
            async with asyncio.timeout(5):
                answers = await asyncio.gather(*(network.send(pending(n, way=APPLICATION)) for n in range(2, 22)))
                assert all(isinstance(answer, Later) and answer.everyone for answer in answers)
                assert "within 300 ms (actionTimeout)" in answers[0].reason
                answers = await asyncio.gather(*(network.send(pending(n, way=APPLICATION)) for n in range(2, 22)))
                assert {answer.reason for answer in answers} == {answers[0].reason}, "one attempt for all of them"
                assert "(connectionTimeout)" in answers[0].reason
        finally:
            broker.thaw()
        assert await network.send(pending(1, way=APPLICATION)) == Taken()


# -- the link's life ---------------------------------------------------------------------------------------------------


async def test_a_link_that_is_not_used_is_closed_and_opened_again(plain_mosquitto: Mosquitto) -> None:
    async with idling(plain_mosquitto.port, 0.05) as network:
        for turn in (1, 2):
            assert await network.send(pending(turn)) == Taken()
            await logged(plain_mosquitto, "Client mqttbridge-source-ns-downlinks disconnected", turn)


async def test_a_cancelled_send_leaves_the_link_to_the_others(plain_mosquitto: Mosquitto) -> None:
    broker = plain_mosquitto
    async with to(broker.port) as network:
        for rounds in range(30):  # cancelled at one await after the other
            first = asyncio.create_task(network.send(pending(1, way=APPLICATION)))
            second = asyncio.create_task(network.send(pending(2, way=APPLICATION)))
            for _ in range(rounds):
                await asyncio.sleep(0)
            first.cancel()
            assert await second == Taken()
            await asyncio.gather(first, return_exceptions=True)
            if rounds % 2:
                await network.close()
    assert not network._life
    assert not network._timer


async def test_close_while_a_send_is_cancelled_leaves_nothing_behind() -> None:
    async with fake_broker() as broker:
        broker.script.connack = None
        async with to(broker.port) as network:
            send = asyncio.create_task(network.send(pending(way=APPLICATION)))
            await asyncio.sleep(0.05)
            send.cancel()
            await asyncio.gather(send, return_exceptions=True)
            assert send.cancelled()


async def test_what_no_topic_can_be_made_of_is_refused_before_anything_is_connected() -> None:
    async with to(free_port()) as network:
        for way in ("", "a/b", "+", "#", "../.."):
            answer = await network.send(pending(way=way))
            assert isinstance(answer, Refused)
            assert answer.field == "DevEUI_downlink.DevEUI"
    async with to(free_port(), "tts", username=USER) as network:
        for way in ("", "app", "app/", "app/+", "app/a/b", "app/.."):
            assert isinstance(await network.send(pending(way=way)), Refused)


async def test_what_this_way_cannot_do_is_refused_though_another_way_had_taken_it() -> None:
    async with to(free_port()) as network:
        answer = await network.send(pending(1, way=APPLICATION, flush=True))
    assert isinstance(answer, Refused)
    assert answer.field == "DevEUI_downlink.FlushDownlinkQueue"


async def test_what_is_too_large_for_the_broker_is_refused_and_takes_no_other_with_it(start_mosquitto: Start) -> None:
    broker = await start_mosquitto(config=["max_packet_size 700"])
    queue = chirpstack.Queue()
    async with (
        chirpstack.watch_commands(broker.host, broker.port, queue) as watcher,
        to(broker.port, mqtt_version="5") as network,
    ):
        large = pending(1, way=APPLICATION, payload_hex=None, payload=b'{"x":"%s"}' % (b"x" * 700))
        answers = await asyncio.gather(*map(network.send, (large, pending(2, way=APPLICATION))))
        assert isinstance(answers[0], Refused)
        assert "at most 700" in answers[0].reason
        assert answers[1] == Taken()
        await watcher.wait_for(1)
