"""Documents of network servers, bytes to model: pure. Floor 2.

The seam: a format is a module that can do what `Format` says, and `FORMATS` names it as `source.format` does.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from mqttbridge.formats import thingpark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.model import Uplink

__all__ = ["FORMATS", "Format"]


class Format(Protocol):
    """What a network server's documents look like, and how it signs them."""

    def parse(self, body: bytes, *, source: str, received: int) -> Uplink:
        """Read one document; `received` is in ms. Raises `DocumentError`."""
        ...

    def verify(self, query_string: bytes, uplink_body: bytes, as_key: str) -> None:
        """Check the signature of an HTTP request that carries one document. Raises `TokenError`, `DocumentError`."""
        ...


FORMATS: Mapping[str, Format] = MappingProxyType({"thingpark": thingpark})
