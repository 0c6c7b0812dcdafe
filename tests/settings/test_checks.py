"""Single values, beyond their type."""

from __future__ import annotations

import msgspec.inspect as types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.settings.checks import CHECKS, IDENTITY
from mqttbridge.settings.schema import Settings

KEY = "00112233445566778899AABBCCDDEEFF"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("asKey", KEY, KEY.lower()),
        ("asKey", f" {KEY}\n", KEY.lower()),
        ("deviceKey", "lora:0018b20000000b20", "lora:0018B20000000B20"),
        ("deviceKey", "LORA:00-18-B2-00-00-00-0B-20", "lora:0018B20000000B20"),
        ("webSocketPath", "/", "/"),
        ("webSocketPath", "/mqtt?a=b", "/mqtt?a=b"),
        ("topicFilter", "#", "#"),
        ("topicFilter", "+/a/+/#", "+/a/+/#"),
        ("topicFilter", "/a//b", "/a//b"),
        ("topicFilter", "$share/g/a/#", "$share/g/a/#"),
        ("topicFilter", "$SYS/#", "$SYS/#"),
        ("clientId", "ä-1", "ä-1"),
        ("alpn", "x-amzn-mqtt-ca", "x-amzn-mqtt-ca"),
        ("uplinkTopicPattern", "a/{FPort}", "a/{FPort}"),
        ("downlinkTopicPattern", "a/{DevEUI}/b", "a/{DevEUI}/b"),
        ("downlinkTopicPattern", "a/b", "a/b"),
        ("receiptTopicPattern", "a/{DevEUI}/{outcome}", "a/{DevEUI}/{outcome}"),
        ("receiptTopicPattern", "{key}/{CorrelationID}/{x|'none'}", "{key}/{CorrelationID}/{x|'none'}"),
        ("devicePattern", "0018b2*", "0018B2*"),
        ("devicePattern", "lora:00-18-B2-00-00-00-0b-2?", "0018B20000000B2?"),
        ("devicePattern", "**", "*"),
        ("webhook", "my-hook", "my-hook"),
        ("header", "Bearer a b", "Bearer a b"),
        ("apiUrl", "https://LRC.example.com:8080/a/b/", "https://LRC.example.com:8080/a/b"),
        ("apiUrl", "HTTP://[::1]:8090", "http://[::1]:8090"),
        ("apiUrl", "https://bücher.example/", "https://xn--bcher-kva.example"),
    ],
)
def test_good_values_pass_in_their_usual_form(kind: str, text: str, value: str) -> None:
    assert CHECKS[kind](text) == value


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("asKey", KEY[1:], "must be 32 hex digits"),
        ("asKey", KEY[1:] + "g", "must be 32 hex digits"),
        ("deviceKey", "0018b20000000b20", "such as lora:"),
        ("deviceKey", "lora:0018b20000000b2", "16 hex digits"),
        ("deviceKey", "lora:0018b20000000b2000", "16 hex digits"),
        ("webSocketPath", "mqtt", "begin with /"),
        ("webSocketPath", "/a b", "without spaces"),
        ("webSocketPath", "/a\r\nX: y", "path of a URL"),
        ("webSocketPath", "/ä", "encode"),
        ("topicFilter", "a+/b", "whole levels"),
        ("topicFilter", "a/b#", "whole levels"),
        ("topicFilter", "##", "whole levels"),
        ("topicFilter", "a/#/b", "only at its end"),
        ("topicFilter", "a\x00b", "control"),
        ("topicFilter", "a" * 65536, "65535 bytes"),
        ("devicePattern", "0018B2", "16 hex digits"),
        ("devicePattern", "0018B20000000B2?0", "16 hex digits"),
        ("devicePattern", "xyz*", "16 hex digits"),
        ("webhook", "My Hook", "lower-case"),
        ("webhook", "a/../b", "lower-case"),
        ("header", "a\r\nb", "HTTP header"),
        ("header", " a", "HTTP header"),
        ("apiUrl", "lrc.example.com", "must be a URL"),
        ("apiUrl", "mqtt://lrc.example.com", "must be a URL"),
        ("apiUrl", "https://me:secret@h", "user name or password"),
        ("apiUrl", "https://h/a?b=c", "without ?"),
        ("apiUrl", "https://h:0/", "a port from 1"),
        ("apiUrl", "https://h/a b", "encode"),
        ("apiUrl", "https:///a", "no host"),
        ("topicFilter", "$share/g", "$share/<group>"),
        ("topicFilter", "$share//a", "$share/<group>"),
        ("topicFilter", "$share/+/a", "$share/<group>"),
        ("topicFilter", "$share/g/", "$share/<group>"),
        ("topicFilter", "$share/g/a#", "whole levels"),
        ("clientId", "ä" * 32768, "65535 bytes"),
        ("clientId", "a\nb", "control"),
        ("username", "a\x00b", "control"),
        ("password", "ä" * 32768, "65535 bytes"),
        ("alpn", "", "1 to 255"),
        ("alpn", "a" * 256, "1 to 255"),
        ("alpn", "ä", "ASCII"),
        ("path", "a\x00", "NUL"),
        ("uplinkTopicPattern", "a/{DevEUI", "(at character 3)"),
        ("downlinkTopicPattern", "a/{FPort}", "{DevEUI}"),
        ("receiptTopicPattern", "a/{CustomerID}/r", "must hold no fields but {DevEUI}, {outcome}"),
        ("receiptTopicPattern", "a/{Time}/r", "must hold no fields but {DevEUI}, {outcome}"),
    ],
)
def test_bad_values_are_refused_with_what_would_be_right(kind: str, text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        CHECKS[kind](text)
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", ["asKey", "password"])
def test_a_secret_is_not_repeated(kind: str) -> None:
    with pytest.raises(ValueError) as caught:
        CHECKS[kind]("hunter2" * 10_000)
    assert "hunter2" not in str(caught.value)


def kinds(one: object) -> set[str]:
    """Collect every kind of string that the schema names."""
    found: set[str] = set()
    if isinstance(one, types.StructType):
        found.update(*(kinds(field.type) for field in one.fields))
    elif isinstance(one, types.UnionType):
        found.update(*map(kinds, one.types))
    elif isinstance(one, types.VarTupleType):
        found = kinds(one.item_type)
    elif isinstance(one, types.DictType):
        found = kinds(one.value_type)
    elif isinstance(one, types.Metadata):
        found = kinds(one.type) | {one.extra["kind"] for _ in (1,) if one.extra}
    return found


def test_every_kind_that_the_schema_names_has_its_check() -> None:
    assert kinds(types.type_info(Settings)) - {"duration", "size"} == set(CHECKS)


@pytest.mark.parametrize("name", ["acme", "a", "A.b_c-1", "_x", "0" * 64])
def test_ids(name: str) -> None:
    assert IDENTITY(name)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", ".a", "-a", "ä", "a" * 65, "a\n", "a+b", "a:b"])
def test_what_cannot_be_an_id(name: str) -> None:
    assert not IDENTITY(name)


@given(st.sampled_from(sorted(CHECKS)), st.text())
def test_a_check_gives_text_or_a_value_error(kind: str, text: str) -> None:
    try:
        assert isinstance(CHECKS[kind](text), str)
    except ValueError:
        return
