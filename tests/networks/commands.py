"""A network server's ear at its MQTT broker: subscribes, and judges each command by a function. Uses paho alone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DEADLINE = 10.0


class Watcher:
    """What came: `verdicts` has a pair of topic and "" (taken) or what is wrong with it."""

    def __init__(self, judge: Callable[[str, bytes], str]) -> None:
        self.verdicts: list[tuple[str, str]] = []
        self.judge = judge
        self.told: Callable[[str], None] = lambda _: None
        self._changed = asyncio.Condition()

    async def came(self, topic: str, payload: bytes) -> None:
        verdict = self.judge(topic, payload)
        self.told(f"{topic} {payload.decode(errors='replace')}\n  {verdict or 'taken'}")
        async with self._changed:
            self.verdicts.append((topic, verdict))
            self._changed.notify_all()

    async def wait_for(self, count: int, timeout: float = DEADLINE) -> list[tuple[str, str]]:
        """Wait until so many commands have come; gives all."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: len(self.verdicts) >= count)
        return list(self.verdicts)


@asynccontextmanager
async def watch(
    judge: Callable[[str, bytes], str],
    filters: list[str],
    *,
    host: str,
    port: int,
    user: tuple[str, str] | None = None,
    qos: int = 0,
) -> AsyncIterator[Watcher]:
    """Watch a broker until the block ends."""
    loop = asyncio.get_running_loop()
    watcher = Watcher(judge)
    ready = asyncio.Event()
    pending: set[asyncio.Task[None]] = set()

    def take(message: MQTTMessage) -> None:
        task = loop.create_task(watcher.came(message.topic, message.payload))
        pending.add(task)
        task.add_done_callback(pending.discard)

    def connected(client: Client, *_: Any) -> None:  # noqa: ANN401 - paho's
        client.subscribe([(one, qos) for one in filters])

    client = Client(CallbackAPIVersion.VERSION2)
    if user is not None:
        client.username_pw_set(*user)
    client.on_connect = connected
    client.on_subscribe = lambda *_: loop.call_soon_threadsafe(ready.set)
    client.on_message = lambda _client, _data, message: loop.call_soon_threadsafe(take, message)
    await asyncio.to_thread(client.connect, host, port)
    client.loop_start()
    try:
        async with asyncio.timeout(DEADLINE):
            await ready.wait()
        yield watcher
    finally:
        await asyncio.to_thread(client.disconnect)
        await asyncio.to_thread(client.loop_stop)
        for task in list(pending):
            await task
