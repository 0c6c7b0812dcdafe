"""What fits together, in any order of sizes; and the sentences for what does not."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.journal import room, schema
from mqttbridge.journal.ledger import Account, Ledger
from mqttbridge.journal.operations import Append, Options, Settle
from mqttbridge.model import Counts
from tests.journal.samples import FixedClock, entries

MAX = 64 * 1024
OPTIONS = Options(Path("journal.db"), MAX, drop_oldest=False, clock=FixedClock(), connect=schema.connect)


def append(need: int) -> Append:
    return Append(entries([1]), need, need, None)


@given(st.lists(st.none() | st.integers(0, 2 * MAX), max_size=30))
def test_portions_keep_the_order_and_each_of_them_fits(needs: list[int | None]) -> None:
    operations = [Settle("a", (), None) if need is None else append(need) for need in needs]
    portions = list(room.portions(operations, MAX))
    assert [one for portion in portions for one in portion] == operations
    assert all(portions)
    for portion, following in itertools.zip_longest(portions, portions[1:], fillvalue=[]):
        total = room.needed(portion, MAX)
        assert total <= room.capacity(MAX)
        assert not following or total + room.needed(following[:1], MAX) > room.capacity(MAX), "no more than it takes"


def test_what_is_dropped_at_once_is_worth_a_transaction_and_no_large_part() -> None:
    assert room.to_drop(1, MAX) == 4096
    assert room.to_drop(1, 64 * MAX) == MAX
    assert room.to_drop(1, 2**40) == 2**20
    assert room.to_drop(2**21, 2**40) == 2**21


def test_the_sentences_say_what_is_asked_what_there_is_and_what_to_do() -> None:
    text = str(room.too_large(append(MAX), OPTIONS))
    assert text == (
        "1 uplink needs 65536 bytes in the journal journal.db, which has 24576 at most: "
        "send less at once, or raise journal.maxSize."
    )
    text = str(room.full(1000, 65000, Ledger(), OPTIONS))
    assert "is full (65000 of 65536 bytes, and 1000 more are needed)" in text
    assert "parked" not in text
    ledger = Ledger()
    account = Account(1, Counts(parked=8), kept=7)
    account.appended(8)
    ledger.add_account("a", account)
    assert "7 parked uplinks stay in it, and 0 wait" in str(room.full(1000, 65000, ledger, OPTIONS))
