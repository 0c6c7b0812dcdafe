"""Doing something unless a stop request comes first. For whoever lives on links: sessions and sources."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["unless"]

T = TypeVar("T")


async def unless(stop: asyncio.Event, doing: Coroutine[Any, Any, T]) -> T | None:
    """Do it, and give what came of it; None if `stop` was set first: then it has been cancelled, and has ended.

    Raises what it raised, unless it was stopped. Whoever is cancelled in here leaves nothing behind.
    """
    task = asyncio.ensure_future(doing)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        return None if stop.is_set() else task.result()
    finally:
        for pending in (task, stopped):
            pending.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)
