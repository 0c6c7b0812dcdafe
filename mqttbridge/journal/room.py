"""Which appends fit into the journal, and what is said to those that do not. Pure; used by the writer thread only.

Two questions are kept apart. Whether an append can ever be stored depends on `journal.maxSize` alone, so that nothing
is dropped for one that is then refused. Whether it can be stored now is the writer's to find out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.errors import JournalFull, JournalTooLarge
from mqttbridge.journal.operations import Append
from mqttbridge.journal.plan import without
from mqttbridge.journal.schema import EMPTY_PAGES, PAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mqttbridge.journal.ledger import Ledger
    from mqttbridge.journal.operations import Operation, Options
    from mqttbridge.journal.seen import Sieve

__all__ = ["capacity", "full", "missing", "needed", "needed_by_new", "portions", "to_drop", "too_large"]

DROP_BYTES = 1024 * 1024
MOST_AT_ONCE = 16 * 1024 * 1024
"""What one transaction drops: far more may be too much once `journal.maxSize` was lowered."""
SLACK = PAGE
"""An append may split a page of the index besides."""


def capacity(max_size: int) -> int:
    """Give the bytes that uplinks can take in a journal which holds nothing else. No page of an index is split then."""
    return max_size - EMPTY_PAGES * PAGE


def needed(operations: Iterable[Operation], max_size: int) -> int:
    """Give the bytes that the appends among these add, about; what can never be stored does not count."""
    most = capacity(max_size)
    return sum(one.need for one in operations if isinstance(one, Append) and one.need <= most)


def needed_by_new(operations: Iterable[Operation], max_size: int, sieve: Sieve) -> int:
    """Give the same as `needed`, but that copies, which are not stored, need nothing."""
    most = capacity(max_size)
    total = 0
    for one in operations:
        if isinstance(one, Append) and one.need <= most:
            total += without(one.entries, one.need, sieve.sift(one.entries))[1]
            sieve.take()
    return total


def missing(used: int, need: int, max_size: int) -> int:
    """Give how many bytes are missing to add `need` bytes to `used`; 0 and less: it fits."""
    return used + need + SLACK - max_size


def portions(operations: Iterable[Operation], max_size: int) -> Iterator[list[Operation]]:
    """Cut into transactions whose appends can be stored together; what can never be stored does not count."""
    most = capacity(max_size)
    portion: list[Operation] = []
    total = 0
    for one in operations:
        size = needed([one], max_size)
        if portion and total + size > most:
            yield portion
            portion, total = [], 0
        total += size
        portion.append(one)
    if portion:
        yield portion


def to_drop(short: int, max_size: int) -> int:
    """Give how much to drop if `short` bytes are missing: each time costs a transaction, so a little ahead."""
    return min(max(short, PAGE, min(max_size // 64, DROP_BYTES)), MOST_AT_ONCE)


def too_large(append: Append, options: Options) -> JournalTooLarge:
    """Say that this can never be stored."""
    number = len(append.entries)
    what = "1 uplink needs" if number == 1 else f"{number} uplinks in one request need"
    return JournalTooLarge(
        f"{what} {append.need} bytes in the journal {options.path}, which has {capacity(options.max_size)} at most: "
        "send less at once, or raise journal.maxSize."
    )


def full(size: int, used: int, ledger: Ledger, options: Options) -> JournalFull:
    """Say that there is no room for `size` bytes now."""
    kept = sum(account.kept for account in ledger.accounts.values())
    waiting = sum(account.queued for account in ledger.accounts.values())
    why = "uplinks wait for brokers that do not take them. Repair these connections,"
    if kept > waiting:
        why = (
            f"{kept} parked uplinks stay in it, and {waiting} wait for their brokers. Correct what parks them and "
            "retry them, or drop them (mqttbridge parked),"
        )
    elif kept:
        why = "uplinks wait for brokers that do not take them, or are parked. Repair these connections,"
    return JournalFull(
        f"The journal {options.path} is full ({used} of {options.max_size} bytes, and {size} more are needed): {why} "
        "raise journal.maxSize, or set journal.whenFull to drop-oldest."
    )
