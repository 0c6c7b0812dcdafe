"""Large answers go out piece by piece, and are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.control import pieces
from mqttbridge.control.pieces import in_pieces

if TYPE_CHECKING:
    import pytest


async def sent(*messages: dict[str, Any]) -> list[Any]:
    """Give what comes out."""
    out: list[Any] = []

    async def send(message: Any) -> None:  # noqa: ANN401 (ASGI)
        out.append(message)

    sending = in_pieces(send)
    for message in messages:
        await sending(message)
    return out


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
async def test_an_answer_is_the_same_in_pieces(bodies: list[bytes]) -> None:
    before, pieces.PIECE = pieces.PIECE, 7
    try:
        start = {"type": "http.response.start", "status": 200, "headers": []}
        last = len(bodies) - 1
        messages = [
            {"type": "http.response.body", "body": body, "more_body": number < last}
            for number, body in enumerate(bodies)
        ]
        first, *rest = await sent(start, *messages)
    finally:
        pieces.PIECE = before
    assert first == start
    assert b"".join(one["body"] for one in rest) == b"".join(bodies)
    assert all(len(one["body"]) <= 7 for one in rest)
    assert [one.get("more_body", False) for one in rest] == [True] * (len(rest) - 1) + [False]


async def test_an_answer_without_a_body_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 1)
    end = {"type": "http.response.body"}
    assert await sent(end) == [end]
