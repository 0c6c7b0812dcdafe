"""`POST /uplink/<source>`: uplinks from network servers that speak HTTP. Raw ASGI, for speed.

The LRC neither queues nor retries: what gets no 2xx is lost. So the answer is quick, and it is 200 only after the
commit. A batch is taken whole or not at all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mqttbridge.errors import DocumentError, JournalError, JournalFull, TokenError
from mqttbridge.formats import FORMATS
from mqttbridge.formats.batch import split
from mqttbridge.formats.token import verify
from mqttbridge.sources.asgi import answer, problem
from mqttbridge.sources.intake import MAX_BODY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.model import Uplink
    from mqttbridge.settings.schema import HttpSource
    from mqttbridge.sources.asgi import Headers, Receive, Scope, Send
    from mqttbridge.sources.intake import Intake

__all__ = ["PREFIX", "HttpIntake"]

PREFIX = "/uplink/"
READ_WITHIN = 20.0
"""Seconds for a whole body."""
PARSE_AT_ONCE = 200
"""Documents; about a millisecond."""
RETRY_AFTER = (b"retry-after", b"5")
NDJSON = frozenset({b"application/x-ndjson", b"application/ndjson", b"application/jsonl"})


class _Refused(Exception):
    """The request gets this answer."""

    def __init__(self, status: int, kind: str, detail: str, *, headers: Headers = (), **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers
        self.more = more


class HttpIntake:
    """The ASGI application of everything under /uplink/."""

    def __init__(self, sources: Mapping[str, HttpSource], intake: Intake) -> None:
        """Serve these sources."""
        self._sources = sources
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        source = scope["path"].removeprefix(PREFIX)
        settings = self._sources.get(source)
        if settings is None:
            detail = f"there is no source {source!r} with transport http; name it under `sources` in the configuration"
            await problem(send, 404, detail)
            return
        try:
            accepted = await self._take(source, settings, scope, receive)
        except _Refused as refused:
            self._intake.rejected(source, refused.kind, refused.detail)
            if refused.status:
                await problem(send, refused.status, refused.detail, headers=refused.headers, **refused.more)
        else:
            await answer(send, 200, b'{"accepted": %d}' % accepted)

    async def _take(self, source: str, settings: HttpSource, scope: Scope, receive: Receive) -> int:
        """Read, check, parse and store. Gives how many were accepted, or raises `_Refused`."""
        if scope["method"] != "POST":
            raise _Refused(405, "method", "uplinks come by POST", headers=((b"allow", b"POST"),))
        headers = dict(scope["headers"])
        ndjson = _media_type(headers)
        body = await _read(headers, receive)
        if not body and b"upgrade" in headers:
            # The parser under us ends such a request at its headers (Java's HttpClient asks so for HTTP/2).
            detail = "a request that asks for an upgrade has no body here; have the client speak plain HTTP/1.1"
            raise _Refused(400, "malformed", detail)
        try:
            documents = split(body, ndjson=ndjson)
            if settings.as_key is not None:
                _verify(scope["query_string"], documents, settings.as_key.reveal())
            batch = ndjson or body.lstrip().startswith(b"[")
            uplinks = await self._parse(source, settings, documents, batch=batch)
            await self._intake.accept(source, uplinks)
        except TokenError as error:
            challenge = (b"www-authenticate", b"ThingPark-Token")
            raise _Refused(401, "unauthorised", str(error), headers=(challenge,)) from error
        except DocumentError as error:
            raise _Refused(400, "malformed", str(error), field=error.field, index=error.index) from error
        except JournalError as error:
            kind = "journal_full" if isinstance(error, JournalFull) else "journal_failed"
            raise _Refused(503, kind, str(error), headers=(RETRY_AFTER,)) from error
        return len(uplinks)

    async def _parse(self, source: str, settings: HttpSource, documents: list[bytes], *, batch: bool) -> list[Uplink]:
        """Parse all of them, or raise for the first that is none."""
        parse = FORMATS[settings.format].parse
        received = self._intake.now()
        uplinks: list[Uplink] = []
        for index, document in enumerate(documents):
            try:
                uplinks.append(parse(document, source=source, received=received))
            except DocumentError as error:
                if not batch:
                    raise
                message = f"document {index} of the batch: {error} (nothing of the batch was kept)"
                raise DocumentError(message, field=error.field, index=index) from error
            if index % PARSE_AT_ONCE == PARSE_AT_ONCE - 1:
                await asyncio.sleep(0)  # a large batch must not keep the loop from the others
        return uplinks


def _verify(query: bytes, documents: list[bytes], as_key: str) -> None:
    if len(documents) != 1:
        raise TokenError("a Token covers exactly one document; send each document in a request of its own")
    verify(query, documents[0], as_key)


def _media_type(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether the body is NDJSON; refuse what is not JSON at all."""
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise _Refused(415, "media_type", "Content-Encoding is not supported; send the body as it is")
    given = headers.get(b"content-type", b"application/json")
    media = given.split(b";", 1)[0].strip().lower()
    if media in NDJSON:
        return True
    if media != b"application/json" and not (media.startswith(b"application/") and media.endswith(b"+json")):
        shown = media[:80].decode("latin-1")
        detail = f"Content-Type is {shown}; send application/json, or application/x-ndjson for a document a line"
        raise _Refused(415, "media_type", detail)
    return False


async def _read(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """Read the whole body, within its limits of size and time."""
    too_large = f"the body is larger than {MAX_BODY} bytes; send fewer documents at once"
    if int(headers.get(b"content-length", b"0")) > MAX_BODY:
        raise _Refused(413, "too_large", too_large)
    try:
        async with asyncio.timeout(READ_WITHIN):
            message = await receive()
            chunks = bytearray()
            while message["type"] == "http.request":
                chunks += message["body"]
                if len(chunks) > MAX_BODY:
                    raise _Refused(413, "too_large", too_large)
                if not message.get("more_body"):
                    return bytes(chunks)
                message = await receive()
    except TimeoutError as error:
        # Without the connection's end the client could go on dribbling for ever.
        end = (b"connection", b"close")
        detail = f"the body did not come within {READ_WITHIN:.0f} s"
        raise _Refused(408, "cut_short", detail, headers=(end,)) from error
    raise _Refused(0, "cut_short", "the client went away before the body was complete: nothing was kept")
