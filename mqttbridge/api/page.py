"""Serves the web page: static files of the package, read once at the start, with headers that let nothing else in.

`GET /` is the page, `GET /page/<file>` what it is made of. Nothing here is secret, nothing needs a token, and nothing
is looked up on the disk while requests are answered: only names that were found at the start are served.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.sources.asgi import problem_unread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.sources.asgi import Receive, Scope, Send

__all__ = ["Page", "is_public", "read_files"]

PREFIX = "/page/"
INDEX = "index.html"
TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
"""By the end of the name; a file of another kind is not served."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
)


class _File(msgspec.Struct, frozen=True):
    body: bytes
    etag: bytes
    content_type: bytes


def is_public(path: str) -> bool:
    """Tell whether a path is the page's, which everybody may read."""
    return path == "/" or path.startswith(PREFIX)


def read_files() -> dict[str, bytes]:
    """Read the page from the package, by file name. Blocks: call it before the loop runs, or in a thread."""
    folder = resources.files("mqttbridge") / "page"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


class Page:
    """The ASGI application of the page."""

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        """Serve these files, by name; without them those of the package are read (see `read_files`)."""
        given = read_files() if files is None else files
        self._files = {
            name: _File(body, b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode(), TYPES[end])
            for name, body in given.items()
            if (end := name.rpartition(".")[2]) in TYPES
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for a path that `is_public`."""
        path = scope["path"]
        file = self._files.get(INDEX if path == "/" else path.removeprefix(PREFIX))
        if file is None or not is_public(path):
            await problem_unread(scope, receive, send, 404, "the page has no such file", headers=HEADERS)
        elif scope["method"] not in ("GET", "HEAD"):
            allow = ((b"allow", b"GET, HEAD"), *HEADERS)
            await problem_unread(scope, receive, send, 405, f"{path} is for GET", headers=allow)
        elif _has(scope, file.etag):
            await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", file.etag), *HEADERS]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await _give(scope, send, file)


def _has(scope: Scope, etag: bytes) -> bool:
    """Tell whether the browser has the file already: a weak comparison with each tag of If-None-Match."""
    tags = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
    return any(tag.strip().removeprefix(b"W/") in (etag, b"*") for tag in tags.split(b","))


async def _give(scope: Scope, send: Send, file: _File) -> None:
    length = str(len(file.body)).encode()
    headers = [(b"content-type", file.content_type), (b"content-length", length), (b"etag", file.etag), *HEADERS]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else file.body})
