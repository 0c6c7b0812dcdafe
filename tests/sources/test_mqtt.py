"""The MQTT source, against a real mosquitto, and a scripted broker for what that does not do."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio

from mqttbridge.clock import SystemClock
from mqttbridge.errors import JournalFull
from mqttbridge.mqtt.link import Received
from mqttbridge.settings.schema import MqttSource
from mqttbridge.sources import mqtt
from tests.brokers.fake import fake_broker
from tests.brokers.recorder import publish, recorder
from tests.support.bridge import DEV_EUI, NOBODY, bridge, edited, fcnts, publish_lines, subscribed, to, until, uplink
from tests.support.inside import Told, inside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from mqttbridge.model import Uplink
    from tests.brokers.mosquitto import Mosquitto
    from tests.support.inside import Inside

OUT = {"uplinkTopicPattern": "out/{DevEUI}"}


def in_order(numbers: list[int]) -> list[int]:
    """Give the numbers without what came again."""
    return list(dict.fromkeys(numbers))


async def pubacks(broker: Mosquitto) -> int:
    """Count what mosquitto was acknowledged by the source."""
    return (await broker.read_log()).count("Received PUBACK from mqttbridge-source-ns")


# -- nothing is lost -------------------------------------------------------------------------------------------------


async def test_what_is_published_while_the_daemon_is_down_arrives_after_its_start(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    connections = {"acme": to(plain_mosquitto, **OUT)}
    async with (
        recorder(plain_mosquitto, "out/#") as record,
        bridge(tmp_path, sources={"ns": subscribed(plain_mosquitto)}, connections=connections) as daemon,
    ):
        await daemon.until_said("source.opened")
        await publish_lines(plain_mosquitto, "ns/x/up", [uplink(0), uplink(1)])
        await record.wait_for(2)
        assert await daemon.stop() == 0
        await publish_lines(plain_mosquitto, "ns/x/up", [uplink(number) for number in range(2, 50)])
        await daemon.restart()
        await record.wait_for(50)
        await daemon.until_account("acme", delivered=50, queued=0)
        assert fcnts(record.payloads) == list(range(50))


async def test_the_broker_is_acknowledged_only_after_the_commit(
    tmp_path: Path, plain_mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "JOURNAL_RETRY", 0.02)
    sources = {"ns": subscribed(plain_mosquitto)}
    async with inside(tmp_path, sources=sources, connections={"acme": to(NOBODY)}) as here:
        append, asked, full = here.journal.append, 0, True

        async def refusing(entries: list[Any]) -> Any:  # noqa: ANN401 (passed on)
            nonlocal asked
            asked += 1
            if full:
                raise JournalFull("full")
            return await append(entries)

        monkeypatch.setattr(here.journal, "append", refusing)
        await _opened(source_of(here))
        await publish_lines(plain_mosquitto, "ns/x/up", [uplink(number) for number in range(100)])

        async def tried_often() -> bool:
            return asked > 5

        await until(tried_often, "tries")
        assert await pubacks(plain_mosquitto) == 0
        assert (await here.account("acme"))["routed"] == 0
        full = False
        await here.until_account("acme", routed=100)

        async def acknowledged() -> bool:
            return await pubacks(plain_mosquitto) == 100

        await until(acknowledged, "100 PUBACKs")
        assert [one.uplink.fcnt for one in await here.journal.read("acme", 0, 200)] == list(range(100))


async def _opened(source: mqtt.MqttIntake) -> None:
    async def holds() -> bool:
        return source.status().open

    await until(holds, "open source")


async def test_a_full_journal_leaves_the_queue_to_the_broker_and_a_crash_then_loses_nothing(
    tmp_path: Path, start_mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    ns, acme = await start_mosquitto(), await start_mosquitto()
    await acme.stop()
    count = 1500
    sections: dict[str, Any] = {
        "sources": {"ns": subscribed(ns)},
        "connections": {"acme": to(acme)},
        "journal": {"maxSize": "1MiB"},
    }
    async with bridge(tmp_path, **sections) as daemon:
        await daemon.until_said("source.opened")
        await publish_lines(ns, "ns/x/up", [uplink(number) for number in range(count)])

        async def full() -> bool:
            return "full" in (await daemon.get("/health")).text

        await until(full, "full journal")
        accepted = (await daemon.account("acme"))["routed"]
        assert accepted < count
        await daemon.kill()
        await acme.start()
        async with recorder(acme) as record:
            await daemon.restart()
            messages = await record.wait_until(lambda them: bool(them) and fcnts([them[-1].payload]) == [count - 1], 20)
            numbers = fcnts([message.payload for message in messages])
            assert in_order(numbers) == list(range(count)), "all, in order, up to what came twice"


async def test_an_end_under_load_is_quick_and_loses_nothing(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    connections = {"acme": to(plain_mosquitto, **OUT)}
    count = 6000
    async with (
        recorder(plain_mosquitto, "out/#") as record,
        bridge(tmp_path, sources={"ns": subscribed(plain_mosquitto)}, connections=connections) as daemon,
    ):
        await daemon.until_said("source.opened")
        load = asyncio.create_task(
            publish_lines(plain_mosquitto, "ns/x/up", [uplink(number) for number in range(count)])
        )
        await record.wait_for(200)
        began = time.monotonic()
        assert await daemon.stop() == 0
        assert time.monotonic() - began < 3
        await load
        await daemon.restart()
        await record.wait_until(lambda them: fcnts([them[-1].payload]) == [count - 1], 30)
        assert in_order(fcnts(record.payloads)) == list(range(count))


async def test_the_broker_may_restart(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    sources = {"ns": subscribed(plain_mosquitto)}
    async with bridge(tmp_path, sources=sources, connections={"acme": to(NOBODY)}) as daemon:
        await daemon.until_said("source.opened")
        await plain_mosquitto.restart()
        assert daemon.said("source.lost") or await daemon.until_said("source.lost")
        await daemon.until_said("source.opened", 2)
        await publish_lines(plain_mosquitto, "ns/x/up", [uplink(1)])
        await daemon.until_account("acme", routed=1)
        assert (await daemon.get("/health")).status_code == 200


# -- what is not an uplink -------------------------------------------------------------------------------------------


async def test_what_is_no_uplink_is_acknowledged_counted_and_told_once_and_does_not_come_again(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    bad = [b"nonsense", b"{}", b'{"DevEUI_uplink": {}}', edited(uplink(1), Time="noon"), b"[" * 5000]
    sources = {"ns": subscribed(plain_mosquitto)}
    async with bridge(tmp_path, sources=sources, connections={"acme": to(NOBODY)}) as daemon:
        await daemon.until_said("source.opened")
        await publish_lines(plain_mosquitto, "ns/x/up", [*bad, uplink(2)])
        await daemon.until_account("acme", routed=1)
        await publish(plain_mosquitto, "ns/x/up", b" ", qos=1)
        await publish_lines(plain_mosquitto, "ns/x/up", [uplink(3)])
        await daemon.until_account("acme", routed=2)
        assert await daemon.rejected("ns", "malformed") == 6
        told = daemon.said("uplink.rejected")[0]
        assert (told["level"], told["source"], told["kind"]) == ("warning", "ns", "malformed")
        assert "'ns/x/up'" in told["reason"]
        assert await pubacks(plain_mosquitto) == 8
        assert await daemon.stop() == 0
        await daemon.restart()
        await daemon.until_said("source.opened")
        await publish_lines(plain_mosquitto, "ns/x/up", [uplink(4)])
        await daemon.until_account("acme", routed=3)
        assert await daemon.rejected("ns", "malformed") == 0


async def test_a_message_that_no_journal_could_hold_does_not_stand_in_the_way_of_others(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    sections: dict[str, Any] = {
        "sources": {"ns": subscribed(plain_mosquitto)},
        "connections": {"acme": to(NOBODY)},
        "journal": {"maxSize": "1MiB"},
    }
    async with bridge(tmp_path, **sections) as daemon:
        await daemon.until_said("source.opened")
        await publish(plain_mosquitto, "ns/x/up", edited(uplink(1), note="x" * 600_000), qos=1)
        await publish_lines(plain_mosquitto, "ns/x/up", [uplink(2)])
        await daemon.until_account("acme", routed=1)
        assert await daemon.rejected("ns", "too_large") == 1
        assert "262144 are the most" in daemon.said("uplink.rejected")[0]["reason"]


@pytest.mark.parametrize(("version", "window", "again"), [("3.1.1", 0, 1), ("3.1.1", 600_000, 0), ("5", 0, 0)])
async def test_a_retained_uplink_is_taken_and_not_again_at_each_connect_with_mqtt_5_or_a_duplicate_window(
    tmp_path: Path, plain_mosquitto: Mosquitto, version: str, window: int, again: int
) -> None:
    await publish(plain_mosquitto, "ns/x/up", uplink(1), qos=1, args=["-r"])
    sources = {"ns": subscribed(plain_mosquitto, mqttVersion=version, duplicateWindow=window)}
    async with bridge(tmp_path, sources=sources, connections={"acme": to(NOBODY)}) as daemon:
        await daemon.until_account("acme", routed=1)
        assert await daemon.stop() == 0
        await publish_lines(plain_mosquitto, "ns/x/up", [uplink(2)])
        await daemon.restart()
        await daemon.until_said("source.opened")
        await publish_lines(plain_mosquitto, "ns/x/up", [uplink(3)])
        await daemon.until_account("acme", routed=3 + again)
        assert not daemon.said("uplink.rejected")


async def test_a_retained_uplink_on_a_topic_added_to_a_known_session_is_taken(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    connections = {"acme": to(NOBODY)}
    async with bridge(tmp_path, sources={"ns": subscribed(plain_mosquitto, "a/#")}, connections=connections) as daemon:
        await daemon.until_said("source.opened")
        assert await daemon.stop() == 0
        await publish(plain_mosquitto, "b/x", uplink(1), qos=1, args=["-r"])
        daemon.write({"sources": {"ns": subscribed(plain_mosquitto, "a/#", "b/#")}, "connections": connections})
        await daemon.restart()
        await daemon.until_account("acme", routed=1)


async def test_reports_go_like_uplinks_but_not_to_a_connection_with_send_metadata(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    kinds = ("DevEUI_downlink_Sent", "DevEUI_downlink_Rejected", "DevEUI_notification", "DevEUI_location")
    reports = [
        json.dumps({kind: {"DevEUI": DEV_EUI, "Time": "2026-01-02T03:04:05.678+01:00", "FCntDn": 3}}).encode()
        for kind in kinds
    ]
    week = {"uplinkTimeValidity": "3650d"}
    connections = {
        "all": to(plain_mosquitto, uplinkTopicPattern="all/{DevEUI}", **week),
        "bare": to(plain_mosquitto, uplinkTopicPattern="bare/{DevEUI}", sendMetadata=True),
    }
    async with (
        recorder(plain_mosquitto, "+/" + DEV_EUI) as record,
        bridge(tmp_path, sources={"ns": subscribed(plain_mosquitto)}, connections=connections) as daemon,
    ):
        await daemon.until_said("source.opened")
        await publish_lines(plain_mosquitto, "ns/x/up", [*reports, uplink(1)])
        messages = await record.wait_for(len(kinds) + 2)
        assert [m.payload for m in messages if m.topic.startswith("all/")][:-1] == reports
        (bare,) = [m.payload for m in messages if m.topic.startswith("bare/")]
        assert json.loads(bare)["FCntUp"] == 1
        assert (await daemon.account("bare"))["routed"] == 1


async def test_messages_without_an_acknowledgement_are_taken_too(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    sources = {"ns": subscribed(plain_mosquitto, "a/#", "b", mqttVersion="5")}
    async with bridge(tmp_path, sources=sources, connections={"acme": to(NOBODY)}) as daemon:
        await daemon.until_said("source.opened")
        await publish_lines(plain_mosquitto, "a/b/c", [uplink(1), uplink(2)], qos=0)
        await publish_lines(plain_mosquitto, "b", [uplink(3)], qos=2)
        await daemon.until_account("acme", routed=3)
        assert (await daemon.metrics())["mqttbridge_source_uplinks_accepted_total", "ns"] == 3


# -- a broker that refuses, is silent, or comes and goes -------------------------------------------------------------


async def test_a_refused_subscription_is_told_with_its_topic(tmp_path: Path) -> None:
    async with fake_broker() as broker:
        broker.script.suback = 0x80
        async with bridge(tmp_path, sources={"ns": subscribed(broker, "ns/+/up")}) as daemon:
            (told,) = await daemon.until_said("source.failed")
            assert "refuses the subscription to ns/+/up" in told["reason"]
            assert not daemon.said("source.opened")
            health = await daemon.get("/health")
            assert (health.status_code, "ns/+/up" in health.json()["detail"]) == (503, True)


async def test_a_refused_login_is_not_tried_again_at_once(tmp_path: Path) -> None:
    async with fake_broker() as broker:
        broker.script.connack = 5
        async with bridge(tmp_path, sources={"ns": subscribed(broker)}) as daemon:
            (told,) = await daemon.until_said("source.failed")
            assert told["retry_in"] == mqtt.REFUSED_DELAY


async def test_it_says_since_when_it_is_not_open_whatever_it_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "jitter", lambda _last, _random: 0.02)
    async with fake_broker() as broker:
        broker.script.connack = 3
        async with inside(tmp_path, sources={"ns": subscribed(broker)}) as here:
            source = source_of(here)
            began = source.status().since

            async def tried_often() -> bool:
                return source._failures >= 3

            await until(tried_often, "three attempts")
            now = source.status()
            assert (now.open, now.since) == (False, began)
            assert now.retry_at is not None
            assert now.retry_at > began


async def test_a_subscription_that_is_not_answered_is_told(tmp_path: Path) -> None:
    async with fake_broker() as broker:
        broker.script.answer_subscribe = False
        async with bridge(tmp_path, sources={"ns": subscribed(broker, actionTimeout="100ms")}) as daemon:
            (told,) = await daemon.until_said("source.failed")
            assert told["reason"] == "no SUBACK within 100 ms (actionTimeout)"


async def test_a_login_that_is_not_answered_is_told_and_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with fake_broker() as broker:
        broker.script.connack = None
        async with inside(tmp_path, sources={"ns": subscribed(broker, connectionTimeout="10s")}) as here:
            await broker.wait_until(lambda: broker.clients and broker.client.packets)
            began = time.monotonic()
            await here.end()
            assert time.monotonic() - began < 2
        async with bridge(tmp_path, sources={"ns": subscribed(broker, connectionTimeout="100ms")}) as daemon:
            (told,) = await daemon.until_said("source.failed")
            assert "CONNACK did not end within 100 ms (connectionTimeout)" in told["reason"]


async def test_a_source_that_came_back_after_many_failures_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "jitter", lambda _last, _random: 0.02)
    told = Told()
    monkeypatch.setattr(mqtt, "log", told)
    async with fake_broker() as broker, inside(tmp_path, sources={"ns": subscribed(broker)}) as here:
        source = source_of(here)
        await _opened(source)
        await broker.stop()

        async def failed_often() -> bool:
            return source._failures > 4

        await until(failed_often, "failures")
        assert told.events() == ["source.opened", "source.lost"], "one line stands for many failures"
        await broker.start(broker.port)
        await _opened(source)
        assert told.events() == ["source.opened", "source.lost", "source.opened"]


async def test_a_bug_costs_a_source_its_link_and_no_uplink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "jitter", lambda _last, _random: 0.02)
    told = Told()
    monkeypatch.setattr(mqtt, "log", told)
    async with fake_broker() as broker:
        sections: dict[str, Any] = {
            "sources": {"ns": subscribed(broker), "lrc": {"transport": "http"}},
            "connections": {"acme": to(NOBODY)},
        }
        async with inside(tmp_path, **sections) as here:
            source = source_of(here)
            await _opened(source)
            accept, crashes = source._intake.accept, 2

            async def buggy(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 (passed on)
                nonlocal crashes
                crashes -= 1
                if crashes >= 0:
                    raise ZeroDivisionError
                await accept(*arguments, **named)

            monkeypatch.setattr(source._intake, "accept", buggy)
            broker.client.publish("ns/x/up", uplink(1), 1)
            await here.until_account("acme", routed=1)
            assert told.events("exception") == ["source.crashed", "source.crashed"]
            await here.accept("lrc", uplink(2))
            await here.until_account("acme", routed=2)


# -- the buffer ------------------------------------------------------------------------------------------------------


class Link:
    """Remembers what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")

    def acknowledge(self, messages: list[Received]) -> None:
        self.asked.append(f"acknowledge {len(messages)}")


@pytest_asyncio.fixture
async def buffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[mqtt.MqttIntake, Link, list[int]]]:
    """Give a source that is not connected, a link for it, and the sizes of the batches that it hands on."""
    monkeypatch.setattr(mqtt, "jitter", lambda _last, _random: 600.0)
    sources = {"ns": subscribed(Dead(), "ns")}
    async with inside(tmp_path, sources=sources) as here:
        source = source_of(here)

        async def failed() -> bool:
            return source._failures == 1

        await until(failed, "the first attempt's end")
        batches: list[int] = []

        async def accept(_source: str, uplinks: list[Uplink], *, window: int) -> None:
            assert window == 600_000
            batches.append(sum(len(one.body) for one in uplinks))

        source._intake.accept = accept
        source._link = link = Link()
        yield source, link, batches


class Dead:
    """A broker that is not there."""

    host = "127.0.0.1"
    port = NOBODY


def messages(count: int, size: int) -> list[Received]:
    body = edited(uplink(1), note="x" * size)
    return [Received("ns", body, 1, retain=False, mid=mid + 1) for mid in range(count)]


async def _consumed(source: mqtt.MqttIntake) -> None:
    async with asyncio.timeout(5):
        await source._idle.wait()


async def test_a_batch_is_bounded_in_bytes_so_that_it_fits_into_a_small_journal(
    buffer: tuple[mqtt.MqttIntake, Link, list[int]],
) -> None:
    source, link, batches = buffer
    source.received(messages(100, 20_000))
    await _consumed(source)
    assert len(batches) > 5
    assert max(batches) <= mqtt.BATCH_BYTES
    assert sum(int(line.split()[1]) for line in link.asked if "acknowledge" in line) == 100
    source.received(messages(1, 300_000))
    await _consumed(source)
    assert batches[-1] > mqtt.BATCH_BYTES, "a large one goes alone"


async def test_reading_pauses_while_much_waits_and_goes_on_afterwards(
    buffer: tuple[mqtt.MqttIntake, Link, list[int]],
) -> None:
    source, link, _ = buffer
    for batch in (messages(mqtt.PAUSE_AT, 10), messages(60, 300_000)):
        link.asked.clear()
        source.received(batch)
        assert link.asked == ["pause"]
        await _consumed(source)
        assert link.asked[-1].startswith("acknowledge")
        assert "resume" in link.asked


async def test_a_source_that_ends_does_not_read_on(buffer: tuple[mqtt.MqttIntake, Link, list[int]]) -> None:
    source, link, _ = buffer
    source.received(messages(10, 10))
    source.stop()
    await _consumed(source)
    assert link.asked == ["acknowledge 10"]


# -- where an uplink came from, and settings that change -------------------------------------------------------------


class Refusals:
    """Of an intake what a batch needs; keeps what is refused."""

    largest = 1024 * 1024

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def now(self) -> int:
        return 1_700_000_000_000

    def rejected(self, _source: str, kind: str, *_: object, **__: object) -> None:
        self.kinds.append(kind)


async def test_an_uplink_knows_the_topic_that_it_came_on() -> None:
    settings = MqttSource(host_name="localhost", topics=("#",))
    source = mqtt.MqttIntake("ns", settings, Refusals(), clock=SystemClock(), random=lambda: 0.0)
    topics = ("network/7/uplink", "a/\x1b[31m\nb/\u202ec", "x" * 1000, "Zähler/1")
    batch = [Received(topic, uplink(1), 1, retain=False, mid=1) for topic in topics]
    origins = [one.origin for one in source._parsed(batch)]
    assert origins == [
        "topic network/7/uplink",
        "topic a/?[31m?b/?c",
        "topic " + "x" * 200,
        "topic Zähler/1",
    ]


async def test_another_format_and_duplicate_window_count_from_the_next_batch_on() -> None:
    settings = MqttSource(host_name="localhost", topics=("#",), format="thingpark")
    refusals = Refusals()
    source = mqtt.MqttIntake("ns", settings, refusals, clock=SystemClock(), random=lambda: 0.0)
    batch = [Received("a", uplink(1), 1, retain=False, mid=1)]
    assert len(source._parsed(batch)) == 1
    source.reconfigure(msgspec.structs.replace(settings, format="tts"))
    assert source._parsed(batch) == []
    assert refusals.kinds == ["malformed"]
    source.reconfigure(settings)
    assert len(source._parsed(batch)) == 1


async def test_a_source_that_is_open_takes_other_settings_without_a_new_link(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    connections = {"acme": to(NOBODY)}
    async with inside(tmp_path, sources={"ns": subscribed(plain_mosquitto)}, connections=connections) as here:
        source = source_of(here)
        await _opened(source)
        link = source._link
        source.reconfigure(msgspec.structs.replace(source._settings, duplicate_window=0))
        await publish_lines(plain_mosquitto, "ns/x/up", [uplink(1), uplink(1), uplink(2)])
        await here.until_account("acme", routed=3)
        assert source._link is link


def source_of(here: Inside) -> mqtt.MqttIntake:
    """Give the source `ns` of a daemon."""
    source = here.daemon._running.parts.sources.get("ns")
    assert source is not None
    return source
