"""What `control/` may see of the running parts: one narrow, read-only protocol. The daemon implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.control.status import Status

__all__ = ["Health", "NotOpen", "View"]


class NotOpen(msgspec.Struct, frozen=True):
    """A connection that is not OPENED. `reason` is a sentence, empty if there is none."""

    connection: str
    state: str
    reason: str


class Health(msgspec.Struct, frozen=True):
    """How the daemon is. `reasons` (sentences) make it fail; `connections` counts them by state.

    `not_open` names the connections that are not OPENED, which does not make it fail: the first 100, inactive ones
    last. `downlinks` (sentences) says what holds up downlinks, which does not make it fail either, and neither does
    `config`: why the file as it stands is not in force (a sentence).
    """

    reasons: tuple[str, ...]
    connections: Mapping[str, int]
    not_open: tuple[NotOpen, ...] = ()
    downlinks: tuple[str, ...] = ()
    config: str = ""


class View(Protocol):
    """The running daemon, from outside."""

    def health(self) -> Health:
        """Tell how it is, now. Cheap."""
        ...

    def metrics(self) -> tuple[bytes, str]:
        """Give the Prometheus text and its content type."""
        ...

    def status(self) -> Status:
        """Show every part of it, now. Cheap: some milliseconds for 500 connections."""
        ...
