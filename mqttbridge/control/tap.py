"""GET /tap on the Unix socket: what goes through right now, a line of JSON each (`observe/tap_line.py`), and on.

It sends so many lines a second at most: a tap shows, it is no way to get every uplink, and must not cost those who
deliver. docs/tap.md has the request and the lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import msgspec

from mqttbridge.control.passages import device_in
from mqttbridge.control.request import BadRequest, query_of
from mqttbridge.control.stream import HEARTBEAT, QUIET, Streams
from mqttbridge.observe.tap import MAX_TAPS, TooManyTaps
from mqttbridge.sources.asgi import problem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mqttbridge.control.local import Routes
    from mqttbridge.observe.tap import Tap, Taps
    from mqttbridge.sources.asgi import Receive, Scope, Send

__all__ = ["TapDesk", "device_of"]

PER_SECOND = 1000
"""Lines."""
AT_ONCE = 100
"""Lines that are written without letting others go first."""

_lines = msgspec.json.Encoder().encode_lines


class TapDesk:
    """Answers who wants to watch."""

    def __init__(self, taps: Taps) -> None:
        """Let them watch by these taps."""
        self._taps = taps
        self._streams = Streams()

    def routes(self) -> Routes:
        """Give what it answers."""
        return {"/tap": ("GET", self._tap)}

    def stop(self) -> None:
        """End all answers: the daemon ends."""
        self._streams.stop()

    async def _tap(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            tap = self._open(query_of(scope, ("connection", "source", "device", "payload")))
        except BadRequest as error:
            await problem(send, 400, str(error))
            return
        except TooManyTaps:
            detail = f"{MAX_TAPS} taps are open, the most that there may be; end one of them, and ask again"
            await problem(send, 503, detail, headers=((b"retry-after", b"5"),))
            return
        with tap:
            await self._streams.answer(receive, send, _chunks(tap))

    def _open(self, query: dict[str, str]) -> Tap:
        """Begin to watch. Raises `BadRequest` and `TooManyTaps`."""
        payload = query.get("payload", "0")
        if payload not in {"0", "1"}:
            raise BadRequest("payload is 0 or 1")
        return self._taps.open(
            connection=query.get("connection", ""),
            source=query.get("source", ""),
            device=device_of(query),
            payload=payload == "1",
        )


def device_of(query: dict[str, str]) -> str:
    """Give the DevEUI of a query in upper case, or nothing. Raises `BadRequest`."""
    text = query.get("device", "").strip()
    try:
        return device_in(text) if text else ""
    except ValueError as error:
        raise BadRequest(str(error)) from None


async def _chunks(tap: Tap) -> AsyncGenerator[bytes, None]:
    """Give lines as they come, not more than `PER_SECOND`."""
    while True:
        if await tap.wait(HEARTBEAT):
            lines = tap.take(AT_ONCE)
            yield _lines(lines)
            await anyio.sleep(len(lines) / PER_SECOND)
        else:
            yield QUIET
