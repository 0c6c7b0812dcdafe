"""Host names: none that hangs delays another."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from mqttbridge.mqtt import lookup
from mqttbridge.mqtt.lookup import Lookups

if TYPE_CHECKING:
    from collections.abc import Iterator

V4 = socket.AF_INET


class Resolver:
    """The system's resolver, scripted: names that begin with `hang` hang until they are released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.hanging = False
        self.failing = 0
        self.address = "192.0.2.1"
        self.calls: Counter[str] = Counter()

    def getaddrinfo(self, host: str, port: int | None, **_: object) -> list[object]:
        self.calls[host] += 1
        if self.hanging or host.startswith("hang"):
            self.release.wait(20)
        if self.failing:
            raise socket.gaierror(self.failing, "scripted")
        return [(V4, 0, 0, "", (self.address, port or 0))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    scripted = Resolver()
    monkeypatch.setattr(lookup.socket, "getaddrinfo", scripted.getaddrinfo)
    yield scripted
    scripted.release.set()
    for thread in threading.enumerate():
        if thread.name == "mqttbridge-dns":
            thread.join(5)
            assert not thread.is_alive()


async def cancel(tasks: list[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.usefixtures("resolver")
async def test_300_names_that_hang_do_not_delay_a_good_one_that_was_never_asked_for() -> None:
    lookups = Lookups()
    hung = [asyncio.create_task(lookups.addresses(f"hang{n}.example", 1)) for n in range(300)]
    await asyncio.sleep(0)
    started = time.monotonic()
    assert await lookups.addresses("good.example", 8883) == [(V4, ("192.0.2.1", 8883))]
    assert time.monotonic() - started < 2
    assert not any(task.done() for task in hung)
    await cancel(hung)


async def test_names_that_hang_for_ever_are_asked_once_and_given_back_at_once(resolver: Resolver) -> None:
    lookups = Lookups()
    for _ in range(5):  # as reconnects do
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await lookups.addresses("hang.example", 1)
    assert resolver.calls == {"hang.example": 1}
    last = asyncio.create_task(lookups.addresses("hang.example", 2))
    await asyncio.sleep(0)
    resolver.release.set()
    assert await last == [(V4, ("192.0.2.1", 2))]


async def test_a_name_that_answered_once_is_reached_while_its_lookup_hangs(resolver: Resolver) -> None:
    lookups = Lookups()
    await lookups.addresses("broker.example", 1883)
    resolver.hanging = True
    for port in (8883, 443):
        started = time.monotonic()
        assert await lookups.addresses("broker.example", port) == [(V4, ("192.0.2.1", port))]
        assert time.monotonic() - started < 2
    assert resolver.calls["broker.example"] == 2


async def test_a_name_that_answered_once_is_reached_when_all_threads_hang(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "USUAL", 2)
    monkeypatch.setattr(lookup, "MOST", 4)
    lookups = Lookups()
    await lookups.addresses("good.example", 1)
    hung = [asyncio.create_task(lookups.addresses(f"hang{n}.example", 1)) for n in range(10)]
    await asyncio.sleep(0)
    assert await lookups.addresses("good.example", 1) == [(V4, ("192.0.2.1", 1))]
    assert resolver.calls["good.example"] == 1
    await cancel(hung)


async def test_the_answer_that_came_too_late_serves_the_next_one(resolver: Resolver) -> None:
    lookups = Lookups()
    await lookups.addresses("moves.example", 1)
    resolver.hanging, resolver.address = True, "192.0.2.2"
    assert await lookups.addresses("moves.example", 1) == [(V4, ("192.0.2.1", 1))]
    resolver.hanging = False
    resolver.release.set()
    assert await lookups.addresses("moves.example", 1) == [(V4, ("192.0.2.2", 1))]


async def test_a_resolver_that_fails_leaves_the_last_addresses_and_a_name_that_is_gone_does_not(
    resolver: Resolver,
) -> None:
    lookups = Lookups()
    await lookups.addresses("broker.example", 1)
    resolver.failing = socket.EAI_AGAIN
    assert await lookups.addresses("broker.example", 1) == [(V4, ("192.0.2.1", 1))]
    with pytest.raises(socket.gaierror):
        await lookups.addresses("never.example", 1)
    for code in (socket.EAI_NONAME, socket.EAI_AGAIN):  # once gone it stays so
        resolver.failing = code
        with pytest.raises(socket.gaierror):
            await lookups.addresses("broker.example", 1)


async def test_what_is_remembered_is_bounded_in_number_and_age(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "KEPT", 3)
    lookups = Lookups()
    for name in ("a", "b", "c", "a", "d"):
        await lookups.addresses(name, 1)
    resolver.failing = socket.EAI_AGAIN
    for name in ("a", "c", "d"):
        await lookups.addresses(name, 1)
    with pytest.raises(socket.gaierror):
        await lookups.addresses("b", 1)
    monkeypatch.setattr(lookup, "STALE", 0.0)
    with pytest.raises(socket.gaierror):
        await lookups.addresses("a", 1)
