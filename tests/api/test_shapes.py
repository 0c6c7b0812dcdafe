"""What becomes of ThingPark's JSON."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.api.seam import ConnectionView, FlowView, Problem
from mqttbridge.api.shapes import READ_ONLY, Misshapen, connection_of, flow_of
from mqttbridge.settings.schema import Connection, Flow

HOST = {"hostName": "broker.example.com"}
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["id", "name", "active", "alarms", "configuration", "state", "brand", "matchers", "connections", "connectors"]
)
INNER = st.sampled_from(["hostName", "password", "qos", "alpn", "debug", "trustedCaCertficate", "createDevices", "x"])


def problems(body: object, shape: Any = connection_of, id_: str | None = None) -> dict[str, str]:  # noqa: ANN401
    with pytest.raises(Misshapen) as error:
        shape(body, id_)
    return {one.property: one.detail for one in error.value.problems}


def configuration(**properties: object) -> dict[str, Any]:
    document: dict[str, Any] = connection_of({"configuration": {**HOST, **properties}}).document
    return document["configuration"]


@pytest.mark.parametrize("body", [None, True, 1, "text", [], 1.5])
def test_a_document_is_an_object(body: object) -> None:
    assert problems(body)[""].startswith("must be an object, not ")


def test_names_of_thingpark_become_ours() -> None:
    assert configuration(trustedCaCertficate="PEM") == {**HOST, "trustedCaCertificate": "PEM"}
    alarm = {"uplinkRateMinPerHour": "10", "timeZone": "Europe/Paris"}
    shaped = connection_of({"configuration": HOST, "alarms": [alarm]})
    assert shaped.document["alarms"] == [{"uplinkRateMinPerHour": "10", "timezone": "Europe/Paris"}]


def test_one_property_under_two_names_is_refused() -> None:
    found = problems({"configuration": {**HOST, "trustedCaCertificate": "a", "trustedCaCertficate": "b"}})
    assert "keep one of them" in found["configuration.trustedCaCertficate"]


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("connectionTimeout", 5000, 5000), ("connectionTimeout", "5s", "5s"), ("connectionTimeout", 5000.0, 5000),
        ("downlinkPort", "5", "5"), ("qos", 1.0, 1), ("debug", "true", "true"), ("password", 12345, "12345"),
        ("mqttVersion", 5, "5"), ("alpn", ["a", "b"], ["a", "b"]), ("username", "no", "no"),
    ],
)  # fmt: skip
def test_values_are_taken_as_they_are_sent(name: str, value: object, kept: object) -> None:
    found = configuration(**{name: value})[name]
    assert (found, type(found)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("connectionTimeout", 5.5, "must be milliseconds, or a duration such as 5s, not a number"),
        ("connectionTimeout", True, "must be milliseconds, or a duration such as 5s, not true or false"),
        ("qos", [], "must be an integer, not a list"),
        ("debug", 1, "must be true or false, not a number"),
        ("hostName", True, "must be text, not true or false"),
        ("password", 1.5, "must be text, not a number"),
        ("password", {}, "must be text, not an object"),
        ("protocol", "TLS", "must be SSL or TCP or WSS, not this text"),
        ("alpn", "x", "must be a list, not this text"),
    ],
)
def test_a_wrong_type_is_told_without_the_value(name: str, value: object, told: str) -> None:
    assert problems({"configuration": {**HOST, name: value}}) == {f"configuration.{name}": told}


def test_null_counts_as_left_out() -> None:
    shaped = connection_of({"name": None, "id": None, "configuration": {**HOST, "password": None}})
    assert shaped.document == {"configuration": HOST}
    assert "configuration.hostName" in problems({"configuration": {"hostName": None}})
    assert problems({"configuration": {**HOST, "alpn": [None]}}) == {"configuration.alpn[0]": "must be text, not null"}


def test_what_our_answers_add_is_ignored_without_a_word() -> None:
    beside = {name: object() for name in READ_ONLY[Connection]}
    shaped = connection_of({**beside, "id": "acme", "configuration": HOST}, "acme")
    assert (shaped.id, shaped.document, shaped.warnings) == ("acme", {"configuration": HOST}, ())
    flow = flow_of({**dict.fromkeys(READ_ONLY[Flow], 1), "connections": ["a"]})
    assert (flow.document, flow.warnings) == ({"connections": ["a"]}, ())


def test_every_member_of_our_answers_may_come_back() -> None:
    for view, document in ((ConnectionView, Connection), (FlowView, Flow)):
        known = {"id", *READ_ONLY[document], *document.__struct_encode_fields__}
        assert set(view.__struct_encode_fields__) <= known
        assert not READ_ONLY[document] & set(document.__struct_encode_fields__)


def test_properties_that_mean_nothing_here_are_named() -> None:
    body = {"brand": "x", "scope": None, "configuration": {**HOST, "createDevices": True, "uplinkRateLimiter": 5}}
    shaped = connection_of(body)
    assert shaped.document == {"configuration": HOST}
    assert sorted(text.split()[0] for text in shaped.warnings) == [
        "brand", "configuration.createDevices", "configuration.uplinkRateLimiter",
    ]  # fmt: skip


def test_an_unknown_property_is_named_with_what_was_meant() -> None:
    found = problems({"hostName": "x", "nam": "x", "configuration": {**HOST, "zzz": 1, "topicPattern": "x"}})
    assert found["hostName"] == "does not belong here but under configuration"
    assert found["nam"].endswith("did you mean name?")
    assert "known here: hostName, protocol" in found["configuration.zzz"]
    assert "did you mean" in found["configuration.topicPattern"]


def test_fifty_thousand_unknown_properties_do_not_keep_the_loop_busy() -> None:
    body = {"configuration": {"hostName": "h", **{f"k{number}": 1 for number in range(50_000)}}}
    begin = time.process_time()
    with pytest.raises(Misshapen) as caught:
        connection_of(body)
    assert time.process_time() - begin < 0.5
    assert len(caught.value.problems) <= 1000


def test_a_name_of_a_megabyte_is_cut() -> None:
    (path,) = problems({"configuration": HOST, "x" * 1_000_000: 1})
    assert len(path) == 65


@pytest.mark.parametrize("id_", ["", "a b", "-a", "../x", "a/b", "x" * 65, 5, ["a"], True])
def test_an_id_is_what_may_be_the_name_of_a_file(id_: object) -> None:
    assert "id" in problems({"id": id_, "configuration": HOST})


def test_an_id_cannot_be_changed() -> None:
    assert "cannot be changed" in problems({"id": "b", "configuration": HOST}, id_="a")["id"]
    assert connection_of({"configuration": HOST}, "a").id == "a"


def test_matchers_are_checked_by_their_type() -> None:
    matchers = [{"type": "key", "key": "lora:0018b20000000b20"}, {"type": "thing", "tags": ["a"]}]
    assert flow_of({"connections": ["a"], "matchers": matchers}).document["matchers"] == matchers
    wrong = [{"type": "x"}, {}, 1, {"type": "key", "tags": ["a"]}]
    found = problems({"connections": ["a"], "matchers": wrong}, flow_of)
    assert found == {
        "matchers[0].type": "must be key or thing, not this text",
        "matchers[1].type": "must be key or thing, not null",
        "matchers[2]": "must be an object, not a number",
        "matchers[3].tags": "is not a known property; known here: key",
        "matchers[3].key": "is missing; it must be given: lora:<DevEUI>",
    }


def test_connectors_become_connections() -> None:
    item = {"id": "actility-mqtt-iot", "connectionId": "acme", "uplinkTimeValidity": "72h"}
    shaped = flow_of({"connectors": [item], "driver": {"id": "actility:auto:1"}})
    assert shaped.document == {"connections": ["acme"]}
    assert len(shaped.warnings) == 2
    assert flow_of({"connectors": None, "connections": ["acme"]}).document == {"connections": ["acme"]}


@pytest.mark.parametrize(
    ("flow", "where"),
    [
        ({}, "connections"), ({"connectors": 1}, "connectors"), ({"connectors": [1]}, "connectors[0]"),
        ({"connectors": [{}]}, "connectors[0].connectionId"),
        ({"connectors": [{"connectionId": "a", "x": 1}]}, "connectors[0].x"),
        ({"connectors": [{"connectionId": "a"}], "connections": ["a"]}, "connectors"),
    ],
)  # fmt: skip
def test_connectors_are_checked(flow: dict[str, Any], where: str) -> None:
    assert where in problems(flow, flow_of)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES | st.text(max_size=5), ANY, max_size=5), st.dictionaries(INNER, ANY, max_size=5))
def test_whatever_comes_is_shaped_or_told(body: dict[str, Any], inner: dict[str, Any]) -> None:
    for shape in (connection_of, flow_of):
        for given_ in (body, {**body, "configuration": inner}):
            try:
                shaped = shape(given_)
            except Misshapen as error:
                found = error.problems
            else:
                found = ()
                # What was shaped once is right, and stays as it is.
                again = shape(shaped.document)
                assert (again.document, again.warnings) == (shaped.document, ())
            assert all(isinstance(one, Problem) and one.detail for one in found)
