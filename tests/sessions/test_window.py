"""What is between the journal and the broker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.model import Outcome, Settled
from mqttbridge.sessions.window import Window


def delivered(seq: int) -> Settled:
    return Settled(seq, Outcome.DELIVERED)


def test_a_place_is_free_only_after_the_settlement() -> None:
    window = Window(2)
    window.send(1)
    window.send(2)
    assert window.room == 0
    window.answer(delivered(1))
    assert window.room == 0, "acknowledged, but a crash now would repeat it"
    window.settled(window.finished())
    assert window.room == 1


def test_only_the_contiguous_beginning_is_settled() -> None:
    window = Window(10)
    for seq in (3, 5, 8):
        window.send(seq)
    window.answer(delivered(8))
    window.answer(delivered(5))
    assert window.finished() == []
    window.answer(delivered(3))
    assert [end.seq for end in window.finished()] == [3, 5, 8]


def test_an_interrupted_window_forgets_the_unanswered_and_keeps_the_answered() -> None:
    window = Window(10)
    for seq in (1, 2, 3):
        window.send(seq)
    window.answer(delivered(2))
    window.interrupt(0)
    assert window.unanswered == 0
    assert not window.recall(1)
    assert window.recall(2)
    assert not window.recall(2)
    assert not window.recall(3)


def test_an_interrupted_window_keeps_nothing_of_what_ended_unsent_or_will_not_be_read_again() -> None:
    window = Window(10)
    for seq in (2, 3, 4):
        window.send(seq)
    window.skip(Settled(5, Outcome.EXPIRED, "old"))
    window.answer(delivered(3))
    window.answer(delivered(4))
    window.interrupt(3)
    assert not window.recall(5), "it expires again"
    assert not window.recall(3), "the journal dropped it meanwhile"
    assert window.recall(4)


def test_the_brokers_receive_maximum_bounds_the_window() -> None:
    window = Window(100)
    window.open(receive_maximum=3)
    assert window.room == 3
    window.open(receive_maximum=65535)
    assert window.room == 100


def test_uplinks_that_expire_need_no_place_in_flight() -> None:
    window = Window(1)
    for seq in range(1, 100):
        assert window.room > 0
        window.skip(Settled(seq, Outcome.EXPIRED, "old"))
    assert len(window.finished()) == 99


@given(
    size=st.integers(1, 8),
    moves=st.lists(st.tuples(st.sampled_from(["send", "skip", "answer", "settle", "cut"]), st.integers(0, 7))),
)
def test_never_more_than_its_size_is_repeated_after_a_crash(size: int, moves: list[tuple[str, int]]) -> None:
    """At every moment: what the broker may have and the journal does not know of fits the window."""
    window = Window(size)
    position = cursor = 0
    at_broker: set[int] = set()
    flying: list[int] = []
    unsendable: set[int] = set()  # what cannot be sent once (expired, no topic) cannot be sent later
    for move, which in moves:
        if move in ("send", "skip") and window.room > 0:
            position += 1
            if window.recall(position):
                continue
            if move == "send" and position not in unsendable:
                window.send(position)
                flying.append(position)
                at_broker.add(position)
            elif position not in at_broker:
                unsendable.add(position)
                window.skip(Settled(position, Outcome.PARKED, "why"))
            else:  # it expired after the broker had it
                unsendable.add(position)
                window.skip(Settled(position, Outcome.EXPIRED, "old"))
                at_broker.discard(position)  # it would be skipped after the crash as well
        elif move == "answer" and flying:
            assert window.answer(delivered(flying.pop(which % len(flying))))
        elif move == "settle":
            ends = window.finished()
            if ends:
                assert [end.seq for end in ends] == list(range(cursor + 1, ends[-1].seq + 1))
                window.settled(ends)
                cursor = ends[-1].seq
                at_broker -= set(range(cursor + 1))
        elif move == "cut":
            window.interrupt(cursor)
            position = cursor
            flying.clear()
        assert window.unanswered == len(flying)
        assert len(at_broker) <= size


def test_places_that_are_lent_are_none_of_the_uplinks() -> None:
    window = Window(8)
    assert window.lend(5, waiting=False) == 2, "a quarter at most"
    assert window.room == 6
    for seq in range(6):
        window.send(seq)
    assert (window.room, window.lend(1, waiting=False)) == (0, 0)
    window.give_back(2)
    assert window.room == 2
    window.interrupt(0)
    assert window.room == 8


def test_with_one_place_uplinks_and_others_take_turns() -> None:
    window = Window(1)
    turns = ""
    for seq in range(1, 5):
        if places := window.lend(3, waiting=True):
            turns += "o"
            window.give_back(places)
        assert window.lend(3, waiting=True) == 0, "now it is the turn of an uplink"
        assert window.room == 1
        window.send(seq)
        window.their_turn = True
        turns += "u"
        end = Settled(seq, Outcome.DELIVERED)
        window.answer(end)
        window.settled([end])
        assert window.room == 0, "the place is kept free"
    assert turns == "ouououou"
    window.want_none()
    assert window.room == 1


def test_a_window_that_gets_narrower_takes_none_until_enough_is_settled_whatever_is_lent() -> None:
    window = Window(40)
    assert window.lend(10, waiting=False) == 10
    for seq in range(1, 31):
        window.send(seq)
    window.limit = 4
    window.open(65535)
    assert (window.room, window.lend(1, waiting=False)) == (-36, 0)
    ends = [delivered(seq) for seq in range(1, 31)]
    for end in ends:
        window.answer(end)
    window.settled(ends)
    assert window.room == -6, "what is lent counts too"
    window.give_back(9)
    assert window.room == 3
    window.limit = 8
    window.open(6)
    assert window.room == 5
