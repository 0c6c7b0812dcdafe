"""`mqttbridge tap`: shows what goes through the running daemon right now, until somebody has seen enough."""

from __future__ import annotations

import sys
import urllib.parse
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.ask.printing import NobodyReads, Printer, ended
from mqttbridge.ask.tap_wording import lines_of
from mqttbridge.errors import AskError
from mqttbridge.observe.tap_line import TapLine

if TYPE_CHECKING:
    from mqttbridge.ask.client import Daemon

__all__ = ["Wish", "follow"]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be shown; None: whatever it is."""

    connection: str | None = None
    source: str | None = None
    device: str | None = None
    payload: bool = False

    def path(self) -> str:
        """Give what is asked for."""
        named = {"connection": self.connection, "source": self.source, "device": self.device}
        query = {name: value for name, value in named.items() if value} | ({"payload": "1"} if self.payload else {})
        return f"/tap?{urllib.parse.urlencode(query)}"


def follow(daemon: Daemon, wish: Wish, count: int | None, *, as_json: bool) -> int:
    """Print what goes through, `count` lines or without end; give the exit code. Raises `AskError`."""
    printer = Printer()
    if printer.terminal:
        print("Ctrl-C ends", file=sys.stderr)  # noqa: T201 (a command speaks)
    shown = 0
    try:
        for text in daemon.lines(wish.path()):
            if not text.strip():
                continue
            line = _line(text)
            if as_json:
                printer.text(text.decode("utf-8", "replace").strip())
            else:
                for part in lines_of(line, wrapped=printer.terminal):
                    printer.line(part)
            shown += line.what != "left_out"
            if shown == count:
                return 0
    except NobodyReads:
        return 0
    return ended()


def _line(text: bytes) -> TapLine:
    """Read one line. Raises `AskError`."""
    try:
        return msgspec.json.decode(text, type=TapLine)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = f"the daemon's answer is not understood ({error}); are it and this command of one version?"
        raise AskError(reason) from error
