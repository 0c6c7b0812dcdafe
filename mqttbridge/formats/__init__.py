"""Documents of network servers, bytes to model: pure. Floor 2.

The seam: a format is a module that can do what `Format` says, and `FORMATS` names it as `source.format` does.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from mqttbridge.formats import chirpstack, thingpark, tts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.model import Uplink

__all__ = ["FORMATS", "Format"]


class Format(Protocol):
    """What a network server's documents look like."""

    def parse(
        self,
        body: bytes,
        *,
        source: str,
        received: int,
        hint: str = "",
        pass_through: bool = False,
        origin: str = "",
    ) -> Uplink:
        """Read one document; `received` is in ms. Raises `DocumentError`.

        `hint` says what came beside the body: the query string of the request, or the topic. `pass_through`: the
        uplink's body is the document as it came, else the ThingPark document that it means. `origin` goes into the
        uplink as it is.
        """
        ...

    def is_ours(self, hint: str) -> bool:
        """Whether a topic is one on which we send downlinks ourselves: what comes back on it is no uplink."""
        ...


FORMATS: Mapping[str, Format] = MappingProxyType({"thingpark": thingpark, "chirpstack": chirpstack, "tts": tts})
