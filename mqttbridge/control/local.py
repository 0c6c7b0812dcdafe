"""The HTTP application on the Unix socket: what the commands ask a running daemon. JSON; errors are problem details.

It speaks as the listener for everybody does, and shares its machinery; here alone is what only the operator may ask.
A request may name in `Mqttbridge-Config` the file (percent-encoded, by one name or several) of the daemon that it is
meant for: another one answers 421 and does nothing.
"""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.control.guard import guarded
from mqttbridge.control.pieces import in_pieces
from mqttbridge.sources.asgi import answer, problem_unread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mqttbridge.control.view import View
    from mqttbridge.sources.asgi import Receive, Scope, Send

    Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
    Routes = Mapping[str, tuple[str, Handler]]
    """By path: the method, and what answers."""

__all__ = ["HEADER", "ROLE", "LocalApp", "quoted"]

MAX_UNDER_WAY = 64
"""Requests."""
HEADER = b"mqttbridge-config"
ROLE = "mqttbridge.role"
"""Where the scope of a request has the role of whoever sent it."""


def quoted(config: Path) -> bytes:
    """Write a path as the header holds it: as it is named, and as it is without links. Looks at the disk."""
    names = (Path(os.path.abspath(config)), config.resolve())  # noqa: PTH100 (links must stay)
    return b" ".join(urllib.parse.quote_from_bytes(bytes(name)).encode() for name in names)


class LocalApp:
    """The ASGI application under the Unix socket."""

    def __init__(self, view: View, config: Path, routes: Routes | None = None, *, api: Handler | None = None) -> None:
        """Show the view, and answer on further routes; whatever is none of these is for the API.

        `config`: the file that this daemon runs with; its links are looked at here.
        """
        self._api = None if api is None else _cut(api)
        self._view = view
        self._config = config.absolute()
        self._names = frozenset(quoted(config).split())
        self._under_way = 0
        self._routes: Routes = {"/status": ("GET", self._status), **(routes or {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. A bug is answered with 500, told in the log, and ends nothing else."""
        if scope["type"] != "http":
            return
        self._under_way += 1
        try:
            await guarded(self._route, scope, receive, send)
        finally:
            self._under_way -= 1

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        meant = dict(scope["headers"]).get(HEADER)
        method, handler = self._routes.get(path, ("", self._api))
        if handler is None:
            known = ", ".join(f"{method} {path}" for path, (method, _) in self._routes.items())
            await problem_unread(scope, receive, send, 404, f"there is nothing here; there is {known}")
        elif meant is not None and self._names.isdisjoint(meant.split()):
            detail = f"it runs with {self._config}: name that file with --config"
            await problem_unread(scope, receive, send, 421, detail)
        elif method and scope["method"] != method:
            allow = ((b"allow", method.encode()),)
            await problem_unread(scope, receive, send, 405, f"{path} is for {method}", headers=allow)
        elif self._under_way > MAX_UNDER_WAY:
            detail = f"{MAX_UNDER_WAY} requests are under way, the most that are taken at once; ask again later"
            await problem_unread(scope, receive, send, 503, detail, headers=((b"retry-after", b"1"),))
        else:
            # Who may open the socket may do everything.
            scope[ROLE] = "admin"
            await handler(scope, receive, send)

    async def _status(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, 200, msgspec.json.encode(self._view.status()))


def _cut(api: Handler) -> Handler:
    """Send large answers piece by piece."""

    async def cutting(scope: Scope, receive: Receive, send: Send) -> None:
        await api(scope, receive, in_pieces(send))

    return cutting
