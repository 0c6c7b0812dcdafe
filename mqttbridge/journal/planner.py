"""Decides how each operation of one transaction ends, and puts into its plan what can be done. For the writer thread.

It reads the file (parked uplinks), and changes nothing: neither the file nor the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.journal import room
from mqttbridge.journal.operations import Append, Declare, Settle, Unpark
from mqttbridge.journal.parked import Unparked
from mqttbridge.journal.plan import copied, without

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.errors import JournalFull
    from mqttbridge.journal.ledger import Ledger
    from mqttbridge.journal.operations import Answer, Operation, Options
    from mqttbridge.journal.plan import Plan
    from mqttbridge.journal.store import Store

__all__ = ["Planner"]


class Planner:
    """Fills one plan. `used`: bytes of the journal that are in use; `vacant`: it holds no uplink."""

    def __init__(self, plan: Plan, store: Store, ledger: Ledger, options: Options) -> None:
        """Take what to fill, and what to look at."""
        self._plan = plan
        self._store = store
        self._ledger = ledger
        self._options = options
        self.full = ""
        """Why an append was refused that may have room later, if one was: the sentence, and the bytes it needs."""
        self.full_size = 0

    def fill(self, operations: Sequence[Operation], used: int, *, vacant: bool) -> list[tuple[Operation, Answer]]:
        """Put into the plan what can be done; tell how each operation ends if the plan does not fail."""
        plan = self._plan
        done: list[tuple[Operation, Answer]] = []
        planned = 0
        for one in operations:
            answer: Answer = None
            if isinstance(one, Append):
                duplicates = plan.duplicates(one.entries)
                entries, need = without(one.entries, one.need, duplicates)
                answer = self._refusal(one, need, used + planned, vacant=vacant and not planned) or duplicates
                if answer is duplicates:
                    planned += need
                    plan.append(entries)
            elif isinstance(one, Unpark):
                answer = self._unpark(one, used)
            elif isinstance(one, Settle):
                try:
                    plan.settle(one.connection, one.settled)
                except ValueError as error:
                    answer = error
            elif isinstance(one, Declare):
                plan.declare(one.connections)
            done.append((one, answer))
        return done

    def _unpark(self, one: Unpark, used: int) -> Unparked | JournalFull:
        """Take up the first of these. They take no room but where their first row stays: others still wait for it."""
        options = self._options
        picked = self._store.picked(self._ledger, one, bodies=one.retry)
        need = copied(self._ledger, picked) if one.retry else 0
        if need and not options.drop_oldest and room.missing(used, need, options.max_size) > 0:
            return room.full(need, used, self._ledger, options)
        return Unparked(self._plan.unpark(picked, retry=one.retry), bool(picked))

    def _refusal(self, append: Append, need: int, used: int, *, vacant: bool) -> JournalFull | None:
        """Say why there is no room for `need` more, if so; health repeats it until there is."""
        options = self._options
        if append.need > room.capacity(options.max_size):
            return room.too_large(append, options)
        if not need or room.missing(used, need, options.max_size) <= 0 or vacant or options.drop_oldest:
            return None
        problem = room.full(need, used, self._ledger, options)
        self.full, self.full_size = str(problem), need
        return problem
