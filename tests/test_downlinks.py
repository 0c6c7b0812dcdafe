"""Downlinks end to end: a real daemon, a real mosquitto, and network servers that check what they are sent."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from mqttbridge.clock import SystemClock
from mqttbridge.formats import sample_chirpstack, sample_tts
from tests.brokers.mosquitto import free_port
from tests.brokers.recorder import recorder
from tests.networks import chirpstack, lrc, tts
from tests.networks.server import Fault
from tests.support.bridge import DEV_EUI, bridge, publish_lines, run, subscribed, to, uplink

if TYPE_CHECKING:
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto
    from tests.brokers.recorder import Message

KEY = "00112233445566778899aabbccddeeff"
AS_ID = "TWA_1.2.AS"
DOWN = f"mqtt/things/{DEV_EUI}/downlink"
RECEIPT = f"mqtt/things/{DEV_EUI}/receipt"


def customer(broker: Mosquitto, **more: Any) -> dict[str, Any]:  # noqa: ANN401 (properties of any kind)
    """Give a connection that takes downlinks."""
    topics = {
        "downlinkTopicPattern": "mqtt/things/{DevEUI}/downlink",
        "downlinkReceiptTopicPattern": "mqtt/things/{DevEUI}/receipt",
    }
    return to(broker, **topics, **more)


def downlink(**fields: Any) -> bytes:  # noqa: ANN401 (fields of any kind)
    return json.dumps({"DevEUI_downlink": {"FPort": 2, "payload_hex": "0103", **fields}}).encode()


def receipts(messages: list[Message]) -> list[dict[str, Any]]:
    return [json.loads(message.payload) for message in messages if message.topic.endswith("/receipt")]


async def test_a_downlink_goes_to_the_lrc_signed_and_its_report_comes_back(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    async with (
        lrc.FakeLrc({AS_ID: KEY}) as server,
        recorder(plain_mosquitto) as record,
        bridge(
            tmp_path,
            sources={"lrc": {"transport": "http", "asKey": KEY, "apiUrl": server.url, "downlinkAsId": AS_ID}},
            connections={"acme": customer(plain_mosquitto)},
        ) as daemon,
    ):
        await daemon.until_said("connection.subscribed", topic="mqtt/things/+/downlink")
        await publish_lines(plain_mosquitto, DOWN, [downlink(CorrelationID="00000000000000AA", Confirmed="1")])
        messages = await record.wait_until(lambda messages: len(receipts(messages)) == 1)
        (receipt,) = receipts(messages)
        assert (receipt["outcome"], receipt["DevEUI"]) == ("queued", DEV_EUI)
        assert receipt["CorrelationID"] == "00000000000000AA"
        (taken,) = server.queued
        assert (taken["Payload"], taken["FPort"], taken["Confirmed"]) == ("0103", "2", "1")
        assert taken["CorrelationID"] == "00000000000000AA"
        (said,) = daemon.said("downlink.queued")
        assert (said["key"], said["source"]) == (receipt["key"], "lrc")
        metrics = await daemon.metrics()
        assert metrics["mqttbridge_connection_downlinks_total", "acme", "queued"] == 1
        assert metrics["mqttbridge_connection_downlinks_received_total", "acme"] == 1
        assert metrics["mqttbridge_connection_downlinks_waiting", "acme"] == 0
        assert KEY not in daemon.text


async def test_every_message_ends_in_one_receipt_whatever_it_is(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    bad = [
        (b"not json", "JSON", None),
        (b"{}", "DevEUI_downlink", "DevEUI_downlink"),
        (downlink(FPort=0), "FPort", "DevEUI_downlink.FPort"),
        (downlink(payload_hex="0"), "two a byte", "DevEUI_downlink.payload_hex"),
        (downlink(payload_hex="00" * 243), "243", "DevEUI_downlink.payload_hex"),
        (downlink(DevEUI="0018B20000000B21"), "DevEUI", "DevEUI_downlink.DevEUI"),
        (downlink(payload={"a": 1}, payload_hex=None), "payload_hex", "DevEUI_downlink.payload"),
    ]
    async with (
        lrc.FakeLrc() as server,
        recorder(plain_mosquitto, "mqtt/things/+/receipt") as record,
        bridge(
            tmp_path,
            sources={"lrc": {"transport": "http", "apiUrl": server.url}},
            connections={"acme": customer(plain_mosquitto)},
        ) as daemon,
    ):
        await daemon.until_said("connection.subscribed")
        for body, _, _ in bad:
            await publish_lines(plain_mosquitto, DOWN, [body])
        found = receipts(await record.wait_for(len(bad)))
        assert [one["outcome"] for one in found] == ["rejected"] * len(bad)
        for one, (_, word, field) in zip(found, bad, strict=True):
            assert word in one["reason"]
            assert one.get("field") == field
        await publish_lines(plain_mosquitto, DOWN, [downlink(ValidityTime="2020-01-01T00:00:00Z")])
        assert receipts(await record.wait_for(len(bad) + 1))[-1]["outcome"] == "expired"
        assert server.queued == []
        assert len(daemon.said("downlink.rejected")) == len(bad)


async def test_a_network_server_that_is_down_holds_up_its_own_downlinks_alone(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    dead = free_port()
    other = "0018B20000000C31"
    async with (
        lrc.FakeLrc() as server,
        recorder(plain_mosquitto) as record,
        bridge(
            tmp_path,
            sources={
                "good": {"transport": "http", "apiUrl": server.url},
                "dead": {"transport": "http", "apiUrl": f"http://127.0.0.1:{dead}"},
            },
            connections={"acme": customer(plain_mosquitto)},
        ) as daemon,
    ):
        await daemon.until_said("connection.subscribed")
        await publish_lines(plain_mosquitto, DOWN, [downlink()])
        (unknown,) = await daemon.until_said("downlink.rejected")
        assert "no uplink" in unknown["reason"]
        await daemon.accept("dead", uplink(1))
        await daemon.accept("good", uplink(1, other))
        await publish_lines(plain_mosquitto, DOWN, [downlink()])
        await daemon.until_said("network.failing", source="dead")
        (held_up,) = (await daemon.get("/health")).json()["downlinks"]
        assert held_up.startswith("source dead: ")
        await publish_lines(plain_mosquitto, f"mqtt/things/{other}/downlink", [downlink()])
        await daemon.until_said("downlink.queued", source="good")
        await daemon.accept("dead", uplink(2))
        await record.wait_until(lambda messages: sum(m.topic.endswith("/uplink") for m in messages) == 3)
        await daemon.kill()
        async with lrc.FakeLrc(port=dead) as back:
            await daemon.restart()
            await daemon.until_said("downlink.queued", source="dead")
            assert len(back.queued) == 1


async def test_a_refusal_of_the_network_server_is_final_and_named(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    async with (
        lrc.FakeLrc({"other": KEY}) as server,
        recorder(plain_mosquitto) as record,
        bridge(
            tmp_path,
            sources={"lrc": {"transport": "http", "apiUrl": server.url}},
            connections={"acme": customer(plain_mosquitto, downlinkAsId=AS_ID, downlinkAsKey=KEY)},
        ) as daemon,
    ):
        server.faults = [Fault(status=503), Fault(reset=True)]
        await daemon.until_said("connection.subscribed")
        await publish_lines(plain_mosquitto, DOWN, [downlink()])
        # The two pauses take up to 3 and 9 seconds.
        (receipt,) = receipts(await record.wait_until(lambda messages: len(receipts(messages)) == 1, timeout=30))
        assert receipt["outcome"] == "rejected"
        assert "bad AS_ID" in receipt["reason"]
        assert len(server.requests) == 3


async def test_only_its_own_devices_are_commanded(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    flows = {"f": {"matchers": [{"type": "thing", "tags": ["mine"]}], "connections": ["acme"]}}
    async with (
        lrc.FakeLrc() as server,
        recorder(plain_mosquitto, "mqtt/things/+/receipt") as record,
        bridge(
            tmp_path,
            sources={"lrc": {"transport": "http", "apiUrl": server.url}},
            connections={"acme": customer(plain_mosquitto)},
            flows=flows,
        ) as daemon,
    ):
        await daemon.until_said("connection.subscribed")
        await publish_lines(plain_mosquitto, DOWN, [downlink()])
        assert receipts(await record.wait_for(1))[0]["outcome"] == "rejected"
        await daemon.accept("lrc", uplink(1, tags=["Mine"]))
        await publish_lines(plain_mosquitto, DOWN, [downlink()])
        assert receipts(await record.wait_for(2))[1]["outcome"] == "queued"


@pytest.mark.parametrize("rest", [False, True])
async def test_chirpstack_both_ways(tmp_path: Path, plain_mosquitto: Mosquitto, *, rest: bool) -> None:
    queue = chirpstack.Queue()
    async with (
        chirpstack.FakeChirpStack("secret", queue, own_ids=True) as server,
        chirpstack.watch_commands("127.0.0.1", plain_mosquitto.port, queue),
        recorder(plain_mosquitto, "mqtt/#") as record,
    ):
        way = {"apiUrl": server.url, "apiKey": "secret"} if rest else {}
        source = subscribed(plain_mosquitto, "application/+/device/+/event/+", format="chirpstack", **way)
        async with bridge(tmp_path, sources={"lns": source}, connections={"acme": customer(plain_mosquitto)}) as daemon:
            await daemon.until_said("connection.subscribed")
            await daemon.until_said("source.opened")
            up = sample_chirpstack.uplink(DEV_EUI, fcnt=7, payload_hex="c0ffee", time_ms=SystemClock().now())
            application = json.loads(up)["deviceInfo"]["applicationId"]
            events = f"application/{application}/device/{DEV_EUI.lower()}/event"
            await publish_lines(plain_mosquitto, f"{events}/up", [up, up])
            await publish_lines(plain_mosquitto, DOWN, [downlink(CorrelationID="00000000000000AB")])
            messages = await record.wait_until(lambda messages: len(receipts(messages)) == 1)
            document = next(json.loads(m.payload) for m in messages if m.topic.endswith("/uplink"))["DevEUI_uplink"]
            assert (document["FCntUp"], document["payload_hex"]) == (7, "c0ffee")
            assert receipts(messages)[0]["outcome"] == "queued"
            ((item,),) = queue.items.values()
            assert (base64.b64decode(item["data"]), item["fPort"]) == (b"\x01\x03", 2)
            item_id = json.loads(server.requests[0][1].body)["id"] if rest else item["id"]
            device = json.loads(up)["deviceInfo"]
            ack = {"deviceInfo": device, "queueItemId": item_id, "time": json.loads(up)["time"]}
            await publish_lines(plain_mosquitto, f"{events}/txack", [json.dumps(ack).encode()])
            messages = await record.wait_until(
                lambda messages: len([m for m in messages if b"_Sent" in m.payload]) == 1
            )
            sent = json.loads(messages[-1].payload)["DevEUI_downlink_Sent"]
            assert (sent["CorrelationID"], sent["DeliveryStatus"]) == ("00000000000000AB", 1)
            assert (await daemon.metrics())["mqttbridge_source_uplinks_duplicate_total", "lns"] == 1


@pytest.mark.parametrize("webhook", [False, True])
async def test_the_things_stack_both_ways(tmp_path: Path, plain_mosquitto: Mosquitto, *, webhook: bool) -> None:
    queue = tts.Queue()
    up = sample_tts.uplink(DEV_EUI, fcnt=7, payload_hex="c0ffee", time_ms=SystemClock().now())
    ids = json.loads(up)["end_device_ids"]
    application, device = ids["application_ids"]["application_id"], ids["device_id"]
    user = f"{application}@ttn"
    async with (
        tts.FakeThingsStack("secret", application, "hook", queue) as server,
        tts.watch_commands("127.0.0.1", plain_mosquitto.port, user, queue),
        recorder(plain_mosquitto, "mqtt/#") as record,
    ):
        if webhook:
            way = {"apiUrl": server.url, "apiKey": "secret", "webhook": "hook", "authorization": "Bearer of-ours"}
            source = {"transport": "http", "format": "tts", **way}
        else:
            source = subscribed(plain_mosquitto, f"v3/{user}/devices/+/#", format="tts", username=user)
        async with bridge(tmp_path, sources={"ttn": source}, connections={"acme": customer(plain_mosquitto)}) as daemon:
            await daemon.until_said("connection.subscribed")
            if webhook:
                answer = await daemon.post("ttn", up)
                assert answer.status_code == 401
                headers = {"content-type": "application/json", "authorization": "Bearer of-ours"}
                assert (await daemon.post("ttn", up, headers=headers)).status_code == 200
            else:
                await daemon.until_said("source.opened")
                await publish_lines(plain_mosquitto, f"v3/{user}/devices/{device}/up", [up])
            await record.wait_until(lambda messages: any(m.topic.endswith("/uplink") for m in messages))
            await publish_lines(plain_mosquitto, DOWN, [downlink(FlushDownlinkQueue=1)])
            messages = await record.wait_until(lambda messages: len(receipts(messages)) == 1)
            assert receipts(messages)[0]["outcome"] == "queued"
            ((item,),) = queue.items.values()
            assert (base64.b64decode(item["frm_payload"]), item["f_port"]) == (b"\x01\x03", 2)
            assert len(daemon.said("uplink.rejected")) == webhook


async def test_documents_go_out_as_they_came_with_pass_through(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    up = sample_chirpstack.uplink(DEV_EUI, fcnt=7, time_ms=SystemClock().now())
    async with (
        recorder(plain_mosquitto) as record,
        bridge(
            tmp_path,
            sources={"lns": {"transport": "http", "format": "chirpstack", "passThrough": True}},
            connections={"acme": to(plain_mosquitto)},
        ) as daemon,
    ):
        answer = await daemon.post("lns", up, "?event=up")
        assert answer.json() == {"accepted": 1}
        (message,) = await record.wait_for(1)
        assert message.payload == up


async def test_duplicates_are_dropped_across_a_restart(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    async with bridge(tmp_path, connections={"acme": to(plain_mosquitto)}) as daemon:
        await daemon.accept("lrc", uplink(1))
        await daemon.kill()
        await daemon.restart()
        await daemon.accept("lrc", uplink(1), uplink(2))
        assert (await daemon.account("acme"))["routed"] == 2
        assert (await daemon.metrics())["mqttbridge_source_uplinks_duplicate_total", "lrc"] == 1


async def test_send_rehearses_every_format_and_both_ways(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    async with lrc.FakeLrc({AS_ID: KEY}) as server:
        sources = {
            "lrc": {"transport": "http", "asKey": KEY, "apiUrl": server.url, "downlinkAsId": AS_ID},
            "lns": {"transport": "http", "format": "chirpstack", "authorization": "Bearer x"},
            "lnm": subscribed(plain_mosquitto, "application/+/device/+/event/+", format="chirpstack"),
            "tth": {"transport": "http", "format": "tts"},
            "ttm": subscribed(plain_mosquitto, "v3/app@ttn/devices/+/#", format="tts", username="app@ttn"),
        }
        http = {"listen": f"127.0.0.1:{free_port()}"}
        connections = {"acme": customer(plain_mosquitto), "up": to(plain_mosquitto)}
        async with bridge(tmp_path, sources=sources, connections=connections, http=http) as daemon:
            await daemon.until_said("connection.subscribed")
            await daemon.until_said("source.opened", count=2)
            config = ["send", "--config", str(daemon.path)]
            done = await asyncio.gather(*(run(*config, "--source", name) for name in sources))
            for name, one in zip(sources, done, strict=True):
                assert one.stdout == [f"sent 1 uplink of {DEV_EUI} to source {name}"], one.text
            await daemon.until_account("up", routed=5)
            assert daemon.said("uplink.rejected") == []
            # The newest uplink tells where the device is.
            await run(*config, "--source", "lrc")
            await daemon.until_account("up", routed=6)
            one = await run(*config, "--connection", "acme", "--payload", "c0ffee", "--fport", "9", "--count", "2")
            assert [line.split(",")[0] for line in one.stdout] == [
                "outcome queued",
                "outcome queued",
                f"sent 2 downlinks of {DEV_EUI} to connection acme",
            ], one.text
            assert [(taken["Payload"], taken["FPort"]) for taken in server.queued] == [("c0ffee", "9")] * 2
            wrong = {
                ("--connection", "acme", "--fport", "225"): ["not queued"],
                ("--connection", "up"): ["takes no downlinks", "downlinkTopicPattern"],
                ("--connection", "acne"): ["no connection 'acne'", "did you mean 'acme'?"],
                (): ["--source ID"],
                ("--connection", "acme", "--source", "lrc"): ["--source ID"],
            }
            done = await asyncio.gather(*(run(*config, *arguments) for arguments in wrong))
            for one, words in zip(done, wrong.values(), strict=True):
                assert one.process is not None
                assert one.process.returncode in {1, 2}
                assert all(word in one.text for word in words), one.text
