"""What is published of an uplink: the document as it came, or the slice of it that a connection asks for.

Called by the sessions for each publish. Slices are taken from the bytes of the document and never written anew. A body
without the root of an uplink is one that a source passed through as it came: it has no such slices, and stays whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct, field

from mqttbridge.errors import DocumentError
from mqttbridge.model import DocumentKind

if TYPE_CHECKING:
    from mqttbridge.model import Uplink

__all__ = ["shape"]


class Document(Struct, gc=False):
    """The root of an uplink."""

    content: Raw = field(name=DocumentKind.UPLINK.value, default_factory=Raw)


class Decoded(Struct, gc=False):
    """What a driver made of the payload."""

    payload: Raw = field(default_factory=Raw)


class DecodedDocument(Struct, gc=False):
    """The root of an uplink that a driver may have decoded."""

    content: Decoded = field(name=DocumentKind.UPLINK.value, default_factory=Decoded)


decode_document = msgspec.json.Decoder(Document).decode
decode_decoded = msgspec.json.Decoder(DecodedDocument).decode


def shape(uplink: Uplink, *, send_metadata: bool, send_raw_decoded: bool) -> bytes:
    """Give the body to publish.

    `send_metadata`: what stands inside DevEUI_uplink. `send_raw_decoded`: the `payload` field alone, if there is one
    and it is not null; it goes before `send_metadata`. Documents of other kinds, and those of other formats that were
    passed through, stay as they came. Raises `DocumentError` if the stored document cannot be read.
    """
    if uplink.kind is not DocumentKind.UPLINK or not (send_metadata or send_raw_decoded):
        return uplink.body
    try:
        if send_raw_decoded:
            payload = bytes(decode_decoded(uplink.body).content.payload)
            if payload and payload != b"null":
                return payload
        content = bytes(decode_document(uplink.body).content) if send_metadata else b""
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise DocumentError("the stored document cannot be read, so that no part of it can be sent") from error
    return content or uplink.body
