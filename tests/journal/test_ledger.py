"""The accounts in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.journal import ledger as ledger_module
from mqttbridge.journal.ledger import Change, Ledger, Settlement, count_dropped
from mqttbridge.model import Counts

if TYPE_CHECKING:
    import pytest


def ledger() -> Ledger:
    """Two connections: both got seq 1 to 4, a alone 5 and 6."""
    made = Ledger()
    made.apply(
        Change({"a": 1, "b": 2}, {("a", "b"): 1, ("a",): 2}, [(("a", "b"), 4, 4), (("a",), 2, 6)]),
    )
    return made


def test_an_append_is_routed_to_all_members() -> None:
    made = ledger()
    assert made.accounts["a"].counts == Counts(routed=6)
    assert made.accounts["b"].counts == Counts(routed=4)
    assert made.last_seq == 6


def test_only_what_all_members_settled_may_be_deleted() -> None:
    made = ledger()
    assert made.collectable() == []
    made.apply(Change(settled=[Settlement("a", 6, delivered=6)]))
    assert made.collectable() == [(2, 0, 6)]
    made.apply(Change(settled=[Settlement("b", 3, delivered=2, parked=1)]))
    assert made.collectable() == [(1, 0, 3), (2, 0, 6)]
    made.collected(made.collectable())
    assert made.collectable() == []
    made.apply(Change(settled=[Settlement("b", 4, expired=1)]))
    assert made.collectable() == [(1, 3, 4)]
    assert made.accounts["b"].counts == Counts(routed=4, delivered=2, parked=1, expired=1)


def test_dropped_counts_for_whoever_had_not_settled() -> None:
    made = ledger()
    made.apply(Change(settled=[Settlement("b", 2, delivered=2)]))
    moves: dict[str, Settlement] = {}
    count_dropped(made, [(1, 1), (2, 1), (3, 1)], moves)
    count_dropped(made, [(4, 1), (5, 2)], moves)
    assert moves == {"a": Settlement("a", 5, dropped=5), "b": Settlement("b", 5, dropped=2)}


def test_a_thread_that_counts_while_an_uplink_comes_leaves_no_old_count_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    account = ledger().accounts["a"]

    def interrupted(*numbers: int) -> Counts:
        # A scrape counts in a thread; here the event loop gets its turn, and an uplink is stored.
        monkeypatch.setattr(ledger_module, "Counts", Counts)
        account.appended(1)
        return Counts(*numbers)

    monkeypatch.setattr(ledger_module, "Counts", interrupted)
    assert account.counts == Counts(routed=6)
    assert account.counts == Counts(routed=7)
    assert account.queued == 7
