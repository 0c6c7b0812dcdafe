"""GET /tap: the lines as they come, how it ends, and that no reader holds up anybody."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from mqttbridge.clock import SystemClock
from mqttbridge.control import stream
from mqttbridge.control import tap as module
from mqttbridge.control.tap import TapDesk
from mqttbridge.observe.tap import MAX_TAPS, Taps
from tests.control.streaming import asking, serving
from tests.observe.test_tap import ONE, OTHER, delivered, queued

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Here:
    """A desk that answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taps = Taps(SystemClock())
        self.desk = TapDesk(self.taps)

    async def watched(self, many: int) -> None:
        """Wait until so many watch."""
        async with asyncio.timeout(10):
            while len(self.taps._taps) != many:  # noqa: ASYNC110 (what there is to wait for is private)
                await asyncio.sleep(0.001)


@pytest_asyncio.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    one = Here(tmp_path / "s")
    async with serving(one.path, one.desk.routes()):
        yield one
        one.desk.stop()


async def test_lines_come_as_it_happens(here: Here) -> None:
    async with asking(here.path, "/tap") as answer:
        assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
        here.taps.stored({("acme",): [queued(1, body=b'{"a":\n1}')]})
        first = await answer.news()
        here.taps.settled("acme", delivered(1, topic="x/y"))
        second = await answer.news()
    assert first is not None
    assert second is not None
    assert (first["what"], first["dev_eui"], first["connections"]) == ("uplink", ONE, ["acme"])
    assert "document" not in first
    assert (second["what"], second["topic"], second["took_ms"]) == ("delivered", "x/y", 12)
    await here.watched(0)


async def test_the_query_filters_and_a_dev_eui_may_be_spelt_in_any_way(here: Here) -> None:
    dashed = "-".join(OTHER[place : place + 2] for place in range(0, 16, 2)).lower()
    async with asking(here.path, f"/tap?device={dashed}&connection=acme&source=lrc&payload=1") as answer:
        here.taps.stored({("acme",): [queued(1), queued(2, OTHER, body=b'{"a":\n1}')], ("beta",): [queued(3, OTHER)]})
        line = await answer.news()
        assert line is not None
        assert (line["seq"], line["document"]) == (2, {"a": 1})


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("device=4711", "'4711' is no DevEUI"),
        ("payload=yes", "payload is 0 or 1"),
        ("conection=acme", "'conection' is not asked for here"),
        ("source=a&source=b", "twice"),
    ],
)
async def test_nonsense_is_refused(here: Here, query: str, said: str) -> None:
    async with asking(here.path, f"/tap?{query}") as answer:
        assert answer.status == 400
        assert said in (await answer.body())["detail"]
    await here.watched(0)


async def test_beyond_the_limit_it_is_refused_until_one_ends(here: Here) -> None:
    open_ = [here.taps.open() for _ in range(MAX_TAPS)]
    async with asking(here.path, "/tap") as answer:
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert "16 taps are open" in (await answer.body())["detail"]
    here.taps.close(open_[0])
    async with asking(here.path, "/tap") as answer:
        assert answer.status == 200


async def test_an_empty_line_shows_that_the_daemon_is_there(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)
    async with asking(here.path, "/tap") as answer:
        assert [await answer.line() for _ in range(3)] == [b"", b"", b""]


async def test_who_goes_watches_no_more(here: Here) -> None:
    async with asking(here.path, "/tap"):
        await here.watched(1)
    await here.watched(0)


async def test_it_ends_in_order_with_the_daemon(here: Here) -> None:
    async with asking(here.path, "/tap") as answer:
        await here.watched(1)
        here.desk.stop()
        assert await answer.line() is None
    async with asking(here.path, "/tap") as answer:
        assert await answer.line() is None, "and whoever comes after that"
    await here.watched(0)


async def test_a_reader_that_does_not_read_holds_up_nobody_and_misses_lines(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PER_SECOND", 1_000_000)
    body = b'{"x":"' + b"y" * 20_000 + b'"}'
    async with asking(here.path, "/tap?payload=1") as slow, asking(here.path, "/tap?source=other") as quick:
        await here.watched(2)
        seq = 0
        for _ in range(30):
            here.taps.stored({("acme",): [queued(seq := seq + 1, body=body) for _ in range(100)]})
            here.taps.unrouted([queued(0, source="other").uplink])
            assert (await quick.news() or {})["what"] == "unrouted"
        here.taps.unrouted([queued(0, OTHER).uplink])
        shown = missed = 0
        while shown + missed < 3031:
            line = await slow.news() or {}
            missed += line["count"] if line["what"] == "left_out" else 0
            shown += line["what"] != "left_out"
        assert missed > 1000
        assert shown > 100


async def test_a_reader_that_does_not_read_does_not_hold_up_the_end(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PER_SECOND", 1_000_000)
    monkeypatch.setattr(stream, "LAST", 0.05)
    body = b'{"x":"' + b"y" * 500_000 + b'"}'
    async with asking(here.path, "/tap?payload=1"):
        await here.watched(1)
        for seq in range(10):
            here.taps.stored({("acme",): [queued(seq, body=body) for _ in range(5)]})
            await asyncio.sleep(0)
        here.desk.stop()
        await here.watched(0)


async def test_a_tap_is_shown_so_many_lines_a_second(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PER_SECOND", 500)
    async with asking(here.path, "/tap") as answer:
        await here.watched(1)
        began = time.monotonic()
        here.taps.stored({("acme",): [queued(seq) for seq in range(1, 301)]})
        lines: list[Any] = [await answer.news() for _ in range(300)]
        assert time.monotonic() - began >= 0.35
        assert [line["seq"] for line in lines] == list(range(1, 301))
