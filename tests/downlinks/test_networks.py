"""Which way the downlinks of a source go, and what no network server could ever take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mqttbridge.clock import SystemClock
from mqttbridge.downlinks.http import HttpNetwork
from mqttbridge.downlinks.mqtt import MqttNetwork
from mqttbridge.downlinks.networks import make_network, way_back
from mqttbridge.downlinks.ways import application_in
from tests.networks.samples import API_KEY, APPLICATION, downlink, http_source, mqtt_source

if TYPE_CHECKING:
    from mqttbridge.downlinks.network import Network
    from mqttbridge.settings.schema import Source

URL = "https://ns.example.com"
WHOLE = {"api_url": URL, "api_key": API_KEY}


def made(source: Source) -> Network | None:
    return make_network("ns", source, {}, clock=SystemClock())


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [
        (http_source("thingpark", api_url=URL), HttpNetwork, "LrcApi"),
        (mqtt_source("thingpark", api_url=URL), HttpNetwork, "LrcApi"),
        (http_source("chirpstack", **WHOLE), HttpNetwork, "ChirpStackApi"),
        (mqtt_source("chirpstack", **WHOLE), HttpNetwork, "ChirpStackApi"),
        (mqtt_source("chirpstack"), MqttNetwork, "ChirpStackCommands"),
        (http_source("tts", **WHOLE, webhook="hook"), HttpNetwork, "ThingsStackApi"),
        (mqtt_source("tts", **WHOLE, webhook="hook"), HttpNetwork, "ThingsStackApi"),
        (mqtt_source("tts", **WHOLE, username="app@ttn"), MqttNetwork, "ThingsStackCommands"),
        (mqtt_source("tts", username="app@ttn"), MqttNetwork, "ThingsStackCommands"),
    ],
)
def test_each_source_has_its_way_back(source: Source, kind: type, name: str) -> None:
    network = made(source)
    assert way_back(source) == ""
    assert type(network) is kind
    assert type(getattr(network, "_api", None) or network._commands).__name__ == name


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (http_source("thingpark"), "no apiUrl"),
        (mqtt_source("thingpark"), "no apiUrl"),
        (http_source("thingpark", api_url="ns.example.com"), "not the http:// or https:// URL"),
        (http_source("thingpark", api_url="ftp://ns.example.com"), "not the http:// or https:// URL"),
        (http_source("thingpark", api_url="http://[::1"), "not the http:// or https:// URL"),
        (http_source("chirpstack"), "no apiUrl and no apiKey"),
        (http_source("chirpstack", api_url=URL), "it has no apiKey"),
        (http_source("tts", **WHOLE), "it has no webhook"),
        (mqtt_source("tts"), "no username"),
    ],
)
def test_a_source_without_a_way_back_says_what_it_lacks(source: Source, words: str) -> None:
    assert words in way_back(source)
    assert API_KEY not in way_back(source)
    assert made(source) is None


@pytest.mark.parametrize(
    ("source", "changes", "way", "field"),
    [
        (http_source("thingpark", api_url=URL), {"payload_hex": None, "payload": b"{}"}, "", "payload"),
        (mqtt_source("chirpstack"), {"flush": True}, APPLICATION, "FlushDownlinkQueue"),
        (mqtt_source("chirpstack"), {}, "", "DevEUI"),
        (mqtt_source("chirpstack"), {}, "no/level", "DevEUI"),
        (mqtt_source("tts", username="app@ttn"), {}, "", "DevEUI"),
        (http_source("tts", **WHOLE, webhook="hook"), {}, "", "DevEUI"),
        (http_source("tts", **WHOLE, webhook="hook"), {}, "app/../x", "DevEUI"),
    ],
)
def test_what_could_never_be_taken_is_said_at_once(
    source: Source, changes: dict[str, object], way: str, field: str
) -> None:
    network = made(source)
    assert network is not None
    error = network.refusal(downlink(**changes), way)
    assert error is not None
    assert error.field == f"DevEUI_downlink.{field}"


@pytest.mark.parametrize(
    ("source", "changes", "way"),
    [
        (http_source("thingpark", api_url=URL), {"flush": True}, ""),
        (http_source("chirpstack", **WHOLE), {"flush": True, "payload_hex": None, "payload": b"{}"}, ""),
        (mqtt_source("chirpstack"), {"payload_hex": None, "payload": b"{}"}, APPLICATION),
        (mqtt_source("chirpstack", topics=(f"application/{APPLICATION}/device/+/event/+",)), {}, ""),
        (mqtt_source("tts", username="app@ttn"), {"flush": True}, "app/dev-1"),
        (http_source("tts", **WHOLE, webhook="hook"), {"payload_hex": None, "payload": b"{}"}, "app/dev-1"),
    ],
)
def test_what_can_be_taken_is_not_refused(source: Source, changes: dict[str, object], way: str) -> None:
    network = made(source)
    assert network is not None
    assert network.refusal(downlink(**changes), way) is None


@pytest.mark.parametrize(
    ("topics", "application"),
    [
        ([f"application/{APPLICATION}/device/+/event/+"], APPLICATION),
        ([f"application/{APPLICATION}/device/+/event/up", f"application/{APPLICATION}/#"], APPLICATION),
        ([f"$share/group/application/{APPLICATION}/device/+/event/+"], APPLICATION),
        (["application/a/device/+/event/+", "application/b/device/+/event/+"], ""),
        (["application/a/device/+/event/+", "application/+/device/+/event/join"], ""),
        (["application/+/device/+/event/+"], ""),
        (["application/#"], ""),
        (["application"], ""),
        (["#"], ""),
    ],
)
def test_the_one_application_that_the_topics_name_is_found(topics: list[str], application: str) -> None:
    assert application_in(topics) == application
