"""The REST API as an ASGI application: Litestar behind a small door that bounds what comes in.

The composition root mounts it, behind `auth`, on the HTTP listener and on the Unix socket. It needs no lifespan, and
logs nothing itself but a bug (`http.crashed`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from litestar import Litestar

import mqttbridge
from mqttbridge.api.answers import HANDLERS
from mqttbridge.api.connections import ConnectionRoutes
from mqttbridge.api.flows import FlowRoutes
from mqttbridge.api.others import OtherRoutes
from mqttbridge.control.guard import guarded
from mqttbridge.sources.asgi import problem_unread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from litestar.handlers import HTTPRouteHandler

    from mqttbridge.api.seam import Editor, Views
    from mqttbridge.sources.asgi import Message, Receive, Scope, Send

    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["MAX_BODY", "make_api", "routes_of"]

MAX_BODY = 1024 * 1024
"""Bytes."""
MAX_UNDER_WAY = 200
"""Requests: an edit waits for the disk and the reload, and each may hold a body. Who mounts it has bounds too."""
BODY_WITHIN = 30.0
"""Seconds that a body may take to arrive."""
RETRY = ((b"retry-after", b"1"),)
ALWAYS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


def make_api(editor: Editor, views: Views, *, more: Sequence[HTTPRouteHandler] = ()) -> Application:
    """Make the application; `more`: further routes to serve."""
    return _Door(_litestar(editor, views, more))


def routes_of(editor: Editor, views: Views) -> list[HTTPRouteHandler]:
    """Give every route of the API: the one list of them."""
    version = mqttbridge.__version__
    return [
        *ConnectionRoutes(editor, views).routes(),
        *FlowRoutes(editor, views).routes(),
        *OtherRoutes(views, version).routes(),
    ]


def _litestar(editor: Editor, views: Views, more: Sequence[HTTPRouteHandler]) -> Litestar:
    return Litestar(
        route_handlers=[*routes_of(editor, views), *more],
        exception_handlers=HANDLERS,
        logging_config=None,
        openapi_config=None,
        request_max_body_size=MAX_BODY,
        debug=False,
    )


class _Gone(Exception):
    """The client went away before it had said what it wants."""


class _Door:
    """What every request passes: it is bounded, HEAD is answered as GET without the body, and a bug is told."""

    def __init__(self, inner: Litestar) -> None:
        self._inner = inner
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        self._under_way += 1
        try:
            await guarded(self._answer, scope, receive, _marked(send))
        finally:
            self._under_way -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._under_way > MAX_UNDER_WAY:
            detail = f"{MAX_UNDER_WAY} requests are under way, the most that are taken at once; send it again later"
            await problem_unread(scope, receive, send, 503, detail, headers=RETRY)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            body = await _body(receive) if int(length) <= MAX_BODY else None
        except _Gone:
            return
        if body is None:
            detail = f"the body is larger than {MAX_BODY} bytes, or took longer than {BODY_WITHIN:.0f} s to come"
            await problem_unread(scope, receive, send, 413, detail)
            return
        # Litestar writes into the scope, and what stands around us reads it.
        inner = {**scope, "state": dict(scope.get("state") or {})}
        if scope["method"] == "HEAD":
            inner["method"] = "GET"
            send = _without_body(send)
        elif scope["method"] == "OPTIONS":
            # No other site may ask (no CORS). Litestar would answer, and forget methods: it knows no such one as this.
            inner["method"] = "TRACE"
        await self._inner(inner, _replay(body, receive), send)  # type: ignore[arg-type]


async def _body(receive: Receive) -> bytes | None:
    """Read the whole body; nothing if it is too large, or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Gone
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    return None
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        return None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body again, once; then what really comes."""
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


def _marked(send: Send) -> Send:
    """Have nothing of this kept anywhere, or taken for anything but what it is."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *ALWAYS]}
        await send(message)

    return marked


def _without_body(send: Send) -> Send:
    async def bare(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return bare
