"""What comes back from a broker, because somebody else of us listens there."""

from __future__ import annotations

from time import perf_counter

import pytest

from mqttbridge.settings.loops import loops
from mqttbridge.settings.schema import Configuration, Connection, MqttSource, Settings


def customer(host: str = "h", *, active: bool = True, **more: str) -> Connection:
    return Connection(configuration=Configuration(host_name=host, **more), active=active)


def source(*topics: str, host: str = "h") -> MqttSource:
    return MqttSource(host_name=host, topics=topics)


@pytest.mark.parametrize(
    ("filters", "heard"),
    [
        (("#",), True),
        (("mqtt/#",), True),
        (("mqtt/things/+/uplink/#",), True),
        (("+/+/+/+",), True),
        (("$share/g/mqtt/#",), True),
        (("x", "mqtt/things/0018B20000000B20/uplink"), True),
        (("network/+/uplink",), False),
        (("mqtt/things/+",), False),
        (("mqtt/things/+/+/+",), False),
        (("mqtt/things/+/downlink",), False),
    ],
)
def test_a_source_that_hears_our_uplinks_is_told(filters: tuple[str, ...], *, heard: bool) -> None:
    found = loops(Settings(sources={"ns": source(*filters)}, connections={"acme": customer("H.")}))
    words = "source ns: topics takes the uplinks of connection acme too, at the same broker; use other levels"
    assert found == [f"{words} for one of them"] * heard


def test_another_broker_or_an_inactive_connection_is_no_loop() -> None:
    sources = {"ns": source("#")}
    assert loops(Settings(sources=sources, connections={"a": customer("i"), "b": customer("h:1")})) == []
    assert loops(Settings(sources=sources, connections={"a": customer(active=False)})) == []


def test_a_connection_that_takes_the_messages_of_another_for_downlinks_is_told() -> None:
    taker = customer(downlink_topic_pattern="x/{DevEUI}/d", uplink_topic_pattern="y/{DevEUI}")
    up = customer(uplink_topic_pattern="x/{DevEUI}/{FPort}")
    (found,) = loops(Settings(connections={"taker": taker, "up": up}))
    assert found.startswith("connection taker: downlinkTopicPattern takes the uplinks of connection up too")
    told = customer(
        uplink_topic_pattern="z/{DevEUI}",
        downlink_topic_pattern="z/{DevEUI}/d",
        downlink_receipt_topic_pattern="x/{DevEUI}/{outcome}",
    )
    (found,) = loops(Settings(connections={"taker": taker, "told": told}))
    assert "takes the receipts of connection told too" in found
    # One's own are judged by `wayback`, which refuses them.
    assert loops(Settings(connections={"taker": taker})) == []


def test_a_thousand_connections_at_one_broker_are_looked_at_quickly() -> None:
    connections = {
        f"c{number}": customer(
            uplink_topic_pattern=f"c{number}/{{DevEUI}}/up", downlink_topic_pattern=f"c{number}/{{DevEUI}}/down"
        )
        for number in range(1000)
    }
    start = perf_counter()
    assert loops(Settings(connections=connections)) == []
    assert perf_counter() - start < 5
