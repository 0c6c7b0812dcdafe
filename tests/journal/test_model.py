"""Any order of operations, with crashes and drop-oldest, against a plain model; the account is checked each step."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from mqttbridge.errors import JournalFull
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.model import Counts, Entry, Outcome, Queued, Settled
from tests.journal.samples import FixedClock, marked, uplink

if TYPE_CHECKING:
    from mqttbridge.journal.parked import Parked

NAMES = ("a", "b", "c")
MIB = 1024 * 1024
routes = st.sets(st.sampled_from(NAMES), min_size=1).map(lambda names: tuple(sorted(names)))
sizes = st.sampled_from([0, 2, 300, 5_000, 90_000])


def identities(queued: list[Queued]) -> list[tuple[int, int | None, bytes]]:
    """Give what a session uses of them."""
    return [(one.seq, one.uplink.fcnt, one.uplink.body) for one in queued]


class JournalMachine(RuleBasedStateMachine):
    """The model: per connection, a list of (number, body size), and the numbers by outcome."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.root = Path(tempfile.mkdtemp(prefix="journal-model-"))
        self.generation = 0
        self.number = 0
        self.highest = 0
        self.queued: dict[str, list[tuple[int, int]]] = {name: [] for name in NAMES}
        self.counts: dict[str, list[int]] = {name: [0, 0, 0, 0] for name in NAMES}
        self.routed = dict.fromkeys(NAMES, 0)
        self.parked: dict[str, list[tuple[int, int]]] = {name: [] for name in NAMES}

    @initialize(when_full=st.sampled_from(["block", "drop-oldest"]))
    def start(self, when_full: str) -> None:
        self.when_full = when_full
        self.open()

    def open(self) -> None:
        self.journal = self.runner.run(
            SqliteJournal.open(
                self.root / str(self.generation), max_size=MIB, when_full=self.when_full, clock=FixedClock()
            )
        )

    @rule(batch=st.lists(st.tuples(routes, sizes), min_size=1, max_size=8))
    def append(self, batch: list[tuple[tuple[str, ...], int]]) -> None:
        numbered = [(self.number + offset, route, size) for offset, (route, size) in enumerate(batch)]
        entries = [
            Entry(replace(uplink(number, body=b"x" * size), fingerprint=2**62 + number), route, 60_000)
            for number, route, size in numbered
        ]
        try:
            assert self.runner.run(self.journal.append(entries)) == []
        except JournalFull:
            assert self.when_full == "block"
            assert self.journal.health().size + sum(size for _, _, size in numbered) > MIB // 3
            return
        self.number += len(batch)
        self.take_drops()
        for number, route, size in numbered:
            for name in route:
                self.routed[name] += 1
                self.queued[name].append((number, size))

    @precondition(lambda self: self.number)
    @rule(names=routes, data=st.data())
    def send_again(self, names: tuple[str, ...], data: st.DataObject) -> None:
        """Whatever became of what was stored, a copy of it changes nothing at all."""
        numbers = data.draw(st.lists(st.integers(0, self.number - 1), max_size=8))
        health = self.journal.health()
        assert self.runner.run(self.journal.append(marked(numbers, *names, size=5000))) == list(range(len(numbers)))
        assert self.journal.health().problem == health.problem

    def take_drops(self) -> None:
        """How much is dropped is the journal's choice; that it is the oldest, and counted, is not."""
        for name, counts in self.journal.counts().items():
            new = counts.dropped - self.counts[name][Outcome.DROPPED]
            assert 0 <= new <= len(self.queued[name])
            assert new == 0 or self.when_full == "drop-oldest"
            del self.queued[name][:new]
            self.counts[name][Outcome.DROPPED] += new
        if self.when_full == "drop-oldest":
            for name in NAMES:
                listed = [(one.fcnt, one.size) for one in reversed(self.listed(name))]
                assert set(listed) <= set(self.parked[name])
                self.parked[name] = listed

    def listed(self, name: str) -> list[Parked]:
        return self.runner.run(self.journal.parked(name, 10_000))

    @rule(name=st.sampled_from(NAMES), retry=st.booleans())
    def unpark_all(self, name: str, *, retry: bool) -> None:
        upto = self.journal.last_parked
        waiting = any(self.queued[other] for other in NAMES)
        try:
            while (done := self.runner.run(self.journal.unpark(name, retry=retry, upto=upto))).more:
                self.take_up(name, self.parked[name][: done.counts.get(name, 0)], retry=retry)
        except JournalFull:
            assert retry
            assert waiting, "a retry needs room only where others wait for the uplink"
            assert self.when_full == "block"

    @precondition(lambda self: any(self.parked.values()))
    @rule(data=st.data(), retry=st.booleans())
    def unpark_some(self, data: st.DataObject, *, retry: bool) -> None:
        name = data.draw(st.sampled_from([name for name in NAMES if self.parked[name]]))
        listed = self.listed(name)
        assert [one.number for one in listed] == sorted({one.number for one in listed}, reverse=True)
        chosen = data.draw(st.lists(st.sampled_from(listed), min_size=1, max_size=1))
        try:
            done = self.runner.run(self.journal.unpark([one.number for one in chosen], retry=retry))
        except JournalFull:
            assert retry
            assert self.when_full == "block"
            return
        self.take_up(name, [(one.fcnt, one.size) for one in chosen][: done.count], retry=retry)

    def take_up(self, name: str, taken: list[tuple[int, int]], *, retry: bool) -> None:
        self.parked[name] = [one for one in self.parked[name] if one not in taken]
        self.take_drops()
        if retry:
            self.queued[name] += taken
            self.routed[name] += len(taken)

    @rule(mib=st.sampled_from([1, 1, 2]))
    def resize(self, mib: int) -> None:
        self.runner.run(self.journal.configure(max_size=mib * MIB, when_full=self.when_full))
        self.max_size = mib * MIB
        assert self.journal.health().max_size == self.max_size

    @rule(name=st.sampled_from(NAMES), outcomes=st.lists(st.sampled_from(Outcome), max_size=10))
    def settle(self, name: str, outcomes: list[Outcome]) -> None:
        found = self.runner.run(self.journal.read(name, 0, len(outcomes)))
        settled = [Settled(one.seq, outcome, "reason") for one, outcome in zip(found, outcomes, strict=False)]
        self.runner.run(self.journal.settle(name, settled))
        for one, known in zip(settled, self.queued[name], strict=False):
            self.counts[name][one.outcome] += 1
            if one.outcome is Outcome.PARKED:
                self.parked[name].append(known)
        del self.queued[name][: len(settled)]

    @rule(name=st.sampled_from(NAMES), skip=st.integers(0, 20), limit=st.integers(1, 20))
    def read(self, name: str, skip: int, limit: int) -> None:
        everything = self.runner.run(self.journal.read(name, 0, 10_000))
        seqs = [one.seq for one in everything]
        assert seqs == sorted(set(seqs))
        assert [(one.uplink.fcnt, len(one.uplink.body)) for one in everything] == self.queued[name]
        assert {(one.fcnt, one.size) for one in self.listed(name)} == set(self.parked[name])
        if seqs:
            self.highest = max(self.highest, seqs[-1])
        after = seqs[min(skip, len(seqs) - 1)] if seqs and skip else 0
        part = self.runner.run(self.journal.read(name, after, limit))
        assert identities(part) == identities([one for one in everything if one.seq > after][:limit])

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.journal.close())
        self.open()

    @rule()
    def crash(self) -> None:
        """Go on with a copy of the files, as they are while the journal still is open."""
        before = self.root / str(self.generation)
        self.generation += 1
        after = self.root / str(self.generation)
        after.mkdir()
        for file in ("journal.db", "journal.db-wal"):
            if (before / file).exists():
                shutil.copyfile(before / file, after / file)
        self.runner.run(self.journal.close())
        shutil.rmtree(before)
        self.open()

    @precondition(lambda self: any(self.queued.values()))
    @rule()
    def seqs_do_not_come_twice(self) -> None:
        name = next(name for name in NAMES if self.queued[name])
        self.runner.run(self.journal.append(marked([self.number], name)))
        self.take_drops()
        self.queued[name].append((self.number, len(uplink(self.number).body)))
        self.routed[name] += 1
        self.number += 1
        newest = self.runner.run(self.journal.read(name, 0, 10_000))[-1].seq
        assert newest > self.highest
        self.highest = newest

    @invariant()
    def accounts_are_exact(self) -> None:
        if not hasattr(self, "journal"):
            return
        known = self.journal.counts()
        for name in NAMES:
            counts = known.get(name, Counts())
            assert counts == Counts(self.routed[name], *self.counts[name])
            assert counts.queued == len(self.queued[name])
            assert self.journal.parked_kept().get(name, 0) == len(self.parked[name])
            assert (self.journal.oldest(name) is None) == (counts.queued == 0)
        assert self.journal.health().problem == "" or self.when_full == "block"

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.runner.run(self.journal.close())
        self.runner.close()
        shutil.rmtree(self.root)


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
