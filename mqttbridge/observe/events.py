"""The one table of events: every name that may stand in a log line, its level, its fields and what it means.

Names are dotted and stable: operators write alerts on them. `docs/events.md` shows the same table; a test holds this
table, that page and every call of a logger in the code together.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EVENTS", "Event", "Level"]

Level = Literal["debug", "info", "warning", "error"]


class Event(msgspec.Struct, frozen=True):
    """One kind of log line. `fields` are those that it may carry; `meaning` and `then` are a sentence each."""

    level: Level
    fields: tuple[str, ...]
    meaning: str
    then: str


EVENTS: Mapping[str, Event] = MappingProxyType({})
