"""Downlinks to a network server over its MQTT broker: ChirpStack's command topic, The Things Stack's down/push.

The link is one of its own beside that of the source, so that neither waits for the other: opened when there is
something to send, shared by all sends, closed when nothing was sent for a while.

Invariants:

1. `send` ends within connectionTimeout and actionTimeout: whoever waited while an attempt to connect failed shares
   its failure.
2. At most one link is open. No task, link or future outlives `close`, and a cancelled `send` leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mqttbridge.downlinks.network import Answer, Later, Refused, Taken
from mqttbridge.errors import DocumentError, LinkError, LinkTimeout
from mqttbridge.mqtt.client import link_options, open_link, overdue
from mqttbridge.mqtt.link import REFUSED, Publish
from mqttbridge.mqtt.reasons import Verdict, reason, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.downlinks.ways import Commands
    from mqttbridge.journal.downlink_protocol import PendingDownlink
    from mqttbridge.model import Downlink
    from mqttbridge.mqtt.link import Ack, Received
    from mqttbridge.mqtt.options import LinkOptions
    from mqttbridge.settings.schema import MqttSource

__all__ = ["MqttNetwork"]

IDLE = 300.0
"""Seconds without a downlink after which the link is closed."""
NOBODY = 0x10
"""PUBACK of MQTT 5: no subscriber matches, so that nobody has it (section 3.4.2.1)."""
OVERHEAD = 10
"""Bytes of a PUBLISH beside topic and payload, at most (MQTT 5, section 3.3). A broker hangs up on what is too large,
and all that was in flight would be lost with it."""


class MqttNetwork:
    """A network server behind a broker; see `mqttbridge.downlinks.network.Network`."""

    def __init__(self, source_id: str, source: MqttSource, commands: Commands, *, idle: float = IDLE) -> None:
        """Prepare; nothing is connected before the first `send`. `idle` in seconds."""
        self._commands = commands
        self._connection_timeout = source.connection_timeout
        self._action_timeout = source.action_timeout
        client_id = f"{source.client_id_for(source_id)}-downlinks"
        self._options = link_options(source, client_id=client_id, clean=True, qos=commands.qos, retain=False)
        self._idle = idle
        self._opening = asyncio.Lock()
        self._life: _Life | None = None
        self._failures = 0
        self._failure = LinkError("")
        self._sending = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    def refusal(self, downlink: Downlink, way: str) -> DocumentError | None:
        """See `Network.refusal`."""
        return self._commands.refusal(downlink, way)

    async def send(self, pending: PendingDownlink) -> Answer:
        """See `Network.send`."""
        # Asked when it was taken too; but since then the configuration may have become another one.
        unfit = self._commands.refusal(pending.downlink, pending.way)
        if unfit is not None:
            return Refused(str(unfit), unfit.field)
        try:
            topic, payload = self._commands.command(pending)
        except DocumentError as error:
            return Refused(str(error), error.field)
        self._sending += 1
        try:
            life = await self._entered()
            size = len(topic.encode()) + len(payload) + OVERHEAD
            if size > life.largest:
                return Refused(
                    f"the source's broker takes packets of at most {life.largest} bytes, this one has {size}"
                )
            return self._judged(await life.publish(topic, payload), topic)
        except LinkError as error:
            return Later(f"the source's broker: {error}", everyone=True)
        finally:
            self._sending -= 1
            self._wind()

    async def close(self) -> None:
        """See `Network.close`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ending is not None:
            await asyncio.wait([self._ending])
        await self._leave()

    def _judged(self, code: int, topic: str) -> Answer:
        """Say what the broker's answer means."""
        if code == NOBODY:
            words = f"{self._commands.name} is not connected to its broker: nobody is subscribed to {topic!r}"
            return Later(words, everyone=True)
        if code < REFUSED:
            return Taken()
        words = f"the broker refuses the downlink on {topic!r}: {reason(code)}"
        return Later(words) if verdict(code) is Verdict.BACK_OFF else Refused(words)

    async def _entered(self) -> _Life:
        """Give the open link; opens one if there is none. Raises `LinkError`."""
        failures = self._failures
        async with self._opening:
            if self._life is not None and self._life.error is None:
                return self._life
            if self._failures > failures:
                raise self._failure.with_traceback(None)
            await self._leave()
            life = _Life(self._options, self._action_timeout)
            try:
                await life.enter(self._connection_timeout)
            except LinkError as error:
                self._failures += 1
                self._failure = error
                raise
            self._life = life
            return life

    async def _leave(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            await life.close()

    # -- the end of a link that nobody uses ----------------------------------------------------------------------------

    def _wind(self) -> None:
        """Start the time after which an unused link is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._life is not None and not self._sending:
            self._timer = asyncio.get_running_loop().call_later(self._idle, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if not self._sending:
            self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        async with self._opening:
            if not self._sending:
                await self._leave()


class _Life:
    """One link and the publishes that wait on it. Listens to the link."""

    def __init__(self, options: LinkOptions, action_timeout: int) -> None:
        self.error: LinkError | None = None
        self.largest = 0
        """Bytes of a packet that the broker takes."""
        self._options = options
        self._action_timeout = action_timeout
        self._link = open_link(options, self)
        self._token = 0
        self._waiting: dict[int, asyncio.Future[int]] = {}

    async def enter(self, limit: int) -> None:
        """Connect and log in within `limit` ms; otherwise nothing is left."""
        try:
            async with asyncio.timeout(limit / 1000):
                await self._link.connect()
                self.largest = (await self._link.login()).maximum_packet_size
        except TimeoutError as error:
            late = overdue(self._link, self._options, limit)
            await self._link.close()
            raise late from error
        except BaseException:
            await self._link.close()
            raise

    async def publish(self, topic: str, payload: bytes) -> int:
        """Publish and give the broker's code. Raises `LinkError`."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        self._token += 1
        token = self._token
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[token] = answer
        try:
            self._link.publish([Publish(token, topic, payload)])
            async with asyncio.timeout(self._action_timeout / 1000):
                return await answer
        except TimeoutError as error:
            limit = self._action_timeout
            late = LinkTimeout(f"{self._options.where}: no answer to a publish within {limit} ms (actionTimeout)")
            self.lost(late)  # it is dead: whoever comes next opens another
            await self._link.close()
            raise late from error
        finally:
            self._waiting.pop(token, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, also where a cancellation was faster

    async def close(self) -> None:
        """End the link."""
        self.lost(LinkError("the downlinks of this source are ending"))
        await self._link.close()

    def acknowledged(self, acks: Sequence[Ack]) -> None:
        """Hand the codes to those who wait for them."""
        for ack in acks:
            answer = self._waiting.get(ack.token)
            if answer is not None and not answer.done():
                answer.set_result(ack.code)

    def received(self, messages: Sequence[Received]) -> None:
        """Nothing is subscribed."""

    def lost(self, error: LinkError) -> None:
        """Tell all who wait."""
        if self.error is None:
            self.error = error
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(self.error)
