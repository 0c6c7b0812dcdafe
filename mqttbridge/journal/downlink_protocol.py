"""What the durable queue of downlinks is, and what it remembers of devices.

It stands beside the queue of uplinks, in a file of its own: small, and never in the way of an uplink. All methods are
called from the event loop's thread and never block it. The invariants, at every moment and after every crash:

1. `accept` returns only after all of them are on disk, or raises and stored none of them.
2. A downlink is pending until `conclude`, and then never again. Its receipt, if there is one, is stored with that same
   commit, and waits until `receipted`.
3. `pending` and `receipts` give them in the order in which they were accepted, and concluded.
4. What is concluded is remembered for a while without its content, so that news of it finds its sender.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mqttbridge.model import Device, Downlink

__all__ = [
    "AcceptedDownlink",
    "ConcludedDownlink",
    "DownlinkJournal",
    "PendingDownlink",
    "Receipt",
    "ReceiptBody",
    "Sender",
]


class ReceiptBody(msgspec.Struct, frozen=True, gc=False):
    """A receipt to be published by a connection. `dev_eui` is empty where nobody knows it."""

    dev_eui: str
    body: bytes
    correlation: bytes = b""
    """MQTT 5: Correlation Data of the downlink."""


class AcceptedDownlink(msgspec.Struct, frozen=True, gc=False):
    """One message that came as a downlink: a valid one to be sent, or one that has ended already.

    `mid` and `digest` (of topic, payload and correlation data) tell a message that the broker sends again.
    """

    connection: str
    key: str
    """16 hex digits: ours, the same for each copy of one message."""
    mid: int
    digest: bytes
    received: int
    source: str = ""
    """Whose network server gets it; empty if it has ended."""
    way: str = ""
    downlink: Downlink | None = None
    """None: it has ended, with `receipt` (None: the connection wants none)."""
    correlation: bytes = b""
    receipt: ReceiptBody | None = None
    warnings: tuple[str, ...] = ()
    """Sentences for the receipt of one that is pending."""


class PendingDownlink(msgspec.Struct, frozen=True, gc=False):
    """One downlink on its way to a network server. `seq` is the order of acceptance: positive, rising."""

    seq: int
    connection: str
    key: str
    received: int
    source: str
    way: str
    downlink: Downlink
    correlation: bytes
    warnings: tuple[str, ...] = ()

    @property
    def correlation_id(self) -> str:
        """16 hex digits that go to the network server: those of the sender, else the key."""
        return self.downlink.correlation_id or self.key


class ConcludedDownlink(msgspec.Struct, frozen=True, gc=False):
    """The end of a pending downlink, and its receipt (None: the connection wants none)."""

    seq: int
    receipt: ReceiptBody | None = None
    reference: str = ""
    """What the network server calls it, where it does not go by the correlation id."""


class Sender(msgspec.Struct, frozen=True, gc=False):
    """Whose downlink it was, and by which correlation id its sender knows it."""

    connection: str
    correlation_id: str


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """A receipt that waits to be published. `seq` is that of its downlink."""

    seq: int
    content: ReceiptBody


class DownlinkJournal(Protocol):
    """The durable queue of downlinks. `SqliteDownlinks` is the one there is."""

    async def former_key(self, connection: str, mid: int, digest: bytes) -> str | None:
        """Give the key of the newest message with this mid, if its digest is this one. Raises `JournalFailed`.

        A broker does not use a mid again before it was acknowledged: whatever came with it since is no copy, and
        neither is what came before that.
        """
        ...

    async def accept(self, downlinks: Sequence[AcceptedDownlink]) -> None:
        """Store all of them durably, or none. Raises `JournalFailed`."""
        ...

    async def pending(self, source: str, after: int, limit: int) -> list[PendingDownlink]:
        """Give pending downlinks of a source with `seq > after`, oldest first. Raises `JournalFailed`."""
        ...

    async def sources(self) -> list[str]:
        """Give the sources that pending downlinks wait for. Raises `JournalFailed`."""
        ...

    async def conclude(self, ends: Sequence[ConcludedDownlink]) -> None:
        """Record how pending downlinks ended, durably. What has ended already is passed by. Raises `JournalFailed`."""
        ...

    async def receipts(self, connection: str, after: int, limit: int) -> list[Receipt]:
        """Give receipts that wait, with `seq > after`, oldest first. Raises `JournalFailed`.

        They wait in the order of their downlinks; one that is concluded late comes behind `after` and is found by the
        next reading from 0.
        """
        ...

    async def receipted(self, seqs: Iterable[int]) -> None:
        """Record that these receipts need not be published any more. Raises `JournalFailed`."""
        ...

    async def sender(self, dev_eui: str, name: str) -> Sender | None:
        """Give whose the newest downlink to this device was that goes by this name. Raises `JournalFailed`.

        `name`: its correlation id (or key), in any case, or the network server's reference.
        """
        ...

    def unfinished(self, connection: str) -> int:
        """How many of a connection's downlinks are pending, or have a receipt that waits. Cheap."""
        ...

    def waiting(self, connection: str) -> int:
        """How many of a connection's downlinks are pending. Cheap."""
        ...

    def watch(self, connection: str, callback: Callable[[], None]) -> None:
        """Have `callback` called, in the loop, whenever `unfinished` or `waiting` of a connection changed. One each."""
        ...

    def learn(self, devices: Iterable[Device]) -> None:
        """Note where devices are; what is known already costs nothing. Stored soon, not before it returns."""
        ...

    async def device(self, dev_eui: str) -> Device | None:
        """Give what was learnt of a device. Raises `JournalFailed`."""
        ...

    def problem(self) -> str:
        """Tell what is wrong with the disk, as a sentence; empty while all is well. Cheap."""
        ...

    async def close(self) -> None:
        """Finish what was asked for, and let go of the files."""
        ...
