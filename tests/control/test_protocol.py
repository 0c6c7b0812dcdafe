"""What a client may do before its request is one, and how it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from mqttbridge.control import protocol
from tests.support.bridge import uplink
from tests.support.inside import inside, request, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.inside import Inside


@pytest_asyncio.fixture
async def here(tmp_path: Path) -> AsyncIterator[Inside]:
    async with inside(tmp_path) as daemon:
        yield daemon


@pytest.mark.parametrize(
    "garbage",
    [
        b"MQTT\r\n\r\n",
        b"POST /uplink/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /uplink/lrc HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /uplink/lrc HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        b"POST /uplink/lrc HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_answered_with_problem_details(here: Inside, garbage: bytes) -> None:
    async with wire(here.url) as line:
        await line.send(garbage)
        answer = await line.answer()
        assert (answer.status, answer.problem["title"]) == (400, "Bad Request")
        assert await line.ended()


async def test_a_head_without_end_is_refused(here: Inside) -> None:
    for parts in ([b"X-Long: " + b"y" * 1000] * 100, [b"X: " + b"y" * 90_000], [b"X: y"] * 20_000):
        async with wire(here.url) as line:
            await line.send(b"GET /health HTTP/1.1\r\n" + b"\r\n".join(parts))
            answer = await line.answer()
            assert (answer.status, answer.problem["title"]) == (431, "Request Header Fields Too Large")
            assert await line.ended()


async def test_a_large_body_right_behind_the_head_is_no_large_head(here: Inside) -> None:
    body = b"[" + b",".join(uplink(number) for number in range(500)) + b"]"
    async with wire(here.url) as line:
        for _ in range(3):
            await line.send(request("POST", "/uplink/lrc", body))
            assert (await line.answer()).body == b'{"accepted": 500}'


async def test_a_head_that_does_not_come_in_time_ends_the_connection(
    here: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_WITHIN", 0.1)
    async with wire(here.url) as idle, wire(here.url) as slow, wire(here.url) as second:
        await slow.send(b"GET /health HTTP/1.1\r\nHost:")
        await second.send(request("GET", "/health"))
        assert (await second.answer()).status == 200
        await second.send(b"GET /health HTTP/1.1\r\nHost:")
        for line in (idle, slow, second):
            answer = await line.answer()
            assert (answer.status, answer.problem["title"]) == (408, "Request Timeout")
            assert await line.ended()


async def test_an_idle_connection_between_requests_is_kept(here: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_WITHIN", 0.05)
    async with wire(here.url) as line:
        await line.send(request("GET", "/health"))
        assert (await line.answer()).status == 200
        async with wire(here.url) as other:
            assert (await other.answer()).status == 408, "that long at least"
        await line.send(request("GET", "/health"))
        assert (await line.answer()).status == 200


async def test_while_there_are_too_many_connections_none_is_kept_after_its_answer(
    here: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_KEPT", 2)
    async with wire(here.url) as first, wire(here.url) as second:
        for line in (first, second):
            await line.send(request("GET", "/health"))
            assert "connection" not in (await line.answer()).headers
        async with wire(here.url) as third:
            await third.send(request("GET", "/health"))
            answer = await third.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await third.ended()
        await first.send(request("GET", "/health"))
        assert (await first.answer()).status == 200
