"""What a tap shows, what it leaves out, and that it stays small whatever comes."""

from __future__ import annotations

import asyncio
import timeit
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mqttbridge.model import DocumentKind, Outcome, Queued, Settled, Uplink
from mqttbridge.observe import tap as module
from mqttbridge.observe.tap import MAX_BYTES, MAX_DOCUMENT, MAX_LINES, MAX_TAPS, Taps, TooManyTaps
from tests.downlinks.memory import Hands

if TYPE_CHECKING:
    from mqttbridge.observe.tap import Tap
    from mqttbridge.observe.tap_line import TapLine

ONE, OTHER = "0018B20000000B20", "0018B20000000B21"
RECEIVED = 1_790_000_000_000


def queued(seq: int, dev_eui: str = ONE, source: str = "lrc", body: bytes = b'{"DevEUI_uplink":{}}') -> Queued:
    uplink = Uplink(source, DocumentKind.UPLINK, dev_eui, RECEIVED, RECEIVED, seq, body, origin="POST from 10.0.0.7")
    return Queued(seq, uplink)


def delivered(*seqs: int, topic: str = "") -> list[Settled]:
    return [Settled(seq, Outcome.DELIVERED, "", topic, RECEIVED + 100, RECEIVED + 112) for seq in seqs]


def taps() -> Taps:
    return Taps(Hands())


def all_of(tap: Tap) -> list[TapLine]:
    return tap.take(1_000_000)


def told(tap: Tap) -> list[tuple[str, str, int]]:
    return [(line.what, line.dev_eui, line.seq) for line in all_of(tap)]


async def test_an_uplink_is_shown_as_it_is_stored_and_as_it_ends() -> None:
    here = taps()
    with here.open() as tap:
        here.stored({("acme", "beta"): [queued(7)]})
        here.settled("acme", delivered(7, topic="mqtt/7"))
        here.settled("beta", [Settled(7, Outcome.PARKED, "no topic", at=RECEIVED + 5000)])
        came, acked, parked = all_of(tap)
    assert (came.what, came.source, came.dev_eui, came.fcnt, came.seq) == ("uplink", "lrc", ONE, 7, 7)
    assert (came.connections, came.kind, came.size) == (("acme", "beta"), "DevEUI_uplink", 20)
    assert came.origin == "POST from 10.0.0.7"
    assert came.at.timestamp() * 1000 == RECEIVED
    assert (acked.what, acked.connection, acked.topic, acked.dev_eui) == ("delivered", "acme", "mqtt/7", ONE)
    assert (acked.took_ms, acked.age_ms, acked.fcnt, acked.source) == (12, 112, 7, "lrc")
    assert (parked.what, parked.connection, parked.reason, parked.age_ms) == ("parked", "beta", "no topic", 5000)
    assert parked.took_ms is None
    assert "document" not in msgspec.to_builtins(came), "nobody asked for it"


async def test_what_goes_nowhere_is_shown_as_such() -> None:
    here = taps()
    with here.open() as tap, here.open(connection="acme") as other:
        here.unrouted([queued(1).uplink])
        here.duplicates([queued(2, OTHER).uplink])
        assert told(tap) == [("unrouted", ONE, 0), ("duplicate", OTHER, 0)]
        assert told(other) == []


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        ({"connection": "beta"}, [("uplink", OTHER, 2), ("delivered", OTHER, 2)]),
        ({"source": "lrc"}, [("uplink", ONE, 1), ("delivered", ONE, 1)]),
        ({"device": OTHER}, [("uplink", OTHER, 2), ("delivered", OTHER, 2), ("delivered", OTHER, 2)]),
        ({"device": OTHER, "connection": "acme"}, [("uplink", OTHER, 2), ("delivered", OTHER, 2)]),
        ({"device": OTHER, "source": "lrc"}, []),
        ({"connection": "gamma"}, []),
    ],
)
async def test_each_filter_must_fit(filters: dict[str, str], shown: list[Any]) -> None:
    here = taps()
    with here.open(**filters) as tap:
        here.stored({("acme",): [queued(1)], ("acme", "beta"): [queued(2, OTHER, "tts")]})
        here.settled("acme", delivered(1, 2))
        here.settled("beta", delivered(2))
        assert told(tap) == shown


async def test_a_backlog_that_drains_is_known_as_it_is_read() -> None:
    here = taps()
    with here.open(device=ONE) as tap:
        here.seen("acme", [queued(1), queued(2, OTHER), queued(3)])
        here.settled("acme", delivered(1, 2, 3))
        assert told(tap) == [("delivered", ONE, 1), ("delivered", ONE, 3)]


async def test_of_what_was_read_before_the_topic_decides() -> None:
    here = taps()
    ends = [*delivered(1, topic=f"x/{ONE.lower()}/up"), *delivered(2, topic=f"x/{OTHER}/up"), *delivered(3)]
    with here.open(device=ONE) as device, here.open(source="lrc") as source, here.open(connection="acme") as all_:
        here.settled("acme", ends)
        assert [line.seq for line in all_of(device)] == [1]
        assert all_of(source) == []
        assert [(line.seq, line.topic[:2], line.dev_eui, line.age_ms) for line in all_of(all_)] == [
            (1, "x/", "", None),
            (2, "x/", "", None),
            (3, "", "", None),
        ]


async def test_an_end_without_a_time_ended_now() -> None:
    hands = Hands()
    here = Taps(hands)
    with here.open() as tap:
        here.settled("acme", [Settled(1, Outcome.DELIVERED)])
        (line,) = all_of(tap)
    assert line.at.timestamp() * 1000 == hands.now()
    assert line.took_ms is None


async def test_a_slow_reader_misses_lines_and_learns_where_and_how_many() -> None:
    here = taps()
    with here.open() as tap:
        here.stored({("acme",): [queued(seq) for seq in range(1, MAX_LINES + 301)]})
        here.settled("acme", delivered(*range(1, 13)))
        first = tap.take(10)
        assert [line.seq for line in first] == list(range(1, 11))
        here.stored({("acme",): [queued(9999)]})
        rest = all_of(tap)
        assert len(rest) == MAX_LINES - 10 + 2
        assert [(line.what, line.count, line.seq) for line in rest[-2:]] == [("left_out", 312, 0), ("uplink", 1, 9999)]
        assert all_of(tap) == []


async def test_what_is_left_out_last_is_told_too() -> None:
    here = taps()
    with here.open() as tap:
        here.stored({("acme",): [queued(seq) for seq in range(MAX_LINES + 5)]})
        assert all_of(tap)[-1].count == 5
        assert not await tap.wait(0)


@pytest.mark.parametrize("filters", [{}, {"device": ONE}, {"source": "lrc"}, {"connection": "acme"}])
async def test_lines_and_what_is_left_out_add_up(filters: dict[str, str]) -> None:
    here = taps()
    happened = shown = 0
    with here.open(**filters) as tap:
        for start in range(0, 5000, 70):
            several = [queued(seq) for seq in range(start + 1, start + 71)]
            here.stored({("acme",): several})
            here.settled("acme", delivered(*(one.seq for one in several)))
            happened += 2 * len(several)
            shown += sum(line.count for line in tap.take(31))
        shown += sum(line.count for line in all_of(tap))
    assert shown == happened


async def test_documents_are_bounded_in_bytes() -> None:
    here = taps()
    large = b'{"x":"' + b"y" * (MAX_DOCUMENT - 8) + b'"}'
    with here.open(payload=True) as tap:
        here.stored({("acme",): [queued(seq, body=large) for seq in range(1, 8)]})
        here.stored({("acme",): [queued(8, body=b"{}")]})
        lines = all_of(tap)
        assert sum(len(bytes(line.document)) for line in lines if line.document) <= MAX_BYTES
        assert [line.seq for line in lines] == [1, 2, 3, 4, 0]
        assert lines[-1].count == 4
        here.stored({("acme",): [queued(9, body=large + b" ")]})
        (too_large,) = all_of(tap)
        assert (too_large.size, too_large.document) == (MAX_DOCUMENT + 1, msgspec.UNSET)
        here.stored({("acme",): [queued(10, body=large)]})
        assert bytes(all_of(tap)[0].document) == large, "what was taken makes room"


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a":\r\n [1,\n2], "b": "\\n"}', {"a": [1, 2], "b": "\n"}),
        (b"not JSON\n", "not JSON\n"),
        (b'"\xff"', '"\\xff"'),
        (b"", ""),
    ],
)
async def test_a_document_is_a_json_value_on_one_line(body: bytes, value: object) -> None:
    here = taps()
    with here.open(payload=True) as tap:
        here.stored({("acme",): [queued(1, body=body)]})
        (line,) = all_of(tap)
    written = msgspec.json.encode(line)
    assert b"\n" not in written
    assert msgspec.json.decode(written)["document"] == value


async def test_the_end_of_a_downlink_is_shown_from_its_event() -> None:
    here = taps()
    fields = {"connection": "acme", "source": "lrc", "dev_eui": ONE, "key": "k", "reason": "bad", "field": "FPort"}
    with here.open(device=ONE) as tap, here.open(connection="beta") as other:
        here.event(RECEIVED, "warning", "downlink.rejected", fields)
        here.event(RECEIVED, "warning", "downlink.rejected", {**fields, "left_out": 30})
        here.event(RECEIVED, "warning", "downlink.retrying", fields)
        here.event(RECEIVED, "warning", "connection.lost", fields)
        first, summary = all_of(tap)
        assert all_of(other) == []
    assert (first.what, first.outcome, first.connection, first.source) == ("downlink", "rejected", "acme", "lrc")
    assert (first.reason, first.key, first.count) == ("bad", "k", 1)
    assert summary.count == 30


async def test_what_the_full_journal_dropped_is_shown_with_its_number() -> None:
    here = taps()
    with here.open(connection="acme") as tap:
        here.event(RECEIVED, "error", "uplink.dropped", {"connection": "acme", "count": 500, "reason": "full"})
        here.event(RECEIVED, "error", "uplink.dropped", {"connection": "acme", "count": "*****"})
        first, second = all_of(tap)
    assert (first.what, first.count, first.reason, second.count) == ("dropped", 500, "full", 1)


async def test_there_are_so_many_taps_and_each_that_ends_makes_room() -> None:
    here = taps()
    open_ = [here.open() for _ in range(MAX_TAPS)]
    with pytest.raises(TooManyTaps):
        here.open()
    with open_[0]:
        pass
    with here.open() as tap:
        here.unrouted([queued(1).uplink])
        assert len(all_of(tap)) == 1
        assert all_of(open_[0]) == []


async def test_with_nobody_watching_nothing_is_remembered_or_looked_at() -> None:
    here = taps()
    unreadable: Any = object()
    here.stored(unreadable)
    here.seen("acme", unreadable)
    here.settled("acme", unreadable)
    here.unrouted(unreadable)
    here.event(0, "info", "downlink.queued", unreadable)
    with here.open():
        here.stored({("acme",): [queued(1)]})
        assert here.recall(1)
    assert here.recall(1) is None


async def test_what_is_remembered_is_bounded_and_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 100)
    here = taps()
    with here.open():
        for start in range(1, 10_001, 50):
            here.stored({("acme",): [queued(seq) for seq in range(start, start + 50)]})
        known = [seq for seq in range(1, 10_001) if here.recall(seq)]
        assert known[-1] == 10_000
        assert 100 <= len(known) <= 300
        assert known == list(range(known[0], 10_001))


async def test_who_waits_wakes_up_when_there_is_something() -> None:
    here = taps()
    with here.open(device=ONE) as tap:
        assert not await tap.wait(0)
        waiting = asyncio.create_task(tap.wait(5))
        await asyncio.sleep(0)
        here.stored({("acme",): [queued(1, OTHER)]})
        await asyncio.sleep(0)
        assert not waiting.done()
        here.stored({("acme",): [queued(2)]})
        assert await waiting
        all_of(tap)
        assert not await tap.wait(0)


@pytest.mark.parametrize("filters", [{}, {"device": OTHER}, {"source": "other"}, {"connection": "beta"}])
async def test_what_cannot_be_shown_costs_less_than_half_a_microsecond(filters: dict[str, str]) -> None:
    # At 20,000 uplinks a second, each of which comes and ends, that is less than 10 ms a second.
    here = taps()
    rounds = iter(range(100))

    def happen() -> None:
        several, ends = batches[next(rounds)]
        here.stored({("acme",): several})
        here.seen("acme", several)
        here.settled("acme", ends)

    seqs = [range(start, start + 500) for start in range(1, 50_001, 500)]
    batches = [([queued(seq) for seq in part], delivered(*part, topic=f"mqtt/{ONE}")) for part in seqs]
    with here.open(**filters):
        best = min(timeit.repeat(happen, number=1, repeat=100))
    assert best / 500 < 0.5e-6
