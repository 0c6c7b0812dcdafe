"""`mqttbridge status`: asks the running daemon, prints what it says, and tells by the exit code whether all is well."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from mqttbridge.ask.wording import Line, report
from mqttbridge.control.status import Status
from mqttbridge.errors import AskError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mqttbridge.ask.client import Daemon

__all__ = ["NOT_WELL", "fetch", "show", "show_json", "watch", "watch_json"]

NOT_WELL = 2
"""The exit code when the daemon runs, and something needs attention."""
EVERY = 2.0
"""Seconds between two looks."""
STYLES = {"bad": "bold red", "head": "bold", "plain": ""}


def fetch(daemon: Daemon) -> Status:
    """Ask for the status. Raises `AskError`."""
    body = daemon.get("/status")
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.DecodeError as error:
        reason = f"the daemon's answer is not understood ({error}); are it and this command of one version?"
        raise AskError(reason) from error


def show(daemon: Daemon) -> int:
    """Print the page once; give the exit code."""
    status = fetch(daemon)
    console = Console(highlight=False, soft_wrap=True)
    lines = report(status)
    if console.is_terminal:
        console.print(Text("\n").join(_styled(line) for line in lines))
    else:
        print("\n".join(line.text for line in lines))  # noqa: T201 (a command speaks)
    return _code(status)


def show_json(daemon: Daemon) -> int:
    """Print what the daemon answers, indented; give the exit code."""
    status = fetch(daemon)
    print(msgspec.json.format(msgspec.json.encode(status), indent=2).decode())  # noqa: T201 (a command speaks)
    return _code(status)


def watch_json(daemon: Daemon, *, pause: Callable[[float], None] = time.sleep) -> None:
    """Print a line of JSON now and then, until interrupted. Raises `AskError` when the daemon is gone."""
    while True:
        print(msgspec.json.encode(fetch(daemon)).decode(), flush=True)  # noqa: T201 (a command speaks)
        pause(EVERY)


def watch(daemon: Daemon, *, console: Console | None = None, pause: Callable[[float], None] = time.sleep) -> None:
    """Show the page, ever anew, until interrupted. A daemon that is gone is waited for."""
    screen = console or Console(highlight=False)
    with Live(console=screen, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_fitted(_page(daemon), screen.height), refresh=True)
            pause(EVERY)


def _page(daemon: Daemon) -> Sequence[Line]:
    try:
        return report(fetch(daemon))
    except AskError as error:
        return [Line(str(error), "bad")]


def _fitted(lines: Sequence[Line], height: int) -> Text:
    """Cut a page to the height of the terminal: what needs attention stands on top."""
    room = max(height - 1, 1)
    shown = list(lines) if len(lines) <= room else [*lines[: room - 1], Line(f"and {len(lines) - room + 1} more lines")]
    shown.append(Line("Ctrl-C ends", "plain"))
    return Text("\n").join(_styled(line) for line in shown)


def _styled(line: Line) -> Text:
    return Text(line.text, style=STYLES[line.style], no_wrap=True, overflow="crop")


def _code(status: Status) -> int:
    return 0 if status.ok else NOT_WELL
