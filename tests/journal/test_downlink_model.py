"""Any order of operations, with crashes and a failing disk, against a plain model of the whole protocol."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mqttbridge.errors import JournalFailed
from mqttbridge.journal.downlink_protocol import AcceptedDownlink, ConcludedDownlink, Receipt, ReceiptBody, Sender
from mqttbridge.journal.downlinks import SqliteDownlinks
from mqttbridge.model import Device, Downlink
from tests.journal.downlink_samples import Clock, Disk, disk_error, downlink, eui, rejected

NAMES = ("a", "b")
SOURCES = ("lrc", "tts")
few = st.integers(0, 3)
kinds = st.sampled_from(["valid", "rejected", "silent"])
batches = st.lists(st.tuples(kinds, st.sampled_from(NAMES), st.sampled_from(SOURCES), few, few), min_size=1, max_size=6)
picks = st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=6)
failures = st.sampled_from(
    [
        (moment, statement, code)
        for moment in ("before", "after")
        for statement in ("BEGIN", "INSERT INTO downlink", "UPDATE downlink", "COMMIT")
        for code in ("SQLITE_IOERR_FSYNC", "SQLITE_FULL", "SQLITE_BUSY")
    ]
)
devices = st.lists(
    st.tuples(few, st.sampled_from(SOURCES), st.sampled_from(["", "w"])).map(
        lambda one: Device(eui(one[0]), one[1], one[2], frozenset({one[1]}))
    ),
    max_size=5,
)


class Row:
    """One message in the model."""

    def __init__(self, given: AcceptedDownlink) -> None:
        self.given = given
        self.seq = 0
        self.pending = given.downlink is not None
        self.receipt = given.receipt


class DownlinksMachine(RuleBasedStateMachine):
    """The model: a list of rows in the order of acceptance; the seq of a row is learnt at its first reading."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.root = Path(tempfile.mkdtemp(prefix="downlinks-model-"))
        self.generation = 0
        self.number = 0
        self.rows: list[Row] = []
        self.devices: dict[str, Device] = {}
        self.watched: dict[str, tuple[int, int]] = {}

    @initialize()
    def start(self) -> None:
        (self.root / "0").mkdir()
        self.open()

    def open(self) -> None:
        self.disk = Disk()
        directory = self.root / str(self.generation)
        self.journal = self.runner.run(SqliteDownlinks.open(directory, clock=Clock(), connect=self.disk.connect))
        for name in NAMES:
            self.watched[name] = self.counts(name)
            self.journal.watch(name, lambda name=name: self.watched.update({name: self.counts(name)}))

    def counts(self, name: str) -> tuple[int, int]:
        return self.journal.unfinished(name), self.journal.waiting(name)

    def given(self, batch: list[tuple[str, str, str, int, int]]) -> list[AcceptedDownlink]:
        """Messages whose mids, digests, devices and correlation ids collide often."""
        found = []
        for kind, name, source, mid, device in batch:
            self.number += 1
            common = {"connection": name, "mid": mid, "digest": bytes([device])}
            content = Downlink(eui(device), 1, "00", correlation_id=f"{mid:016X}" if mid else "")
            if kind == "valid":
                found.append(downlink(self.number, source=source, downlink=content, **common))
            else:
                found.append(rejected(self.number, None if kind == "silent" else b"%d" % self.number, **common))
        return found

    @rule(batch=batches)
    def accept(self, batch: list[tuple[str, str, str, int, int]]) -> None:
        given = self.given(batch)
        self.runner.run(self.journal.accept(given))
        self.rows += map(Row, given)

    @rule(batch=batches, failure=failures)
    def accept_and_fail(self, batch: list[tuple[str, str, str, int, int]], failure: tuple[str, str, str]) -> None:
        moment, statement, code = failure
        if statement == "UPDATE downlink":
            return
        getattr(self.disk, moment)[statement] = [disk_error(code)]
        with pytest.raises(JournalFailed):
            self.runner.run(self.journal.accept(self.given(batch)))
        self.read()

    def ends(self, picked: list[tuple[int, bool]]) -> list[ConcludedDownlink]:
        self.read()
        body = ReceiptBody("", b"end %d" % self.number)
        found = []
        for place, silent in picked:
            seq = self.rows[place].seq if place < len(self.rows) else 10_000 + place
            if seq:
                found.append(ConcludedDownlink(seq, None if silent else body))
        return found

    def concluded(self, ends: list[ConcludedDownlink]) -> None:
        for end in ends:
            for row in self.rows:
                if row.seq == end.seq and row.pending:
                    row.pending, row.receipt = False, end.receipt

    @rule(picked=picks)
    def conclude(self, picked: list[tuple[int, bool]]) -> None:
        ends = self.ends(picked)
        self.runner.run(self.journal.conclude(ends))
        self.concluded(ends)

    @rule(picked=picks, failure=failures)
    def conclude_and_fail_and_repeat(self, picked: list[tuple[int, bool]], failure: tuple[str, str, str]) -> None:
        moment, statement, code = failure
        ends = self.ends(picked)
        if not ends or statement == "INSERT INTO downlink":
            return
        getattr(self.disk, moment)[statement] = [disk_error(code)]
        with pytest.raises(JournalFailed):
            self.runner.run(self.journal.conclude(ends))
        self.runner.run(self.journal.conclude(ends))
        self.concluded(ends)

    @rule(picked=picks)
    def receipted(self, picked: list[tuple[int, bool]]) -> None:
        self.read()
        places = [place for place, _ in picked]
        self.runner.run(self.journal.receipted([10_000, *(row.seq for row in self.at(places) if not row.pending)]))
        for row in self.at(places):
            if row.seq and not row.pending:
                row.receipt = None

    def at(self, places: list[int]) -> list[Row]:
        return [self.rows[place] for place in places if place < len(self.rows)]

    @rule()
    def read(self) -> None:
        for source in SOURCES:
            rows = [row for row in self.rows if row.pending and row.given.source == source]
            found = self.runner.run(self.journal.pending(source, 0, 1000))
            assert [one.key for one in found] == [row.given.key for row in rows]
            assert [one.downlink for one in found] == [row.given.downlink for row in rows]
            for one, row in zip(found, rows, strict=True):
                assert row.seq in (0, one.seq)
                row.seq = one.seq
        for name in NAMES:
            rows = [row for row in self.rows if row.receipt and row.given.connection == name]
            found = self.runner.run(self.journal.receipts(name, 0, 1000))
            for one, row in zip(found, rows, strict=True):
                assert row.seq in (0, one.seq)
                row.seq = one.seq
                assert one == Receipt(row.seq, row.receipt)
        known = [row.seq for row in self.rows if row.seq]
        assert known == sorted(set(known))
        waiting = {row.given.source for row in self.rows if row.pending}
        assert set(self.runner.run(self.journal.sources())) == waiting

    @rule(name=st.sampled_from(NAMES), source=st.sampled_from(SOURCES), skip=st.integers(0, 9), limit=st.integers(0, 9))
    def read_a_part(self, name: str, source: str, skip: int, limit: int) -> None:
        for read in (self.journal.pending, self.journal.receipts):
            of = source if read == self.journal.pending else name
            everything = self.runner.run(read(of, 0, 1000))
            after = everything[min(skip, len(everything)) - 1].seq if everything and skip else 0
            part = self.runner.run(read(of, after, limit))
            assert part == [one for one in everything if one.seq > after][:limit]

    @rule(name=st.sampled_from(NAMES), mid=few, device=few)
    def look_up(self, name: str, mid: int, device: int) -> None:
        same = [row.given for row in self.rows if (row.given.connection, row.given.mid) == (name, mid)]
        keys = [one.key for one in same[-1:] if one.digest == bytes([device])]
        found = self.runner.run(self.journal.former_key(name, mid, bytes([device])))
        assert found == (keys[-1] if keys else None)
        senders: dict[tuple[str, str], str] = {}
        for row in self.rows:
            if row.given.downlink:
                content = row.given.downlink
                senders[content.dev_eui, content.correlation_id or row.given.key] = row.given.connection
        for wanted in [(eui(device), f"{mid:016X}"), *list(senders)[-3:]]:
            known = Sender(senders[wanted], wanted[1]) if wanted in senders else None
            assert self.runner.run(self.journal.sender(*wanted)) == known

    @rule(heard=devices)
    def learn(self, heard: list[Device]) -> None:
        self.journal.learn(heard)
        self.devices.update({one.dev_eui: one for one in heard})

    @rule(number=few)
    def ask_for_a_device(self, number: int) -> None:
        assert self.runner.run(self.journal.device(eui(number))) == self.devices.get(eui(number))

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.journal.close())
        self.open()

    @rule()
    def crash(self) -> None:
        """Go on with a copy of the files, as they are while the queue still is open."""
        before = self.root / str(self.generation)
        self.generation += 1
        after = self.root / str(self.generation)
        after.mkdir()
        for file in ("downlinks.db", "downlinks.db-wal"):
            if (before / file).exists():
                shutil.copyfile(before / file, after / file)
        self.runner.run(self.journal.close())
        shutil.rmtree(before)
        self.open()
        # Where devices are is stored soon, not at once; their next uplinks tell it again.
        self.journal.learn(list(self.devices.values()))

    @invariant()
    def counts_are_exact_and_were_told(self) -> None:
        if not hasattr(self, "journal"):
            return
        for name in NAMES:
            mine = [row for row in self.rows if row.given.connection == name]
            pending = sum(row.pending for row in mine)
            assert self.counts(name) == (pending + sum(row.receipt is not None for row in mine), pending)
            assert self.watched[name] == self.counts(name)

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.runner.run(self.journal.close())
        self.runner.close()
        shutil.rmtree(self.root)


TestDownlinksMachine = DownlinksMachine.TestCase
TestDownlinksMachine.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
