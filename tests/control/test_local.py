"""What the Unix socket answers, and to whom."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest_asyncio

from mqttbridge.control import guard, local
from mqttbridge.control.unix import NAME, connect
from tests.support.bridge import NOBODY, to, uplink
from tests.support.inside import Told, inside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from tests.support.inside import Inside

PROBLEM = "application/problem+json"


@pytest_asyncio.fixture
async def here(tmp_path: Path) -> AsyncIterator[Inside]:
    async with inside(tmp_path, connections={"acme": to(NOBODY)}) as daemon:
        yield daemon


async def ask(here: Inside, method: str, path: str, **headers: str) -> tuple[int, str, dict[str, Any]]:
    """Ask over the socket; give status, media type and body."""

    def blocking() -> tuple[int, str, dict[str, Any]]:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = connect(here.state / NAME, 5)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        return answer.status, answer.getheader("content-type", ""), body

    return await anyio.to_thread.run_sync(blocking)


async def test_the_status_is_there_as_json(here: Inside) -> None:
    await here.accept("lrc", uplink(1), uplink(2))
    status, media, body = await ask(here, "GET", "/status")
    assert (status, media) == (200, "application/json")
    assert body["config"] == str(here.path)
    (connection,) = body["connections"]
    assert (connection["id"], connection["queued"], connection["ok"]) == ("acme", 2, False)


async def test_what_is_not_there_is_told(here: Inside) -> None:
    status, media, body = await ask(here, "GET", "/statsu")
    assert (status, media) == (404, PROBLEM)
    status, media, body = await ask(here, "POST", "/status")
    assert (status, media, body["detail"]) == (405, PROBLEM, "/status is for GET")


async def test_uplinks_do_not_come_this_way_and_the_status_not_the_other(here: Inside) -> None:
    assert (await ask(here, "POST", "/uplink/lrc"))[0] == 404
    assert (await here.get("/status")).status_code == 404


async def test_a_question_for_another_daemon_is_not_answered(here: Inside) -> None:
    link, other = here.state / "link.yaml", "/etc/%C3%A4.yaml"
    await anyio.Path(link).symlink_to(here.path)
    for name in (here.path, link):
        ours = (await anyio.to_thread.run_sync(local.quoted, name)).decode()
        assert (await ask(here, "GET", "/status", **{"Mqttbridge-Config": ours}))[0] == 200
    status, media, body = await ask(here, "GET", "/status", **{"Mqttbridge-Config": other})
    assert (status, media) == (421, PROBLEM)
    assert str(here.path) in body["detail"]


async def test_who_may_not_ask_is_refused_before_anything_is_read(
    here: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mqttbridge.control.protocol.may_ask", lambda _: False)
    status, media, body = await ask(here, "GET", "/status")
    assert (status, media) == (403, PROBLEM)
    assert "only root" in body["detail"]


async def test_a_bug_is_answered_and_ends_nothing_else(here: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    monkeypatch.setattr(guard, "log", told)
    with monkeypatch.context() as broken:
        broken.setattr(type(here.daemon._running), "status", lambda _: 1 / 0)
        status, media, _ = await ask(here, "GET", "/status")
    assert (status, media, told.events()) == (500, PROBLEM, ["http.crashed"])
    assert (await ask(here, "GET", "/status"))[0] == 200


async def test_beyond_the_limit_a_request_is_told_to_come_again(here: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MAX_UNDER_WAY", 0)
    assert (await ask(here, "GET", "/status"))[:2] == (503, PROBLEM)


async def test_the_socket_is_gone_when_the_daemon_has_ended(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        assert await anyio.Path(here.state / NAME).exists()
    assert not await anyio.Path(here.state / NAME).exists()
