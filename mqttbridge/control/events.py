"""GET /events on the Unix socket: the events that the history keeps, as a JSON array, or as lines that go on.

The members of an event are `id`, `at` (ISO 8601, UTC), `level`, `event`, and its fields as in docs/events.md. With
`follow=1` the newest come first and then what follows, a line each: the history is asked again and again whether there
is anything new, which costs the loop nothing worth counting.
"""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.lowlevel
import msgspec

from mqttbridge.control.request import BadRequest, query_of, whole_number
from mqttbridge.control.stream import HEARTBEAT, QUIET, Streams
from mqttbridge.control.tap import device_of
from mqttbridge.errors import HistoryFailed
from mqttbridge.formats.times import moment
from mqttbridge.observe.events import EVENTS
from mqttbridge.sources.asgi import answer, problem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from mqttbridge.control.local import Routes
    from mqttbridge.history.records import KeptEvent
    from mqttbridge.sources.asgi import Receive, Scope, Send

    class Events(Protocol):
        """What is asked of the history."""

        async def events(
            self,
            *,
            limit: int,
            after: int = 0,
            since: int = 0,
            level: str = "info",
            name: str = "",
            connection: str = "",
            source: str = "",
            device: str = "",
        ) -> list[KeptEvent]:
            """Give the newest, or with `after` the next after that id; oldest first."""
            ...


__all__ = ["LEVELS", "EventsDesk", "members", "not_a_name"]

MOST = 10_000
"""Events in one answer."""
USUAL = 50
LEVELS = ("info", "warning", "error")
QUERY = ("limit", "level", "since", "name", "connection", "source", "device", "after", "follow")
MAX_FOLLOWERS = 16
LOOK_EVERY = 0.5
"""Seconds."""
NEXT = AT_ONCE = 200
"""Events that are asked for, and written, at once for who follows."""
NAME = re.compile(r"[a-z_]+(\.[a-z_]+)*(\.\*)?").fullmatch
NUMBER = re.compile(r"[0-9]{1,18}").fullmatch

RETRY = ((b"retry-after", b"5"),)

_encode = msgspec.json.Encoder().encode


class EventsDesk:
    """Answers who asks what happened."""

    def __init__(self, history: Events) -> None:
        """Ask this history."""
        self._history = history
        self._streams = Streams()

    def routes(self) -> Routes:
        """Give what it answers."""
        return {"/events": ("GET", self._events)}

    def stop(self) -> None:
        """End all answers that go on: the daemon ends."""
        self._streams.stop()

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            query = query_of(scope, QUERY)
            filters = _filters(query)
            limit = whole_number(query, "limit", USUAL, most=MOST)
            since, after = _number(query, "since"), _number(query, "after")
        except BadRequest as error:
            await problem(send, 400, str(error))
            return
        if query.get("follow", "0") != "0" and self._streams.under_way >= MAX_FOLLOWERS:
            detail = f"{MAX_FOLLOWERS} readers follow the events, the most that there may be; end one, and ask again"
            await problem(send, 503, detail, headers=RETRY)
            return
        try:
            # In this order: what comes between the two questions is among what was found.
            newest = await self._newest()
            found = await self._history.events(limit=limit, since=since, after=after, **filters)
        except HistoryFailed as error:
            await problem(send, 503, str(error), headers=RETRY)
            return
        if query.get("follow", "0") == "0":
            # Thousands of events are no work for the loop.
            await answer(send, 200, await anyio.to_thread.run_sync(_array, found))
            return
        last = after or max([newest, *(event.id for event in found)])
        await self._streams.answer(receive, send, self._chunks([] if after else found, last, since, filters))

    async def _chunks(
        self, found: list[KeptEvent], last: int, since: int, filters: dict[str, Any]
    ) -> AsyncGenerator[bytes, None]:
        """Give these, then what comes after an id, then empty lines as long as nothing does."""
        for start in range(0, len(found), AT_ONCE):
            yield _lines(found[start : start + AT_ONCE])
            await anyio.lowlevel.checkpoint()
        quiet = 0.0 if found else HEARTBEAT
        while True:
            with suppress(HistoryFailed):
                # It says so itself, in the log, and is asked again until it can answer. Asked first and without
                # filters, so that what does not pass them is not looked at again and again.
                newest = await self._newest()
                while last < newest:
                    found = await self._history.events(limit=NEXT, since=since, after=last, **filters)
                    last = _reached(found, newest)
                    if found:
                        quiet = 0.0
                        yield _lines(found)
            if quiet >= HEARTBEAT:
                quiet = 0.0
                yield QUIET
            await anyio.sleep(LOOK_EVERY)
            quiet += LOOK_EVERY

    async def _newest(self) -> int:
        """Give the id of the newest event of all."""
        found = await self._history.events(limit=1)
        return found[-1].id if found else 0


def _reached(found: list[KeptEvent], newest: int) -> int:
    """Give the id up to which everything is given, after a portion of at most `NEXT`."""
    last = found[-1].id if found else 0
    return last if len(found) >= NEXT else max(last, newest)


def _filters(query: dict[str, str]) -> dict[str, Any]:
    """Read what restricts the events. Raises `BadRequest`."""
    level, name = query.get("level", "info"), query.get("name", "")
    if level not in LEVELS:
        raise BadRequest(f"level is one of {', '.join(LEVELS)}")
    if query.get("follow", "0") not in {"0", "1"}:
        raise BadRequest("follow is 0 or 1")
    if name and (reason := not_a_name(name)):
        raise BadRequest(reason)
    return {
        "level": level,
        "name": name,
        "connection": query.get("connection", ""),
        "source": query.get("source", ""),
        "device": device_of(query),
    }


def not_a_name(name: str) -> str:
    """Say why there can be no such event; nothing if there can."""
    if NAME(name) and (name in EVENTS or (name.endswith(".*") and any(one.startswith(name[:-1]) for one in EVENTS))):
        return ""
    near = difflib.get_close_matches(name, [*EVENTS, *{f"{one.partition('.')[0]}.*" for one in EVENTS}], n=1)
    hint = f"did you mean {near[0]}?" if near else "docs/events.md has the table; uplink.* stands for all of a kind"
    return f"there is no event {name[:50]!r}: {hint}"


def _number(query: dict[str, str], name: str) -> int:
    """Give a time (ms since 1970) or an id of the query, or 0. Raises `BadRequest`."""
    text = query.get(name, "0")
    if not NUMBER(text):
        raise BadRequest(f"{name} is a whole number" + (", in ms since 1970" if name == "since" else ""))
    return int(text)


def members(event: KeptEvent) -> dict[str, Any]:
    """Give an event as JSON has it."""
    at = moment(event.at)
    return {"id": event.id, "at": at, "level": event.level, "event": event.name} | {
        name: value for name, value in event.fields.items() if name not in {"id", "at", "level", "event"}
    }


def _array(events: list[KeptEvent]) -> bytes:
    return _encode([members(event) for event in events])


def _lines(events: Iterable[KeptEvent]) -> bytes:
    return b"".join(_encode(members(event)) + b"\n" for event in events)
