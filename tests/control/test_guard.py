"""A bug in one request is a 500, once, and never more than that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mqttbridge.control import guard
from mqttbridge.sources.asgi import answer
from tests.support.inside import Told

if TYPE_CHECKING:
    import pytest

SCOPE = {"type": "http", "path": "/x", "headers": []}


class Client:
    """Takes answers."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    async def send(self, message: Any) -> None:  # noqa: ANN401 (ASGI)
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])


async def receive() -> Any:  # noqa: ANN401 (ASGI)
    raise AssertionError("nobody asked for the body")


async def test_a_bug_is_answered_with_500_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "log", told := Told())
    client = Client()

    async def buggy(*_: Any) -> None:  # noqa: ANN401 (ASGI)
        raise ZeroDivisionError

    await guard.guarded(buggy, SCOPE, receive, client.send)
    assert (client.statuses, told.events("exception")) == ([500], ["http.crashed"])


async def test_what_was_answered_already_is_not_answered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "log", told := Told())
    client = Client()

    async def late(_scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI)
        await answer(send, 200, b"{}")
        raise ZeroDivisionError

    await guard.guarded(late, SCOPE, receive, client.send)
    assert (client.statuses, told.events("exception")) == ([200], ["http.crashed"])
