"""The whole daemon as a process, against real brokers."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import socket
import time
from typing import TYPE_CHECKING

import httpx

from tests.brokers.fake import Fake
from tests.brokers.mosquitto import free_port
from tests.brokers.recorder import recorder
from tests.support.bridge import NOBODY, bridge, edited, fcnts, to, uplink

if TYPE_CHECKING:
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto

OTHER = "0018B20000000C31"


async def test_an_uplink_arrives_as_it_came_on_its_topic(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    document = uplink(7)
    async with (
        recorder(plain_mosquitto) as record,
        bridge(tmp_path, connections={"acme": to(plain_mosquitto)}) as daemon,
    ):
        await daemon.accept("lrc", document)
        (message,) = await record.wait_for(1)
        assert message.topic == "mqtt/things/0018B20000000B20/uplink"
        assert message.payload == document
        assert (message.qos, message.retain) == (1, False)
        account = await daemon.until_account("acme", delivered=1)
        assert account == {"routed": 1, "delivered": 1, "expired": 0, "parked": 0, "dropped": 0, "queued": 0}
        assert (await daemon.metrics())["mqttbridge_source_uplinks_accepted_total", "lrc"] == 1


async def test_flows_lead_by_tag_and_by_key_and_inactive_connections_get_nothing(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    def at(name: str, **more: object) -> dict[str, object]:
        return {**to(plain_mosquitto, uplinkTopicPattern=name + "/{DevEUI}"), **more}

    flows = {
        "by-tag": {
            "matchers": [{"type": "thing", "tags": ["temperature", "CELLAR"]}],
            "connections": ["tag", "off"],
        },
        "by-key": {"matchers": [{"type": "key", "key": "lora:0018b20000000c31"}], "connections": ["key"]},
    }
    connections = {"tag": at("tag"), "key": at("key"), "off": at("off", active=False)}
    async with (
        recorder(plain_mosquitto) as record,
        bridge(tmp_path, connections=connections, flows=flows) as daemon,
    ):
        await daemon.accept(
            "lrc",
            uplink(1, tags=["Temperature"]),
            uplink(2, tags=["Cellar", "Temperature"]),
            uplink(3, OTHER, tags=[]),
            uplink(4, OTHER, tags=["temperature", "cellar", "more"]),
        )
        await record.wait_for(4)
        await daemon.until_account("tag", routed=2, delivered=2)
        await daemon.until_account("key", routed=2, delivered=2)
        by_topic = {topic: fcnts([m.payload for m in record.messages if m.topic == topic]) for topic in record.topics}
        assert by_topic == {"tag/0018B20000000B20": [2], "tag/" + OTHER: [4], "key/" + OTHER: [3, 4]}
        assert (await daemon.account("off"))["routed"] == 0
        assert (await daemon.metrics())["mqttbridge_connection_state", "off", "DEACTIVATED"] == 1
        # What no flow leads anywhere is counted and told.
        assert (await daemon.metrics())["mqttbridge_source_uplinks_unrouted_total", "lrc"] == 1
        (told,) = daemon.said("uplink.unrouted")
        assert (told["source"], told["fcnt"], told["dev_eui"]) == ("lrc", 1, "0018B20000000B20")


async def test_a_broker_that_is_down_delays_no_other_and_gets_everything_in_order_later(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    down = Fake()
    port = free_port()
    async with (
        recorder(plain_mosquitto) as record,
        bridge(tmp_path, connections={"up": to(plain_mosquitto), "down": to(port)}) as daemon,
    ):
        await daemon.accept("lrc", *(uplink(fcnt) for fcnt in range(300)))
        assert fcnts([m.payload for m in await record.wait_for(300)]) == list(range(300))
        await daemon.until_account("up", routed=300, delivered=300, queued=0)
        assert (await daemon.account("down"))["queued"] == 300
        assert daemon.said("connection.failed", connection="down")
        await down.start(port)
        try:
            await daemon.accept("lrc", uplink(300))
            messages = await down.wait_published(301)
            assert fcnts([message.payload for message in messages]) == list(range(301))
            await daemon.until_account("down", routed=301, delivered=301, queued=0)
        finally:
            await down.stop()
        assert len(daemon.said("connection.failed")) == 1


async def test_a_full_journal_may_drop_the_oldest_and_accounts_for_them_over_a_crash(tmp_path: Path) -> None:
    sections = {"journal": {"maxSize": "1MiB", "whenFull": "drop-oldest"}, "connections": {"acme": to(NOBODY)}}
    async with bridge(tmp_path, **sections) as daemon:
        for start in range(0, 2000, 100):
            await daemon.accept("lrc", *(uplink(fcnt) for fcnt in range(start, start + 100)))
        account = await daemon.account("acme")
        assert (account["routed"], account["dropped"] > 500, account["queued"] > 50) == (2000, True, True)
        await daemon.until_said("uplink.dropped", connection="acme")
        await daemon.kill()
        await daemon.restart()
        assert await daemon.account("acme") == account


async def test_an_uplink_that_is_too_old_expires_and_one_that_makes_no_topic_is_parked(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    pattern = "out/{DevEUI}/{CustomerData.name}"
    connections = {"acme": to(plain_mosquitto, uplinkTimeValidity="1h", uplinkTopicPattern=pattern)}
    hostile = ["a/b", "a+b", "#", "", "nul\0", "line\n", "\x7f", "\u0085"]
    async with (
        recorder(plain_mosquitto) as record,
        bridge(tmp_path, connections=connections, level="debug") as daemon,
    ):
        documents = [uplink(number, name="x") for number in range(len(hostile))]
        documents = [
            edited(document, CustomerData={"name": name}) for document, name in zip(documents, hostile, strict=True)
        ]
        await daemon.accept(
            "lrc",
            *documents,
            edited(uplink(90), CustomerData={}),
            uplink(91, age=3_700_000, name="old"),
            uplink(92, age=3_500_000, name="young enough"),
        )
        assert (await record.wait_for(1))[0].topic == "out/0018B20000000B20/young enough"
        account = await daemon.until_account("acme", queued=0)
        assert account == {"routed": 11, "delivered": 1, "expired": 1, "parked": 9, "dropped": 0, "queued": 0}
        parked = daemon.said("uplink.parked")
        assert [line["fcnt"] for line in parked] == [*range(len(hostile)), 90]
        assert all("CustomerData.name" in line["reason"] for line in parked)
        assert [line["fcnt"] for line in daemon.said("uplink.expired")] == [91]
        assert {line["level"] for line in parked} == {"warning"}


async def test_each_connection_shapes_its_uplinks_and_publishes_as_it_is_told(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    connections = {
        "bare": to(plain_mosquitto, uplinkTopicPattern="bare", sendMetadata=True, qos=0),
        "decoded": to(plain_mosquitto, uplinkTopicPattern="decoded", sendRawDecodedFormat=True, qos=2),
        "five": to(plain_mosquitto, uplinkTopicPattern="five", mqttVersion="5", retain=True, clientId="five"),
    }
    document = uplink(5)
    content = json.loads(document)["DevEUI_uplink"]
    report = json.dumps({"DevEUI_notification": {"DevEUI": content["DevEUI"], "Type": "join"}}).encode()
    async with (
        recorder(plain_mosquitto, qos=2) as record,
        bridge(tmp_path, connections=connections) as daemon,
    ):
        await daemon.accept("lrc", document, report)
        messages = {(m.topic, json.dumps(json.loads(m.payload), sort_keys=True)): m for m in await record.wait_for(5)}

        def one(topic: str, value: object) -> int:
            return messages[topic, json.dumps(value, sort_keys=True)].qos

        assert one("bare", content) == 0
        assert one("decoded", content["payload"]) == 2
        assert one("decoded", json.loads(report)) == 2
        assert one("five", json.loads(document)) == 1
        assert one("five", json.loads(report)) == 1
        for name, routed in (("bare", 1), ("decoded", 2), ("five", 2)):
            await daemon.until_account(name, routed=routed, delivered=routed)
        log = await plain_mosquitto.read_log()
        assert " as five (p5," in log
        assert " as mqttbridge-bare (p2," in log
    async with recorder(plain_mosquitto, "five") as later:
        (kept,) = await later.wait_for(1)
        assert kept.retain


# -- the end of the daemon -------------------------------------------------------------------------------------------


async def test_sigterm_ends_it_quickly_and_in_order_and_loses_nothing_under_load(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    connections = {"acme": to(plain_mosquitto, maxInflight=50)}
    async with (
        recorder(plain_mosquitto) as record,
        bridge(tmp_path, connections=connections) as daemon,
    ):
        await daemon.until_state("acme", "OPENED")
        await daemon.accept("lrc", *(uplink(fcnt) for fcnt in range(5000)))
        await record.wait_for(100)
        began = time.monotonic()
        assert await daemon.stop() == 0
        assert time.monotonic() - began < 3
        assert [line["event"] for line in daemon.events][-2:] == ["daemon.stopping", "daemon.stopped"]
        assert not daemon.said("library.message")
        before = len(record.messages)
        await daemon.restart()
        await record.wait_for(5000)
        account = await daemon.until_account("acme", queued=0)
        assert (account["routed"], account["delivered"]) == (5000, 5000)
        assert fcnts(record.payloads) == list(range(5000)), "what was in flight was settled: nothing comes twice"
        assert 100 <= before <= 5000


async def test_what_was_answered_with_200_before_the_end_is_delivered_after_the_start(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    async with (
        recorder(plain_mosquitto) as record,
        bridge(tmp_path, connections={"acme": to(plain_mosquitto)}) as daemon,
    ):
        accepted: list[int] = []

        async def network_server(first: int) -> None:
            for fcnt in itertools.count(first, 10):
                try:
                    answer = await daemon.post("lrc", uplink(fcnt))
                except httpx.HTTPError:
                    return
                if answer.status_code == 200:
                    accepted.append(fcnt)

        clients = [asyncio.create_task(network_server(number)) for number in range(10)]
        await record.wait_for(100)
        assert await daemon.stop() == 0
        await asyncio.gather(*clients)
        assert not daemon.said("library.message")
        await daemon.restart()
        messages = await record.wait_until(lambda them: set(accepted) <= set(fcnts([m.payload for m in them])))
        await daemon.until_account("acme", queued=0)
        assert len(accepted) >= 100
        assert len({message.payload for message in messages}) == len(messages), "and nothing twice"


async def test_systemd_hears_that_it_is_ready_alive_and_stopping(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(0)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        heard: list[str] = []

        async def until_heard(wanted: str) -> None:
            async with asyncio.timeout(10):
                while not any(line.startswith(wanted) for line in heard):
                    data = await asyncio.get_running_loop().sock_recv(systemd, 4096)
                    heard.extend(data.decode().splitlines())

        async with bridge(tmp_path, env=env) as daemon:
            await until_heard("READY=1")
            await until_heard("WATCHDOG=1")
            await until_heard("STATUS=0 of 0 connections open, 0 queued")
            assert await daemon.stop() == 0
            await until_heard("STOPPING=1")


async def test_a_broker_that_never_acknowledges_holds_up_the_end_for_seconds_only(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    connections = {"acme": to(plain_mosquitto, actionTimeout="10s")}
    async with bridge(tmp_path, connections=connections) as daemon:
        await daemon.until_state("acme", "OPENED")
        plain_mosquitto.freeze()
        try:
            await daemon.accept("lrc", *(uplink(fcnt) for fcnt in range(20)))
            began = time.monotonic()
            assert await daemon.stop() == 0
            assert time.monotonic() - began < 7.5
        finally:
            plain_mosquitto.thaw()
        await daemon.restart()
        await daemon.until_account("acme", routed=20, delivered=20)


async def test_a_second_signal_ends_it_at_once(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    connections = {"acme": to(plain_mosquitto, actionTimeout="10s")}
    async with bridge(tmp_path, connections=connections) as daemon:
        await daemon.until_state("acme", "OPENED")
        plain_mosquitto.freeze()
        try:
            await daemon.accept("lrc", uplink(1))
            daemon.signal(signal.SIGTERM)
            await daemon.until_said("daemon.stopping", signal="SIGTERM")
            began = time.monotonic()
            daemon.signal(signal.SIGINT)
            assert await daemon.wait() == 128 + signal.SIGINT
            assert time.monotonic() - began < 1
        finally:
            plain_mosquitto.thaw()


async def test_it_starts_and_stops_with_an_empty_configuration(tmp_path: Path) -> None:
    async with bridge(tmp_path, config="http: {listen: '[::1]:0'}\n") as daemon:
        assert daemon.said("daemon.started", connections=0, sources=0)
        assert await daemon.stop() == 0


# -- what the machine does not give ----------------------------------------------------------------------------------


async def test_health_names_what_is_wrong(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    sources = {"ns": {"transport": "mqtt", "hostName": f"127.0.0.1:{NOBODY}", "protocol": "TCP", "topics": ["a"]}}
    connections = {"acme": to(plain_mosquitto), "off": {**to(1), "active": False}}
    async with bridge(tmp_path, sources=sources, connections=connections) as daemon:
        await daemon.until_said("source.failed")
        answer = await daemon.get("/health")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == 503
        assert [reason.startswith("source ns: ") for reason in problem["reasons"]] == [True]
        assert problem["connections"]["DEACTIVATED"] == 1


async def test_uplinks_of_a_connection_that_is_no_longer_configured_are_named_and_kept(tmp_path: Path) -> None:
    async with bridge(tmp_path, connections={"acme": to(NOBODY)}) as daemon:
        await daemon.accept("lrc", uplink(1), uplink(2))
        assert await daemon.stop() == 0
        daemon.write({"sources": {"lrc": {"transport": "http"}}})
        await daemon.restart()
        assert daemon.said("connection.orphaned", connection="acme", queued=2)
        assert (await daemon.account("acme"))["queued"] == 2
