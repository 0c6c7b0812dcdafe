"""A certificate or key that was renewed on disk and cannot be taken up: told once, and shown until it is right.

A renewal writes two files, one after the other: it is wrong only when they have rested and been wrong for a while. For
the reload alone, which looks at the files; nothing here touches what is in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.observe.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.clock import Clock

__all__ = ["Renewal"]

log = get_logger()

PATIENCE = 60.0
"""Seconds."""


class Renewal:
    """Whether what was renewed last can be used."""

    def __init__(self, clock: Clock) -> None:
        """Begin with all well."""
        self.problem = ""
        """What was told and is wrong still: a sentence."""
        self._clock = clock
        self._found = ""
        self._since = 0.0

    @property
    def wrong(self) -> bool:
        """Whether something is wrong, told or not yet."""
        return bool(self._found)

    def refused(self, problems: Sequence[str]) -> None:
        """Take note that the files, as they changed just now, cannot be taken up."""
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        self._found = (
            f"what was renewed on disk cannot be taken up: {problems[0]}{more}; the certificates and keys in force stay"
        )
        self._since = self._clock.monotonic()

    def right(self) -> None:
        """Take note that it is right, or that somebody else has told what is wrong."""
        self._found = self.problem = ""

    def look(self) -> None:
        """Tell it if it is time to."""
        if self._found not in {"", self.problem} and self._clock.monotonic() >= self._since + PATIENCE:
            self.problem = self._found
            log.warning("certificate.rejected", reason=self.problem)
