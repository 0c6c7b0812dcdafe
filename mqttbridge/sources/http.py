"""`POST /uplink/<source>`: uplinks from network servers that speak HTTP. Raw ASGI, for speed.

The LRC neither queues nor retries: what gets no 2xx is lost. So the answer is quick, and it is 200 only after the
commit. A batch is taken whole or not at all. What is refused is counted and told, also what came to a URL of no source.
"""

from __future__ import annotations

import asyncio
import difflib
import hmac
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mqttbridge.errors import DocumentError, JournalError, JournalFull, JournalTooLarge, TokenError
from mqttbridge.formats import FORMATS
from mqttbridge.formats.batch import split
from mqttbridge.formats.token import require_token, verify
from mqttbridge.settings.schema import HttpSource
from mqttbridge.sources.asgi import answer, problem, problem_unread
from mqttbridge.sources.intake import MAX_BODY, device_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.model import Uplink
    from mqttbridge.settings.schema import Source
    from mqttbridge.sources.asgi import Headers, Receive, Scope, Send
    from mqttbridge.sources.intake import Intake

__all__ = ["PREFIX", "HttpIntake"]

PREFIX = "/uplink/"
MAX_HELD = 128 * 1024 * 1024
"""Bytes of large bodies at a time, over all requests that are being read or wait for their commit. Counted as they
came: while a body is parsed and stored it takes about twice as much again."""
SMALL = 64 * 1024
"""Bytes: a body up to this size is always taken. The number of requests bounds those."""
READ_WITHIN = 20.0
"""Seconds for a whole body."""
PARSE_AT_ONCE = 200
"""Documents; about a millisecond."""
RETRY_AFTER = (b"retry-after", b"5")
MAX_SHOWN = 100
"""Characters of a path."""
VERIFIED = {
    (False, False): "not authenticated",
    (True, False): "Token verified",
    (False, True): "Authorization verified",
    (True, True): "Token and Authorization verified",
}
"""By whether a source asks for a Token and for an Authorization header."""
NDJSON = frozenset({b"application/x-ndjson", b"application/ndjson", b"application/jsonl"})


class _Refused(Exception):
    """The request gets this answer. `unread`: its body was not read to the end. `device` is for the log alone."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        unread: bool = False,
        headers: Headers = (),
        device: str = "",
        **more: object,
    ) -> None:
        super().__init__(detail)
        self.unread = unread
        self.device = device
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers
        self.more = more


class HttpIntake:
    """The ASGI application of everything under /uplink/."""

    def __init__(self, sources: Mapping[str, Source], intake: Intake) -> None:
        """Serve those of the sources that are HTTP sources; looked up at each request."""
        self._sources = sources
        self._intake = intake
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        source = scope["path"].removeprefix(PREFIX)
        settings = self._source(source)
        if settings is None:
            shown = _shown(source)
            detail = f"there is no source {shown} with transport http; name it under `sources` in the configuration"
            await self.not_found(scope, receive, send, detail)
            return
        try:
            accepted = await self._take(source, settings, scope, receive)
        except _Refused as refused:
            client, index = _client(scope), refused.more.get("index")
            self._intake.rejected(
                source, refused.kind, refused.detail, client=client, dev_eui=refused.device, index=index
            )
            if refused.unread:
                await problem_unread(
                    scope, receive, send, refused.status, refused.detail, headers=refused.headers, **refused.more
                )
            elif refused.status:
                await problem(send, refused.status, refused.detail, headers=refused.headers, **refused.more)
        else:
            await answer(send, 200, b'{"accepted": %d}' % accepted)

    async def not_found(self, scope: Scope, receive: Receive, send: Send, detail: str) -> None:
        """Answer 404 for a path where nothing is. A POST there may be an uplink, and lost: it is counted and told."""
        near = self._near(scope["path"])
        if near:
            detail = f"{detail}; did you mean {PREFIX}{near}?"
        if scope["method"] == "POST":
            path, device = _shown(scope["path"]), device_in(scope["query_string"])
            self._intake.rejected(
                "", "unknown_source", detail, near=near, client=_client(scope), path=path, dev_eui=device
            )
        await problem_unread(scope, receive, send, 404, detail)

    async def overloaded(self, scope: Scope, receive: Receive, send: Send, detail: str) -> None:
        """Answer 503 to a request that there is no room for."""
        source = scope["path"].removeprefix(PREFIX)
        if self._source(source) is not None:
            self._intake.rejected(source, "overloaded", detail, client=_client(scope))
        await problem_unread(scope, receive, send, 503, detail, headers=(RETRY_AFTER,))

    def _source(self, name: str) -> HttpSource | None:
        settings = self._sources.get(name)
        return settings if isinstance(settings, HttpSource) else None

    def _near(self, path: str) -> str:
        """Give the source that a path may have meant, or nothing."""
        wanted = path.rstrip("/").rpartition("/")[2].casefold()
        names = {name.casefold(): name for name in self._sources if self._source(name) is not None}
        if wanted in names:
            return names[wanted]
        close = difflib.get_close_matches(wanted, names, 1) if len(wanted) < MAX_SHOWN else []
        return names[close[0]] if close else ""

    async def _take(self, source: str, settings: HttpSource, scope: Scope, receive: Receive) -> int:
        """Read, check, parse and store. Gives how many were accepted, or raises `_Refused`."""
        if scope["method"] != "POST":
            raise _Refused(405, "method", "uplinks come by POST", unread=True, headers=((b"allow", b"POST"),))
        headers = dict(scope["headers"])
        try:
            _authorise(headers, settings)
            ndjson = _media_type(headers)
            if settings.as_key is not None:
                _require_token(scope["query_string"])
        except _Refused as refused:
            await self._find_device(refused, headers, receive)
            raise
        body = bytearray()
        try:
            await self._read(headers, receive, body)
            return await self._store(source, settings, scope, bytes(body), ndjson=ndjson)
        finally:
            self._held -= len(body)

    async def _find_device(self, refused: _Refused, headers: Mapping[bytes, bytes], receive: Receive) -> None:
        """Find whose uplink is refused before it is read, for the log: in a small body, which is read in any case."""
        small = b"transfer-encoding" not in headers and int(headers.get(b"content-length", b"0")) <= SMALL
        if refused.device or not small:
            return
        body = bytearray()
        try:
            await self._read(headers, receive, body)
        finally:
            self._held -= len(body)
        refused.device, refused.unread = device_in(bytes(body)), False

    async def _store(self, source: str, settings: HttpSource, scope: Scope, body: bytes, *, ndjson: bool) -> int:
        """Check, parse and store a body; gives how many documents it had."""
        if not body and b"upgrade" in dict(scope["headers"]):
            # The parser under us ends such a request at its headers (Java's HttpClient asks so for HTTP/2).
            detail = "a request that asks for an upgrade has no body here; have the client speak plain HTTP/1.1"
            raise _Refused(400, "malformed", detail)
        documents: list[bytes] = []
        try:
            documents = split(body, ndjson=ndjson)
            if settings.as_key is not None:
                self._verify(scope["query_string"], documents, settings)
            batch = ndjson or body.lstrip().startswith(b"[")
            uplinks = await self._parse(source, settings, documents, scope, batch=batch)
            await self._intake.accept(source, uplinks, window=settings.duplicate_window)
        except (TokenError, DocumentError, JournalError) as error:
            raise _refusal(error, documents, ndjson=ndjson) from error
        return len(uplinks)

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive, body: bytearray) -> None:
        """Read the whole body into `body`, within the limits of size and time."""
        too_large = f"the body is larger than {MAX_BODY} bytes; send fewer documents at once"
        if int(headers.get(b"content-length", b"0")) > MAX_BODY:
            raise _Refused(413, "too_large", too_large, unread=True)
        try:
            async with asyncio.timeout(READ_WITHIN):
                message = await receive()
                while message["type"] == "http.request":
                    more = bool(message.get("more_body"))
                    self._hold(message["body"], body, more=more)
                    if len(body) > MAX_BODY:
                        raise _Refused(413, "too_large", too_large, unread=more)
                    if not more:
                        return
                    message = await receive()
        except TimeoutError as error:
            # Without the connection's end the client could go on dribbling for ever.
            end = (b"connection", b"close")
            detail = f"the body did not come within {READ_WITHIN:.0f} s"
            raise _Refused(408, "cut_short", detail, headers=(end,)) from error
        raise _Refused(0, "cut_short", "the client went away before the body was complete: nothing was kept")

    def _hold(self, chunk: bytes, body: bytearray, *, more: bool) -> None:
        """Keep a part of a body, if there is room for it."""
        if self._held + len(chunk) > MAX_HELD and len(body) + len(chunk) > SMALL:
            detail = "too many large requests at once; send this one again, or in smaller parts"
            raise _Refused(503, "overloaded", detail, unread=more, headers=(RETRY_AFTER,))
        body += chunk
        self._held += len(chunk)

    def _verify(self, query: bytes, documents: list[bytes], settings: HttpSource) -> None:
        if len(documents) != 1 or settings.as_key is None:
            raise TokenError("a Token covers exactly one document; send each document in a request of its own")
        try:
            verify(query, documents[0], settings.as_key.reveal())
        except DocumentError:
            # The parser says better what is wrong with it.
            FORMATS[settings.format].parse(documents[0], source="", received=0)
            raise

    async def _parse(
        self, source: str, settings: HttpSource, documents: list[bytes], scope: Scope, *, batch: bool
    ) -> list[Uplink]:
        """Parse all of them, or raise for the first that is none."""
        hint, origin = scope["query_string"].decode("latin-1"), _origin(scope, settings)
        parse = FORMATS[settings.format].parse
        received, through = self._intake.now(), settings.pass_through
        uplinks: list[Uplink] = []
        for index, document in enumerate(documents):
            try:
                uplink = parse(document, source=source, received=received, hint=hint, pass_through=through)
                uplinks.append(replace(uplink, origin=origin))
            except DocumentError as error:
                if not batch:
                    raise
                message = f"document {index} of the batch: {error} (nothing of the batch was kept)"
                raise DocumentError(message, field=error.field, index=index) from error
            if index % PARSE_AT_ONCE == PARSE_AT_ONCE - 1:
                await asyncio.sleep(0)  # a large batch must not keep the loop from the others
        return uplinks


def _refusal(error: TokenError | DocumentError | JournalError, documents: list[bytes], *, ndjson: bool) -> _Refused:
    """Give the answer to documents that were not taken, and why."""
    at = (error.index or 0) if isinstance(error, DocumentError) else 0
    document = documents[at] if at < len(documents) else b""
    device = device_in(document)
    if isinstance(error, TokenError):
        return _unauthorised(error, device)
    if isinstance(error, DocumentError):
        detail = str(error) + _hint(document, str(error), ndjson=ndjson)
        return _Refused(400, "malformed", detail, device=device, field=error.field, index=error.index)
    if isinstance(error, JournalTooLarge):
        return _Refused(413, "too_large", str(error))
    kind = "journal_full" if isinstance(error, JournalFull) else "journal_failed"
    device = device if len(documents) == 1 else ""
    return _Refused(503, kind, str(error), device=device, headers=(RETRY_AFTER,))


def _hint(document: bytes, problem: str, *, ndjson: bool) -> str:
    """Say which Content-Type may have been meant."""
    if ndjson and (document.startswith(b"[") or document == b"{"):
        return "; application/x-ndjson has a document in each line: send JSON of another shape as application/json"
    if not ndjson and "trailing characters" in problem:
        return "; send several documents as an array, or one in each line with Content-Type application/x-ndjson"
    return ""


def _unauthorised(error: TokenError, device: str, *, unread: bool = False) -> _Refused:
    challenge = (b"www-authenticate", b"ThingPark-Token")
    return _Refused(401, "unauthorised", str(error), unread=unread, headers=(challenge,), device=device)


def _authorise(headers: Mapping[bytes, bytes], settings: HttpSource) -> None:
    """Refuse, before its body is read, a request without the Authorization header that the source asks for."""
    if settings.authorization is None:
        return
    given, wanted = headers.get(b"authorization"), settings.authorization.reveal().encode()
    if given is None or not hmac.compare_digest(given, wanted):
        what = "no Authorization header" if given is None else "a wrong Authorization header"
        detail = f"the request has {what}; have the network server send what the source's `authorization` says"
        raise _Refused(401, "unauthorised", detail, unread=True, headers=((b"www-authenticate", b"Bearer"),))


def _require_token(query: bytes) -> None:
    """Refuse at once what has no Token, before its body is read."""
    try:
        require_token(query)
    except TokenError as error:
        raise _unauthorised(error, device_in(query), unread=True) from error


def _origin(scope: Scope, settings: HttpSource) -> str:
    """Say where a request came from and how it was checked, for the history."""
    verified = VERIFIED[settings.as_key is not None, settings.authorization is not None]
    client = _client(scope)
    return f"POST from {client}, {verified}" if client else f"POST, {verified}"


def _client(scope: Scope) -> str:
    """Give the address that the request came from."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _shown(path: str) -> str:
    """Give a short form of a foreign path that is safe in a log line."""
    return repr(path if len(path) <= MAX_SHOWN else path[:MAX_SHOWN] + "...")


def _media_type(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether the body is NDJSON; refuse what is not JSON at all."""
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        detail = "Content-Encoding is not supported; send the body as it is"
        raise _Refused(415, "media_type", detail, unread=True)
    given = headers.get(b"content-type", b"application/json")
    media = given.split(b";", 1)[0].strip().lower()
    if media in NDJSON:
        return True
    if media != b"application/json" and not (media.startswith(b"application/") and media.endswith(b"+json")):
        shown = media[:80].decode("latin-1")
        detail = f"Content-Type is {shown}; send application/json, or application/x-ndjson for a document a line"
        raise _Refused(415, "media_type", detail, unread=True)
    return False
