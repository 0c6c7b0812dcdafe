"""Documents into files and back: nice to read, the same meaning, and nothing smuggled in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mqttbridge.settings.documents import document_of
from mqttbridge.settings.drafts import DraftError, draft, with_active
from mqttbridge.settings.loader import load
from mqttbridge.settings.problems import Problems
from mqttbridge.settings.reader import Mapping, Node, Scalar, Sequence, read
from mqttbridge.settings.schema import Connection, Flow
from tests.settings.helpers import write
from tests.settings.pki import ca_certificate, shared_pair

if TYPE_CHECKING:
    from pathlib import Path

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    [
        *(
            "!file x",
            "!env HOME",
            "&a b",
            "*a",
            "*****x",
            "no",
            "0123",
            "1e3",
            "0x1F",
            "1:30",
            "2026-11-23",
            "~",
            "null",
        ),
        *(
            "a: b",
            "a #b",
            "- a",
            "%a",
            "---",
            "...",
            "\n",
            "a\n",
            "a\nb",
            " a",
            "a ",
            "\ta",
            "\ufeff",
            "\x85",
            "'",
            '"',
        ),
        *("a\r\nb", "a\n\n\nb", "a\n b", "\u2028", "\x00", "{DevEUI}/up", "[x", "@x", "`x", "|", ">", "?", "=", "<<"),
        *("y", "N", "-----BEGIN", "a\n---\nb", "a\n%b", "\U0010ffff", "a" * 500, "é", "\xa0", "a\\b"),
    ]
)
VALUES = st.recursive(
    TEXT | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT.filter(bool), inner, max_size=4),
    max_leaves=12,
)


def tree(data: bytes) -> Node | None:
    problems = Problems()
    node = read(data, "x.yaml", problems)
    assert problems.errors == []
    return node


def said(node: Node | None) -> Any:  # noqa: ANN401 (as the file has it)
    """Give what a tree says, with every value as text."""
    match node:
        case Mapping():
            return {name: said(entry.node) for name, entry in node.entries.items()}
        case Sequence():
            return [said(item) for item in node.items]
        case Scalar():
            assert not node.tag
            return None if node.null else node.text
        case _:
            raise AssertionError(node)


def meant(value: object) -> Any:  # noqa: ANN401 (likewise)
    """Give what a document says, with every value as text."""
    match value:
        case dict():
            return {name: meant(one) for name, one in value.items()}
        case list():
            return [meant(one) for one in value]
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) <= 2**53:
            return str(int(value))
        case _:
            return str(value)


@given(st.dictionaries(TEXT.filter(lambda name: bool(name) and name != "<<"), VALUES, max_size=5))
@example({"a": [[{"b": ["!file x", {}]}, []]], "\ufeff": "\ud7ff"})
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_document_says_the_file_says_and_nothing_else(document: dict[str, Any]) -> None:
    assert said(tree(draft(document, Connection))) == meant(document)


@given(TEXT)
@settings(max_examples=300, deadline=None)
def test_text_is_text_for_every_reader_of_yaml(text: str) -> None:
    data = draft(
        {"name": text, "configuration": {"alpn": [text, text]}} if text != "*****" else {"name": ""}, Connection
    )
    if text != "*****":
        # PyYAML, as most, guesses types by YAML 1.1.
        assert yaml.safe_load(data) == {"name": text, "configuration": {"alpn": [text, text]}}


@given(st.integers(-(2**62), 2**62) | st.booleans() | st.floats(-1e6, 1e6).map(lambda number: round(number, 3)))
def test_numbers_and_truth_values_are_no_text(value: float) -> None:
    (again,) = yaml.safe_load(draft({"x": value}, Connection)).values()
    assert math.isclose(again, value)


def test_the_file_has_the_order_of_the_schema_and_pem_as_people_know_it() -> None:
    pem = "-----BEGIN CERTIFICATE-----\r\nMIIB\r\n-----END CERTIFICATE-----"
    document = {
        "configuration": {
            "qos": 1,
            "createDevices": True,
            "uplinkTopicPattern": "{DevEUI}/up",
            "username": "0123",
            "trustedCaCertficate": pem,
            "hostName": "broker.acme.example:8883",
            "alpn": ["x-amzn-mqtt-ca", "no"],
            "keepAlive": "20s",
        },
        "alarms": [{"uplinkRateMinPerHour": 5, "timeZone": "Europe/Paris", "recurrence": [{"byDays": ["MO", "FR"]}]}],
        "active": False,
        "name": "ACME: the broker",
        "connectorId": None,
    }
    assert draft(document, Connection).decode() == (
        """\
name: 'ACME: the broker'
active: false
alarms:
  - timezone: Europe/Paris
    recurrence:
      - byDays: [MO, FR]
    uplinkRateMinPerHour: 5
configuration:
  hostName: broker.acme.example:8883
  username: '0123'
  trustedCaCertificate: |
    -----BEGIN CERTIFICATE-----
    MIIB
    -----END CERTIFICATE-----
  keepAlive: 20s
  alpn: [x-amzn-mqtt-ca, 'no']
  uplinkTopicPattern: '{DevEUI}/up'
  qos: 1
  createDevices: true
"""
    )


def test_a_flow_reads_well_and_a_long_list_goes_down_the_page() -> None:
    ids = [f"a-rather-long-name-{number}" for number in range(5)]
    document = {"connections": ids, "matchers": [{"key": "lora:0011223344556677", "type": "key"}], "name": "f"}
    assert draft(document, Flow).decode() == (
        "name: f\nmatchers:\n  - type: key\n    key: lora:0011223344556677\nconnections:\n"
        + "".join(f"  - {id_}\n" for id_ in ids)
    )


OLD = b"""\
# by hand
name: ACME
configuration:
  hostName: !env HOST
  password: !file "pass word"
  username: 0123
  trustedCaCertficate: |
    -----BEGIN CERTIFICATE-----
    x
    -----END CERTIFICATE-----
  alpn: [!env ALPN, b]
  downlinkAsKey: !credential key
"""


def test_a_mask_keeps_what_is_there_with_its_tag() -> None:
    masked = dict.fromkeys(["hostName", "password", "username", "trustedCaCertificate", "downlinkAsKey"], "*****")
    configuration = {**masked, "alpn": ["*****", "c"]}
    file = draft({"configuration": configuration}, Connection, OLD).decode()
    assert "hostName: !env HOST\n" in file
    assert "password: !file pass word\n" in file
    assert "username: 0123\n" in file
    assert "alpn: [!env ALPN, c]\n" in file
    assert "downlinkAsKey: !credential key\n" in file
    assert "trustedCaCertificate: |\n    -----BEGIN CERTIFICATE-----\n    x\n" in file


@pytest.mark.parametrize("old", [None, b"", b"configuration:\n", b"[", b"configuration: {password: , hostName: h}"])
def test_a_mask_where_nothing_is_there_is_a_problem_of_its_property(old: bytes | None) -> None:
    with pytest.raises(DraftError) as caught:
        draft({"name": "*****", "configuration": {"password": "*****", "hostName": "h"}}, Connection, old)
    assert [name for name, _ in caught.value.problems] == ["name", "configuration.password"]
    assert "nothing is there" in caught.value.problems[0][1]


def test_a_mask_in_a_list_that_was_changed_is_a_problem_and_takes_no_neighbour() -> None:
    for alpn in (["*****"], ["x", "*****"], ["a", "b", "*****"]):
        with pytest.raises(DraftError) as caught:
            draft({"configuration": {"alpn": alpn}}, Connection, OLD)
        assert caught.value.problems[0][0] == f"configuration.alpn[{len(alpn) - 1}]"


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"name": "\ud800"}, "name"),
        ({"\udfff": 1}, ""),
        ({"configuration": {"qos": 10**5000}}, "configuration.qos"),
    ],
)
def test_what_no_file_can_hold_is_a_problem_of_its_property(document: dict[str, Any], name: str) -> None:
    with pytest.raises(DraftError) as caught:
        draft(document, Connection)
    assert [each for each, _ in caught.value.problems] == [name]


def test_a_document_that_nests_without_end_is_a_problem() -> None:
    document: dict[str, Any] = {}
    for _ in range(500):
        document = {"a": document}
    with pytest.raises(DraftError, match="nested"):
        draft(document, Connection)


# -- back


def test_a_document_has_what_differs_from_the_defaults_and_masks_what_is_secret(tmp_path: Path) -> None:
    certificate, key = shared_pair()
    text = {
        "name": "0123",
        "alarms": [{"uplinkRateMinPerHour": 5, "startTime": "09:00", "endTime": "17:00"}],
        "configuration": {
            "hostName": "h:1",
            "connectionTimeout": 5000,
            "keepAlive": "90s",
            "uplinkTimeValidity": "1d",
            "username": "u",
            "password": "secret word",
            "certificate": certificate,
            "privateKey": key,
            "trustedCaCertificate": ca_certificate(),
            "alpn": ["a", "b"],
            "qos": 1,
            "downlinkPort": 5,
        },
    }
    data = draft(text, Connection)
    write(tmp_path, data, "connections.d/acme.yaml")
    path = write(tmp_path, "{}")
    first = load(path, environ={}).settings.connections["acme"]
    document = document_of(first)
    assert document == {
        "name": "0123",
        "alarms": [{"startTime": "09:00", "endTime": "17:00", "uplinkRateMinPerHour": 5}],
        "configuration": {
            "hostName": "h:1",
            "username": "u",
            "password": "*****",
            "trustedCaCertificate": ca_certificate(),
            "certificate": certificate,
            "privateKey": "*****",
            "keepAlive": "90s",
            "alpn": ["a", "b"],
            "downlinkPort": 5,
            "uplinkTimeValidity": "1d",
        },
    }
    write(tmp_path, draft(document, Connection, data), "connections.d/acme.yaml")
    assert load(path, environ={}).settings.connections["acme"] == first


def test_what_is_shown_of_a_file_and_comes_back_leaves_every_byte_of_it(tmp_path: Path) -> None:
    data = (
        b"# by hand\nconfiguration:\n  qos: 1   # written, though it is the default\n  protocol: SSL\n"
        b"  connectionTimeout: 5000\n  actionTimeout: 1s\n  hostName: 'h'\n  trustedCaCertficate: !file ca.crt\n"
        b"  alpn: [a,\n    b]\n  password: !env KEY\n  username: ~\n"
    )
    write(tmp_path, ca_certificate(), "connections.d/ca.crt")
    write(tmp_path, data, "connections.d/acme.yaml")
    loaded = load(write(tmp_path, "{}"), environ={"KEY": "k"})
    shown = document_of(loaded.settings.connections["acme"], loaded.outlines["connection", "acme"])
    assert shown["configuration"] == {
        "hostName": "h",
        "protocol": "SSL",
        "password": "*****",
        "trustedCaCertificate": ca_certificate().rstrip(),
        "connectionTimeout": 5000,
        "actionTimeout": "1s",
        "qos": 1,
        "alpn": ["a", "b"],
    }
    back = {"connectorId": "actility-mqtt-iot", "name": "", "active": True, "alarms": [], **shown}
    assert draft(back, Connection, data, shown) == data
    back["configuration"] = {**shown["configuration"], "qos": 2}
    assert draft(back, Connection, data, shown).decode() == (
        "configuration:\n  hostName: h\n  protocol: SSL\n  password: !env KEY\n"
        "  trustedCaCertificate: !file ca.crt\n  connectionTimeout: 5000\n  actionTimeout: 1s\n"
        "  alpn: [a, b]\n  qos: 2\n"
    )


@pytest.mark.parametrize(
    "kept",
    [
        "downlinkDevices: [0018B2*, lora:70b3d5000000b201]", "alpn: [a:b, 'c, d', \"e\"]", "alpn: [a, 007, no, 1e3]",
        "alpn: ['#a', '*b', '!file c', '&d']", "password: {username: }", "password: a'b", "password: a:b", "alpn: []",
    ],
)  # fmt: skip
def test_what_is_kept_says_the_same_in_its_new_place(kept: str) -> None:
    data = f"configuration: {{hostName: h, {kept}}}".encode()
    before = texts_of(data)
    shown = {"configuration": {"hostName": "h", kept.partition(":")[0]: ["kept"]}}
    changed = {"configuration": {**shown["configuration"], "hostName": "other"}}
    after = texts_of(draft(changed, Connection, data, shown))
    assert after == {"configuration": {**before["configuration"], "hostName": "other"}}


def texts_of(data: bytes) -> Any:  # noqa: ANN401 (what a file says)
    """Read a file as the loader does, and give its texts."""
    problems = Problems()

    def bare(node: Node | None) -> object:
        match node:
            case Mapping():
                return {name: bare(entry.node) for name, entry in node.entries.items()}
            case Sequence():
                return [bare(item) for item in node.items]
            case Scalar():
                return None if node.null else (node.tag, node.text) if node.tag else node.text
        return None

    found = bare(read(data, "", problems))
    assert not problems.errors, (problems.errors, data)
    return found


def test_what_was_not_shown_is_not_kept() -> None:
    data = b"configuration: {hostName: h, certificate: !file a.crt, qos: 1}"
    document = {"configuration": {"hostName": "h", "certificate": "other", "qos": True}}
    shown = {"configuration": {"hostName": "h", "certificate": "shown", "qos": 1}}
    assert b"!file" not in draft(document, Connection, data, shown)
    assert b"qos: true" in draft(document, Connection, data, shown)


def test_the_document_of_a_flow_has_its_matchers_with_their_types(tmp_path: Path) -> None:
    write(tmp_path, "configuration: {hostName: h}", "connections.d/acme.yaml")
    document = {
        "description": "d",
        "matchers": [{"type": "thing", "tags": ["a", "1"]}, {"type": "key", "key": "lora:0018B20000000B20"}],
        "connections": ["acme"],
    }
    write(tmp_path, draft(document, Flow), "flows.d/f.yaml")
    flow = load(write(tmp_path, "{}"), environ={}).settings.flows["f"]
    assert document_of(flow) == document


# -- one property


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("configuration: {hostName: h}\n", "active: false\nconfiguration: {hostName: h}\n"),
        ("# top\n\nname: é # x\nalarms: []", "# top\n\nactive: false\nname: é # x\nalarms: []"),
        ("active: yes # since May\nname: x\n", "active: false # since May\nname: x\n"),
        ("name: é\n'active': !env ON\n", "name: é\n'active': false\n"),
        ("name: x\nactive:\nalarms: []\n", "name: x\nactive: false\nalarms: []\n"),
        ("name: x\nactive: # ?\n", "name: x\nactive: false # ?\n"),
        ("{name: x, active: true}\n", "{name: x, active: false}\n"),
        ("{name: x}\n", "{active: false, name: x}\n"),
        ("  name: x\n  a: {active: true}\n", "  active: false\n  name: x\n  a: {active: true}\n"),
        ("alarms: [{active: true}]\nactive: true", "alarms: [{active: true}]\nactive: false"),
        ("name: active\nactive: true", "name: active\nactive: false"),
        ("\ufeffname: ä\r\nactive: true\r\nx: y\r\n", "name: ä\r\nactive: false\r\nx: y\r\n"),
    ],
)  # fmt: skip
def test_active_changes_alone_and_comments_stay(before: str, after: str) -> None:
    assert with_active(before.encode(), active=False).decode() == after


def test_what_is_active_by_default_is_left_alone() -> None:
    assert with_active(b"name: x\n", active=True) == b"name: x\n"
    assert with_active(b"active: false\n", active=True) == b"active: true\n"


@pytest.mark.parametrize("data", [b"[", b"- a\n", b"", b"\xff", b"active: true\nactive: true\n"])
def test_a_file_that_cannot_be_read_is_not_changed(data: bytes) -> None:
    with pytest.raises(ValueError, match="mend it first"):
        with_active(data, active=False)


@given(st.dictionaries(TEXT.filter(lambda name: bool(name) and name != "<<"), VALUES, max_size=5), st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_file_keeps_all_else_when_it_is_deactivated(document: dict[str, Any], given_before: bool) -> None:
    document |= {"active": True} if given_before else {}
    data = draft(document, Connection)
    assert said(tree(with_active(data, active=False))) == meant(document) | {"active": "false"}
