"""One row of the table of events."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Event", "Level"]

Level = Literal["debug", "info", "warning", "error"]


class Event(msgspec.Struct, frozen=True):
    """One kind of log line. `fields` are those that it may carry; `meaning` and `then` are a sentence each."""

    level: Level
    fields: tuple[str, ...]
    meaning: str
    then: str
