"""The one way in for downlinks: each message that a connection's broker sends is judged, and stored with its outcome.

The sessions call `take` (it is their `Inbox`), and acknowledge only after it has returned. Who gives a single one by
hand calls `submit`: it is judged as if the broker had sent it, but nobody waits. Invariants:

1. Each message ends here (rejected, expired) or is stored as pending; never both, never neither, whatever its bytes.
2. Nothing is logged or counted as ended before it is on disk.
3. A full queue and a flood make `take` wait; they never make it discard. `submit` is refused then: nothing is stored.
4. A receipt that comes back as a downlink has no receipt of its own: two bridges would answer each other for ever.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.downlinks.desks import Desks
from mqttbridge.downlinks.devices import Devices, source_of
from mqttbridge.downlinks.messages import ByHand, digest_of, unfit
from mqttbridge.downlinks.networks import way_back
from mqttbridge.downlinks.receipts import Ended, few, is_receipt, receipt, short
from mqttbridge.downlinks.telling import tell_ended
from mqttbridge.errors import DocumentError, DownlinkExpired, JournalError
from mqttbridge.formats.downlink import MAX_BODY, glimpse, parse
from mqttbridge.journal.downlink_protocol import AcceptedDownlink
from mqttbridge.model import DownlinkOutcome
from mqttbridge.observe.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from mqttbridge.clock import Clock
    from mqttbridge.downlinks.desks import Desk
    from mqttbridge.downlinks.network import Network
    from mqttbridge.journal.downlink_protocol import DownlinkJournal
    from mqttbridge.model import Device, Downlink
    from mqttbridge.mqtt.link import Received
    from mqttbridge.observe.metrics import DownlinkMetrics
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.routing import Router
    from mqttbridge.settings.schema import Connection, Source

__all__ = ["ROOM", "Busy", "DownlinkIntake", "random_key"]

log = get_logger()

ROOM = 1000
"""Unfinished downlinks of one connection, at most."""
MAX_CORRELATION = 4096
"""Bytes. With `ROOM` this bounds what one connection can have stored: some 30 MB."""
PART = 250
"""Messages that are judged and committed together, at most."""
LOOK_EVERY = 0.5
JOURNAL_RETRY = 1.0
"""Seconds."""
YIELD_EVERY = 16
"""Messages that are judged at one go."""


def random_key() -> str:
    """Give a new key: 16 hex digits."""
    return secrets.token_hex(8)


class _Case:
    """One message while it is judged: what is known of it so far."""

    def __init__(self, desk: Desk, message: Received, key: str, received: int) -> None:
        self.desk = desk
        self.message = message
        self.key = key
        self.received = received
        self.receipt = desk.wants_receipts
        self.dev_eui = ""
        # What is too long is not kept: it would be stored as long as nobody takes the receipt.
        self.correlation = message.correlation if len(message.correlation) <= MAX_CORRELATION else b""
        self.correlation_id = ""
        self.source = ""
        self.warnings: tuple[str, ...] = ()


class Busy(msgspec.Struct, frozen=True, gc=False):
    """Why one that was given by hand is not taken now: a sentence, and when to try again, in seconds."""

    reason: str
    delay: float


class _Judged(msgspec.Struct, frozen=True, gc=False):
    """What to store, and what to tell when it is stored."""

    accepted: AcceptedDownlink
    ended: Ended | None


class DownlinkIntake:
    """Takes the downlinks of all connections."""

    def __init__(  # noqa: PLR0913 (the composition root gives it all this)
        self,
        journal: DownlinkJournal,
        connections: Mapping[str, Connection],
        networks: Mapping[str, Network],
        sources: Mapping[str, Source],
        router: Router,
        dispatch: Callable[[str], None],
        *,
        clock: Clock,
        metrics: DownlinkMetrics,
        throttle: Throttle,
        random_key: Callable[[], str] = random_key,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take what it works with. Connections, networks and sources are looked up at each use.

        `networks`: those of the sources that have a way back.
        `dispatch(source)` is called when there is something new for a source; that may be gone meanwhile.
        """
        self._journal = journal
        self._networks = networks
        self._sources = sources
        self._dispatch = dispatch
        self._clock = clock
        self._metrics = metrics
        self._throttle = throttle
        self._random_key = random_key
        self._sleep = sleep
        self._devices = Devices(connections, router)
        self._desks = Desks(connections, clock)

    def use(self, router: Router) -> None:
        """Go by other flows from now on."""
        self._devices.use(router)

    async def take(
        self, connection: str, messages: Sequence[Received], stored: Callable[[int], None] = lambda _: None
    ) -> None:
        """Return when every message is on disk, as a pending downlink or with its outcome.

        Many messages are taken in parts, as room and rate allow; it waits for these by looking again every half
        second, or when the next is allowed. `stored` is called after each part with its number of messages. Raises
        `JournalError` only while nothing of them is stored: once a part is, the rest is tried until it is too. Calls
        for one connection come one after the other. Nothing is taken for a connection that is gone: its session is
        ending, and the broker keeps the rest.
        """
        done = 0
        told: set[str] = set()
        while done < len(messages):
            desk, number = await self._admit(connection, len(messages) - done, told)
            part = messages[done : done + number]
            while True:
                try:
                    await self._store(desk, part)
                    break
                except JournalError:
                    if not done:
                        raise
                    await self._sleep(JOURNAL_RETRY)
            desk.bucket.take(number, self._clock.monotonic())
            done += number
            stored(number)

    async def submit(self, connection: str, body: bytes) -> AcceptedDownlink | Ended | Busy | None:
        """Take one document that is given by hand, as if the connection's broker had sent it; it names its device.

        Gives what waits for the network server now, or how it ended at once; its receipt goes where all receipts go.
        `Busy`: it is not taken now, and not stored. None: there is no such connection. Raises `JournalError`: it may
        be stored, or not.
        """
        desk = self._desks.find(connection)
        if desk is None:
            return None
        now = self._clock.monotonic()
        if self._room(desk) <= 0:
            return Busy(desk.full(ROOM), LOOK_EVERY)
        if not desk.bucket.available(now):
            return Busy(desk.too_fast, desk.bucket.wait(1, now))
        desk.bucket.take(1, now)
        desk.given += 1
        try:
            (judged,) = await self._store(desk, [ByHand("", body, qos=0, retain=False, mid=0)])
        finally:
            desk.given -= 1
        return judged.ended or judged.accepted

    # --- room and rate

    async def _admit(self, connection: str, wanted: int, told: set[str]) -> tuple[Desk, int]:
        """Wait until some may be taken; gives how many. `told`: the reasons to wait that were told already."""
        while True:
            desk = await self._desks.at(connection)
            room, allowed = self._room(desk), desk.bucket.available(self._clock.monotonic())
            if room > 0 and allowed > 0:
                return desk, min(wanted, room, allowed, PART)
            reason, delay = desk.full(ROOM), LOOK_EVERY
            if room > 0:
                reason = f"{desk.too_fast}; the broker keeps them for now"
                delay = desk.bucket.wait(wanted, self._clock.monotonic())
            if reason not in told:
                told.add(reason)
                self._metrics.downlink_delayed(desk.id)
                self._throttle.tell("warning", "downlink.delayed", desk.id, connection=desk.id, reason=reason)
            await self._sleep(delay)

    def _room(self, desk: Desk) -> int:
        """Tell how many more there may be now."""
        return ROOM - self._journal.unfinished(desk.id) - desk.given

    # --- storing

    async def _store(self, desk: Desk, messages: Sequence[Received]) -> list[_Judged]:
        """Judge them, put them on disk together, and tell. Raises `JournalError`: none is stored."""
        received = self._clock.now()
        known: dict[str, Device | None] = {}
        judged: list[_Judged] = []
        for number, message in enumerate(messages, 1):
            judged.append(await self._judge(desk, message, received, known))
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        # A source may be gone since: then nobody reads what is stored for it, unless it was stored before it went.
        while gone := [place for place, one in enumerate(judged) if self._is_stranded(one)]:
            for place in gone:
                judged[place] = await self._judge(desk, messages[place], received, known)
        await self._journal.accept([one.accepted for one in judged])
        self._metrics.downlink_received(desk.id, len(judged))
        for one in judged:
            self._tell(one)
        for source in sorted({one.accepted.source for one in judged if one.ended is None}):
            self._dispatch(source)
        return judged

    def _is_stranded(self, judged: _Judged) -> bool:
        return judged.ended is None and judged.accepted.source not in self._sources

    def _tell(self, judged: _Judged) -> None:
        """Log what became of one message."""
        accepted = judged.accepted
        if judged.ended is not None:
            tell_ended(judged.ended, self._metrics)
            return
        dev_eui = "" if accepted.downlink is None else accepted.downlink.dev_eui
        log.debug(
            "downlink.accepted",
            connection=accepted.connection,
            dev_eui=dev_eui,
            source=accepted.source,
            key=accepted.key,
        )
        for warning in accepted.warnings:
            log.info(
                "downlink.warning",
                connection=accepted.connection,
                dev_eui=dev_eui,
                key=accepted.key,
                reason=warning,
            )

    # --- judging

    async def _judge(self, desk: Desk, message: Received, received: int, known: dict[str, Device | None]) -> _Judged:
        """Decide on one message. Raises `JournalError` alone."""
        digest = digest_of(message)
        former = await self._journal.former_key(desk.id, message.mid, digest) if message.dup and message.mid else None
        case = _Case(desk, message, former or self._random_key(), received)
        try:
            downlink, way = await self._valid(case, known)
        except JournalError:
            raise
        except DownlinkExpired as error:
            return self._ended(case, digest, DownlinkOutcome.EXPIRED, str(error), error.field)
        except DocumentError as error:
            return self._ended(case, digest, DownlinkOutcome.REJECTED, str(error), error.field)
        except Exception as error:  # a bug that one message finds must not stop the others, nor come again for ever
            log.exception("downlink.crashed", connection=desk.id)
            reason = f"internal error ({type(error).__name__}); please report it"
            return self._ended(case, digest, DownlinkOutcome.REJECTED, reason, "")
        accepted = AcceptedDownlink(
            connection=desk.id,
            key=case.key,
            mid=message.mid,
            digest=digest,
            received=received,
            source=case.source,
            way=way,
            downlink=downlink,
            correlation=case.correlation,
            warnings=few(case.warnings),
        )
        return _Judged(accepted, None)

    def _ended(self, case: _Case, digest: bytes, outcome: DownlinkOutcome, reason: str, field: str) -> _Judged:
        """Make what is stored and told of one that ends here."""
        ended = Ended(
            connection=case.desk.id,
            key=case.key,
            outcome=outcome,
            time=self._clock.now(),
            dev_eui=case.dev_eui,
            source=case.source,
            correlation_id=case.correlation_id,
            topic=case.message.topic,
            field=field,
            reason=reason,
            warnings=case.warnings,
            correlation=case.correlation,
        )
        accepted = AcceptedDownlink(
            connection=case.desk.id,
            key=case.key,
            mid=case.message.mid,
            digest=digest,
            received=case.received,
            correlation=case.correlation,
            receipt=receipt(ended) if case.receipt else None,
        )
        return _Judged(accepted, ended)

    async def _valid(self, case: _Case, known: dict[str, Device | None]) -> tuple[Downlink, str]:
        """Give the downlink and its way, with the source in the case. Raises `DocumentError`: why it ends."""
        downlink = self._parsed(case)
        if downlink.dev_eui not in known:
            known[downlink.dev_eui] = await self._journal.device(downlink.dev_eui)
        device = known[downlink.dev_eui]
        refusal = self._devices.refusal(case.desk.id, downlink.dev_eui, device)
        if refusal:
            raise DocumentError(refusal)
        case.source = source_of(device, self._sources)
        network = await self._network(case.source)
        way = device.way if device is not None and device.source == case.source else ""
        error = network.refusal(downlink, way)
        if error is not None:
            raise error
        return downlink, way

    async def _network(self, source: str) -> Network:
        """Give the network of a source. Raises `DocumentError`: it has none. One being replaced is waited for."""
        while (network := self._networks.get(source)) is None:
            settings = self._sources.get(source)
            why = "it is not configured any more" if settings is None else way_back(settings)
            if why:
                raise DocumentError(
                    f"the source {short(source)}, which this device belongs to, takes no downlinks: {why}"
                )
            await self._sleep(LOOK_EVERY)
        return network

    def _parsed(self, case: _Case) -> Downlink:
        """Read the message. What can be known of one that is refused is noted in the case first."""
        message, desk = case.message, case.desk
        values = None if desk.pattern is None else desk.pattern.match(message.topic)
        if isinstance(message, ByHand):
            values = {}
        case.dev_eui = topic_dev_eui = (values or {}).get("DevEUI", "")
        if is_receipt(message.payload):
            case.receipt = False
            raise DocumentError(
                "this is a receipt of a downlink, not a downlink: the receipt topic is among those subscribed to; "
                "change downlinkReceiptTopicPattern or downlinkTopicPattern"
            )
        if len(message.payload) > MAX_BODY:
            raise DocumentError(f"the message has {len(message.payload)} bytes; a downlink has {MAX_BODY} at most")
        seen = glimpse(message.payload)
        case.dev_eui = topic_dev_eui or seen.dev_eui
        case.correlation_id = seen.correlation_id
        if message.retain:
            raise DocumentError(
                "the message is retained, so that it would come again at each connect; publish downlinks without retain"
            )
        if len(message.correlation) > MAX_CORRELATION:
            size = len(message.correlation)
            raise DocumentError(
                f"the Correlation Data has {size} bytes; at most {MAX_CORRELATION} can come back with a receipt"
            )
        if desk.pattern is None:
            raise DocumentError("this connection takes no downlinks: downlinkTopicPattern is missing, or not enabled")
        if values is None:
            raise DocumentError(unfit(desk.pattern, message.topic))
        parsed = parse(message.payload, dev_eui=topic_dev_eui, default_fport=desk.fport, now=case.received)
        case.warnings = parsed.warnings
        case.dev_eui = parsed.downlink.dev_eui
        case.correlation_id = parsed.downlink.correlation_id
        return parsed.downlink
