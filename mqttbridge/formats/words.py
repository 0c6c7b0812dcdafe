"""Foreign text in our sentences, and what several formats say or do alike. For the modules of this room."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mqttbridge.errors import DocumentError

if TYPE_CHECKING:
    import msgspec

__all__ = ["WHITESPACE", "bare", "not_json", "shown"]

BOM = b"\xef\xbb\xbf"
WHITESPACE = b" \t\r\n"
MAX_SHOWN = 40
PLACE = re.compile(r"\(byte (\d{1,9})\)")
QUOTES = "; texts and names stand in double quotes"
COMMENTS = "; JSON has no comments"
WORDS = "; true, false and null have lower case"
ADVICE = {b"'": QUOTES, b"/": COMMENTS, b"#": COMMENTS, b"T": WORDS, b"F": WORDS, b"N": WORDS}
"""By the byte at which it stops being JSON."""
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def bare(body: bytes) -> bytes:
    """Take whitespace and a byte order mark off a document."""
    return body.strip(WHITESPACE).removeprefix(BOM).lstrip(WHITESPACE)


def shown(text: str) -> str:
    """Give a short form of a foreign text that is safe in a log line: quoted, what is not printable escaped."""
    found = repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...")
    # One character may take ten when it is escaped.
    return found if len(found) <= 2 * MAX_SHOWN else repr(text[: MAX_SHOWN // 5] + "...")


def not_json(body: bytes, error: msgspec.DecodeError) -> DocumentError:
    """Put into a sentence why these bytes are no JSON. Nothing of what they hold is shown."""
    if not body:
        return DocumentError("the body is empty; send a JSON document")
    if bad := CONTROL.search(body):
        return DocumentError(f"the document holds a raw control character, 0x{bad[0][0]:02X} (byte {bad.start()})")
    why = str(error).removeprefix("JSON is malformed: ")
    if "truncated" in why:
        return DocumentError("the document is not JSON: it ends too early")
    return DocumentError(f"the document is not JSON: {why}{_advice(body, why)}")


def _advice(body: bytes, why: str) -> str:
    """End the sentence with what people get wrong who know another notation better."""
    place = PLACE.search(why)
    return ADVICE.get(body[int(place[1]) :][:1], QUOTES if "keys must be strings" in why else "") if place else ""
