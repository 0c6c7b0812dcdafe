"""Collects what is wrong with a configuration: every problem, with its place, in the order of the files.

For this room's own use. It must never be handed the value of a secret: whoever words a problem leaves it out.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["KeyPath", "Mark", "Problem", "Problems", "dotted", "one_line", "shown"]

MAX_SHOWN = 60
MAX_TEXT = 800
MAX_ERRORS = 10_000
"""Nobody reads more; a hostile file could hold more."""
MAX_SUGGESTIONS = 200
"""Looking for near misses is slow; beyond this many, an error has to do without."""

UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa1-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029\ufeff]")

KeyPath = tuple[str, ...]
"""The way to a property: names from the root; places in a list stand as `[0]`."""


class Mark(msgspec.Struct, frozen=True, gc=False, order=True):
    """A place in a file. Lines and columns count from 1; line 0 is the file itself, which could not be read."""

    file: str
    line: int
    column: int

    @property
    def text(self) -> str:
        """Give `FILE:LINE:COLUMN`, or `FILE` where there is no such place."""
        name = one_line(self.file)
        return f"{name}:{self.line}:{self.column}" if self.line else name


class Problem(msgspec.Struct, frozen=True, gc=False):
    """One thing that is wrong. `text` says what, and what would be right."""

    mark: Mark
    path: KeyPath
    text: str

    @property
    def line(self) -> str:
        """Give `FILE:LINE:COLUMN: path.to.key: what is wrong`."""
        where = dotted(self.path)
        text = one_line(self.text if len(self.text) <= MAX_TEXT else self.text[:MAX_TEXT] + "…")
        return f"{self.mark.text}: {where}: {text}" if where else f"{self.mark.text}: {text}"


class Problems:
    """What was found so far. Files count in the order in which they were announced."""

    def __init__(self) -> None:
        """Start with a clean sheet."""
        self._errors: list[Problem] = []
        self._warnings: list[Problem] = []
        self._files: dict[str, int] = {}
        self._suggestions = 0

    def file(self, name: str) -> None:
        """Announce a file: its problems come after those of files announced before."""
        self._files.setdefault(name, len(self._files))

    def add(self, mark: Mark, path: KeyPath, text: str) -> None:
        """Record what makes the configuration unusable."""
        if len(self._errors) < MAX_ERRORS:
            self._errors.append(Problem(mark, path, text))
        elif len(self._errors) == MAX_ERRORS:
            self._errors.append(Problem(mark, (), "and many more problems, from here on"))

    def warn(self, mark: Mark, path: KeyPath, text: str) -> None:
        """Record what is wrong but must not keep the daemon from starting."""
        self._warnings.append(Problem(mark, path, text))

    def suggest(self, name: str, known: Iterable[str]) -> str | None:
        """Find the known name that `name` was probably meant to be."""
        if len(name) > MAX_SHOWN or self._suggestions >= MAX_SUGGESTIONS:
            return None
        self._suggestions += 1
        by_case = {candidate.casefold(): candidate for candidate in known}
        if name.casefold() in by_case:
            return by_case[name.casefold()]
        close = difflib.get_close_matches(name.casefold(), by_case, n=1)
        return by_case[close[0]] if close else None

    @property
    def errors(self) -> list[Problem]:
        """Every error, in the order of the files."""
        return self._sorted(self._errors)

    @property
    def cautions(self) -> list[Problem]:
        """Every warning, in the order of the files."""
        return self._sorted(self._warnings)

    def raise_if_any(self, files: Iterable[Path] = ()) -> None:
        """Raise `ConfigError` with every error, if there is one, and with the files that were looked at."""
        if self._errors:
            raise ConfigError(self._lines(self._errors), files)

    def warnings(self) -> tuple[str, ...]:
        """Give the warnings as lines."""
        return tuple(self._lines(self._warnings))

    def _lines(self, problems: list[Problem]) -> list[str]:
        # The same problem twice tells nothing new.
        return list(dict.fromkeys(problem.line for problem in self._sorted(problems)))

    def _sorted(self, problems: list[Problem]) -> list[Problem]:
        last = len(self._files)
        return sorted(problems, key=lambda p: (self._files.get(p.mark.file, last), p.mark.line, p.mark.column))


def dotted(path: KeyPath) -> str:
    """Write a path as people read it: `flows.a.connections[0]`."""
    text = ""
    for step in path:
        if step.startswith("["):
            text += step
        else:
            text += ("." if text else "") + _name(step)
    return text


def shown(text: str) -> str:
    """Quote what stands in the file, on one line and cut to a readable length."""
    return f"“{_name(text)}”"


def _name(text: str) -> str:
    cut = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
    return one_line(cut)


def one_line(text: str) -> str:
    """Escape what would leave the line, or steer a terminal."""
    return UNPRINTABLE.sub(lambda match: ascii(match.group())[1:-1], text)
