"""Keeps Python's search for cyclic garbage from holding up the loop. For the process that is a daemon, and nobody else.

A full search looks at every object that there is: with 500 connections some 180,000, which takes 70 to 90 ms, and
under load one begins every second or so. What has been there for a while is therefore set aside, and each search looks
at the rest alone. Once an hour all are searched, so that whatever was set aside and has become garbage since is freed.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["spare"]

SETTLED = 60.0
"""Seconds after which most connections are open, and what belongs to them is there."""
EVERY = 3600.0
"""Seconds between two searches of everything."""


async def spare(sleep: Callable[[float], Awaitable[None]] = anyio.sleep) -> None:
    """Set aside what there is at the start, when it has settled, and then once an hour; until cancelled."""
    set_aside()
    await sleep(SETTLED)
    while True:
        set_aside()
        await sleep(EVERY)


def set_aside() -> None:
    """Free all garbage, and set aside what is left."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
