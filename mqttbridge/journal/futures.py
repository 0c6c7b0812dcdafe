"""How what the journal's threads found is given to whoever waits for it in the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["resolve"]


def resolve(future: asyncio.Future[Any], result: object) -> None:
    """Give a result, or raise it if it is an exception; whoever was cancelled meanwhile gets nothing."""
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
