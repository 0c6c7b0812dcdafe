"""Uplinks from a network server's MQTT broker, over a persistent session.

The broker gets its PUBACK only after our commit; until then it keeps the message, over our crash as well. A message
that is no uplink is acknowledged, counted and told, so that it does not come again for ever. Whatever else comes is
taken: retained uplinks too, and those of a topic that the broker's session still has from an earlier configuration.
When the journal takes nothing, nothing is acknowledged, and reading pauses: the queue is then the broker's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from mqttbridge.errors import BrokerRefused, DocumentError, JournalError, LinkError, LinkLost, LinkTimeout, LoginRefused
from mqttbridge.formats import FORMATS
from mqttbridge.mqtt.backoff import HEALTHY_AFTER, jitter
from mqttbridge.mqtt.client import link_options, open_link, overdue
from mqttbridge.mqtt.link import REFUSED, Link
from mqttbridge.mqtt.reasons import reason
from mqttbridge.mqtt.until import unless
from mqttbridge.observe.log import get_logger
from mqttbridge.settings.secret import plain
from mqttbridge.sources.intake import device_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mqttbridge.clock import Clock
    from mqttbridge.model import Uplink
    from mqttbridge.mqtt.link import Ack, Received
    from mqttbridge.settings.schema import MqttSource
    from mqttbridge.sources.intake import Intake

__all__ = ["MqttIntake", "SourceStatus"]

log = get_logger()

BATCH = 1000
BATCH_BYTES = 256 * 1024
"""What is committed together, at most (one message at least, and never more than any journal can hold)."""
PAUSE_AT = 4000
PAUSE_AT_BYTES = 16 * 1024 * 1024
RESUME_AT = 1000
"""Messages in the buffer: from here on reading pauses, and goes on again."""
JOURNAL_RETRY = 1.0
DRAIN_FOR = 5.0
REFUSED_DELAY = 60.0
"""After a refused login: trying a wrong password fast locks accounts."""
SUMMARY_EVERY = 600.0
"""Seconds."""
MAX_SHOWN = 200
"""Characters of a topic."""


class SourceStatus(msgspec.Struct, frozen=True):
    """A source from outside. `why` is a sentence, empty while it is open; `since` and `retry_at` in monotonic seconds.

    `since`: since when it is open, or is not, whatever it tried.
    """

    open: bool
    since: float
    why: str
    retry_at: float | None = None


class MqttIntake:
    """One source. `run` it as a task, `stop` it once."""

    def __init__(
        self,
        source: str,
        settings: MqttSource,
        intake: Intake,
        *,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        """Prepare; nothing happens before `run`."""
        self._source = source
        self._settings = settings
        self._intake = intake
        self._clock = clock
        self._random = random
        client_id = settings.client_id_for(source)
        self._options = link_options(settings, client_id=client_id, clean=False, qos=1, retain=False)
        self._link: Link | None = None
        self._dead: asyncio.Future[LinkError] | None = None
        self._buffer: deque[Received] = deque()
        self._buffered = 0
        self._came = asyncio.Event()
        self._idle = asyncio.Event()
        self._stopping = asyncio.Event()
        self._status = SourceStatus(open=False, since=clock.monotonic(), why="not connected yet")
        self._failures = 0
        self._told_at = 0.0
        self._told_open = False

    def status(self) -> SourceStatus:
        """Tell how it is."""
        return self._status

    def reconfigure(self, settings: MqttSource) -> None:
        """Have other settings, at any moment, for what comes next: format, passThrough, duplicateWindow, timeouts.

        For a change of the link (address, login, client id …) or of its topics a source ends, and another one begins.
        """
        self._settings = settings

    def stop(self) -> None:
        """Ask it to end: what has come is committed and acknowledged first, if that takes no longer than 5 s."""
        self._stopping.set()

    async def run(self) -> None:
        """Connect, take uplinks, reconnect, until stopped."""
        delay = 0.0
        consumer = asyncio.ensure_future(self._consume())
        try:
            while not self._stopping.is_set():
                if consumer.done():
                    consumer = asyncio.ensure_future(self._consume())
                error = await self._live(consumer)
                if self._stopping.is_set():
                    return
                healthy = self._is_healthy()
                if healthy:
                    self._failures, delay = 0, 0.0
                delay = 0.0 if healthy else jitter(delay, self._random())
                if isinstance(error, LoginRefused):
                    delay = REFUSED_DELAY
                self._failed(error, delay)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), delay)
        finally:
            consumer.cancel()
            await asyncio.gather(consumer, return_exceptions=True)

    async def _live(self, consumer: asyncio.Task[None]) -> LinkError:
        """Live through one link; gives why it ended."""
        self._dead = asyncio.get_running_loop().create_future()
        self._link = link = open_link(self._options, self)
        try:
            if not await self._entered(link):
                return LinkLost("the source is ending")
            self._opened()
            return await self._until_ended(link, self._dead, consumer)
        except LinkError as error:
            return error
        except Exception as error:  # a bug here must not end the daemon; what was not acknowledged comes again
            log.exception("source.crashed", source=self._source)
            return LinkLost(f"internal error ({type(error).__name__}); please report it")
        finally:
            self._link = None
            await link.close()
            # What was not acknowledged comes again; QoS 0 does not, and is still taken.
            self._buffer = deque(message for message in self._buffer if message.qos == 0)
            self._buffered = sum(len(message.payload) for message in self._buffer)

    def _is_healthy(self) -> bool:
        return self._status.open and self._clock.monotonic() - self._status.since >= HEALTHY_AFTER

    async def _entered(self, link: Link) -> bool:
        """Connect, log in and subscribe; False if a stop request came first."""
        await unless(self._stopping, self._enter(link))
        return not self._stopping.is_set()

    async def _enter(self, link: Link) -> None:
        limit = self._settings.connection_timeout
        try:
            async with asyncio.timeout(limit / 1000):
                await link.connect()
                await link.login()
        except TimeoutError as error:
            raise overdue(link, self._options, limit) from error
        await self._subscribe(link)

    async def _until_ended(
        self, link: Link, dead: asyncio.Future[LinkError], consumer: asyncio.Task[None]
    ) -> LinkError:
        await unless(self._stopping, asyncio.wait((dead, consumer), return_when=asyncio.FIRST_COMPLETED))
        if consumer.done():
            consumer.result()
        if dead.done():
            return dead.result()
        link.pause()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), DRAIN_FOR)
        return LinkLost("the source is ending")

    async def _subscribe(self, link: Link) -> None:
        try:
            async with asyncio.timeout(self._settings.action_timeout / 1000):
                codes = await link.subscribe([plain(topic) for topic in self._settings.topics], 1)
        except TimeoutError as error:
            limit = self._settings.action_timeout
            raise LinkTimeout(f"no SUBACK within {limit} ms (actionTimeout)") from error
        for topic, code in zip(self._settings.topics, codes, strict=True):
            if code >= REFUSED:
                raise BrokerRefused(f"the broker refuses the subscription to {topic}: {reason(code)}", code=code)

    # -- what the log says -----------------------------------------------------------------------------------------

    def _opened(self) -> None:
        self._status = SourceStatus(open=True, since=self._clock.monotonic(), why="")
        if not self._told_open:
            self._told_open = True
            log.info("source.opened", source=self._source, topics=list(self._settings.topics))

    def _failed(self, error: LinkError, retry_in: float) -> None:
        now = self._clock.monotonic()
        event = "source.lost" if self._status.open else "source.failed"
        since = now if self._status.open else self._status.since
        self._status = SourceStatus(open=False, since=since, why=str(error), retry_at=now + retry_in)
        self._failures += 1
        if self._failures > 1:
            if now - self._told_at < SUMMARY_EVERY:
                return
            event = "source.still_failing"
        self._told_at = now
        self._told_open = False
        attempts = self._failures
        log.warning(event, source=self._source, reason=str(error), retry_in=round(retry_in, 1), attempts=attempts)

    # -- taking uplinks --------------------------------------------------------------------------------------------

    async def _consume(self) -> None:
        """Commit what comes, batch by batch, and acknowledge it."""
        while True:
            if not self._buffer:
                self._came.clear()
                self._idle.set()
                await self._came.wait()
            link = self._link
            batch = self._take()
            if not self._is_full(RESUME_AT) and link is not None and not self._stopping.is_set():
                link.resume()
            uplinks = self._parsed(batch)
            while True:
                try:
                    await self._intake.accept(self._source, uplinks, window=self._settings.duplicate_window)
                    break
                except JournalError:
                    # Said by the journal itself. The broker keeps what we do not acknowledge.
                    await asyncio.sleep(JOURNAL_RETRY)
            if link is not None and link is self._link:
                link.acknowledge(batch)

    def _take(self) -> list[Received]:
        batch: list[Received] = []
        size, limit = 0, min(BATCH_BYTES, self._intake.largest // 4)
        while self._buffer and len(batch) < BATCH:
            size += len(self._buffer[0].payload)
            if batch and size > limit:
                break
            batch.append(self._buffer.popleft())
            self._buffered -= len(batch[-1].payload)
        return batch

    def _is_full(self, count: int) -> bool:
        return len(self._buffer) >= count or self._buffered >= PAUSE_AT_BYTES

    def _parsed(self, batch: Sequence[Received]) -> list[Uplink]:
        received, largest = self._intake.now(), self._intake.largest
        is_ours = FORMATS[self._settings.format].is_ours
        uplinks: list[Uplink] = []
        for message in batch:
            if is_ours(message.topic):
                continue
            if len(message.payload) > largest:
                size = len(message.payload)
                text = f"has {size} bytes; {largest} are the most that is taken"
                self._rejected("too_large", message, text)
                continue
            try:
                uplinks.append(self._parsed_one(message, received))
            except DocumentError as error:
                self._rejected("malformed", message, f"is no uplink: {error}")
        return uplinks

    def _parsed_one(self, message: Received, received: int) -> Uplink:
        parse, through = FORMATS[self._settings.format].parse, self._settings.pass_through
        hint = message.topic
        uplink = parse(message.payload, source=self._source, received=received, hint=hint, pass_through=through)
        return replace(uplink, origin=f"topic {_shown(message.topic)}")

    def _rejected(self, kind: str, message: Received, why: str) -> None:
        text = f"a message on {message.topic!r} {why}"
        self._intake.rejected(self._source, kind, text, dev_eui=device_in(message.payload))

    # -- the link's listener ---------------------------------------------------------------------------------------

    def received(self, messages: Sequence[Received]) -> None:
        """Take messages from the link; too many at once pause it."""
        self._buffer.extend(messages)
        self._buffered += sum(len(message.payload) for message in messages)
        self._idle.clear()
        if self._is_full(PAUSE_AT) and self._link is not None:
            self._link.pause()
        self._came.set()

    def acknowledged(self, acks: Sequence[Ack]) -> None:
        """Nothing is published here."""

    def lost(self, error: LinkError) -> None:
        """Note that the link ended by itself."""
        if self._dead is not None and not self._dead.done():
            self._dead.set_result(error)


def _shown(topic: str) -> str:
    """Give the beginning of a foreign topic, all of it printable."""
    text = topic[:MAX_SHOWN]
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)
