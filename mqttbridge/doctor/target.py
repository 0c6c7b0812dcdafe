"""Finds out what is to be examined, and under which client id. Pure."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.errors import MqttBridgeError, TopicError
from mqttbridge.formats import sample
from mqttbridge.settings.schema import Configuration, MqttSource
from mqttbridge.settings.secret import plain
from mqttbridge.topics import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.settings.schema import Settings

__all__ = ["DoctorError", "Target", "Wish", "body", "find"]

MADE_UP = "0000000000000000"
"""The DevEUI of the test uplink, unless another is given."""
DEV_EUI = re.compile(r"[0-9A-Fa-f]{16}").fullmatch


class DoctorError(MqttBridgeError):
    """What was asked for cannot be examined."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for: a connection or a source, by id."""

    connection: str | None = None
    source: str | None = None
    client_id: str | None = None
    publish: bool = False
    dev_eui: str = MADE_UP


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be examined."""

    subject: str
    """`connection acme`."""
    settings: Configuration | MqttSource
    own_id: str
    """The client id of the daemon's session."""
    client_id: str
    """The client id to log in with."""
    filters: tuple[str, ...]
    """What the daemon subscribes to."""
    topic: str
    """Where a test uplink goes; empty: nothing is published there."""
    no_topic: str
    """Why there is no such topic, where uplinks are published."""
    publish: bool
    dev_eui: str
    active: bool


def find(settings: Settings, wish: Wish) -> Target:
    """Give what is meant. Raises `DoctorError` with a sentence."""
    dev_eui = wish.dev_eui.replace("-", "").replace(":", "").upper()
    if not DEV_EUI(dev_eui):
        raise DoctorError(f"--dev-eui {wish.dev_eui!r} is not a DevEUI; give 16 hex digits")
    link: Configuration | MqttSource
    filters: tuple[str, ...] = ()
    topic = no_topic = ""
    if wish.connection is not None:
        kind, identity = "connection", wish.connection
        link = configuration = _connection(settings, identity)
        if configuration.takes_downlinks:
            filters = (compile_pattern(plain(configuration.downlink_topic_pattern or "")).subscription,)
        try:
            topic = _topic(configuration, dev_eui)
        except TopicError as error:
            # Real uplinks may have what the made-up one has not.
            no_topic = f"no topic for a made-up uplink of {dev_eui}: {error}"
    else:
        kind, identity = "source", wish.source or ""
        link = source = _source(settings, identity, publish=wish.publish)
        filters = tuple(map(plain, source.topics))
    own_id = link.client_id_for(identity)
    client_id = wish.client_id or f"{own_id}-doctor"
    _spare_sessions(settings, client_id)
    return Target(
        subject=f"{kind} {identity}",
        settings=link,
        own_id=own_id,
        client_id=client_id,
        filters=filters,
        topic=topic,
        no_topic=no_topic,
        publish=wish.publish,
        dev_eui=dev_eui,
        active=wish.connection is None or settings.connections[wish.connection].active,
    )


def _connection(settings: Settings, name: str) -> Configuration:
    if name not in settings.connections:
        raise _unknown("connection", name, list(settings.connections))
    return settings.connections[name].configuration


def _source(settings: Settings, name: str, *, publish: bool) -> MqttSource:
    source = settings.sources.get(name)
    if source is None:
        raise _unknown("source", name, list(settings.sources))
    try_it = f"mqttbridge send --source {name}"
    if not isinstance(source, MqttSource):
        raise DoctorError(f"source {name} listens by HTTP and has no broker to examine; try it with: {try_it}")
    if publish:
        raise DoctorError(f"--publish is for connections; to publish as the network server does: {try_it}")
    return source


def _unknown(what: str, name: str, known: Sequence[str]) -> DoctorError:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
    return DoctorError(f"there is no {what} {name!r} in the configuration; {hint}")


def _spare_sessions(settings: Settings, client_id: str) -> None:
    """Refuse a client id with which the daemon logs in: its broker may be this one, and would end that session."""
    links: dict[str, tuple[str, Configuration | MqttSource]] = {
        f"connection {name}": (name, each.configuration) for name, each in settings.connections.items()
    }
    links |= {f"source {name}": (name, each) for name, each in settings.sources.items() if isinstance(each, MqttSource)}
    for subject, (name, other) in links.items():
        if other.client_id_for(name) == client_id:
            raise DoctorError(
                f"the client id {client_id} is that of {subject}: to log in with it would end the daemon's session; "
                "give another --client-id"
            )


def _topic(configuration: Configuration, dev_eui: str) -> str:
    def document() -> dict[str, Any]:
        decoded: dict[str, Any] = msgspec.json.decode(body(dev_eui, 0))
        return decoded

    return compile_pattern(plain(configuration.uplink_topic_pattern)).render(dev_eui, document)


def body(dev_eui: str, time_ms: int) -> bytes:
    """Give the test uplink, which says what it is."""
    return sample.uplink(dev_eui, fcnt=0, time_ms=time_ms, tags=("mqttbridge-doctor",), name="mqttbridge doctor test")
