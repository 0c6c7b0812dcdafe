"""Who may use the API over the network: bearer tokens (RFC 6750), in front of the application, which sees the role.

Invariants:

1. Nothing but what `public` names is answered without a token that stands in the configuration at that moment.
2. A token is compared in constant time, with every token that there is, and never shown, logged or kept.
3. A read-only token reads: `GET` and `HEAD`, nothing else.
4. Who guesses is slowed down (`slowing`), and nobody else by that. Every buffer and every wait is bounded.

The Unix socket needs none of this: there the application is called as it is, with the role of an admin.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from typing import TYPE_CHECKING, Literal

import anyio

from mqttbridge.api.origin import SAFE, foreign
from mqttbridge.api.slowing import Slowing, client_of
from mqttbridge.control.local import ROLE
from mqttbridge.observe.log import get_logger
from mqttbridge.settings.secret import plain
from mqttbridge.sources.asgi import problem_unread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mqttbridge.clock import Clock
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.settings.schema import Api
    from mqttbridge.sources.asgi import Receive, Scope, Send

    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["Guarded", "Role", "edited", "public", "role_of"]

log = get_logger()

Role = Literal["admin", "read-only", ""]
"""The empty one: nobody, who gets what is public."""
MAX_UNDER_WAY = 64
"""Requests with a token; as many without one."""
CHALLENGE = (b"www-authenticate", b'Bearer realm="mqttbridge"')
WANTED = "this takes a token: send the header Authorization: Bearer <token>"


def public(path: str) -> bool:
    """Tell whether a path is one of the page's own files, which hold nothing that is worth a token."""
    plainly = "//" not in path and "/." not in path and "\\" not in path
    return plainly and (path in ("/", "/favicon.ico") or path.startswith("/page/"))


def role_of(scope: Scope) -> Role:
    """Give the role of whoever sent a request."""
    role: Role = scope.get(ROLE, "")
    return role


def edited(scope: Scope, what: str, kind: Literal["connection", "flow"], id_: str) -> None:
    """Log an edit that was made through the API. `what`: created, replaced, deleted, started, stopped and the like."""
    client = scope.get("client")
    log.info("api.edited", what=what, role=role_of(scope), client=client[0] if client else "local", **{kind: id_})


class Guarded:
    """The ASGI application in front of the API, for everybody who comes over the network."""

    def __init__(
        self,
        app: Application,
        tokens: Callable[[], Api],
        clock: Clock,
        throttle: Throttle,
        *,
        public: Callable[[str], bool] = public,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        """Guard `app`. `tokens` gives the settings in force; `public`: which paths anybody may GET."""
        self._app = app
        self._tokens = tokens
        self._clock = clock
        self._throttle = throttle
        self._public = public
        self._sleep = sleep
        self._slowing = Slowing()
        self._under_way = {True: 0, False: 0}
        # So that what is compared tells nothing of the token, however long the comparison takes.
        self._pepper = secrets.token_bytes(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on with its role."""
        method, headers = scope["method"], scope["headers"]
        if why := foreign(method, scope["scheme"], headers):
            await problem_unread(scope, receive, send, 403, why)
            return
        # Whatever the client says: the role is ours to give.
        scope[ROLE] = ""
        if method in SAFE and self._public(scope["path"]) and b"%" not in scope.get("raw_path", b""):
            await self._hand_on(scope, receive, send)
            return
        role = await self._identify(scope, receive, send)
        if not role:
            return
        if role == "read-only" and method not in SAFE:
            await problem_unread(scope, receive, send, 403, "this token may read, and change nothing")
            return
        scope[ROLE] = role
        await self._hand_on(scope, receive, send)

    async def _identify(self, scope: Scope, receive: Receive, send: Send) -> Role:
        """Find who it is. Nobody: it has been answered."""
        client = client_of(scope["client"][0] if scope.get("client") else "")
        if closed := self._slowing.closed_for(client, self._clock.monotonic()):
            await self._too_many(scope, receive, send, closed)
            return ""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        role = self._role(given[0]) if len(given) == 1 else ""
        if role:
            return role
        if given:
            # A request without any token is no guess.
            await self._wrong(client)
        await problem_unread(scope, receive, send, 401, WANTED, headers=(CHALLENGE,))
        return ""

    def _role(self, authorization: bytes) -> Role:
        """Compare with every token, so that the time tells nothing."""
        scheme, _, token = authorization.partition(b" ")
        mine = self._digest(token.strip())
        settings = self._tokens()
        found: Role = ""
        kinds: tuple[tuple[Role, tuple[str, ...]], ...] = (
            ("read-only", settings.read_only_tokens),
            ("admin", settings.admin_tokens),
        )
        for role, tokens in kinds:
            for one in tokens:
                if hmac.compare_digest(self._digest(plain(one).encode()), mine):
                    found = role
        return found if scheme.lower() == b"bearer" else ""

    def _digest(self, token: bytes) -> bytes:
        return hmac.digest(self._pepper, token, hashlib.sha256)

    async def _wrong(self, client: str) -> None:
        """Tell of a wrong token, and let its sender wait. The wait goes on if he hangs up: it is what bounds him."""
        reason = "a wrong token"
        self._throttle.tell("warning", "api.unauthorised", "", client=client, reason=reason)
        delay = self._slowing.failed(client, self._clock.monotonic())
        if delay is None:
            return
        try:
            await self._sleep(delay)
        finally:
            self._slowing.waited(client)

    @staticmethod
    async def _too_many(scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
        after = (b"retry-after", str(math.ceil(seconds)).encode())
        detail = "too many wrong tokens came from this address: wait, as Retry-After says"
        await problem_unread(scope, receive, send, 429, detail, headers=(after,))

    async def _hand_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = bool(scope[ROLE])
        if self._under_way[known] >= MAX_UNDER_WAY:
            detail = f"{MAX_UNDER_WAY} requests are under way, the most that are taken at once; send it again later"
            await problem_unread(scope, receive, send, 503, detail, headers=((b"retry-after", b"1"),))
            return
        self._under_way[known] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[known] -= 1
