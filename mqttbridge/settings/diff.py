"""What lies between two configurations: what starts, stops, restarts or changes in place. Pure.

The reload applies a `Diff`, the plan shows it. Nothing of it holds a secret: properties stand as text that anybody may
read (`written`). `effects` says what a change of each property takes.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from mqttbridge.settings import effects
from mqttbridge.settings.effects import Effect
from mqttbridge.settings.listening import exposed
from mqttbridge.settings.schema import Configuration, MqttSource
from mqttbridge.settings.written import Named, flat, written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mqttbridge.settings.schema import Base, Connection, Flow, LinkSettings, Settings, Source

__all__ = ["Action", "Diff", "PartChange", "Property", "diff", "in_force", "renewed"]

MAX_NAMED = 3
"""Properties that a `why` names; the rest is counted."""
RENEWABLE = (("certificate", "private_key"), ("trusted_ca_certificate",), ("api_ca_certificate",))
ABSENT = Named("", None)
Part = TypeVar("Part")
PartName = Literal["connection", "source", "flow"]


class Action(enum.StrEnum):
    """What a reload does to a part."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    CHANGE = "change"


class Property(msgspec.Struct, frozen=True):
    """A property that differs: its name (dotted camelCase, from the part down), and both values as text."""

    name: str
    old: str
    new: str


class PartChange(msgspec.Struct, frozen=True):
    """A connection, source or flow that differs. `why` is a phrase behind `restarts:` and the like, or empty."""

    part: PartName
    id: str
    action: Action
    why: str = ""
    properties: tuple[Property, ...] = ()


class Diff(msgspec.Struct, frozen=True):
    """All that differs, in the order of ids. `daemon` changes in place, `needs_restart` only by a restart."""

    connections: tuple[PartChange, ...] = ()
    sources: tuple[PartChange, ...] = ()
    flows: tuple[PartChange, ...] = ()
    daemon: tuple[Property, ...] = ()
    needs_restart: tuple[Property, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing differs at all."""
        return not (self.connections or self.sources or self.flows or self.daemon or self.needs_restart)


def diff(old: Settings, new: Settings) -> Diff:
    """Compare what runs with what shall run."""
    own = _differences(old, new)
    return Diff(
        connections=_changed(old.connections, new.connections, _connection),
        sources=_changed(old.sources, new.sources, _source),
        flows=_changed(old.flows, new.flows, _flow),
        daemon=tuple(one for one in own if _effect(one.name, old, new) is Effect.IN_PLACE),
        needs_restart=tuple(one for one in own if _effect(one.name, old, new) is Effect.NEEDS_RESTART),
    )


def in_force(old: Settings, new: Settings) -> Settings:
    """Give what is in force after a reload: the new settings, but for what needs a restart."""
    http = msgspec.structs.replace(old.http, insecure=new.http.insecure, **_renewals(old.http, new.http))
    api = new.api
    if exposed(http) and not http.insecure:
        # What is new would be overheard. What is gone is gone.
        taken = [tuple(one for one in few if one in old.api.tokens) for few in (api.admin_tokens, api.read_only_tokens)]
        api = msgspec.structs.replace(api, admin_tokens=taken[0], read_only_tokens=taken[1])
    return msgspec.structs.replace(new, state_directory=old.state_directory, http=http, api=api)


def _effect(name: str, old: Settings, new: Settings) -> Effect:
    """Tell what a property of the daemon takes. Some would be right after a restart alone, with what the file says of
    `http`: TLS begins or ends, or tokens come to a listener without it.
    """  # noqa: D205 (one thought)
    effect = effects.DAEMON[name]
    if name in {"http.certificate", "http.privateKey"} and None in (old.http.certificate, new.http.certificate):
        return Effect.NEEDS_RESTART
    if name in {"api.adminTokens", "api.readOnlyTokens"} and in_force(old, new).api != new.api:
        return Effect.NEEDS_RESTART
    return effect


def renewed(old: Settings, new: Settings) -> Settings:
    """Give the old settings with the certificates and keys of the new ones, for parts that are in both.

    For files that were renewed under a configuration that nobody touched: one that appeared, or is gone, is an edit,
    and waits for a reload. A certificate and its key go together.
    """
    connections = {}
    for id_, one in old.connections.items():
        other = new.connections.get(id_)
        taken = {} if other is None else _renewals(one.configuration, other.configuration)
        configuration = msgspec.structs.replace(one.configuration, **taken)
        connections[id_] = msgspec.structs.replace(one, configuration=configuration)
    sources = {
        id_: msgspec.structs.replace(one, **_renewals(one, new.sources.get(id_))) for id_, one in old.sources.items()
    }
    http = msgspec.structs.replace(old.http, **_renewals(old.http, new.http))
    return msgspec.structs.replace(old, http=http, sources=sources, connections=connections)


def _renewals(old: Base, new: Base | None) -> dict[str, Any]:
    """Give the fields of one part that were renewed."""
    taken: dict[str, Any] = {}
    for group in RENEWABLE:
        both = [getattr(one, name, None) for one in (old, new) for name in group]
        if None not in both:
            taken.update((name, getattr(new, name)) for name in group)
    return taken


# -- the parts


def _changed(
    old: Mapping[str, Part], new: Mapping[str, Part], compare: Callable[[str, Part | None, Part | None], PartChange]
) -> tuple[PartChange, ...]:
    """Give what differs among the parts of a kind."""
    ids = sorted(old.keys() | new.keys())
    return tuple(compare(id_, old.get(id_), new.get(id_)) for id_ in ids if old.get(id_) != new.get(id_))


def _connection(id_: str, old: Connection | None, new: Connection | None) -> PartChange:
    if new is None:
        return PartChange("connection", id_, Action.STOP, "removed")
    if old is None:
        action, why = (Action.START, "new") if new.active else (Action.CHANGE, "new, not active")
        return PartChange("connection", id_, action, why)
    properties = _differences(old, new)
    if old.active != new.active:
        action = Action.START if new.active else Action.STOP
        return PartChange("connection", id_, action, f"active is now {'true' if new.active else 'false'}", properties)
    if not new.active:
        return PartChange("connection", id_, Action.CHANGE, "not active", properties)
    causes = _causes(properties, effects.CONNECTION, _seen(id_, old.configuration), _seen(id_, new.configuration))
    return _restart_or_change("connection", id_, properties, causes)


def _source(id_: str, old: Source | None, new: Source | None) -> PartChange:
    if old is None or new is None:
        return _come_or_gone("source", id_, new)
    properties = _differences(old, new)
    if type(old) is not type(new):
        return PartChange("source", id_, Action.RESTART, "transport changed", properties)
    causes = []
    if isinstance(old, MqttSource) and isinstance(new, MqttSource):
        causes = _causes(properties, effects.MQTT_SOURCE, _seen(id_, old), _seen(id_, new))
    return _restart_or_change("source", id_, properties, causes)


def _flow(id_: str, old: Flow | None, new: Flow | None) -> PartChange:
    if old is None or new is None:
        return _come_or_gone("flow", id_, new)
    return PartChange("flow", id_, Action.CHANGE, "", _differences(old, new))


def _come_or_gone(part: PartName, id_: str, new: Base | None) -> PartChange:
    if new is None:
        return PartChange(part, id_, Action.STOP, "removed")
    return PartChange(part, id_, Action.START, "new")


def _restart_or_change(part: PartName, id_: str, properties: tuple[Property, ...], causes: list[str]) -> PartChange:
    if not causes:
        return PartChange(part, id_, Action.CHANGE, "", properties)
    named = causes if len(causes) <= MAX_NAMED else [*causes[: MAX_NAMED - 1], f"{len(causes) - MAX_NAMED + 1} more"]
    listed = " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
    return PartChange(part, id_, Action.RESTART, f"{listed} changed", properties)


# -- the properties


def _differences(old: Base, new: Base) -> tuple[Property, ...]:
    """Give every property that differs, in the order of the schema."""
    before, after = flat(old), flat(new)
    found = []
    for name in {**before, **after}:
        one, other = before.get(name, ABSENT), after.get(name, ABSENT)
        if one.value != other.value:
            found.append(Property(name, *written(one, other)))
    return tuple(found)


def _causes(
    properties: tuple[Property, ...], table: Mapping[str, Effect], old: Mapping[str, object], new: Mapping[str, object]
) -> list[str]:
    """Name the properties for which a link is made anew: those that its broker sees."""
    names = [(one.name.removeprefix("configuration."), table[one.name]) for one in properties]
    return [name for name, effect in names if effect is Effect.RESTART and (name not in new or old[name] != new[name])]


def _seen(id_: str, link: LinkSettings) -> dict[str, object]:
    """Give what a broker sees of those properties that may be written in more than one way, or not count at all."""
    downlinks = None
    if isinstance(link, Configuration) and link.takes_downlinks:
        downlinks = link.downlink_topic_pattern
    return {
        "hostName": link.address,
        "clientId": link.client_id_for(id_),
        "webSocketPath": link.web_socket_path if link.protocol == "WSS" else None,
        "alpn": link.alpn if link.protocol != "TCP" else None,
        "downlinkTopicPattern": downlinks,
        "downlinkEnabled": downlinks,
    }
