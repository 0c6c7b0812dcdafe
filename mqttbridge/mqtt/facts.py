"""What can be learnt of a broker on the way in, for people who ask why it fails. Pure.

`dial` tells these facts to whoever wants to hear them; the daemon's sessions do not.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mqttbridge.mqtt.link import Step

__all__ = ["Addresses", "Attempt", "Fact", "Learn", "Secured"]


class Addresses(msgspec.Struct, frozen=True):
    """What DNS (or hostName itself) gave, in the order in which they are tried."""

    addresses: tuple[str, ...]


class Attempt(msgspec.Struct, frozen=True):
    """One TCP connect that ended. `error` is empty where it succeeded, else the system's words."""

    address: str
    error: str = ""


class Secured(msgspec.Struct, frozen=True):
    """What a TLS handshake agreed on, and the certificates (DER) that the broker sent, its own first."""

    version: str
    cipher: str
    alpn: str | None
    chain: tuple[bytes, ...]


Fact = Step | Addresses | Attempt | Secured
"""A `Step` is told when it begins."""
Learn = Callable[[Fact], None]
