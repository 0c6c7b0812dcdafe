"""`mqttbridge events`: shows what happened, as the running daemon has kept it, and goes on with what comes."""

from __future__ import annotations

import sys
import urllib.parse
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.ask.events_wording import lines_of
from mqttbridge.ask.printing import NobodyReads, Printer, ended
from mqttbridge.errors import AskError

if TYPE_CHECKING:
    from mqttbridge.ask.client import Daemon

__all__ = ["Wish", "show"]

Event = dict[str, Any]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be shown; None: whatever it is. `since` in ms, `limit`: the newest so many."""

    connection: str | None = None
    source: str | None = None
    device: str | None = None
    name: str | None = None
    level: str = "info"
    since: int | None = None
    limit: int = 50

    def path(self, *, follow: bool = False) -> str:
        """Give what is asked for."""
        query = {name: value for name, value in msgspec.structs.asdict(self).items() if value}
        return f"/events?{urllib.parse.urlencode(query | ({'follow': 1} if follow else {}))}"


def show(daemon: Daemon, wish: Wish, *, follow: bool, as_json: bool) -> int:
    """Print what happened, the newest last; give the exit code. Raises `AskError`."""
    printer = Printer()
    try:
        if follow:
            return _follow(daemon, wish, printer, as_json=as_json)
        events: list[Event] = _decoded(daemon.get(wish.path()), list[Event])
        if as_json:
            printer.text(msgspec.json.format(msgspec.json.encode(events), indent=2).decode())
            return 0
        if not events:
            print(_nothing(wish), file=sys.stderr)  # noqa: T201 (a command speaks)
        for event in events:
            _print(printer, event)
    except NobodyReads:
        pass
    return 0


def _follow(daemon: Daemon, wish: Wish, printer: Printer, *, as_json: bool) -> int:
    for text in daemon.lines(wish.path(follow=True)):
        if not text.strip():
            continue
        event: Event = _decoded(text, Event)
        if as_json:
            printer.text(text.decode("utf-8", "replace").strip())
        else:
            _print(printer, event)
    return ended()


def _print(printer: Printer, event: Event) -> None:
    try:
        lines = list(lines_of(event, wrapped=printer.terminal))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_understood(error) from error
    for line in lines:
        printer.line(line)


def _nothing(wish: Wish) -> str:
    """Say that there is nothing to show."""
    if wish == Wish(limit=wish.limit):
        return "no event is kept yet"
    return "no event that is kept is of this kind; try without an option, or a longer time (--since)"


def _decoded(text: bytes, wanted: Any) -> Any:  # noqa: ANN401 (any type of msgspec's)
    """Read an answer. Raises `AskError`."""
    try:
        return msgspec.json.decode(text, type=wanted)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_understood(error) from error


def _not_understood(error: Exception) -> AskError:
    return AskError(f"the daemon's answer is not understood ({error}); are it and this command of one version?")
