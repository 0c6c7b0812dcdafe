"""The age of a backlog."""

from __future__ import annotations

from mqttbridge.journal.head import Head
from mqttbridge.model import Queued
from tests.journal.samples import uplink


def stretch(*seqs: int) -> list[Queued]:
    """Uplinks received at ten times their seq."""
    return [Queued(seq, uplink(seq, received=10 * seq)) for seq in seqs]


def test_nothing_is_known_at_first() -> None:
    assert Head().received(0) is None


def test_it_moves_on_with_the_cursor() -> None:
    head = Head(3, 30)
    head.note(stretch(4, 9), fresh=False)
    assert head.received(0) == 30
    assert head.received(3) == 40
    assert head.received(4) == 40
    assert head.received(9) == 40


def test_a_fresh_stretch_replaces_what_was_known() -> None:
    head = Head(3, 30)
    head.note(stretch(8, 9), fresh=True)
    assert head.received(0) == 80


def test_a_repeated_stretch_changes_nothing() -> None:
    head = Head(9, 90)
    head.note(stretch(5, 7), fresh=False)
    assert head.received(0) == 90


def test_it_stays_small_and_errs_on_the_old_side() -> None:
    head = Head()
    for seq in range(1, 1001):
        head.note(stretch(seq), fresh=False)
    assert len(head._chunks) <= 16
    for cursor in range(0, 1000, 50):
        received = head.received(cursor)
        assert received is not None
        assert received <= 10 * (cursor + 1)
