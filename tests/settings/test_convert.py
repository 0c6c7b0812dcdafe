"""Conversion by type: each property takes what its type asks for, and each refusal names the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mqttbridge.settings.schema import HttpSource, KeyMatcher, MqttSource, ThingMatcher
from mqttbridge.settings.secret import Secret
from tests.settings.helpers import complaints, connection, loaded

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("line", "attribute", "value"),
    [
        ("username: 0123", "username", "0123"),
        ("username: no", "username", "no"),
        ("username: '~'", "username", "~"),
        ("username: 1e3", "username", "1e3"),
        ("username: ~", "username", None),
        ("username:", "username", None),
        ("description: null", "description", ""),
        ("description: ''", "description", ""),
        ("retain: YES", "retain", True),
        ("retain: 'on'", "retain", True),
        ("downlinkEnabled: off", "downlink_enabled", False),
        ("qos: '2'", "qos", 2),
        ("qos:", "qos", 1),
        ("downlinkPort: 224", "downlink_port", 224),
        ("connectionTimeout: 10s", "connection_timeout", 10_000),
        ("connectionTimeout: 250", "connection_timeout", 250),
        ("uplinkTimeValidity: 7d", "uplink_time_validity", 604_800_000),
        ("uplinkTimeValidity: 1ms", "uplink_time_validity", 1),
        ("mqttVersion: 5", "mqtt_version", "5"),
        ("mqttVersion: 3.1.1", "mqtt_version", "3.1.1"),
        ("alpn: [a, 0123]", "alpn", ("a", "0123")),
        ("alpn: []", "alpn", ()),
        ("uplinkTopicPattern: '{DevEUI}'", "uplink_topic_pattern", "{DevEUI}"),
        ("webSocketPath: /x", "web_socket_path", "/x"),
    ],
)
def test_a_value_has_the_type_of_its_property(tmp_path: Path, line: str, attribute: str, value: object) -> None:
    result = loaded(tmp_path, connection("hostName: h", line))
    configuration = result.settings.connections["acme"].configuration
    assert getattr(configuration, attribute) == value
    assert type(getattr(configuration, attribute)) is type(value)


def test_an_unquoted_dev_eui_stays_what_was_written(tmp_path: Path) -> None:
    text = "flows: {f: {matchers: [{type: thing, tags: [0011223344556677, yes]}], connections: [1]}}\n"
    result = loaded(tmp_path, text + connection("hostName: h", identity="1"))
    matcher = result.settings.flows["f"].matchers[0]
    assert isinstance(matcher, ThingMatcher)
    assert matcher.tags == ("0011223344556677", "yes")


def test_sources_and_matchers_are_told_apart_by_their_kind(tmp_path: Path) -> None:
    text = """
sources:
  a: {transport: http}
  b: {transport: mqtt, hostName: "h", topics: [x]}
flows:
  f: {matchers: [{type: key, key: lora:00-18-b2-00-00-00-0b-20}, {tags: [x], type: thing}], connections: [acme]}
"""
    result = loaded(tmp_path, text + connection("hostName: h")).settings
    assert isinstance(result.sources["a"], HttpSource)
    assert isinstance(result.sources["b"], MqttSource)
    first, second = result.flows["f"].matchers
    assert first == KeyMatcher(key="lora:0018B20000000B20")
    assert second == ThingMatcher(tags=("x",))


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "~", "http:\nsources: ~\nconnections:\nflows: {}\n"])
def test_what_is_left_empty_is_not_set(tmp_path: Path, text: str) -> None:
    result = loaded(tmp_path, text).settings
    assert result.http.listen == "127.0.0.1:8080"
    assert result.connections == {}


CASES = {
    "unknown key with a near miss": (
        "hostname: h",
        "4:7",
        ".hostname: is not a known property; did you mean hostName?",
    ),
    "unknown key": ("zzz: 1", "5:7", ".zzz: is not a known property; known here: hostName, protocol"),
    "wrong bool": ("retain: maybe", "5:15", ".retain: must be true or false, not “maybe”"),
    "wrong int": ("qos: 3", "5:12", ".qos: must be an integer from 0 to 2, not “3”"),
    "int below": ("downlinkPort: 0", "5:21", ".downlinkPort: must be an integer from 1 to 224"),
    "wrong duration": ("connectionTimeout: 11s", "5:26", ".connectionTimeout: must be a duration from 1ms to 10s"),
    "wrong case of an enum": ("protocol: ssl", "5:17", ".protocol: must be SSL, not “ssl”"),
    "wrong enum": ("protocol: TLS", "5:17", ".protocol: must be SSL, TCP or WSS, not “TLS”"),
    "wrong version": ("mqttVersion: 3.1", "5:20", ".mqttVersion: must be 3.1.1 or 5, not “3.1”"),
    "list for text": ("username: [a]", "5:7", ".username: must be text, not a list; text that begins with [ or {"),
    "mapping for text": ("uplinkTopicPattern: {DevEUI}", "5:7", ".uplinkTopicPattern: must be text, not a mapping"),
    "text for list": ("alpn: a", "5:13", ".alpn: must be a list, such as [a, b], not a single value"),
    "empty item": ("alpn: [~]", "5:14", ".alpn[0]: is empty; wanted: a protocol name"),
    "empty text": ("username: ''", "5:17", ".username: is empty; give a value, or leave the property out"),
    "bad pattern": ("uplinkTopicPattern: 'a/{DevEUI'", "5:27", ".uplinkTopicPattern: "),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_value_is_named_with_its_place_and_what_would_be_right(tmp_path: Path, case: str) -> None:
    line, place, words = CASES[case]
    lines = [line] if line.startswith("hostname") else ["hostName: h", line]
    (problem,) = complaints(tmp_path, connection(*lines))
    assert problem.startswith(f"mqttbridge.yaml:{place}: connections.acme.configuration{words}"), problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a]", "1:1: must be a mapping of properties, not a list"),
        ("a", "1:1: must be a mapping of properties, not a single value"),
        ("connections: [a]", "1:1: connections: must be a mapping from ids to their properties, not a list"),
        ("connections:\n  acme:", "2:3: connections.acme.configuration: is missing; it must be given"),
        (
            "connections: {acme: {configuration: {}}}",
            "1:22: connections.acme.configuration.hostName: is missing; it must",
        ),
        (
            "connections: {acme: {configuration: {hostName: }}}",
            "1:38: connections.acme.configuration.hostName: is empty",
        ),
        ("sources: {a: {format: thingpark}}", "1:11: sources.a.transport: is missing; it must be http or mqtt"),
        ("sources: {a: {transport: }}", "1:11: sources.a.transport: is missing"),
        ("sources: {a: {transport: htp}}", "1:26: sources.a.transport: must be http or mqtt, not “htp”"),
        (
            "sources: {a: {transport: http, topics: [a]}}",
            "1:32: sources.a.topics: is for transport mqtt, and here it is http",
        ),
        ("sources: {a/b: {transport: http}}", "1:11: sources.a/b: cannot be an id; an id has 1 to 64 letters"),
        ("flows: {f: {connections: []}}", "1:13: flows.f.connections: must be a list with at least one item"),
        ("flows: {f: {}}", "1:9: flows.f.connections: is missing"),
        ("journal: {maxSize: 1GB}", "1:20: journal.maxSize: must be a size from 64KiB"),
        ("journal: {maxSize: 63KiB}", "1:20: journal.maxSize: must be a size from 64KiB"),
        ("journal: {whenFull: drop}", "1:21: journal.whenFull: must be block or drop-oldest, not “drop”"),
        ("http: 8080", "1:7: http: must be a mapping of properties"),
        ("http: {listen: '8080'}", "1:16: http.listen: "),
    ],
)
def test_wrong_shapes_are_named(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = complaints(tmp_path, text)
    assert found.startswith(f"mqttbridge.yaml:{problem}"), found


@pytest.mark.parametrize(
    ("name", "right"), [("TTS", "tts"), ("ChirpStack", "chirpstack"), ("lora", "chirpstack, thingpark or tts")]
)
def test_a_format_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path, name: str, right: str) -> None:
    (found,) = complaints(tmp_path, f"sources: {{a: {{transport: http, format: {name}}}}}")
    assert f"sources.a.format: must be {right}" in found


def test_a_property_on_the_wrong_level_is_sent_where_it_belongs(tmp_path: Path) -> None:
    text = connection("hostName: h") + "    qos: 1\n"
    (found,) = complaints(tmp_path, text)
    assert found == "mqttbridge.yaml:5:5: connections.acme.qos: does not belong here but under configuration"


def test_an_alias_of_a_name_is_accepted_but_not_both(tmp_path: Path) -> None:
    from tests.settings import pki

    pem = pki.indented(pki.ca_certificate())
    result = loaded(tmp_path, connection("hostName: h", f"trustedCaCertficate: {pem}"))
    assert (
        result.settings.connections["acme"].configuration.trusted_ca_certificate == pki.ca_certificate().strip() + "\n"
    )
    text = connection("hostName: h", f"trustedCaCertficate: {pem}", f"trustedCaCertificate: {pem}")
    (found,) = complaints(tmp_path, text)
    assert "the same property as trustedCaCertificate under another name" in found


def test_values_by_reference_are_secrets_of_the_right_type(tmp_path: Path) -> None:
    (tmp_path / "user").write_text("bob-the-user\n")
    text = connection("hostName: !env HOST", "qos: !env QOS", "username: !file user", "password: 'p w'")
    result = loaded(tmp_path, text, {"HOST": "h.example:8883", "QOS": "2"})
    configuration = result.settings.connections["acme"].configuration
    assert isinstance(configuration.host_name, Secret)
    assert isinstance(configuration.username, Secret)
    assert configuration.address == ("h.example", 8883)
    assert type(configuration.address[0]) is str
    assert configuration.qos == 2
    assert set(result.secrets) == {"h.example:8883", "bob-the-user", "p w"}
    assert "bob-the-user" not in repr(result.settings)


@pytest.mark.parametrize(
    "line",
    [
        "password: [hunter2]",
        "password: {hunter2: 1}",
        "password: !hunter2",
        "passwrd: hunter2",
        "downlinkAsKey: hunter2",
        "privateKey: hunter2",
        "hostName: mqtt://me:hunter2@h",
        "protocol: !env HIDDEN",
        "qos: !env HIDDEN",
        "retain: !env HIDDEN",
        "keepAlive: !env HIDDEN",
        "uplinkTopicPattern: !env HIDDEN",
        "webSocketPath: !env HIDDEN",
        "certificate: !env HIDDEN",
        "alpn: [!env HIDDEN]",
        "nothing: !env HIDDEN",
    ],
)
def test_no_error_shows_a_secret(tmp_path: Path, line: str) -> None:
    lines = [line] if line.startswith("hostName") else ["hostName: h", line]
    found = complaints(tmp_path, connection(*lines), {"HIDDEN": "hunter2 {"})
    assert found
    # A name is no value: it is shown where it stands as a name.
    assert "hunter2" not in "".join(found).replace("{hunter2", "")


@pytest.mark.parametrize("value", ["#geheim", "", "~", "null"])
@pytest.mark.parametrize("name", ["password", "privateKey", "downlinkAsKey"])
def test_a_secret_that_is_silently_empty_is_refused(tmp_path: Path, name: str, value: str) -> None:
    (found,) = complaints(tmp_path, connection("hostName: h", f"{name}: {value}"))
    assert found == (
        f"mqttbridge.yaml:5:7: connections.acme.configuration.{name}: "
        "is empty; quote a value that begins with #, or leave the line out"
    )


def test_an_empty_as_key_of_a_source_is_refused_too(tmp_path: Path) -> None:
    (found,) = complaints(tmp_path, "sources: {a: {transport: http, asKey: }}")
    assert "sources.a.asKey: is empty; quote" in found


def test_the_list_of_known_properties_is_given_once_per_file_and_section(tmp_path: Path) -> None:
    text = (
        connection("hostName: h", "zzz: 1", "yyy: 1")
        + connection("hostName: h", "xxx: 1", identity="b").partition("\n")[2]
    )
    first, second, third, fourth = complaints(tmp_path, text + "qqq: 1\n")
    assert "known here: hostName" in first
    assert second.endswith(".yyy: is not a known property; the message on line 5 lists those that are")
    assert third.endswith(".xxx: is not a known property; the message on line 5 lists those that are")
    assert "known here: stateDirectory" in fourth


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("connections: {a: {configuration: {hostName: h, password:hunter2}}}", "1:48: connections.a.configuration."),
        ("connections: {a: {configuration: {hostName: h, password:hunter2: 1}}}", "1:48: connections.a.configuration."),
    ],
)
def test_a_name_glued_to_its_value_is_told_to_need_a_blank_without_the_value(
    tmp_path: Path, text: str, place: str
) -> None:
    (found,) = complaints(tmp_path, text)
    assert found == f"mqttbridge.yaml:{place}password: a blank is missing after the colon"


def test_a_single_name_glued_to_its_value_is_no_mapping_for_want_of_a_blank(tmp_path: Path) -> None:
    (found,) = complaints(tmp_path, "connections:\n  a:\n    configuration:\n      hostName:hunter2\n")
    assert found.endswith("must be a mapping of properties, not a single value; a blank is missing after the colon")
    assert "hunter2" not in found
