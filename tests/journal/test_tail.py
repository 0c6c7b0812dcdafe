"""The tail cache: right or silent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.journal.ledger import Account, Route
from mqttbridge.journal.tail import OVERHEAD, Tail
from mqttbridge.model import Queued
from tests.journal.samples import uplink


def queued(*seqs: int, size: int = 0) -> list[Queued]:
    """Uplinks with these seqs."""
    return [Queued(seq, uplink(seq, body=b"x" * size)) for seq in seqs]


def route(ident: int, last: int) -> Route:
    """Make a route whose newest uplink is known."""
    made = Route(ident, (Account(1),))
    made.last = last
    return made


@given(
    batches=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=30),
    after=st.integers(0, 100),
    limit=st.integers(1, 20),
    room=st.integers(0, 40),
    chosen=st.sets(st.integers(0, 2), min_size=1),
)
def test_it_gives_exactly_what_the_routes_hold_or_nothing_at_all(
    batches: list[tuple[int, int]], after: int, limit: int, room: int, chosen: set[int]
) -> None:
    tail = Tail(room * OVERHEAD)
    held: list[list[Queued]] = [[], [], []]
    seq = 0
    for ident, number in batches:
        items = queued(*range(seq + 1, seq + number + 1))
        seq += number
        tail.add(ident, held[ident][-1].seq if held[ident] else 0, list(items))
        held[ident] += items
        assert tail.size <= tail.limit
    routes = [route(ident, held[ident][-1].seq if held[ident] else 0) for ident in chosen]
    expected = sorted((one for ident in chosen for one in held[ident] if one.seq > after), key=lambda one: one.seq)
    found = tail.read(routes, after, limit)
    if seq <= room:
        assert found is not None
    if found is not None:
        assert found == expected[:limit]


def test_what_was_stored_before_it_began_is_not_claimed() -> None:
    tail = Tail(10_000)
    tail.add(1, 5, queued(6, 7))
    assert tail.read([route(1, 7)], 4, 10) is None
    assert [one.seq for one in tail.read([route(1, 7)], 5, 10) or []] == [6, 7]


def test_after_clear_it_knows_nothing() -> None:
    tail = Tail(10_000)
    tail.add(1, 0, queued(1))
    tail.clear()
    assert tail.size == 0
    assert tail.read([route(1, 1)], 0, 10) is None


def test_a_route_without_news_costs_nothing() -> None:
    assert Tail(10_000).read([route(1, 7)], 7, 10) == []
