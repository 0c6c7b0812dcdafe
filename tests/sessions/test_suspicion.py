"""Who is to blame when the broker hangs up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.errors import BrokerRefused, LinkError, LinkLost, LinkTimeout
from mqttbridge.sessions.suspicion import NOBODY, TRIES, Suspicion, accuses, after_answer, after_loss


def lose(before: Suspicion, *in_flight: int, answered: bool = False) -> Suspicion:
    return after_loss(before, in_flight, answered=answered)


def narrowed(first: int = 7, last: int = 9) -> Suspicion:
    found = NOBODY
    for _ in range(2):
        found = lose(found, *range(first, last + 1))
    return found


def test_the_second_loss_with_the_same_first_uplink_narrows_the_window() -> None:
    once = lose(NOBODY, 7, 8, 9)
    assert not once.narrow
    assert lose(once, 7, 8, 9, 10).narrow
    assert not lose(once, 8, 9).narrow, "7 went through"


def test_an_uplink_that_is_alone_at_three_losses_is_guilty() -> None:
    found = narrowed()
    for number in range(TRIES):
        assert found.guilty is None, number
        found = lose(found, 7)
    assert found.guilty == 7


def test_answers_in_between_clear_everybody_while_the_window_is_wide() -> None:
    assert lose(lose(NOBODY, 7, 8), 7, 8, answered=True) == NOBODY


def test_the_innocent_before_the_guilty_are_cleared_one_by_one() -> None:
    found = narrowed(7, 9)
    found = after_answer(lose(found, 7), 7)
    assert found.narrow, "8 and 9 are still to be tried alone"
    for _ in range(TRIES):
        found = lose(found, 8, answered=True)
    assert found.guilty == 8
    found = after_answer(found, 8)
    assert found.narrow
    assert found.guilty is None
    assert after_answer(found, 9) == NOBODY, "all that were in flight are through"


def test_a_broker_that_loses_idle_links_clears_everybody() -> None:
    assert lose(lose(narrowed(), 7)) == NOBODY


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (LinkLost("the broker closed the connection"), True),
        (BrokerRefused("malformed packet", code=0x81), True),
        (BrokerRefused("packet too large", code=0x95), True),
        (LinkTimeout("nothing was acknowledged"), False),
        (BrokerRefused("shutting down", code=0x8B), False),
        (BrokerRefused("taken over", code=0x8E), False),
        (LinkLost("disconnected", code=0x00), False),
    ],
)
def test_only_a_broker_that_hangs_up_accuses(error: LinkError, expected: bool) -> None:
    assert accuses(error) is expected


@given(
    poison=st.integers(1, 30),
    window=st.integers(1, 12),
    flushed=st.lists(st.integers(0, 12), max_size=60),
)
def test_the_poison_is_found_and_nobody_else_whatever_answers_get_through(
    poison: int, window: int, flushed: list[int]
) -> None:
    """A broker that takes uplinks in order and dies of one; of its answers before, some are lost with the link."""
    first, found, losses, lost_answers = 1, NOBODY, 0, iter(flushed)
    while first <= 30:
        assert losses < 200, "it goes on"
        size = 1 if found.narrow else window
        in_flight = list(range(first, min(31, first + size)))
        if found.guilty is not None:
            assert found.guilty == poison
            first, found, poison = poison + 1, after_answer(found, poison), 0
            continue
        healthy = in_flight[: in_flight.index(poison)] if poison in in_flight else in_flight
        told = healthy[: next(lost_answers, 0)] if poison in in_flight else healthy
        for seq in told:
            found = after_answer(found, seq)
        first += len(told)
        if poison in in_flight:
            losses += 1
            found = after_loss(found, [seq for seq in in_flight if seq >= first], answered=bool(told))
    assert poison == 0, "it was parked"
