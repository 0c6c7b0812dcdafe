"""What the demo shows: a live table on a terminal, otherwise one line an uplink. For `demo` alone.

What it shows is foreign, since whoever watches the demo's broker may publish there too. stdout is for uplinks alone.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any, Protocol

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ["LinesView", "TableView", "View"]

ROWS = 15


class View(Protocol):
    """Something that shows uplinks as they go by."""

    def begin(self, url: str, port: int) -> None:
        """Say where uplinks go in, and on which port the broker is."""
        ...

    def accepted(self, well: bool) -> None:
        """Count an uplink that was handed to the daemon."""
        ...

    def published(self, topic: str, uplink: dict[str, Any]) -> None:
        """Show an uplink that arrived at the broker."""
        ...

    def end(self) -> None:
        """Take leave."""
        ...


def _decoded(uplink: dict[str, Any]) -> dict[str, Any]:
    """Give the decoded payload, if a driver made one."""
    payload = uplink.get("payload")
    return payload if isinstance(payload, dict) else {}


class LinesView:
    """For pipes and files: the topic first, then the gist of the uplink."""

    def begin(self, url: str, port: int) -> None:
        """Say where things are, on stderr: stdout is for uplinks."""
        print(f"uplinks go in at {url}; the broker listens on 127.0.0.1:{port}", file=sys.stderr)  # noqa: T201

    def accepted(self, well: bool) -> None:
        """Count nothing."""

    def published(self, topic: str, uplink: dict[str, Any]) -> None:
        """Print a line."""
        shown = {name: uplink[name] for name in ("FCntUp", "FPort", "payload_hex") if name in uplink}
        print(topic, *(f"{name}={value}" for name, value in (shown | _decoded(uplink)).items()), flush=True)  # noqa: T201

    def end(self) -> None:
        """Say nothing."""


class TableView:
    """For a terminal: the last uplinks, and the counts."""

    def __init__(self) -> None:
        """Prepare; the table appears with `begin`."""
        self._rows: deque[tuple[str, str, str, str]] = deque(maxlen=ROWS)
        self._accepted = 0
        self._published = 0
        self._where = ("", 0)
        self._live = Live(get_renderable=self._render, refresh_per_second=8, transient=False)

    def begin(self, url: str, port: int) -> None:
        """Show the empty table."""
        self._where = (url, port)
        self._live.start()

    def accepted(self, well: bool) -> None:
        """Count."""
        self._accepted += well

    def published(self, topic: str, uplink: dict[str, Any]) -> None:
        """Add a row."""
        self._published += 1
        time, fcnt, payload = (str(uplink.get(name, "")) for name in ("Time", "FCntUp", "payload_hex"))
        decoded = ", ".join(f"{name} {value}" for name, value in _decoded(uplink).items())
        self._rows.append((time[11:19], topic, fcnt, decoded or payload))

    def end(self) -> None:
        """Leave the last picture, and say that nothing else is left."""
        self._live.stop()
        print("The demo has ended; it left nothing behind.")  # noqa: T201

    def _render(self) -> Group:
        url, port = self._where
        head = Text.assemble(
            ("mqttbridge demo", "bold"),
            f"  accepted {self._accepted}, published {self._published}\n",
            (f"uplinks go in at {url}\n", "dim"),
            (f"watch the broker: mosquitto_sub -h 127.0.0.1 -p {port} -v -t 'mqtt/#'\n", "dim"),
        )
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("time", "topic", "FCntUp", "decoded"):
            table.add_column(column, no_wrap=True)
        for row in self._rows:
            table.add_row(*map(Text, row))
        return Group(head, table, Text("Ctrl-C ends", style="dim"))
