"""What arrives at a broker, as an independent client sees it: mosquitto_sub in a process of its own.

async with recorder(broker, "#") as record:
...
messages = await record.wait_for(3)
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tests.brokers.mosquitto import find

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

DEADLINE = 10.0


class Address(Protocol):
    """What a broker fixture offers."""

    host: str
    port: int


class Message(NamedTuple):
    """One message that arrived."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Recorder:
    """Collects messages in the order of their arrival."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.ready = asyncio.Event()
        self._changed = asyncio.Condition()

    @property
    def topics(self) -> list[str]:
        return [message.topic for message in self.messages]

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]

    async def add(self, message: Message) -> None:
        async with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    async def wait_for(self, count: int, timeout: float = DEADLINE) -> list[Message]:
        """Wait until at least `count` messages have arrived; gives all of them."""
        return await self.wait_until(lambda messages: len(messages) >= count, timeout)

    async def wait_until(self, holds: Callable[[list[Message]], bool], timeout: float = DEADLINE) -> list[Message]:
        """Wait until the messages are as they should be."""
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: holds(self.messages))
        except TimeoutError:
            raise AssertionError(f"after {timeout} s only {len(self.messages)} messages: {self.topics[-5:]}") from None
        return list(self.messages)


@asynccontextmanager
async def recorder(
    broker: Address, topic: str = "#", *, qos: int = 1, args: Sequence[str] = ()
) -> AsyncIterator[Recorder]:
    """Subscribe and record until the block ends. `args`: more arguments for mosquitto_sub (user, TLS, …)."""
    process = await asyncio.create_subprocess_exec(
        "stdbuf", "-oL", find("mosquitto_sub"), "-h", broker.host, "-p", str(broker.port), *args,
        "-q", str(qos), "-t", topic, "-F", "%q %r =%x %t", "-d",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, limit=64 * 1024 * 1024,
    )  # fmt: skip
    record = Recorder()
    reading = asyncio.create_task(_read(process, record))
    try:
        async with asyncio.timeout(DEADLINE):
            await record.ready.wait()
        yield record
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()  # its handler of SIGTERM prints into the middle of a line
        await process.wait()
        await reading


async def _read(process: asyncio.subprocess.Process, record: Recorder) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        if not line.endswith(b"\n"):
            return  # cut off by its end
        if line[:1].isdigit():
            qos, retain, payload, topic = line.rstrip(b"\n").split(b" ", 3)
            body = bytes.fromhex(payload[1:].decode())
            await record.add(Message(topic.decode(errors="replace"), body, int(qos), retain == b"1"))
        elif line.startswith(b"Subscribed"):
            record.ready.set()


async def publish(broker: Address, topic: str, payload: bytes, *, qos: int = 0, args: Sequence[str] = ()) -> None:
    """Publish one message with mosquitto_pub."""
    process = await asyncio.create_subprocess_exec(
        find("mosquitto_pub"), "-h", broker.host, "-p", str(broker.port), *args, "-t", topic, "-q", str(qos), "-s",
        stdin=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await process.communicate(payload)
    assert process.returncode == 0
