"""`mqttbridge send`: it acts as a network server does, and never disturbs the daemon that it speaks to."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.send.uplinks import _topic, first_fcnt
from mqttbridge.sources.gaps import FrameCounters
from tests.brokers.fake import fake_broker
from tests.brokers.mosquitto import free_port
from tests.brokers.recorder import recorder
from tests.support.bridge import NOBODY, bridge, fcnts, run, subscribed, to

if TYPE_CHECKING:
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto

AS_KEY = "00112233445566778899aabbccddeeff"


async def test_it_posts_uplinks_and_signs_them_where_the_source_asks_for_it(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    address = f"127.0.0.1:{free_port()}"
    sources = {"plain": {"transport": "http"}, "signed": {"transport": "http", "asKey": AS_KEY}}
    async with (
        recorder(plain_mosquitto) as record,
        bridge(
            tmp_path, sources=sources, connections={"acme": to(plain_mosquitto)}, http={"listen": address}
        ) as daemon,
    ):
        config = ["--config", str(daemon.path)]
        sent = await run("send", *config, "--source", "plain", "--count", "3", "--dev-eui", "00-18-b2-00-00-00-0c-31")
        assert sent.stdout == ["sent 3 uplinks of 00-18-b2-00-00-00-0c-31 to source plain"], sent.text
        sent = await run("send", *config, "--source", "signed", "--payload", "c0ffee", "--fport", "9")
        assert sent.stdout == ["sent 1 uplink of 0018B20000000B20 to source signed"], sent.text
        messages = await record.wait_for(4)
        first = fcnts([m.payload for m in messages[:3]])
        assert first == [first[0], first[0] + 1, first[0] + 2]
        assert messages[0].topic == "mqtt/things/0018B20000000C31/uplink"
        document = json.loads(messages[3].payload)["DevEUI_uplink"]
        assert (document["DevEUI"], document["payload_hex"], document["FPort"]) == ("0018B20000000B20", "c0ffee", 9)


async def test_it_publishes_to_a_source_that_listens_by_mqtt_and_does_not_take_over_its_session(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    sources = {"ns": subscribed(plain_mosquitto, "ns/+/up/#", clientId="the-one")}
    connections = {"acme": to(plain_mosquitto, uplinkTopicPattern="out/{DevEUI}")}
    async with (
        recorder(plain_mosquitto, "out/#") as record,
        bridge(tmp_path, sources=sources, connections=connections) as daemon,
    ):
        await daemon.until_said("source.opened")
        sent = await run("send", "--config", str(daemon.path), "--source", "ns", "--count", "150")
        assert sent.stdout == ["sent 150 uplinks of 0018B20000000B20 to source ns"], sent.text
        numbers = fcnts([m.payload for m in await record.wait_for(150)])
        assert numbers == list(range(numbers[0], numbers[0] + 150))
        assert not daemon.said("source.lost")


@given(st.integers(0, 2**42), st.lists(st.tuples(st.integers(100, 10_000), st.integers(1, 50)), min_size=2, max_size=5))
def test_whoever_sends_again_and_again_sees_no_gap_where_there_is_none(start: int, runs: list[tuple[int, int]]) -> None:
    counters, now = FrameCounters(), start
    for pause, count in runs:
        first = first_fcnt(now)
        assert 0 <= first < 2**31
        assert [counters.note("0018B20000000B20", first + number) for number in range(count)] == [0] * count
        now += count + pause


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("a/b", "a/b"),
        ("+/up", "0018B20000000B20/up"),
        ("ns/#", "ns/uplink"),
        ("$share/workers/ns/+/up", "ns/0018B20000000B20/up"),
    ],
)
def test_it_finds_a_topic_that_the_source_subscribes_to(topic_filter: str, topic: str) -> None:
    assert _topic(topic_filter, "0018B20000000B20", []) == topic


NATURAL = ["application", "a1", "device", "0018b20000000b20", "event", "up"]


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("application/+/device/+/event/+", "application/a1/device/0018b20000000b20/event/up"),
        ("application/a2/device/+/event/up", "application/a2/device/0018b20000000b20/event/up"),
        ("application/#", "application/a1/device/0018b20000000b20/event/up"),
        ("eu868/+/application/+/device/#", "eu868/0018B20000000B20/application/a1/device/0018b20000000b20/event/up"),
        ("+/application/a1/#", "0018B20000000B20/application/a1/device/0018b20000000b20/event/up"),
        ("#", "application/a1/device/0018b20000000b20/event/up"),
    ],
)
def test_it_publishes_where_the_network_server_would(topic_filter: str, topic: str) -> None:
    assert _topic(topic_filter, "0018B20000000B20", NATURAL) == topic


async def test_what_cannot_be_sent_is_told_in_a_sentence(tmp_path: Path) -> None:
    port = free_port()
    sources = {
        "lrc": {"transport": "http"},
        "ns": {"transport": "mqtt", "hostName": f"127.0.0.1:{port}", "protocol": "TCP", "topics": ["a"]},
    }
    path = tmp_path / "mqttbridge.yaml"
    path.write_text(json.dumps({"http": {"listen": f"127.0.0.1:{port}"}, "sources": sources}))
    for arguments, words in (
        (["--source", "lcr"], ["'lcr'", "did you mean 'lrc'?"]),
        (["--source", "lrc", "--dev-eui", "0018B2"], ["--dev-eui", "16 hex digits"]),
        (["--source", "lrc", "--payload", "abc"], ["--payload", "even number"]),
        (["--source", "lrc"], [f"http://127.0.0.1:{port}/uplink/lrc", ": connection refused; is mqttbridge running?"]),
        (["--source", "ns"], [f"127.0.0.1:{port}", "refused"]),
    ):
        done = await run("send", "--config", str(path), *arguments)
        assert done.process is not None
        assert done.process.returncode == 1
        (sentence,) = done.stderr
        assert all(word in sentence for word in words), sentence
        assert done.stdout == []


async def test_a_count_that_was_not_reached_says_how_many_went_through(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    address = f"127.0.0.1:{free_port()}"
    sources = {"lrc": {"transport": "http"}, "ns": subscribed(plain_mosquitto, "ns/up", "ns/up/#")}
    journal = {"maxSize": "1MiB"}
    async with bridge(
        tmp_path, sources=sources, connections={"acme": to(NOBODY)}, journal=journal, http={"listen": address}
    ) as daemon:
        done = await run("send", "--config", str(daemon.path), "--source", "lrc", "--count", "100000")
        (sentence,) = done.stderr
        sent = (await daemon.account("acme"))["routed"]
        assert sent > 0
        assert "answered 503" in sentence
        assert sentence.endswith(f"({sent} sent before that)")
    async with fake_broker() as broker:
        path = tmp_path / "other.yaml"
        path.write_text(json.dumps({"sources": {"ns": subscribed(broker, "a")}}))
        sending = asyncio.create_task(run("send", "--config", str(path), "--source", "ns", "--count", "100000"))
        await broker.wait_published(1000)
        await broker.stop()
        (sentence,) = (await sending).stderr
        sent = int(sentence.rpartition("(")[2].split()[0])
        assert 900 <= sent <= len(broker.published)
        assert sentence.endswith(f"({sent} sent before that)")


async def test_the_answer_of_the_daemon_is_told(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with bridge(tmp_path, http={"listen": address}) as daemon:
        other = tmp_path / "other.yaml"
        other.write_text(json.dumps({"http": {"listen": address}, "sources": {"new": {"transport": "http"}}}))
        done = await run("send", "--config", str(other), "--source", "new")
        assert done.process is not None
        assert done.process.returncode == 1
        assert "404" in done.stderr[0]
        assert "no source 'new'" in done.stderr[0]
        assert daemon.process is not None
