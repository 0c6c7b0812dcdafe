"""Why an uplink goes where it goes: the same as what is routed, in sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.model import DocumentKind, Uplink
from mqttbridge.routing import Router, explain, goes_to
from mqttbridge.settings.schema import Connection, Flow, KeyMatcher, Matcher
from mqttbridge.settings.secret import Secret
from tests.routing.test_router import DEVICES, FLOWS, IDS, UPLINKS, connection, flow, key, thing, uplink

ON = {"acme": connection()}


def why(asked: Uplink, *matchers: Matcher) -> tuple[bool, str]:
    (reason,) = explain({"f": flow("acme", matchers=matchers)}, ON, asked)
    return reason.matched, reason.why


@given(
    st.dictionaries(st.text("xyz", min_size=1), FLOWS, max_size=6),
    st.dictionaries(IDS, st.builds(connection, active=st.booleans(), send_metadata=st.booleans())),
    UPLINKS,
)
def test_what_is_explained_as_going_somewhere_is_what_is_routed(
    flows: dict[str, Flow], connections: dict[str, Connection], asked: Uplink
) -> None:
    reasons = explain(flows, connections, asked)
    assert goes_to(reasons) == Router(flows, connections).route(asked)
    assert [reason.flow for reason in reasons] == (list(flows) or [""])
    for reason in reasons:
        named = {*reason.connections, *(one.connection for one in reason.withheld)}
        leads = set(flows[reason.flow].connections) if flows else set(connections)
        assert named == (leads if reason.matched else set())
        assert reason.why
        assert all(one.why for one in reason.withheld)


def test_a_match_is_told_by_what_it_matched() -> None:
    asked = uplink(DEVICES[0], "temperature", "best", "more")
    assert why(asked) == (True, "it has no matchers, so every uplink matches")
    assert why(asked, thing("x"), thing("Temperature", "BEST")) == (
        True,
        "the device has the tags Temperature and BEST",
    )
    assert why(asked, thing("Best")) == (True, "the device has the tag Best")
    assert why(asked, key(DEVICES[0].lower())) == (True, "the key lora:0018b20000000b20 is this device")


@pytest.mark.parametrize(
    ("tags", "matchers", "sentence"),
    [
        (
            ["temperature", "roof"],
            (thing("Temperature", "Best"),),
            "its tags are roof and temperature; the flow wants Temperature and Best (Best is missing)",
        ),
        (
            ["a"],
            (thing("B", "C"), thing("A", "D", "E")),
            "its tags are a; the flow wants B and C (it has none of them), or A, D and E (D and E are missing)",
        ),
        ([], (thing("B"),), "the device has no tags; the flow wants B"),
        ([], (key(DEVICES[1]),), f"the key lora:{DEVICES[1]} is another device"),
        ([], (key(DEVICES[1]), key(DEVICES[2])), "none of its 2 keys is this device"),
        ([], (KeyMatcher(key="sigfox:1"),), "the key sigfox:1 names no device: write lora:<DevEUI>"),
        (
            ["a"],
            (thing("b"), key(DEVICES[1])),
            f"its tags are a; the flow wants b; the key lora:{DEVICES[1]} is another device",
        ),
    ],
)
def test_what_does_not_match_is_told_with_what_is_missing(
    tags: list[str], matchers: tuple[Matcher, ...], sentence: str
) -> None:
    matched, told = why(uplink(DEVICES[0], *tags), *matchers)
    assert not matched
    assert told == sentence


def test_a_connection_that_gets_nothing_though_a_flow_matched_is_told_why() -> None:
    connections = {"on": connection(), "off": connection(active=False), "meta": connection(send_metadata=True)}
    flows = {"f": flow("on", "off", "meta", "gone")}
    (reason,) = explain(flows, connections, uplink(kind=DocumentKind.LOCATION))
    assert reason.connections == ("on",)
    assert {one.connection: one.why for one in reason.withheld} == {
        "off": "it is inactive: active is false",
        "meta": "it has sendMetadata, which takes uplinks alone, and this is a DevEUI_location",
        "gone": "it is not configured",
    }


def test_without_flows_there_is_one_reason() -> None:
    (reason,) = explain({}, {"on": connection(), "off": connection(active=False)}, uplink())
    assert (reason.flow, reason.matched, reason.connections) == ("", True, ("on",))
    assert reason.why == "no flows are configured, so every active connection gets every uplink"
    assert [one.connection for one in reason.withheld] == ["off"]


def test_a_sentence_stays_short_whatever_the_flow_wants() -> None:
    asked = uplink(DEVICES[0], *(f"t{number}" for number in range(1000)))
    _, told = why(asked, *(thing(*(f"w{i}-{j}" for j in range(1000))) for i in range(1000)))
    assert len(told) < 1000
    assert "and 988 more" in told
    assert "or what 996 more matchers want" in told


def test_how_near_a_flow_was_counts_the_tags_that_fit() -> None:
    asked = uplink(DEVICES[0], "a", "b")
    flows = {
        "two": flow("acme", matchers=(thing("A", "B", "C"), thing("x"))),
        "none": flow("acme", matchers=(key("1"),)),
    }
    assert [reason.near for reason in explain(flows, ON, asked)] == [2, 0]


def test_a_tag_that_is_a_secret_is_not_shown_and_matches() -> None:
    assert why(uplink(DEVICES[0], "hidden"), thing(Secret("Hidden"))) == (True, "the device has the tag *****")
    told = why(uplink(DEVICES[0], "other"), thing(Secret("Hidden"), "other"))[1]
    assert "idden" not in told
