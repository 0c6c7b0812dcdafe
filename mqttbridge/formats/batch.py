"""One request body, one or many documents: a JSON document, a JSON array of them, or NDJSON.

Called by the HTTP source, whatever the format. It cuts, and does not look into the documents: each one still has to
be parsed, and the caller sets `DocumentError.index` of what that raises. Never rebuilds a document.
"""

from __future__ import annotations

import re

import msgspec

from mqttbridge.errors import DocumentError
from mqttbridge.formats.outline import element_at_end
from mqttbridge.formats.words import WHITESPACE, bare

__all__ = ["split"]

PLACE = re.compile(r"\(byte (\d+)\)$")

MAX_DOCUMENTS = 100_000
"""How many documents one body may hold. An array costs up to some 40 times its size in memory until it is counted."""

TOO_MANY = f"the body holds more than {MAX_DOCUMENTS} documents; send fewer at once"
decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def split(body: bytes, *, ndjson: bool) -> list[bytes]:
    """Cut a body into its documents, in order: one at least. Blank lines of NDJSON are passed by.

    A document that stands alone is given as it is, valid or not. Raises `DocumentError` if nothing is there, or the
    array is not JSON, with the index of the element (from 0) that is wrong.
    """
    body = bare(body)
    if not body:
        raise DocumentError("the body is empty; send a JSON document, an array of them, or NDJSON")
    if ndjson:
        if body.count(b"\n") >= MAX_DOCUMENTS:
            raise DocumentError(TOO_MANY)
        return [document for line in body.split(b"\n") if (document := line.strip(WHITESPACE))]
    if not body.startswith(b"["):
        return [body]
    try:
        raws = decode_array(body)
    except msgspec.DecodeError as error:
        raise _refusal(body, error) from error
    except RecursionError as error:
        raise DocumentError("the array nests too deep") from error
    if not raws:
        raise DocumentError("the array is empty; send one document at least")
    if len(raws) > MAX_DOCUMENTS:
        raise DocumentError(TOO_MANY)
    return [bytes(raw) for raw in raws]


def _refusal(body: bytes, error: msgspec.DecodeError) -> DocumentError:
    """Say which element of an array is not JSON."""
    text = str(error)
    place = PLACE.search(text)
    end = int(place[1]) if place else len(body)
    index = element_at_end(body[:end])
    if index is None:
        return DocumentError(f"something stands behind the array, at byte {end}; send one array")
    return DocumentError(f"the array is not JSON: {text.removeprefix('JSON is malformed: ')}", index=index)
