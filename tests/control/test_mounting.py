"""Where the API has its place: behind tokens on the listener, without on the socket, and never in the uplinks' way."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from mqttbridge.control import app, local
from mqttbridge.control.app import App
from mqttbridge.control.local import ROLE, LocalApp
from mqttbridge.control.pieces import PIECE

if TYPE_CHECKING:
    from pathlib import Path

    from mqttbridge.sources.asgi import Receive, Scope, Send


class Uplinks:
    """Notes what came to the sources."""

    def __init__(self) -> None:
        self.came: list[tuple[str, str]] = []

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.came.append(("uplink", scope["path"]))
        await self._answer(send, 200)

    async def not_found(self, scope: Scope, _receive: Receive, send: Send, _detail: str) -> None:
        self.came.append(("not found", scope["path"]))
        await self._answer(send, 404)

    async def overloaded(self, scope: Scope, _receive: Receive, send: Send, _detail: str) -> None:
        self.came.append(("overloaded", scope["path"]))
        await self._answer(send, 503)

    @staticmethod
    async def _answer(send: Send, status: int) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Api:
    """Notes who came, and answers with much."""

    def __init__(self) -> None:
        self.came: list[tuple[str, str]] = []
        self.body = b"x" * (2 * PIECE + 1)
        self.hold: asyncio.Event | None = None

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.came.append((scope["path"], scope.get(ROLE, "")))
        if self.hold is not None:
            await self.hold.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.body})


async def ask(asgi: Any, path: str, method: str = "GET", **headers: str) -> tuple[int, list[bytes]]:  # noqa: ANN401
    """Ask; give the status and the body in the pieces that it came in."""
    sent: list[Any] = []
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": given, "query_string": b"", "client": None}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:  # noqa: ANN401 (ASGI)
        sent.append(message)

    await asgi(scope, receive, send)
    return sent[0]["status"], [one["body"] for one in sent[1:]]


class View:
    """Answers nothing: nobody asks here."""


async def at_socket(config: Path, routes: Any = None, api: Api | None = None) -> LocalApp:  # noqa: ANN401 (as handed on)
    """Build the application of the socket, which looks at the disk."""
    return await asyncio.to_thread(LocalApp, View(), config, routes, api=api)  # type: ignore[arg-type]


@pytest.fixture
def uplinks() -> Uplinks:
    return Uplinks()


@pytest.fixture
def api() -> Api:
    return Api()


async def test_without_tokens_the_listener_has_uplinks_health_and_metrics_alone(uplinks: Uplinks, api: Api) -> None:
    enabled = False
    mounted = App(uplinks, View(), api=api, api_enabled=lambda: enabled)  # type: ignore[arg-type]
    bare = App(uplinks, View())  # type: ignore[arg-type]
    for one in (mounted, bare):
        for path in ("/", "/connections", "/page/app.js"):
            assert (await ask(one, path))[0] == 404
    assert api.came == []
    enabled = True
    assert (await ask(mounted, "/connections"))[0] == 200, "from the reload on that brings a token"
    assert api.came == [("/connections", "")]


async def test_uplinks_never_come_to_the_api(uplinks: Uplinks, api: Api) -> None:
    mounted = App(uplinks, View(), api=api)  # type: ignore[arg-type]
    for path in ("/uplink/lrc", "/uplink/connections", "/uplink/"):
        await ask(mounted, path, "POST")
    await ask(mounted, "/uplinks/lrc", "POST")
    assert api.came == []
    assert [how for how, _ in uplinks.came] == ["uplink"] * 3 + ["not found"], "one that goes astray is told of"
    assert (await ask(mounted, "/metrics", "POST"))[0] == 405


async def test_large_answers_go_out_in_pieces(uplinks: Uplinks, api: Api, tmp_path: Path) -> None:
    for one in (App(uplinks, View(), api=api), await at_socket(tmp_path / "c.yaml", api=api)):  # type: ignore[arg-type]
        _, pieces = await ask(one, "/connections")
        assert [len(piece) for piece in pieces] == [PIECE, PIECE, 1]


async def test_beyond_the_limit_the_api_is_not_asked(
    uplinks: Uplinks, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "MAX_UNDER_WAY", 1)
    mounted = App(uplinks, View(), api=api)  # type: ignore[arg-type]
    api.hold = asyncio.Event()
    first = asyncio.create_task(ask(mounted, "/connections"))
    await asyncio.sleep(0)
    assert (await ask(mounted, "/connections"))[0] == 503
    api.hold.set()
    assert (await first)[0] == 200


async def test_on_the_socket_whoever_may_open_it_is_an_admin(api: Api, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    one = await at_socket(config, api=api)
    for method in ("GET", "PUT"):
        assert (await ask(one, "/connections/acme", method, origin="http://any", host=""))[0] == 200
    assert api.came == [("/connections/acme", "admin")] * 2


async def test_the_routes_of_the_socket_come_first_and_know_their_method(api: Api, tmp_path: Path) -> None:
    async def events(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})

    one = await at_socket(tmp_path / "c.yaml", {"/events": ("GET", events)}, api)
    assert (await ask(one, "/events"))[0] == 299
    assert (await ask(one, "/events", "POST"))[0] == 405
    assert api.came == []


async def test_a_request_that_is_meant_for_another_daemon_does_not_reach_the_api(api: Api, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    one = await at_socket(config, api=api)
    ours = (await asyncio.to_thread(local.quoted, config)).decode()
    assert (await ask(one, "/connections", mqttbridge_config=ours))[0] == 200
    status, pieces = await ask(one, "/connections", "DELETE", mqttbridge_config="/etc/other.yaml")
    assert (status, "--config" in json.loads(pieces[0])["detail"]) == (421, True)
    assert len(api.came) == 1


async def test_without_the_api_what_is_not_there_is_told(tmp_path: Path) -> None:
    assert (await ask(await at_socket(tmp_path / "c.yaml"), "/connections"))[0] == 404
