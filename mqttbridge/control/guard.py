"""What stands around every HTTP application of ours: a bug in one request is told, and ends nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.observe.log import get_logger
from mqttbridge.sources.asgi import problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mqttbridge.sources.asgi import Message, Receive, Scope, Send

__all__ = ["guarded"]

log = get_logger()


async def guarded(
    route: Callable[[Scope, Receive, Send], Awaitable[None]], scope: Scope, receive: Receive, send: Send
) -> None:
    """Have a request answered. A bug is answered with 500, if nothing was answered yet, and logged."""
    started = False

    async def sending(message: Message) -> None:
        nonlocal started
        started = True
        await send(message)

    try:
        await route(scope, receive, sending)
    except Exception:
        log.exception("http.crashed", path=scope["path"])
        if not started:
            await problem(send, 500, "internal error: the log of mqttbridge has the cause; please report it")
