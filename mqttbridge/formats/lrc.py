"""Downlinks as ThingPark's LRC takes them, by HTTP (reference, "Application server to LRC").

For the room that sends them. All of a downlink stands in the query string; the body is empty. The order of the
parameters is part of the Token, and so they go out in the order in which they were hashed. Never shows a key.

    Token = hex(SHA-256(query without Token, decoded, in the order sent + as_key))
"""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import quote

from mqttbridge.errors import DocumentError
from mqttbridge.formats.times import iso

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mqttbridge.model import Downlink

__all__ = ["query", "refusal", "token"]

MAX_ANSWER = 4096
MAX_TAGS = 200
"""Of an answer, this many characters and tags are looked at. The parser is slow on what is malformed and long."""
MAX_REFUSAL = 200
INLINE = frozenset({"a", "abbr", "b", "code", "em", "font", "i", "small", "span", "strong", "sub", "sup", "tt", "u"})
"""These stand inside of words and sentences; any other tag parts them."""
SILENT = frozenset({"script", "style", "title"})
TAG = re.compile(r"<[^<>]*>?")


def query(downlink: Downlink, *, correlation_id: str, as_id: str, as_key: str, time: str) -> str:
    """Give the query string, percent-encoded and without its `?`.

    `time` is ISO 8601 with an offset, of now. Without `as_id` the request is unsigned: no AS_ID, Time and Token.
    `as_key` is 32 hex digits in any case, as plain text. Raises `DocumentError` for a downlink without payload_hex,
    which an LRC cannot encode.
    """
    parameters = _parameters(downlink)
    if as_id:
        parameters += [("AS_ID", as_id), ("Time", time)]
    if correlation_id:
        parameters.append(("CorrelationID", correlation_id))
    if as_id:
        parameters.append(("Token", token(parameters, as_key)))
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters)


def token(parameters: Iterable[tuple[str, str]], as_key: str) -> str:
    """Give the Token of these parameters, in this order."""
    text = "&".join(f"{name}={value}" for name, value in parameters)
    return hashlib.sha256((text + as_key.lower()).encode()).hexdigest()


def _parameters(downlink: Downlink) -> list[tuple[str, str]]:
    """Give what the downlink itself says."""
    if downlink.payload_hex is None:
        raise DocumentError(
            "ThingPark takes no payload object by this way; send payload_hex", field="DevEUI_downlink.payload"
        )
    parameters = [
        ("DevEUI", downlink.dev_eui),
        ("FPort", str(downlink.fport)),
        ("Payload", downlink.payload_hex),
    ]
    if downlink.confirmed:
        parameters.append(("Confirmed", "1"))
    if downlink.flush:
        parameters.append(("FlushDownlinkQueue", "1"))
    if downlink.expires is not None:
        parameters.append(("ValidityTime", iso(downlink.expires)))
    return parameters


# --- answers


class Text(HTMLParser):
    """Collects the text of a page, and its title beside it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.text: list[str] = []
        self.title: list[str] = []
        self._silent = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002  of the parser
        """Part what this tag parts."""
        if tag in SILENT:
            self._silent = tag
        if tag not in INLINE:
            self.text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        """Part what this tag parts."""
        if tag == self._silent:
            self._silent = ""
        if tag not in INLINE:
            self.text.append(" ")

    def handle_data(self, data: str) -> None:
        """Take text."""
        if not self._silent:
            self.text.append(data)
        elif self._silent == "title":
            self.title.append(data)


def refusal(text: str) -> str:
    """Give in one line, at most 200 characters, what an LRC's answer (HTML or plain text) says; empty: nothing.

    Its title counts only if it says nothing else. Never raises. The line is safe in a log: all in it is printable.
    """
    text = text[:MAX_ANSWER]
    found = _line(TAG.sub(" ", text) if text.count("<") > MAX_TAGS else _text(text))
    return found if len(found) <= MAX_REFUSAL else found[: MAX_REFUSAL - 3].rstrip() + "..."


def _text(html: str) -> str:
    """Give the text of a page, else its title."""
    page = Text()
    try:
        page.feed(html)
        page.close()
    except (AssertionError, ValueError):
        # html.parser raises these for some malformed declarations and character references.
        return TAG.sub(" ", html)
    text = "".join(page.text)
    return text if text.strip() else "".join(page.title)


def _line(text: str) -> str:
    """Fold whitespace, and take out what cannot be printed."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
