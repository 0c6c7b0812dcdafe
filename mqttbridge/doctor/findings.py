"""What the doctor has to say, as data. Pure."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

__all__ = ["Diagnosis", "Finding", "State"]


class State(enum.StrEnum):
    """How a step went."""

    OK = "ok"
    WARNING = "warning"
    """It works, and something about it will or may go wrong."""
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One step: what was found in a sentence, the cause if it failed, and what to do."""

    step: str
    state: State
    says: str
    ms: float | None = None
    """How long it took; None where nothing was measured."""
    details: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    facts: dict[str, Any] = {}  # msgspec copies it
    """The same for programs."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """The whole examination of one connection or source."""

    subject: str
    """`connection acme`."""
    address: str
    protocol: str
    mqtt_version: str
    client_id: str
    published: bool
    findings: tuple[Finding, ...]

    @property
    def well(self) -> bool:
        """Whether no step failed."""
        return all(finding.state is not State.FAILED for finding in self.findings)
