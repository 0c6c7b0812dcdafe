"""What a configuration says that was probably not meant."""

from __future__ import annotations

import pytest

from mqttbridge.settings.advice import advice
from mqttbridge.settings.schema import Configuration, Connection, Flow, HttpSource, Settings


def settings(*, active: bool = True, source: bool = True, flow: bool = False, downlinks: bool = False) -> Settings:
    pattern = "a/{DevEUI}/down" if downlinks else None
    configuration = Configuration(host_name="h", downlink_topic_pattern=pattern)
    other = Connection(configuration=Configuration(host_name="i"), active=True)
    return Settings(
        sources={"lrc": HttpSource()} if source else {},
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
        (settings(downlinks=True), ["connection acme: downlinkTopicPattern"]),
        (settings(downlinks=True, active=False), ["no connection is active"]),
        (Settings(), ["no source", "no connection is active"]),
    ],
)
def test_what_was_probably_not_meant_is_said(given: Settings, words: list[str]) -> None:
    found = advice(given)
    assert len(found) == len(words)
    assert all(each in sentence for each, sentence in zip(words, found, strict=True))
