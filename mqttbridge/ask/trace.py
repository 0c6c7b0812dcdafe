"""`mqttbridge trace`: asks the running daemon where the uplinks and downlinks of a device went, and prints it."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.text import Text

from mqttbridge.ask.status import STYLES
from mqttbridge.ask.trace_wording import report
from mqttbridge.control.passport import Passport
from mqttbridge.errors import AskError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.ask.client import Daemon
    from mqttbridge.ask.wording import Line

__all__ = ["NOTHING_KNOWN", "print_page", "show"]

NOTHING_KNOWN = 2
"""The exit code when neither an uplink nor a downlink of the device is known."""


def show(daemon: Daemon, dev_eui: str, limit: int, *, as_json: bool) -> int:
    """Print the page, or JSON; give the exit code. Raises `AskError`."""
    passport = _fetch(daemon, dev_eui, limit)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(passport), indent=2).decode())  # noqa: T201 (a command speaks)
    else:
        print_page(report(passport), Console(highlight=False, soft_wrap=True))
    return 0 if passport.uplinks or passport.downlinks else NOTHING_KNOWN


def _fetch(daemon: Daemon, dev_eui: str, limit: int) -> Passport:
    query = urllib.parse.urlencode({"device": dev_eui, "limit": limit})
    body = daemon.get(f"/trace?{query}")
    try:
        return msgspec.json.decode(body, type=Passport)
    except msgspec.DecodeError as error:
        reason = f"the daemon's answer is not understood ({error}); are it and this command of one version?"
        raise AskError(reason) from error


def print_page(lines: Sequence[Line], console: Console) -> None:
    """Print lines, with colour where there is a terminal. What is too long it wraps by itself: nothing is cut."""
    if console.is_terminal:
        console.print(Text("\n").join(Text(line.text, style=STYLES[line.style]) for line in lines), soft_wrap=True)
    else:
        print("\n".join(line.text for line in lines))  # noqa: T201 (a command speaks)
