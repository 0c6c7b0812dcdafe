"""/health and /metrics, and everything else that somebody may ask the listener."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from mqttbridge import vitals
from mqttbridge.control import app
from tests.support.bridge import NOBODY, to, until, uplink
from tests.support.inside import inside, request, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto
    from tests.support.inside import Inside


@pytest_asyncio.fixture
async def here(tmp_path: Path) -> AsyncIterator[Inside]:
    connections = {"acme": to(NOBODY), "off": {**to(1), "active": False}}
    async with inside(tmp_path, connections=connections) as daemon:
        yield daemon


async def test_health_is_good_while_uplinks_are_taken_whatever_the_brokers_do(here: Inside) -> None:
    await here.until_state("acme", "UNREACHABLE")
    answer = await here.get("/health")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    health = answer.json()
    assert (health["status"], health["connections"]) == ("ok", {"UNREACHABLE": 1, "DEACTIVATED": 1})


async def test_health_names_the_connections_that_are_not_open_with_the_reason(
    here: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.until_state("acme", "UNREACHABLE")
    unreachable, inactive = (await here.get("/health")).json()["not_open"]
    assert (unreachable["connection"], unreachable["state"]) == ("acme", "UNREACHABLE")
    assert "refused" in unreachable["reason"]
    assert inactive == {"connection": "off", "state": "DEACTIVATED", "reason": "active is false"}
    monkeypatch.setattr(vitals, "MAX_NAMED", 1)
    assert len((await here.get("/health")).json()["not_open"]) == 1


async def test_health_that_fails_names_them_too_and_an_open_one_is_not_named(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    sources = {"ns": {"transport": "mqtt", "hostName": f"127.0.0.1:{NOBODY}", "protocol": "TCP", "topics": ["a"]}}
    connections = {"up": to(plain_mosquitto), "down": to(NOBODY)}
    async with inside(tmp_path, sources=sources, connections=connections) as here:
        await here.until_state("up", "OPENED")
        answer = await here.get("/health")
        assert answer.status_code == 503
        assert [one["connection"] for one in answer.json()["not_open"]] == ["down"]


async def test_beyond_the_limit_a_request_is_told_to_come_again(here: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MAX_UNDER_WAY", 2)
    async with wire(here.url) as idle, wire(here.url) as one, wire(here.url) as two:
        await idle.send(request("GET", "/metrics"))
        assert (await idle.answer()).status == 200
        for line in (one, two):
            await line.send(request("POST", "/uplink/lrc", None, f"Content-Length: {len(uplink(1))}"))

        async def full() -> bool:
            return (await here.get("/metrics")).status_code == 503

        await until(full, "two requests under way")
        answer = await here.post("lrc", uplink(2))
        problem = answer.json()
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) > 0
        assert (problem["title"], "2 requests" in problem["detail"]) == ("Service Unavailable", True)
        assert (await here.get("/health")).status_code == 200, "who watches is answered"
        for number, line in enumerate((one, two), 4):
            await line.send(uplink(number))
            assert (await line.answer()).status == 200
        await idle.send(request("POST", "/uplink/lrc", uplink(3)))
        assert (await idle.answer()).status == 200, "an idle connection took nobody's place"
    assert await here.rejected("lrc", "overloaded") == 1
    assert (await here.account("acme"))["routed"] == 3


@pytest.mark.parametrize("path", ["/health", "/metrics", "/health?verbose=1", "/nowhere"])
async def test_head_is_answered_as_get_is_without_the_body(here: Inside, path: str) -> None:
    async with wire(here.url) as line:
        await line.send(request("GET", path))
        got = await line.answer()
        await line.send(request("HEAD", path))
        head = await line.answer(head=True)
        assert (head.status, head.headers["content-type"]) == (got.status, got.headers["content-type"])
        await line.send(request("GET", "/health"))
        assert (await line.answer()).status == 200, "no body came that would have stood in the way"


async def test_metrics_speak_the_text_format_and_know_every_source_and_connection_from_the_start(here: Inside) -> None:
    answer = await here.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    metrics = await here.metrics()
    assert metrics["mqttbridge_source_uplinks_accepted_total", "lrc"] == 0
    assert metrics["mqttbridge_source_uplinks_rejected_total", "malformed", "lrc"] == 0
    for connection in ("acme", "off"):
        assert set((await here.account(connection)).values()) == {0}
        states = [value for key, value in metrics.items() if key[:2] == ("mqttbridge_connection_state", connection)]
        assert sorted(states) == [0] * 7 + [1]
    assert metrics["mqttbridge_journal_healthy",] == 1
    await here.accept("lrc", uplink(1), uplink(2))
    assert (await here.account("acme"))["queued"] == 2


async def test_a_metrics_bug_is_answered_and_uplinks_go_on(here: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Log:
        def exception(self, event: str, **_: object) -> None:
            told.append(event)

    def buggy() -> tuple[bytes, str]:
        raise ZeroDivisionError

    monkeypatch.setattr(type(here.daemon._running), "metrics", lambda _: buggy())
    monkeypatch.setattr("mqttbridge.control.guard.log", Log())
    answer = await here.get("/metrics")
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
    assert told == ["http.crashed"]
    assert (await here.post("lrc", uplink(1))).status_code == 200
