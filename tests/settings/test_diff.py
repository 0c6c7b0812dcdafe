"""The difference of two configurations: each property does what it should, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.settings import effects
from mqttbridge.settings.diff import Action, Diff, PartChange, Property, diff, in_force, renewed
from mqttbridge.settings.effects import Effect
from mqttbridge.settings.schema import (
    Configuration,
    Connection,
    Flow,
    Http,
    HttpSource,
    Journal,
    KeyMatcher,
    MqttSource,
    Settings,
    Source,
)
from mqttbridge.settings.secret import Secret

BASE = Configuration(
    host_name="h",
    protocol="WSS",
    downlink_topic_pattern="a/{DevEUI}",
    password=Secret("old"),
    private_key=Secret("old key"),
)
MQTT = MqttSource(host_name="h", protocol="WSS", topics=("a",))
OTHERS: dict[str, Any] = {
    "host_name": "i",
    "protocol": "SSL",
    "mqtt_version": "5",
    "reconnect_strategy": "CALM",
    "alpn": ("x",),
    "topics": ("b",),
    "downlink_devices": ("0018B2*",),
    "format": "tts",
    "password": Secret("new"),
    "private_key": Secret("new key"),
}
"""Other values of properties whose type does not tell one."""


def changed(struct: Any, name: str) -> Any:  # noqa: ANN401 (a struct of the schema)
    """Give the struct with another value for one property."""
    old = getattr(struct, name)
    new = OTHERS.get(name, not old if isinstance(old, bool) else 7 if isinstance(old, int) else "other/{DevEUI}")
    if name == "downlink_port":
        new = 7
    return msgspec.structs.replace(struct, **{name: new})


def connection(configuration: Configuration = BASE, **more: Any) -> Connection:  # noqa: ANN401 (any property)
    return Connection(configuration=configuration, **more)


def between(old: Connection | None, new: Connection | None) -> PartChange:
    """Give the one change that is between two connections."""
    found = diff(*(Settings(connections={} if one is None else {"acme": one}) for one in (old, new)))
    (one,) = found.connections
    assert (found.sources, found.flows, found.daemon, found.needs_restart) == ((), (), (), ())
    assert (one.part, one.id) == ("connection", "acme")
    return one


def between_sources(old: Source, new: Source) -> PartChange:
    (one,) = diff(Settings(sources={"lrc": old}), Settings(sources={"lrc": new})).sources
    return one


# -- connections


@pytest.mark.parametrize("field", [field.name for field in msgspec.structs.fields(Configuration)])
def test_each_property_of_a_connection_does_what_its_effect_says(field: str) -> None:
    one = between(connection(), connection(changed(BASE, field)))
    (prop,) = one.properties
    (named,) = (each.encode_name for each in msgspec.structs.fields(Configuration) if each.name == field)
    assert prop.name == f"configuration.{named}"
    wanted = Action.RESTART if effects.CONNECTION[prop.name] is Effect.RESTART else Action.CHANGE
    assert one.action is wanted
    assert one.why == (f"{prop.name.partition('.')[2]} changed" if wanted is Action.RESTART else "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"host_name": "h"}, {"host_name": "h:443"}),
        ({"client_id": None}, {"client_id": "mqttbridge-acme"}),
        ({"client_id": Secret("mqttbridge-acme")}, {"client_id": None}),
        ({"protocol": "TCP", "web_socket_path": "/a"}, {"protocol": "TCP", "web_socket_path": "/b"}),
        ({"protocol": "TCP", "alpn": ("a",)}, {"protocol": "TCP", "alpn": ("b",)}),
        ({"downlink_topic_pattern": None}, {"downlink_topic_pattern": None, "downlink_enabled": False}),
        ({"downlink_enabled": False}, {"downlink_enabled": False, "downlink_topic_pattern": "b/{DevEUI}"}),
    ],
)
def test_what_the_broker_does_not_see_restarts_nothing(old: dict[str, Any], new: dict[str, Any]) -> None:
    one = between(*(connection(msgspec.structs.replace(BASE, **each)) for each in (old, new)))
    assert (one.action, one.why, len(one.properties)) == (Action.CHANGE, "", 1)


def test_what_the_broker_sees_by_another_property_restarts_the_link() -> None:
    off = msgspec.structs.replace(BASE, downlink_enabled=False)
    one = between(connection(off), connection(msgspec.structs.replace(BASE, host_name="h:1")))
    assert (one.action, one.why) == (Action.RESTART, "hostName and downlinkEnabled changed")


def test_many_causes_are_counted() -> None:
    new = msgspec.structs.replace(BASE, host_name="i", username="u", qos=0, retain=True, password=None)
    assert between(connection(), connection(new)).why == "hostName, username and 3 more changed"
    three = msgspec.structs.replace(BASE, host_name="i", username="u", qos=0)
    assert between(connection(), connection(three)).why == "hostName, username and qos changed"


def test_a_secret_stays_one() -> None:
    one = between(
        connection(), connection(msgspec.structs.replace(BASE, password=Secret("new"), client_id=Secret("id")))
    )
    assert one.properties == (
        Property("configuration.password", "*****", "*****"),
        Property("configuration.clientId", "none", "*****"),
    )
    assert not {"old", "new", "id"} & set(str(one).replace("'", " ").split())


def test_coming_going_and_being_active() -> None:
    active, inactive = connection(), connection(active=False)
    assert between(None, active) == PartChange("connection", "acme", Action.START, "new")
    assert between(None, inactive) == PartChange("connection", "acme", Action.CHANGE, "new, not active")
    assert between(active, None) == PartChange("connection", "acme", Action.STOP, "removed")
    assert between(inactive, None) == PartChange("connection", "acme", Action.STOP, "removed")
    assert between(active, inactive) == PartChange(
        "connection", "acme", Action.STOP, "active is now false", (Property("active", "true", "false"),)
    )
    one = between(inactive, connection(changed(BASE, "host_name")))
    assert (one.action, one.why) == (Action.START, "active is now true")
    assert {each.name for each in one.properties} == {"active", "configuration.hostName"}


def test_an_inactive_connection_has_nothing_to_restart() -> None:
    one = between(connection(active=False), connection(changed(BASE, "host_name"), active=False))
    assert (one.action, one.why) == (Action.CHANGE, "not active")


def test_another_id_is_another_connection() -> None:
    found = diff(Settings(connections={"b": connection()}), Settings(connections={"a": connection()}))
    assert [(one.id, one.action) for one in found.connections] == [("a", Action.START), ("b", Action.STOP)]


# -- sources, flows, the daemon


@pytest.mark.parametrize("field", [field.name for field in msgspec.structs.fields(MqttSource)])
def test_each_property_of_an_mqtt_source_does_what_its_effect_says(field: str) -> None:
    one = between_sources(MQTT, changed(MQTT, field))
    (prop,) = one.properties
    wanted = Action.RESTART if effects.MQTT_SOURCE[prop.name] is Effect.RESTART else Action.CHANGE
    assert (one.action, one.part) == (wanted, "source")


@pytest.mark.parametrize("field", [field.name for field in msgspec.structs.fields(HttpSource)])
def test_an_http_source_changes_in_place(field: str) -> None:
    assert between_sources(HttpSource(), changed(HttpSource(), field)).action is Action.CHANGE


def test_a_source_whose_default_client_id_is_written_out_goes_on() -> None:
    named = msgspec.structs.replace(MQTT, client_id="mqttbridge-source-lrc")
    assert between_sources(MQTT, named).action is Action.CHANGE


def test_another_transport_is_a_restart() -> None:
    one = between_sources(HttpSource(as_key=Secret("k")), MQTT)
    assert (one.action, one.why) == (Action.RESTART, "transport changed")
    assert Property("transport", "http", "mqtt") in one.properties
    assert Property("asKey", "*****", "none") in one.properties
    assert Property("topics", "none", "[a]") in one.properties


def test_sources_and_flows_come_and_go() -> None:
    full = Settings(sources={"lrc": HttpSource()}, flows={"f": Flow(connections=("a",))})
    came, went = diff(Settings(), full), diff(full, Settings())
    assert came.sources == (PartChange("source", "lrc", Action.START, "new"),)
    assert came.flows == (PartChange("flow", "f", Action.START, "new"),)
    assert went.sources == (PartChange("source", "lrc", Action.STOP, "removed"),)
    assert went.flows == (PartChange("flow", "f", Action.STOP, "removed"),)


def test_a_flow_changes_in_place() -> None:
    flow = Flow(connections=("a",))
    new = Flow(connections=("a", "b"), matchers=(KeyMatcher(key="lora:0018B20000000B20"),))
    (one,) = diff(Settings(flows={"f": flow}), Settings(flows={"f": new})).flows
    assert (one.action, [each.name for each in one.properties]) == (Action.CHANGE, ["matchers", "connections"])


def test_the_daemon_changes_in_place_or_needs_a_restart() -> None:
    new = Settings(
        watch=True,
        state_directory="/s",
        http=Http(listen="[::]:1"),
        journal=Journal(max_size=1024**2, when_full="drop-oldest", retention=0),
    )
    found = diff(Settings(), new)
    assert found.daemon == (
        Property("watch", "false", "true"),
        Property("journal.maxSize", "1GiB", "1MiB"),
        Property("journal.whenFull", "block", "drop-oldest"),
        Property("journal.retention", "1d", "0"),
    )
    assert [one.name for one in found.needs_restart] == ["stateDirectory", "http.listen"]
    assert not found.empty
    assert diff(in_force(Settings(), new), new).needs_restart == found.needs_restart
    assert diff(in_force(Settings(), new), new).daemon == ()


# -- as a whole

CONFIGURATIONS = st.builds(
    Configuration,
    host_name=st.sampled_from(["h", "h:1883", "i"]),
    protocol=st.sampled_from(["SSL", "TCP"]),
    password=st.sampled_from([None, Secret("p"), Secret("q")]),
    uplink_topic_pattern=st.sampled_from(["a", "b"]),
    max_inflight=st.sampled_from([1, 2]),
)
SETTINGS = st.builds(
    Settings,
    watch=st.booleans(),
    connections=st.dictionaries(
        st.sampled_from("abc"), st.builds(Connection, active=st.booleans(), configuration=CONFIGURATIONS)
    ),
    sources=st.dictionaries(
        st.sampled_from("ab"), st.sampled_from([HttpSource(), HttpSource(pass_through=True), MQTT])
    ),
    flows=st.dictionaries(st.sampled_from("ab"), st.sampled_from([Flow(connections=("a",)), Flow(connections=("b",))])),
)


@given(SETTINGS, SETTINGS)
def test_every_part_that_differs_is_named_once_and_no_other(old: Settings, new: Settings) -> None:
    found = diff(old, new)
    for section in ("connections", "sources", "flows"):
        before, after = getattr(old, section), getattr(new, section)
        named = [one.id for one in getattr(found, section)]
        assert named == sorted(id_ for id_ in before.keys() | after.keys() if before.get(id_) != after.get(id_))
    assert found.empty is (old == new)
    assert diff(new, new) == Diff()


@given(SETTINGS, SETTINGS)
def test_exactly_the_sessions_that_end_and_begin_are_told(old: Settings, new: Settings) -> None:
    running = {id_ for id_, one in old.connections.items() if one.active}
    found = {one.id: one.action for one in diff(old, new).connections}
    began = {id_ for id_, action in found.items() if action in {Action.START, Action.RESTART}}
    ended = {id_ for id_, action in found.items() if action in {Action.STOP, Action.RESTART}}
    assert (running - ended) | began == {id_ for id_, one in new.connections.items() if one.active}
    assert not {id_ for id_, action in found.items() if action is Action.START} & running


# -- renewed certificates


def secured(mark: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 (any property)
    return {
        "certificate": f"certificate {mark}",
        "private_key": Secret(f"key {mark}"),
        "trusted_ca_certificate": f"authority {mark}",
        **more,
    }


def test_renewed_takes_certificates_and_keys_and_nothing_else() -> None:
    old = Settings(
        connections={"a": connection(Configuration(host_name="h", **secured("1"))), "gone": connection()},
        sources={
            "m": MqttSource(host_name="h", topics=("t",), **secured("1")),
            "h": HttpSource(api_ca_certificate="authority 1", api_url="https://a"),
        },
    )
    edited = Configuration(host_name="other", qos=0, **secured("2"))
    new = Settings(
        watch=True,
        connections={"a": connection(edited, active=False), "new": connection()},
        sources={
            "m": MqttSource(host_name="other", topics=("u",), **secured("2")),
            "h": HttpSource(api_ca_certificate="authority 2", api_url="https://b"),
        },
    )
    assert renewed(old, new) == Settings(
        connections={"a": connection(Configuration(host_name="h", **secured("2"))), "gone": connection()},
        sources={
            "m": MqttSource(host_name="h", topics=("t",), **secured("2")),
            "h": HttpSource(api_ca_certificate="authority 2", api_url="https://a"),
        },
    )


def test_a_certificate_that_appeared_or_is_gone_is_an_edit() -> None:
    with_pair = Settings(connections={"a": connection(Configuration(host_name="h", **secured("1")))})
    without = Settings(connections={"a": connection(Configuration(host_name="h"))})
    assert renewed(without, with_pair) == without
    assert renewed(with_pair, without) == with_pair
    half = Settings(connections={"a": connection(Configuration(host_name="h", **secured("2", private_key=None)))})
    taken = renewed(with_pair, half).connections["a"].configuration
    assert (taken.certificate, taken.trusted_ca_certificate) == ("certificate 1", "authority 2")


def test_another_transport_leaves_all_but_what_both_have() -> None:
    mqtt = Settings(sources={"s": MqttSource(host_name="h", topics=("t",), **secured("1"))})
    assert renewed(mqtt, Settings(sources={"s": HttpSource()})) == mqtt
