"""The listener: taking the address, and ending with requests under way."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from mqttbridge.control import server
from mqttbridge.control.server import HttpServer, bind
from mqttbridge.errors import StartError
from tests.support.inside import request, wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Send = Callable[[dict[str, Any]], Awaitable[None]]


class App:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.came = asyncio.Event()

    async def __call__(self, _scope: object, _receive: object, send: Send) -> None:
        self.came.set()
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


def test_an_address_that_is_taken_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError) as refused:
            bind("127.0.0.1", port)
    assert str(refused.value).startswith(f"cannot listen on 127.0.0.1:{port} (http.listen): ")


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(StartError) as refused:
        bind("192.0.2.1", 8080)
    assert "cannot listen on 192.0.2.1:8080" in str(refused.value)


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    bind("::1", 0).close()
    with pytest.raises(StartError) as refused:
        bind("2001:db8::1", 8080)
    assert "[2001:db8::1]:8080" in str(refused.value)


async def test_a_request_under_way_is_answered_before_the_end() -> None:
    app = App()
    listener = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    http = HttpServer(app, listener)
    serving = asyncio.create_task(http.run_until_stopped())
    async with wire(url) as line, wire(url):
        await line.send(request("GET", "/"))
        await app.came.wait()
        http.stop()
        asyncio.get_running_loop().call_later(0.2, app.go_on.set)
        assert (await line.answer()).body == b"ok"
        async with asyncio.timeout(2):
            await serving


async def test_a_request_that_does_not_end_holds_up_the_end_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LAST_REQUESTS", 0.2)
    app = App()
    listener = bind("127.0.0.1", 0)
    http = HttpServer(app, listener)
    serving = asyncio.create_task(http.run_until_stopped())
    async with wire(f"http://127.0.0.1:{listener.getsockname()[1]}") as line:
        await line.send(request("GET", "/"))
        await app.came.wait()
        http.stop()
        began = time.monotonic()
        async with asyncio.timeout(3):
            await serving
        assert time.monotonic() - began < 2
