"""The seam to a network server that takes downlinks: one per source, made by `networks`.

A network turns a downlink into what its server understands, sends it once, and says what the server made of it. It
never retries, never stores, never waits longer than its time limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from mqttbridge.errors import DocumentError
    from mqttbridge.journal.downlink_protocol import PendingDownlink
    from mqttbridge.model import Downlink

__all__ = ["Answer", "Later", "Network", "Refused", "Taken"]


class Taken(msgspec.Struct, frozen=True):
    """The network server has it. `reference`: its own name for it, by which its reports go instead of ours."""

    reference: str = ""


class Refused(msgspec.Struct, frozen=True):
    """The network server says no, and would say so again. `reason` is a sentence; `field` names what is wrong."""

    reason: str
    field: str = ""


class Later(msgspec.Struct, frozen=True):
    """It did not get through, or the network server wants it later. `reason` is a sentence.

    `everyone`: the network server itself cannot be reached, so that no other downlink would get through either.
    """

    reason: str
    everyone: bool = False


Answer = Taken | Refused | Later


class Network(Protocol):
    """One network server."""

    def refusal(self, downlink: Downlink, way: str) -> DocumentError | None:
        """Tell at once what this network server could never take, with the field; pure. `way` as in `model.Device`."""
        ...

    async def send(self, pending: PendingDownlink) -> Answer:
        """Send it once. Bounded in time; raises nothing. May be called for several devices at once."""
        ...

    async def close(self) -> None:
        """Let go of connections. `send` is not running any more."""
        ...
