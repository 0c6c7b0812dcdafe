"""Blocks are made in the right order, and what cannot be packed is left out alone."""

from __future__ import annotations

from mqttbridge.history.blocks import END_LIMIT, UPLINK_LIMIT, seqs_of, unpack_ends, unpack_uplinks
from mqttbridge.history.packing import pack_given, pack_settled
from mqttbridge.history.store import Names
from mqttbridge.history.waiting import Ends, Given
from mqttbridge.model import Outcome, Queued, Settled
from tests.history.samples import NOW, ended, queued, uplink


def names() -> Names:
    """Names of a new file."""
    return Names({}, {(): 0}, [], [])


def test_uplinks_of_several_routes_are_in_the_order_of_their_seqs() -> None:
    known = names()
    given = [Given({("a",): queued([1, 4]), ("a", "b"): queued([2, 3])}, (), 4, 0), Given({}, [uplink(9)], 1, 0)]
    blocks, lost = pack_given(given, known)
    (block,) = blocks
    assert lost == 0
    found = unpack_uplinks(block.number, block.data)
    assert [(one[0], one[7]) for one in found] == [(1, 1), (2, 2), (3, 2), (4, 1), (0, 0)]
    assert (known.new_connections, known.new_routes) == ([(1, "a"), (2, "b")], [(1, [1]), (2, [1, 2])])


def test_blocks_are_not_too_large() -> None:
    blocks, _ = pack_given([Given({("a",): queued(range(1, 1001))}, (), 1000, 0)], names())
    assert [block.number for block in blocks] == [UPLINK_LIMIT] * 3 + [1000 - 3 * UPLINK_LIMIT]
    blocks, _ = pack_settled([Ends("a", ended(range(1, 2001)))], names(), NOW)
    assert [block.number for block in blocks] == [END_LIMIT, 2000 - END_LIMIT]


def test_ends_of_several_connections_are_sorted_by_seq() -> None:
    blocks, _ = pack_settled([Ends("b", ended([5, 6])), Ends("a", ended([1, 5]))], names(), NOW)
    (block,) = blocks
    assert seqs_of(block.keys) == (1, 5, 5, 6)
    assert [one[0] for one in unpack_ends(block.number, block.data)] == [2, 1, 2, 1]


def test_an_end_without_a_time_ended_now() -> None:
    ((block,), _) = pack_settled([Ends("a", [Settled(1, Outcome.DELIVERED)])], names(), NOW)
    assert unpack_ends(1, block.data)[0][3] == NOW


def test_what_cannot_be_packed_is_left_out_alone_and_counted() -> None:
    bad = [Queued(2, uplink(2, "no DevEUI")), Queued(3, uplink(3, source="\ud800")), Queued(4, uplink(2**80))]
    blocks, lost = pack_given([Given({("a",): [*queued([1]), *bad, *queued([5])]}, (), 5, 0)], names())
    assert (lost, [one[0] for one in unpack_uplinks(2, blocks[0].data)]) == (3, [1, 5])
    assert pack_given([Given({("a",): bad}, (), 3, 0)], names()) == ([], 3)
    assert pack_settled([Ends("a", [Settled(-1, Outcome.PARKED), Settled(2**70, Outcome.PARKED)])], names(), NOW) == (
        [],
        2,
    )
