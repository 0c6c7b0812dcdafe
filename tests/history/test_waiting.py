"""What waits is bounded, in order, and counted."""

from __future__ import annotations

from mqttbridge.history import waiting
from mqttbridge.history.waiting import Waiting
from tests.history.samples import ended, queued, uplink


def test_it_gives_what_it_was_given_in_order() -> None:
    queue = Waiting()
    queue.stored({("a",): queued([1, 2])})
    queue.unrouted([uplink(3)])
    queue.settled("a", ended([1]))
    queue.event((1, 1, "info", "a.b", "", "", "", "{}"))
    batch = queue.take()
    assert batch is not None
    assert [one.number for one in batch.given] == [2, 1]
    assert [one.connection for one in batch.ends] == ["a"]
    assert (batch.number, len(batch.events), batch.records) == (4, 1, 5)
    assert queue.empty
    assert queue.take() is None


def test_a_batch_is_bounded_in_bytes() -> None:
    queue = Waiting()
    for number in range(1, 9):
        queue.stored({("a",): queued([number], size=waiting.BATCH_BYTES // 2)})
    assert queue.much
    sizes = []
    while (batch := queue.take()) is not None:
        sizes.append(batch.number)
        queue.done(batch)
    assert sizes == [2, 2, 2, 2]
    assert not queue.much


def test_beyond_the_bound_of_bytes_things_are_left_out_and_counted_until_something_is_done_with() -> None:
    queue = Waiting()
    for number in range(1, 13):
        queue.stored({("a",): queued([number], size=waiting.WAITING_BYTES // 8)})
    assert queue.lost == 4
    batch = queue.take()
    queue.stored({("a",): queued([20])})
    assert queue.lost == 5, "what was taken counts until it is done with"
    assert batch is not None
    queue.done(batch)
    queue.stored({("a",): queued([21])})
    assert queue.lost == 5


def test_beyond_the_bound_of_records_things_are_left_out_and_counted() -> None:
    queue = Waiting()
    for _ in range(waiting.WAITING_RECORDS // 1000 + 1):
        queue.settled("a", ended(range(1, 1001)))
    assert queue.lost == 1000
    queue.unrouted([uplink(1)])
    assert queue.lost == 1001


def test_events_are_bounded_too() -> None:
    queue = Waiting()
    for number in range(waiting.WAITING_EVENTS + 3):
        queue.event((number, 1, "info", "a.b", "", "", "", "{}"))
    assert queue.lost == 3
    taken = 0
    while (batch := queue.take()) is not None:
        taken += len(batch.events)
    assert taken == waiting.WAITING_EVENTS
