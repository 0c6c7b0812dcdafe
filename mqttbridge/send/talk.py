"""One talk with a broker: publish, wait for the answers, and take what comes. For the modules of this room."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mqttbridge.errors import LinkError, MqttBridgeError
from mqttbridge.mqtt.client import link_options, open_link
from mqttbridge.mqtt.link import REFUSED, Publish
from mqttbridge.mqtt.reasons import reason
from mqttbridge.settings.secret import plain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from mqttbridge.mqtt.link import Ack, Link, Received
    from mqttbridge.settings.schema import LinkSettings

__all__ = ["SendError", "Talk", "talk", "unknown"]

ANSWER_WITHIN = 10.0
"""Seconds."""
AT_ONCE = 100
"""Publishes in flight."""


class SendError(MqttBridgeError):
    """Nothing, or not everything, could be sent, or it was not taken."""


class Talk:
    """An open link, and what came over it. Made by `talk`."""

    def __init__(self) -> None:
        """Prepare to listen."""
        self.link: Link | None = None
        self.sent = 0
        self._awaited = 0
        self._news = asyncio.Event()
        self._failure: SendError | None = None
        self._messages: list[Received] = []

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send one message; waits only while too many are unanswered."""
        if self.link is not None:
            self.link.publish([Publish(self.sent + self._awaited, topic, payload)])
        self._awaited += 1
        await self._until(lambda: self._awaited < AT_ONCE, ANSWER_WITHIN)

    async def answered(self) -> None:
        """Wait until everything sent is answered."""
        await self._until(lambda: not self._awaited, ANSWER_WITHIN)

    async def subscribe(self, topic_filter: str) -> None:
        """Have messages come."""
        if self.link is None:
            return
        (code,) = await self.link.subscribe([topic_filter], 1)
        if code >= REFUSED:
            raise SendError(f"the broker refuses the subscription to {topic_filter}: {reason(code)}")

    async def messages(self, enough: Callable[[Sequence[Received]], bool], seconds: float) -> Sequence[Received]:
        """Wait until enough messages came. Raises `TimeoutError`."""
        await self._until(lambda: enough(self._messages), seconds)
        return self._messages

    async def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while self._failure is None and not holds():
                self._news.clear()
                await self._news.wait()
        if self._failure is not None:
            raise self._failure

    # -- the link's listener -------------------------------------------------------------------------------------

    def acknowledged(self, acks: Sequence[Ack]) -> None:
        """Count answers."""
        self._awaited -= len(acks)
        for ack in acks:
            self.sent += ack.code < REFUSED
            if ack.code >= REFUSED and self._failure is None:
                self._failure = SendError(f"the broker refuses the message: {reason(ack.code)}")
        self._news.set()

    def received(self, messages: Sequence[Received]) -> None:
        """Keep what came."""
        self._messages += messages
        if self.link is not None:
            self.link.acknowledge(messages)
        self._news.set()

    def lost(self, error: LinkError) -> None:
        """Note the end."""
        if self._failure is None:
            self._failure = SendError(f"the broker's connection ended: {error}")
        self._news.set()


@asynccontextmanager
async def talk(settings: LinkSettings, whose: str, client_id: str) -> AsyncIterator[Talk]:
    """Log in to a broker as another client than the daemon. `whose`: `the source's broker`, for sentences.

    Raises `SendError`, which says how many messages were taken before.
    """
    it = Talk()
    qos = 0 if getattr(settings, "format", "") == "tts" else 1
    link = open_link(link_options(settings, client_id=client_id, clean=True, qos=qos), it)
    try:
        async with asyncio.timeout(settings.connection_timeout / 1000):
            await link.connect()
            await link.login()
        it.link = link
        yield it
    except SendError as error:
        raise SendError(f"{error}{through(it.sent)}") from error
    except LinkError as error:
        raise SendError(f"{whose}: {error}{through(it.sent)}") from error
    except TimeoutError as error:
        raise SendError(f"{whose} {plain(settings.host_name)} did not answer in time{through(it.sent)}") from error
    finally:
        await link.close()


def through(sent: int) -> str:
    """Say how many were taken before the one that was not."""
    return f" ({sent} sent before that)" if sent else ""


def unknown(what: str, name: str, known: Sequence[str], near: Sequence[str]) -> SendError:
    """Say that the configuration has nothing of this name."""
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
    return SendError(f"there is no {what} {name!r} in the configuration; {hint}")
