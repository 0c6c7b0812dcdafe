"""Makes the blocks of a transaction out of what waited. Pure.

What cannot be packed (a text that is no Unicode, a number that is too large) is left out alone, and counted.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

from mqttbridge.history.blocks import END_LIMIT, UPLINK_LIMIT, Block, End, Record, chunks, pack_ends, pack_uplinks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mqttbridge.history.store import Names
    from mqttbridge.history.waiting import Ends, Given
    from mqttbridge.model import Uplink

__all__ = ["pack_given", "pack_settled"]

OVERHEAD = 64
"""Bytes of a packed uplink beside its body, about."""
Item = TypeVar("Item")

_by_seq = itemgetter(0)


def pack_given(given: Sequence[Given], names: Names) -> tuple[list[Block], int]:
    """Give the blocks of uplinks, in the order in which they passed, and how many uplinks cannot be in one."""
    rows: list[tuple[int, int, Uplink]] = []
    for one in given:
        if one.queued:
            found = [
                (queued.seq, route, queued.uplink)
                for route, group in [(names.route(to), group) for to, group in one.queued.items()]
                for queued in group
            ]
            if len(one.queued) > 1:
                found.sort(key=_by_seq)
            rows += found
        else:
            rows += [(0, 0, uplink) for uplink in one.unrouted]
    cut = chunks(rows, [len(row[2].body) + OVERHEAD for row in rows], UPLINK_LIMIT)
    return _pack([*cut], _pack_uplinks)


def pack_settled(ends: Sequence[Ends], names: Names, now: int) -> tuple[list[Block], int]:
    """Give the blocks of ends, by seq, and how many ends cannot be in one. `now`: when it ended, if it does not say."""
    rows: list[tuple[int, End]] = []
    for one in ends:
        number = names.connection(one.connection)
        rows += [
            (end.seq, (number, int(end.outcome), end.sent, end.at or now, end.topic, end.reason)) for end in one.settled
        ]
    if len(ends) > 1:
        # So the blocks hold narrow ranges, whatever the number of connections.
        rows.sort(key=_by_seq)
    cut = chunks(rows, [len(row[1][4]) + len(row[1][5]) + OVERHEAD for row in rows], END_LIMIT)
    return _pack([*cut], _pack_ends)


def _pack_uplinks(rows: Sequence[tuple[int, int, Uplink]]) -> Block:
    records: list[Record] = [
        (seq, one.received, one.time, one.source, one.kind, one.fcnt, one.origin, route, one.body)
        for seq, route, one in rows
    ]
    return pack_uplinks([row[2].dev_eui for row in rows], records)


def _pack_ends(rows: Sequence[tuple[int, End]]) -> Block:
    return pack_ends([row[0] for row in rows], [row[1] for row in rows])


def _pack(parts: Sequence[Sequence[Item]], pack: Callable[[Sequence[Item]], Block]) -> tuple[list[Block], int]:
    blocks = []
    lost = 0
    for part in parts:
        rows = part
        block: Block | None
        try:
            block = pack(rows)
        except Exception:  # noqa: BLE001 - whatever the encoders make of it, the others shall not go with it
            rows = [row for row in part if _packs(row, pack)]
            block = pack(rows) if rows else None
        if block is not None:
            blocks.append(block)
        lost += len(part) - len(rows)
    return blocks, lost


def _packs(row: Item, pack: Callable[[Sequence[Item]], Block]) -> bool:
    try:
        pack([row])
    except Exception:  # noqa: BLE001 - as above
        return False
    return True
