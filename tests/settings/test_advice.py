"""What a configuration says that was probably not meant."""

from __future__ import annotations

import pytest

from mqttbridge.settings.advice import advice, no_way_back
from mqttbridge.settings.schema import Configuration, Connection, Flow, HttpSource, MqttSource, Settings
from mqttbridge.settings.secret import Secret


def settings(
    *, active: bool = True, source: bool = True, flow: bool = False, downlinks: bool = False, url: str | None = None
) -> Settings:
    pattern = "a/{DevEUI}/down" if downlinks else None
    configuration = Configuration(host_name="h", downlink_topic_pattern=pattern)
    other = Connection(configuration=Configuration(host_name="i"), active=True)
    return Settings(
        sources={"lrc": HttpSource(api_url=url)} if source else {},
        flows={"f": Flow(connections=("acme",))} if flow else {},
        connections={"acme": Connection(configuration=configuration, active=active), **({"o": other} if flow else {})},
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (settings(), []),
        (settings(flow=True), []),
        (settings(source=False), ["no source"]),
        (settings(active=False), ["no connection is active"]),
        (settings(active=False, flow=True), ["flow f: none of its connections"]),
        (settings(downlinks=True), ["connection acme: downlinks are taken and then rejected"]),
        (settings(downlinks=True, url="https://lrc.example.com"), []),
        (settings(downlinks=True, active=False), ["no connection is active"]),
        (Settings(), ["no source", "no connection is active"]),
    ],
)
def test_what_was_probably_not_meant_is_said(given: Settings, words: list[str]) -> None:
    found = advice(given)
    assert len(found) == len(words)
    assert all(each in sentence for each, sentence in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("url", "number"), [("http://ns.example.com", 1), ("http://127.0.0.1:8090", 0), ("https://n", 0)]
)
def test_a_key_that_goes_over_the_wire_in_the_clear_is_said(url: str, number: int) -> None:
    source = HttpSource(format="chirpstack", api_url=url, api_key=Secret("k"))
    plain = settings()
    assert len(advice(Settings(sources={"cs": source}, connections=plain.connections))) == number


def test_a_topic_filter_copied_from_a_manual_with_its_placeholders_is_said() -> None:
    topics = ("v3/+/devices/+/up", "v3/{application id}@ttn/devices/{device id}/up")
    sources = {"ttn": MqttSource(format="tts", host_name="h", username="a", topics=topics)}
    (found,) = advice(Settings(sources=sources, connections=settings().connections))
    assert found == "source ttn: topics has {application id}, which stands for nothing here; write + for any level"


def test_each_format_has_its_way_back() -> None:
    mqtt = {"host_name": "h", "topics": ("a",)}
    assert "apiUrl" in no_way_back(HttpSource())
    assert "apiUrl" in no_way_back(MqttSource(**mqtt))
    assert "apiKey" in no_way_back(HttpSource(format="chirpstack"))
    assert "webhook" in no_way_back(HttpSource(format="tts"))
    for source in (
        HttpSource(api_url="http://h"),
        MqttSource(**mqtt, format="chirpstack"),
        MqttSource(**mqtt, format="tts"),
    ):
        assert not no_way_back(source)
