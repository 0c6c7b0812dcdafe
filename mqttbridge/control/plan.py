"""GET /plan and POST /reload: what a reload does, or did, with the file as it stands; the answer and what builds it.

The composition root does what is asked (`Reloading`); here it is put into words that people and programs read, with
topics of real uplinks and the devices that go elsewhere. Nothing here changes anything, and none of it holds the loop
for long: thousands of devices are compared a few at a time.
"""

from __future__ import annotations

import asyncio
from datetime import datetime  # noqa: TC003 (msgspec reads the annotations at run time)
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from mqttbridge.errors import ConfigError, DocumentError, TopicError
from mqttbridge.formats.times import moment
from mqttbridge.model import Connections, DocumentKind, Uplink
from mqttbridge.routing import Router
from mqttbridge.settings.diff import Action, PartChange, Property
from mqttbridge.settings.secret import plain
from mqttbridge.sources.asgi import answer, problem_unread
from mqttbridge.topics import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from mqttbridge.control.local import Routes
    from mqttbridge.history.records import Passed
    from mqttbridge.model import Device
    from mqttbridge.settings.diff import Diff
    from mqttbridge.settings.schema import Settings
    from mqttbridge.sources.asgi import Receive, Scope, Send
    from mqttbridge.topics import Pattern

__all__ = [
    "Example",
    "PlanDesk",
    "PlanReport",
    "Reloading",
    "Rerouted",
    "Topic",
    "compare",
    "examples",
    "new_topics",
    "rerouted",
]

MAX_EXAMPLES = 3
"""Uplinks shown of each connection."""
MAX_DEVICES = 100
"""Devices named; all are counted."""
AT_ONCE = 10
"""Devices compared before others get their turn: with 500 connections some 40 us each, mostly far less."""


class Topic(msgspec.Struct, frozen=True):
    """What an uplink is published on; or `parked`, why it is not: then there is no topic."""

    topic: str = ""
    parked: str = ""


class Example(msgspec.Struct, frozen=True):
    """A real uplink of a connection whose topics change."""

    connection: str
    dev_eui: str
    received: datetime
    before: Topic
    after: Topic


class Rerouted(msgspec.Struct, frozen=True):
    """A device whose uplinks go to other connections."""

    dev_eui: str
    before: Connections
    after: Connections


class PlanReport(msgspec.Struct, frozen=True, kw_only=True):
    """What GET /plan and POST /reload answer. `empty`: nothing differs. `applied`: it was done, not only planned.

    `devices`: the first 100 of `devices_rerouted`; `devices_known`: how many were compared. `waiting`: uplinks that are
    queued already, by connections that start. With `problems` (lines as `check` shows them) the file is wrong, nothing
    was done, and there is nothing else.
    """

    empty: bool = False
    applied: bool = False
    connections: tuple[PartChange, ...] = ()
    sources: tuple[PartChange, ...] = ()
    flows: tuple[PartChange, ...] = ()
    daemon: tuple[Property, ...] = ()
    needs_restart: tuple[Property, ...] = ()
    examples: tuple[Example, ...] = ()
    devices: tuple[Rerouted, ...] = ()
    devices_rerouted: int = 0
    devices_known: int = 0
    waiting: dict[str, int] = {}
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Reloading(Protocol):
    """What the composition root does.

    A file that is wrong changes nothing, and gives a report of `problems`, or `ConfigError`.
    """

    async def plan(self) -> PlanReport:
        """Compare the file as it stands with what runs."""
        ...

    async def reload(self) -> PlanReport:
        """Take it up."""
        ...


# -- building it


async def compare(
    difference: Diff,
    old: Settings,
    new: Settings,
    *,
    uplinks: Mapping[str, Sequence[Passed]],
    devices: Sequence[Device],
    queued: Mapping[str, int] = MappingProxyType({}),
    warnings: Iterable[str] = (),
    applied: bool = False,
) -> PlanReport:
    """Put a difference into a report.

    `uplinks`: for each connection of `new_topics` its last ones, newest first. `devices`: what was learnt. `queued`:
    uplinks in the journal, by connection.
    """
    shown: list[Example] = []
    for id_ in new_topics(difference, old, new):
        shown += examples(id_, _pattern(old, id_), _pattern(new, id_), uplinks.get(id_, ()))
        await asyncio.sleep(0)
    count, moved = await _all_rerouted(devices, old, new) if _may_reroute(difference) else (0, [])
    return PlanReport(
        empty=difference.empty,
        applied=applied,
        connections=difference.connections,
        sources=difference.sources,
        flows=difference.flows,
        daemon=difference.daemon,
        needs_restart=difference.needs_restart,
        examples=tuple(shown),
        devices=tuple(moved),
        devices_rerouted=count,
        devices_known=len(devices),
        waiting={
            one.id: queued[one.id]
            for one in difference.connections
            if one.action is Action.START and queued.get(one.id)
        },
        warnings=tuple(warnings),
    )


def new_topics(difference: Diff, old: Settings, new: Settings) -> tuple[str, ...]:
    """Give the connections, active before and after, whose uplinks go to other topics: those to have examples of."""
    return tuple(
        one.id
        for one in difference.connections
        if one.action in {Action.CHANGE, Action.RESTART}
        and one.id in old.connections
        and new.connections[one.id].active
        and any(each.name == "configuration.uplinkTopicPattern" for each in one.properties)
    )


def examples(connection: str, before: Pattern, after: Pattern, uplinks: Iterable[Passed]) -> list[Example]:
    """Show some real uplinks with both topics, each of another device if there are so many."""
    given = list(uplinks)
    newest = {one.dev_eui: one for one in reversed(given)}
    again = [one for one in given if newest[one.dev_eui] is not one]
    first = sorted(newest.values(), key=lambda one: -one.id)
    return [
        Example(
            connection,
            one.dev_eui,
            moment(one.received),
            _topic(before, one),
            _topic(after, one),
        )
        for one in [*first, *again][:MAX_EXAMPLES]
    ]


def rerouted(devices: Iterable[Device], before: Router, after: Router) -> list[Rerouted]:
    """Give those devices whose uplinks go to other connections."""
    found = []
    for device in devices:
        uplink = Uplink(device.source, DocumentKind.UPLINK, device.dev_eui, 0, 0, None, b"", device.tags)
        old, new = before.route(uplink), after.route(uplink)
        if old != new:
            found.append(Rerouted(device.dev_eui, old, new))
    return found


async def _all_rerouted(devices: Sequence[Device], old: Settings, new: Settings) -> tuple[int, list[Rerouted]]:
    """Compare them all, a few at a time; count them, and give the first."""
    before = Router(old.flows, old.connections)
    await asyncio.sleep(0)
    after = Router(new.flows, new.connections)
    count = 0
    first: list[Rerouted] = []
    for start in range(0, len(devices), AT_ONCE):
        await asyncio.sleep(0)
        found = rerouted(devices[start : start + AT_ONCE], before, after)
        count += len(found)
        first += found[: MAX_DEVICES - len(first)]
    return count, first


def _may_reroute(difference: Diff) -> bool:
    """Whether anything that decides on the way of an uplink differs: flows, and which connections are active."""
    return bool(difference.flows) or any(one.action in {Action.START, Action.STOP} for one in difference.connections)


def _pattern(settings: Settings, id_: str) -> Pattern:
    return compile_pattern(plain(settings.connections[id_].configuration.uplink_topic_pattern))


def _topic(pattern: Pattern, uplink: Passed) -> Topic:
    """Render as the session of the connection does."""

    def document() -> dict[str, Any]:
        return msgspec.json.decode(uplink.body, type=dict[str, Any])

    try:
        return Topic(pattern.render(uplink.dev_eui, document))
    except (TopicError, DocumentError) as error:
        return Topic(parked=str(error))


# -- answering it


class PlanDesk:
    """Answers the two requests. A file that is wrong is 422, with every line in `problems`."""

    def __init__(self, reloading: Reloading) -> None:
        """Take who does it."""
        self._reloading = reloading

    def routes(self) -> Routes:
        """Give what is answered here."""
        return {"/plan": ("GET", self._plan), "/reload": ("POST", self._reload)}

    async def _plan(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _answer(scope, receive, send, self._reloading.plan)

    async def _reload(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _answer(scope, receive, send, self._reloading.reload)


async def _answer(scope: Scope, receive: Receive, send: Send, ask: Callable[[], Awaitable[PlanReport]]) -> None:
    try:
        given = await ask()
    except ConfigError as error:
        given = PlanReport(problems=error.problems)
    if given.problems:
        many = f"{len(given.problems)} problem{'' if len(given.problems) == 1 else 's'}"
        detail = f"the configuration is wrong ({many}); nothing was changed"
        await problem_unread(scope, receive, send, 422, detail, problems=given.problems)
    else:
        await answer(send, 200, msgspec.json.encode(given))
