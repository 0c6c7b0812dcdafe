"""The seam to an MQTT client: what a link to one broker can do, shaped for batches.

A link lives once: connect, login, use, close. Whoever uses it gives it a listener; the link calls the listener from
the event loop, never from inside one of its own methods, and never after `close` was called. Nothing above this room
knows which MQTT client is underneath. Any implementation passes `tests/mqtt/conformance.py`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.errors import LinkError

__all__ = ["Ack", "Grant", "Link", "LinkListener", "Publish", "Received", "Step"]

REFUSED = 0x80
"""Reason codes from here on mean no (MQTT 5, section 2.4)."""


class Publish(msgspec.Struct, frozen=True, gc=False):
    """One message to publish. `token` comes back in its `Ack`; it is the caller's own."""

    token: int
    topic: str
    payload: bytes
    correlation: bytes = b""
    """MQTT 5: Correlation Data (section 3.3.2.3.6); not sent on 3.1.1."""
    retain: bool = True
    """False: it is not retained, even if the link publishes with retain."""


class Ack(msgspec.Struct, frozen=True, gc=False):
    """The broker's answer to one publish: PUBACK, PUBCOMP, a refusing PUBREC, or (QoS 0) written to the socket.

    `code` below 0x80: the broker has it. On MQTT 3.1.1 there is no code, and it is 0.
    """

    token: int
    code: int


class Received(msgspec.Struct, frozen=True, gc=False):
    """One message from the broker. `mid` is its packet identifier, 0 for QoS 0."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int
    dup: bool = False
    """The broker sent it before (QoS 1 and 2), perhaps on an earlier link."""
    correlation: bytes = b""
    """MQTT 5: Correlation Data."""


class Grant(msgspec.Struct, frozen=True):
    """What the broker granted in its CONNACK; the defaults are what MQTT 3.1.1 implies."""

    session_present: bool = False
    receive_maximum: int = 65535
    maximum_packet_size: int = 268_435_460
    maximum_qos: int = 2
    retain_available: bool = True
    wildcards_available: bool = True
    shared_available: bool = True
    keep_alive: int | None = None
    """Seconds, where the broker decides (Server Keep Alive)."""


class Step(enum.StrEnum):
    """What a link is doing to become usable, in the order in which it does it; words for sentences."""

    NONE = ""
    """Nothing: not begun, or all done."""
    CERTIFICATES = "certificates"
    """Reading the certificates and the key: nothing of the broker's."""
    DNS = "DNS"
    TCP = "TCP"
    TLS = "TLS handshake"
    WEBSOCKET = "WebSocket upgrade"
    CONNACK = "CONNACK"


class LinkListener(Protocol):
    """Who is told what happens on a link."""

    def acknowledged(self, acks: Sequence[Ack]) -> None:
        """Take the answers to publishes, in the order in which they came."""
        ...

    def received(self, messages: Sequence[Received]) -> None:
        """Take messages that came. With QoS 1 or 2 the broker waits for `Link.acknowledge`."""
        ...

    def lost(self, error: LinkError) -> None:
        """Hear that the open link ended without being asked to. Called once, last."""
        ...


class Link(Protocol):
    """One life of a client at one broker."""

    @property
    def step(self) -> Step:
        """The step that `connect` or `login` is at, or at which they failed or were cancelled. Cheap."""
        ...

    async def connect(self) -> None:
        """DNS, TCP, TLS, WebSocket: all but MQTT. Cancellable at any moment without a trace.

        Raises `ResolveFailed`, `ConnectFailed`, `TlsFailed`. It has no time limit of its own.
        """
        ...

    async def login(self) -> Grant:
        """CONNECT and CONNACK. Cancellable at any moment without a trace; it has no time limit of its own.

        Raises `LoginRefused`, `BrokerRefused`, `LinkLost`.
        """
        ...

    def publish(self, batch: Sequence[Publish]) -> None:
        """Hand over messages, to be sent in this order with the QoS and retain of the link. Never blocks.

        The caller bounds what is in flight. After the link was lost it does nothing: no acks will come.
        """
        ...

    async def subscribe(self, filters: Sequence[str], qos: int) -> list[int]:
        """SUBSCRIBE; gives the SUBACK's reason codes, one a filter (0x80 and above: refused). Raises `LinkLost`."""
        ...

    def acknowledge(self, messages: Sequence[Received]) -> None:
        """Answer received messages, in the order in which they came. After the link was lost it does nothing."""
        ...

    def pause(self) -> None:
        """Stop reading from the socket (acks included) until `resume`."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...

    async def close(self) -> None:
        """Send DISCONNECT if possible, and let go of everything, at once. Never raises; may be called at any time."""
        ...
