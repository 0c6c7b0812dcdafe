"""Answers over plain ASGI."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mqttbridge.sources.asgi import answer, problem


class Sent:
    """Collects what an application sends."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def __call__(self, message: Any) -> None:  # noqa: ANN401 (an ASGI message)
        self.messages.append(message)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])


async def test_an_answer_is_whole() -> None:
    sent = Sent()
    await answer(sent, 200, b"{}", headers=((b"allow", b"GET"),))
    start, body = sent.messages
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert sent.headers == {b"content-type": b"application/json", b"content-length": b"2", b"allow": b"GET"}
    assert body == {"type": "http.response.body", "body": b"{}"}


@pytest.mark.parametrize(
    ("status", "title"), [(400, "Bad Request"), (413, "Content Too Large"), (415, "Unsupported Media Type")]
)
async def test_a_problem_has_the_members_of_the_standard_and_its_own_where_they_say_something(
    status: int, title: str
) -> None:
    sent = Sent()
    await problem(sent, status, 'what "happened"', field="a.b", index=0, reason=None, empty="")
    assert sent.headers[b"content-type"] == b"application/problem+json"
    assert json.loads(sent.messages[1]["body"]) == {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": 'what "happened"',
        "field": "a.b",
        "index": 0,
    }
