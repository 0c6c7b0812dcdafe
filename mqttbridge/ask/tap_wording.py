"""What `mqttbridge tap` prints, line by line. Pure.

A line has 80 columns at most; only a topic or a document may be longer. For what is no terminal (`| grep`) each is one
line, however long. What is foreign in it cannot steer a terminal.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from mqttbridge.ask.wording import Line, size
from mqttbridge.ask.words import clean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from mqttbridge.observe.tap_line import TapLine

__all__ = ["clean", "lines_of"]

WIDTH = 80
INDENT = " " * 13
"""As wide as the time."""
MINUTE = 60_000
NAMED = 5
"""Connections of an uplink that are named."""
ROOT = "DevEUI_"
USUAL = "DevEUI_uplink"


def lines_of(line: TapLine, zone: tzinfo | None = None, *, wrapped: bool = True) -> Iterator[Line]:
    """Give the lines, or one if it is not to be wrapped; times are local, or of this zone."""
    at = line.at.astimezone(zone)
    stamp = f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"
    if line.what == "left_out":
        text = f"{stamp} … {line.count:,} left out: more came than is shown, or read in time"
        yield Line(text, "head")
        return
    words = _end(line) if line.what in {"delivered", "expired", "parked", "dropped"} else _arrival(line)
    if line.what == "downlink":
        words = _downlink(line)
    reason = f": {line.reason}" if line.reason else ""
    text = clean(f"{stamp} {line.what:<9} {' '.join(word for word in words if word)}{reason}")
    bad = line.what in {"expired", "parked", "dropped", "unrouted"} or line.outcome not in {"", "queued"}
    document = clean(bytes(line.document).decode("utf-8", "replace")) if line.document else ""
    if not wrapped:
        yield Line(f"{text} {document}".rstrip(), "bad" if bad else "plain")
        return
    for part in textwrap.wrap(text, WIDTH, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False):
        yield Line(part, "bad" if bad else "plain")
    if document:
        yield Line(f"  {document}")


def _device(line: TapLine) -> Iterator[str]:
    yield line.dev_eui
    yield "" if line.fcnt is None else f"#{line.fcnt}"


def _arrival(line: TapLine) -> Iterator[str]:
    """Tell of an uplink that came: from where, of what device, to where."""
    yield line.source
    yield from _device(line)
    yield "" if line.kind == USUAL else line.kind.removeprefix(ROOT)
    yield size(line.size)
    more = len(line.connections) - NAMED
    yield f"> {', '.join(line.connections[:NAMED])}" if line.connections else ""
    yield f"and {more:,} more" if more > 0 else ""
    yield f"({line.origin})" if line.origin.startswith("replay") else ""


def _end(line: TapLine) -> Iterator[str]:
    """Tell how an uplink ended; a DevEUI that stands in its topic is not told twice."""
    yield line.connection
    if line.dev_eui.lower() not in line.topic.lower():
        yield line.dev_eui
    yield "" if line.fcnt is None else f"#{line.fcnt}"
    yield f"{line.count:,} uplinks" if line.count > 1 else ""
    yield f"{line.took_ms}ms" if line.took_ms is not None else ""
    yield f"age {line.age_ms // MINUTE}min" if line.age_ms is not None and line.age_ms >= MINUTE else ""
    yield line.topic or ("" if line.dev_eui or not line.seq else f"uplink {line.seq} of the journal")


def _downlink(line: TapLine) -> Iterator[str]:
    """Tell how a downlink ended."""
    yield f"{line.connection or '?'} > {line.source or '?'}"
    yield from _device(line)
    yield line.outcome + ("" if line.count == 1 else f" ({line.count:,} of them)")
