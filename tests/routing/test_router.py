"""Who gets an uplink."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.model import Connections, DocumentKind, Uplink
from mqttbridge.routing import Router
from mqttbridge.routing import router as module
from mqttbridge.settings.schema import Configuration, Connection, Flow, KeyMatcher, Matcher, ThingMatcher

DEVICES = ["0018B20000000B20", "0018B20000000B21", "00000000000000FF"]
TAGS = ["Temperature", "HUMIDITY", "best", "STRASSE"]


def connection(*, active: bool = True, send_metadata: bool = False) -> Connection:
    return Connection(active=active, configuration=Configuration(host_name="h", send_metadata=send_metadata))


def uplink(dev_eui: str = DEVICES[0], *tags: str, kind: DocumentKind = DocumentKind.UPLINK) -> Uplink:
    tags_folded = frozenset(map(str.casefold, tags))
    return Uplink(source="s", kind=kind, dev_eui=dev_eui, time=1, received=1, fcnt=1, body=b"{}", tags=tags_folded)


def flow(*connections: str, matchers: tuple[Matcher, ...] = ()) -> Flow:
    return Flow(matchers=matchers, connections=connections)


def key(dev_eui: str) -> KeyMatcher:
    return KeyMatcher(key=f"lora:{dev_eui}")


def thing(*tags: str) -> ThingMatcher:
    return ThingMatcher(tags=tags)


def test_without_flows_every_active_connection_gets_every_uplink_sorted() -> None:
    router = Router({}, {"b": connection(), "a": connection(), "off": connection(active=False)})
    assert router.route(uplink()) == ("a", "b")


def test_a_flow_without_matchers_takes_everything() -> None:
    router = Router({"f": flow("a")}, {"a": connection(), "b": connection()})
    assert router.route(uplink()) == ("a",)


def test_an_uplink_that_no_flow_matches_goes_nowhere() -> None:
    router = Router({"f": flow("a", matchers=(thing("x"),))}, {"a": connection()})
    assert router.route(uplink()) == ()


def test_matchers_are_alternatives_and_the_tags_of_one_are_needed_together() -> None:
    matchers = (thing("Temperature", "Best"), key(DEVICES[1]))
    router = Router({"f": flow("a", matchers=matchers)}, {"a": connection()})
    assert router.route(uplink(DEVICES[0], "best", "TEMPERATURE", "more")) == ("a",)
    assert router.route(uplink(DEVICES[0], "best")) == ()
    assert router.route(uplink(DEVICES[1])) == ("a",)


@pytest.mark.parametrize(
    "text",
    ["lora:0018b20000000b20", "LoRa:0018B20000000B20", "lora:00-18-b2-00-00-00-0b-20", "lora:00:18:B2:00:00:00:0b:20"],
)
def test_a_key_is_matched_however_it_is_written(text: str) -> None:
    router = Router({"f": flow("a", matchers=(KeyMatcher(key=text),))}, {"a": connection()})
    assert router.route(uplink(DEVICES[0])) == ("a",)
    assert router.route(uplink(DEVICES[1])) == ()


@pytest.mark.parametrize("text", ["", "lora", "lora:", "0018b20000000b20", "sigfox:0018b20000000b20"])
def test_a_key_that_names_no_lora_device_matches_nothing(text: str) -> None:
    router = Router({"f": flow("a", matchers=(KeyMatcher(key=text),))}, {"a": connection()})
    assert router.route(uplink(DEVICES[0])) == ()


def test_tags_match_in_any_case_beyond_ascii() -> None:
    router = Router({"f": flow("a", matchers=(thing("Stra\xdfe"),))}, {"a": connection()})
    assert router.route(uplink(DEVICES[0], "STRASSE")) == ("a",)


def test_an_inactive_connection_gets_nothing_even_if_a_flow_names_it() -> None:
    router = Router({"f": flow("a", "off", "missing")}, {"a": connection(), "off": connection(active=False)})
    assert router.route(uplink()) == ("a",)


@pytest.mark.parametrize("kind", list(DocumentKind))
def test_with_send_metadata_a_connection_gets_uplinks_alone(kind: DocumentKind) -> None:
    router = Router({}, {"all": connection(), "meta": connection(send_metadata=True)})
    expected = ("all", "meta") if kind is DocumentKind.UPLINK else ("all",)
    assert router.route(uplink(kind=kind)) == expected


def test_one_tuple_stands_for_each_set() -> None:
    matchers = (key(DEVICES[0]), thing("best"))
    router = Router(
        {"f": flow("b", "a", matchers=matchers), "g": flow("a", "b", "a", matchers=(key(DEVICES[1]),))},
        {"a": connection(), "b": connection()},
    )
    first = router.route(uplink(DEVICES[0]))
    assert first == ("a", "b")
    assert router.route(uplink(DEVICES[1])) is first
    assert router.route(uplink(DEVICES[2], "best")) is first


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SETS", 8)
    ids = [f"c{number:02}" for number in range(20)]
    flows = {id_: flow(id_, matchers=(key(f"{number:016X}"),)) for number, id_ in enumerate(ids)}
    router = Router(flows, {id_: connection() for id_ in ids})
    for number, id_ in enumerate(ids):
        assert router.route(uplink(f"{number:016X}")) == (id_,)
        assert len(router._sets) <= 8


def test_hundreds_of_flows_do_not_slow_it_down() -> None:
    keys = {f"k{i}": flow(f"c{i}", matchers=(key(f"{i:016x}"),)) for i in range(500)}
    tags = {f"t{i}": flow(f"c{500 + i}", matchers=(thing("Service", f"Customer{i}"),)) for i in range(500)}
    router = Router(keys | tags, {f"c{i}": connection() for i in range(1000)})
    asked = uplink(f"{7:016X}", "service", "customer9")
    assert router.route(asked) == ("c509", "c7")
    started = time.perf_counter()
    for _ in range(2000):
        router.route(asked)
    # A walk over all flows takes some 100 us; this takes 1 us. The limit leaves room for a busy machine.
    assert (time.perf_counter() - started) / 2000 < 30e-6


def naive(flows: dict[str, Flow], connections: dict[str, Connection], asked: Uplink) -> Connections:
    """Read out the rules of the design, word for word."""

    def matches(matcher: Matcher) -> bool:
        if isinstance(matcher, KeyMatcher):
            return matcher.key.lower().replace("-", "") == f"lora:{asked.dev_eui.lower()}"
        return all(tag.casefold() in asked.tags for tag in matcher.tags)

    found = set(connections) if not flows else set()
    for one in flows.values():
        if not one.matchers or any(matches(matcher) for matcher in one.matchers):
            found.update(one.connections)
    return tuple(
        sorted(
            id_
            for id_ in found
            if id_ in connections
            and connections[id_].active
            and (asked.kind is DocumentKind.UPLINK or not connections[id_].configuration.send_metadata)
        )
    )


IDS = st.sampled_from(["a", "b", "c", "d", "e"])
MATCHERS = st.one_of(
    st.sampled_from([key(dev_eui) for dev_eui in DEVICES] + [key("00-18-b2-00-00-00-0b-20")]),
    st.lists(st.sampled_from(TAGS), min_size=1, max_size=3).map(lambda tags: thing(*tags)),
)
FLOWS = st.builds(
    lambda ids, matchers: flow(*ids, matchers=tuple(matchers)),
    st.lists(IDS, min_size=1, max_size=3),
    st.lists(MATCHERS, max_size=3),
)
UPLINKS = st.builds(
    lambda dev_eui, tags, kind: uplink(dev_eui, *tags, kind=kind),
    st.sampled_from(DEVICES),
    st.lists(st.sampled_from(TAGS), max_size=4),
    st.sampled_from(DocumentKind),
)


@given(
    st.dictionaries(st.text("xyz", min_size=1), FLOWS, max_size=6),
    st.dictionaries(IDS, st.builds(connection, active=st.booleans(), send_metadata=st.booleans())),
    st.lists(UPLINKS, max_size=10),
)
def test_it_routes_as_the_rules_say(
    flows: dict[str, Flow], connections: dict[str, Connection], uplinks: list[Uplink]
) -> None:
    router = Router(flows, connections)
    for asked in uplinks:
        assert router.route(asked) == naive(flows, connections, asked)


def test_a_report_goes_to_its_sender_as_well_unless_that_one_takes_none() -> None:
    connections = {
        "a": connection(),
        "b": connection(),
        "bare": connection(send_metadata=True),
        "off": connection(active=False),
    }
    router = Router({"f": flow("b")}, connections)
    routed = router.route(uplink(kind=DocumentKind.DOWNLINK_SENT))
    assert routed == ("b",)
    assert router.with_sender(routed, "a") == ("a", "b")
    assert router.with_sender(routed, "a") is router.with_sender(routed, "a")
    for other in ("b", "bare", "off", "gone"):
        assert router.with_sender(routed, other) == ("b",)
    assert router.with_sender((), "a") == ("a",)
