"""What the log says of a reload: a line for each part, what needs a restart, what is new to be warned of, and a sum.

For the reload alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from mqttbridge.crew import SLICE
from mqttbridge.observe.log import get_logger
from mqttbridge.settings.diff import Action

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mqttbridge.model import Counts
    from mqttbridge.settings.diff import Diff, PartChange

__all__ = ["Telling"]

log = get_logger()


class Telling:
    """Tells of one reload after the other, and of no warning again that stands since the last one."""

    def __init__(self, warned: Collection[str]) -> None:
        """Begin with what was told at the start."""
        self._warned = frozenset(warned)

    async def tell(
        self, difference: Diff, *, configured: Collection[str], counts: Mapping[str, Counts], seconds: float
    ) -> None:
        """Tell what was done; `configured`: the connections that there are now. A few lines at a time."""
        changes = (*difference.connections, *difference.sources, *difference.flows)
        for place, one in enumerate(changes, 1):
            _tell_one(one, queued=counts[one.id].queued if one.id in counts else 0, configured=configured)
            if place % SLICE == 0:
                await anyio.lowlevel.checkpoint()
        if difference.daemon:
            log.info("config.applied", change="change", properties=[each.name for each in difference.daemon])
        for each in difference.needs_restart:
            log.warning("config.needs_restart", reason=f"{each.name} is {each.new} only after a restart of the daemon")
        number = {action: sum(one.action is action for one in changes) for action in Action}
        log.info(
            "config.reloaded",
            started=number[Action.START],
            stopped=number[Action.STOP],
            restarted=number[Action.RESTART],
            changed=number[Action.CHANGE] + len(difference.daemon),
            seconds=round(seconds, 3),
        )

    def warn(self, warnings: Collection[str]) -> None:
        """Tell those that did not stand there the last time."""
        for warning in warnings:
            if warning not in self._warned:
                log.warning("config.warning", reason=warning)
        self._warned = frozenset(warnings)


def _tell_one(one: PartChange, *, queued: int, configured: Collection[str]) -> None:
    facts: dict[str, Any] = {one.part: one.id, "change": f"{one.action}: {one.why}" if one.why else str(one.action)}
    if one.properties:
        facts["properties"] = [each.name for each in one.properties]
    if one.part == "connection" and one.action is Action.STOP:
        facts["queued"] = queued
    log.info("config.applied", **facts)
    if one.part == "connection" and one.id not in configured and queued:
        log.warning("connection.orphaned", connection=one.id, queued=queued)
