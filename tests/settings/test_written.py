"""How values of the configuration are shown: no secret, nothing long, nothing that looks the same and is not."""

from __future__ import annotations

from typing import Any

from mqttbridge.settings.schema import Configuration, Connection, HttpSource, KeyMatcher, ThingMatcher
from mqttbridge.settings.secret import Secret
from mqttbridge.settings.written import MAX_TEXT, Named, flat, written
from tests.settings.pki import ca_certificate, pair


def shown(old: Any, new: Any, kind: str = "") -> tuple[str, str]:  # noqa: ANN401 (any value of the schema)
    return written(Named(kind, old), Named(kind, new))


def test_properties_stand_flat_under_their_names_in_the_file() -> None:
    found = flat(Connection(configuration=Configuration(host_name="h")))
    assert found["configuration.hostName"] == Named("hostName", "h")
    assert found["configuration.keepAlive"] == Named("duration", 20_000)
    assert found["active"].value is True
    assert flat(HttpSource())["transport"].value == "http"


def test_plain_values_are_written_as_in_the_file() -> None:
    assert shown(None, "x") == ("none", "x")
    assert shown(True, False) == ("true", "false")  # noqa: FBT003 (a value)
    assert shown(5000, 72 * 3600 * 1000, "duration") == ("5s", "3d")
    assert shown(1024**3, 0, "size") == ("1GiB", "0")
    assert shown((), ("a", "b")) == ("none", "[a, b]")
    matchers = (KeyMatcher(key="lora:1"), ThingMatcher(tags=("T", "U")))
    assert shown((), matchers)[1] == "[{type: key, key: lora:1}, {type: thing, tags: [T, U]}]"


def test_no_secret_is_shown_wherever_it_stands() -> None:
    assert shown(Secret("old"), Secret("new")) == ("*****", "*****")
    assert shown(None, Secret("new")) == ("none", "*****")
    assert shown(("a",), (Secret("new"), "b"))[1] == "[*****, b]"
    assert shown((), (KeyMatcher(key=Secret("new")),))[1] == "[{type: key, key: *****}]"
    assert shown(None, Secret(pair()[0]), "certificate")[1] == "*****"


def test_a_certificate_says_whose_it_is_and_until_when() -> None:
    (one, _), (other, _) = pair(ends_in_days=30), pair(ends_in_days=90)
    before, after = shown(one, other, "certificate")
    assert before.startswith("certificate of ")
    assert before != after
    assert "until 20" in after
    assert "BEGIN" not in before + after


def test_a_certificate_that_looks_the_same_is_another_one() -> None:
    one, _ = pair()
    assert shown(one, f"with a remark\n{one}", "certificate")[1] == "another certificate"
    bundle = ca_certificate() * 3
    assert shown(None, bundle, "certificate")[1].endswith(", and 2 more")
    assert shown(None, "no certificate", "certificate")[1] == "a certificate"


def test_long_texts_are_cut_and_do_not_look_the_same() -> None:
    one, other = "x" * 1000 + "a", "x" * 1000 + "b"
    before, after = shown(one, other)
    assert len(before) == MAX_TEXT
    assert after == "another value, which differs further on"


def test_nothing_steers_a_terminal() -> None:
    assert shown("a\x1b[31m\n", "b")[0] == "a\\x1b[31m\\n"
