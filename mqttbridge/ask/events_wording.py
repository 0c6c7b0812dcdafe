"""What `mqttbridge events` prints, line by line. Pure.

No line is longer than 80 columns, unless a word is. For what is no terminal (`| grep`) an event is one line.
"""

from __future__ import annotations

import textwrap
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from mqttbridge.ask.wording import Line
from mqttbridge.ask.words import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import tzinfo

__all__ = ["lines_of"]

WIDTH = 80
INDENT = "    "
SUBJECTS = ("flow", "connection", "source", "dev_eui")
"""Fields that say to what it happened."""
DOES = " "
"""What no field is named."""
HEAD = frozenset({"id", "at", "level", "event", "reason", DOES, *SUBJECTS})
STYLES: Mapping[str, Literal["bad", "head", "plain"]] = {"error": "bad", "warning": "head"}


def lines_of(event: Mapping[str, Any], zone: tzinfo | None = None, *, wrapped: bool = True) -> Iterator[Line]:
    """Give the lines of one event, or one if it is not to be wrapped; its time is local, or of this zone."""
    at = datetime.fromisoformat(event["at"]).astimezone(zone)
    level = event["level"]
    event = _in_words(event)
    words = [f"{at:%Y-%m-%d %H:%M:%S}", level.upper() if level in STYLES else "", event["event"]]
    words += [_subject(event["event"], name, event[name]) for name in SUBJECTS if name in event]
    words.append(event.get(DOES, ""))
    reason, *more = str(event.get("reason", "")).strip().split("\n")
    others = [f"{name}={_value(value)}" for name, value in event.items() if name not in HEAD]
    head = " ".join(word for word in words if word)
    texts = [head + (f": {reason}" if reason else ""), *more]
    if others:
        texts[-1] += ("; " if reason else " ") + " ".join(others)
    style = STYLES.get(level, "plain")
    if not wrapped:
        yield Line("; ".join(clean(text.strip()) for text in texts if text.strip()), style)
        return
    for number, text in enumerate(texts):
        for line in textwrap.wrap(
            clean(text.strip()),
            WIDTH,
            initial_indent=INDENT if number else "",
            subsequent_indent=INDENT,
            break_on_hyphens=False,
            break_long_words=False,
        ):
            yield Line(line, style)


def _subject(event: str, kind: str, value: object) -> str:
    """Name to what it happened, and what that is where the event does not say so."""
    return _value(value) if kind == "dev_eui" or event.startswith(f"{kind}.") else f"{kind} {_value(value)}"


def _in_words(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put what a reload did to a part into words, as the plan of it has them: `flow roof changes: matchers`."""
    if event["event"] != "config.applied":
        return event
    rest = {name: value for name, value in event.items() if name not in {"change", "properties"}}
    verb, _, why = str(event.get("change") or "change").partition(": ")
    properties = _value(event.get("properties", ""))
    reason = f"{why} ({properties})" if why and properties else why or properties
    subject = "" if any(name in event for name in SUBJECTS) else "the daemon "
    return rest | {DOES: f"{subject}{verb}s", "reason": reason}


def _value(value: object) -> str:
    """Write a value of JSON."""
    if isinstance(value, list):
        return ", ".join(_value(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else "-" if value is None else str(value)
