"""What is sent next."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.downlinks.lanes import PATIENCE, UNDER_WAY, Lanes
from mqttbridge.downlinks.network import Later, Refused, Taken
from mqttbridge.model import DownlinkOutcome
from tests.downlinks.memory import NOW, pending

if TYPE_CHECKING:
    from mqttbridge.downlinks.network import Answer
    from mqttbridge.journal.downlink_protocol import PendingDownlink

A, B, C = "000000000000000A", "000000000000000B", "000000000000000C"
DOWN = Later("connection refused", everyone=True)


def lanes(*downlinks: PendingDownlink, random: float = 0.0) -> Lanes:
    made = Lanes(lambda: random)
    made.add(downlinks)
    return made


def seqs(downlinks: list[PendingDownlink]) -> list[int]:
    return [one.seq for one in downlinks]


def test_devices_go_side_by_side_and_each_device_in_order() -> None:
    them = lanes(pending(1, A), pending(2, A), pending(3, B), pending(4, B))
    assert seqs(them.due(0.0)) == [1, 3]
    assert seqs(them.due(0.0)) == []
    verdict = them.answered(3, Taken(), NOW, 0.0)
    assert verdict.end is not None
    assert verdict.end.outcome is DownlinkOutcome.QUEUED
    assert verdict.end.attempts == 1
    assert seqs(them.due(0.0)) == [4]
    assert them.delay(NOW, 0.0) == PATIENCE / 1000


def test_no_more_than_sixteen_are_under_way() -> None:
    them = lanes(*(pending(seq, f"{seq:016X}") for seq in range(1, 30)))
    assert seqs(them.due(0.0)) == list(range(1, UNDER_WAY + 1))
    them.answered(5, Taken(), NOW, 0.0)
    assert seqs(them.due(0.0)) == [17]


def test_a_refusal_is_final_and_the_next_one_of_the_device_goes() -> None:
    them = lanes(pending(1, A), pending(2, A))
    them.due(0.0)
    end = them.answered(1, Refused("no such device", "DevEUI_downlink.DevEUI"), NOW, 0.0).end
    assert end is not None
    assert (end.outcome, end.reason, end.field) == (
        DownlinkOutcome.REJECTED,
        "no such device",
        "DevEUI_downlink.DevEUI",
    )
    assert seqs(them.due(0.0)) == [2]


def test_a_device_that_must_wait_waits_longer_each_time_and_the_others_go_on() -> None:
    them = lanes(pending(1, A), pending(2, A), pending(3, B), pending(4, B), random=0.5)
    them.due(0.0)
    retry = them.answered(1, Later("busy"), NOW, 0.0).retry
    assert retry is not None
    assert (retry.delay, retry.attempts, retry.everyone) == (2.0, 1, False)
    them.answered(3, Taken(), NOW, 0.0)
    assert seqs(them.due(1.9)) == [4]
    assert seqs(them.due(2.0)) == [1]
    again = them.answered(1, Later("busy"), NOW, 2.0).retry
    assert again is not None
    assert again.delay == 3.5
    assert them.delay(NOW, 2.0) == 3.5
    assert seqs(them.due(5.5)) == [1]
    end = them.answered(1, Taken(), NOW, 5.5).end
    assert end is not None
    assert end.attempts == 3
    assert seqs(them.due(5.5)) == [2]
    fresh = them.answered(2, Later("busy"), NOW, 5.5).retry
    assert fresh is not None
    assert fresh.delay == 2.0, "an end makes the pause short again"


def test_an_outage_stops_all_and_then_one_is_tried_alone() -> None:
    them = lanes(*(pending(seq, f"{seq:016X}") for seq in range(1, 21)), random=0.5)
    assert len(them.due(0.0)) == 16
    verdicts = [them.answered(seq, DOWN, NOW, 0.0) for seq in range(1, 17)]
    assert [verdict.network for verdict in verdicts] == ["failing"] + [""] * 15
    assert them.outage == "connection refused"
    assert them.due(1.9) == []
    assert them.delay(NOW, 0.5) == 1.5, "sixteen failures make one pause"
    assert seqs(them.due(2.0)) == [17], "the one that was tried least"
    assert them.due(60.0) == []
    assert them.answered(17, DOWN, NOW, 2.0).network == ""
    assert them.due(5.4) == []
    assert seqs(them.due(5.5)) == [18]
    verdict = them.answered(18, Taken(), NOW, 5.5)
    assert verdict.network == "recovered"
    assert them.outage == ""
    assert len(them.due(5.5)) == 16


def test_the_network_server_has_recovered_whatever_it_says_of_one_downlink() -> None:
    for answer in (Taken(), Refused("no"), Later("this device only")):
        them = lanes(pending(1, A), pending(2, B))
        them.due(0.0)
        them.answered(1, DOWN, NOW, 0.0)
        assert them.answered(2, answer, NOW, 0.0).network == "recovered"
        assert seqs(them.due(0.0)) == [1]


def test_one_that_breaks_the_network_server_does_not_starve_the_others() -> None:
    them = lanes(*(pending(seq, f"{seq:016X}") for seq in range(1, 50)))
    mono, done = 0.0, set()
    for _ in range(200):
        sent = them.due(mono)
        for one in sent:
            if one.seq == 1:
                them.answered(1, DOWN, NOW, mono)
            else:
                them.answered(one.seq, Taken(), NOW, mono)
                done.add(one.seq)
        mono += 1.0
    assert done == set(range(2, 50))


def test_what_is_too_late_ends_while_it_waits_and_its_lane_goes_on() -> None:
    them = lanes(pending(1, A, expires=NOW + 500), pending(2, A), pending(3, A, expires=NOW + 400), random=0.5)
    them.due(0.0)
    them.answered(1, Later("busy"), NOW, 0.0)
    assert them.delay(NOW, 0.0) == 0.4
    assert them.ended(NOW + 399) == []
    (end,) = them.ended(NOW + 400)
    assert (end.pending.seq, end.outcome, end.field) == (3, DownlinkOutcome.EXPIRED, "DevEUI_downlink.ValidityTime")
    (end,) = them.ended(NOW + 500)
    assert (end.pending.seq, end.outcome, end.attempts) == (1, DownlinkOutcome.EXPIRED, 1)
    assert end.reason.endswith("before the network server took it: busy")
    assert seqs(them.due(2.0)) == [2]
    assert len(them) == 1


def test_what_is_under_way_is_not_too_late_before_its_answer() -> None:
    for answer, outcome in (
        (Taken(), DownlinkOutcome.QUEUED),
        (Refused("no"), DownlinkOutcome.REJECTED),
        (Later("busy"), DownlinkOutcome.EXPIRED),
        (DOWN, DownlinkOutcome.EXPIRED),
    ):
        them = lanes(pending(1, A, expires=NOW + 500), pending(2, A))
        them.due(0.0)
        assert them.ended(NOW + 1000) == []
        end = them.answered(1, answer, NOW + 1000, 1.0).end
        assert end is not None
        assert end.outcome is outcome
        assert seqs(them.due(100.0)) == [2]


def test_without_validity_time_it_fails_after_a_day_with_the_last_reason() -> None:
    them = lanes(pending(1, A), pending(2, B))
    them.due(0.0)
    them.answered(1, Later("busy"), NOW, 0.0)
    them.answered(2, DOWN, NOW, 0.0)
    assert them.ended(NOW + PATIENCE - 1) == []
    ends = {end.pending.seq: end for end in them.ended(NOW + PATIENCE)}
    assert {end.outcome for end in ends.values()} == {DownlinkOutcome.FAILED}
    assert ends[1].reason == "the network server did not take it within 24 hours: busy"
    assert ends[2].reason.endswith("24 hours: connection refused")


def test_one_that_was_never_tried_fails_with_the_reason_of_the_outage() -> None:
    them = lanes(pending(1, A), pending(2, A))
    them.due(0.0)
    them.answered(1, DOWN, NOW, 0.0)
    assert [end.reason for end in them.ended(NOW + PATIENCE)][1].endswith("connection refused")


def test_the_window_is_weighed_and_known_as_hungry() -> None:
    them = lanes(pending(1, A), pending(2, A, payload=b"x" * 10_240))
    assert them.weight == 12
    assert not them.hungry
    them.due(0.0)
    assert them.hungry
    them.answered(1, Taken(), NOW, 0.0)
    assert them.weight == 11
    them.due(0.0)
    them.answered(2, DOWN, NOW, 0.0)
    assert not them.hungry, "in an outage more of them is of no use"


def test_what_has_ended_does_not_pile_up_behind_a_device_that_waits() -> None:
    them = lanes(pending(1, A))
    them.due(0.0)
    for seq in range(2, 10_000):
        them.add([pending(seq, A, expires=NOW + seq), pending(seq + 100_000, B, expires=NOW + 10**9)])
        for one in them.due(0.0):
            them.answered(one.seq, Taken(), NOW, 0.0)
        assert [end.pending.seq for end in them.ended(NOW + seq)] == [seq]
    assert len(them._lanes[A].queue) < 200
    assert len(them._limits) < 200


def test_fifty_thousand_are_decided_on_in_little_time() -> None:
    them = lanes(*(pending(seq, f"{seq % 1000:016X}") for seq in range(1, 50_001)))
    started, count = time.perf_counter(), 0
    while sent := them.due(0.0):
        for one in sent:
            them.answered(one.seq, Taken(), NOW, 0.0)
            them.delay(NOW, 0.0)
            count += 1
    assert count == 50_000
    assert time.perf_counter() - started < 10


ANSWERS = st.sampled_from([Taken(), Taken(), Refused("no"), Later("busy"), DOWN])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 4), st.one_of(st.none(), st.integers(-1000, 100_000))),
        st.tuples(st.just("answer"), st.integers(0, 50), ANSWERS),
        st.tuples(st.just("time"), st.integers(0, 30_000), st.none()),
    ),
    max_size=120,
)


class Checked:
    """Lanes of which every step is checked against the promises."""

    def __init__(self, random: float) -> None:
        self.lanes = Lanes(lambda: random)
        self.wall, self.mono, self.seq = NOW, 0.0, 0
        self.flying: list[PendingDownlink] = []
        self.outcomes: dict[int, DownlinkOutcome] = {}
        self.queues: defaultdict[str, list[int]] = defaultdict(list)

    def add(self, device: int, validity: int | None) -> None:
        self.seq += 1
        dev_eui = f"{device:016X}"
        expires = None if validity is None else self.wall + validity
        self.queues[dev_eui].append(self.seq)
        self.lanes.add([pending(self.seq, dev_eui, expires=expires, received=self.wall)])

    def end(self, one: PendingDownlink, outcome: DownlinkOutcome) -> None:
        assert one.seq not in self.outcomes, "exactly one outcome"
        self.outcomes[one.seq] = outcome
        self.queues[one.downlink.dev_eui].remove(one.seq)

    def answer(self, which: int, answer: Answer) -> None:
        if not self.flying:
            return
        one = self.flying.pop(which % len(self.flying))
        verdict = self.lanes.answered(one.seq, answer, self.wall, self.mono)
        assert (verdict.end is None) is (verdict.retry is not None)
        if verdict.end is not None:
            self.end(one, verdict.end.outcome)
        else:
            assert isinstance(answer, Later)

    def look(self) -> None:
        """End and send what is to be ended and sent."""
        for end in self.lanes.ended(self.wall):
            assert all(one.seq != end.pending.seq for one in self.flying), "what is under way waits for its answer"
            self.end(end.pending, end.outcome)
        for one in self.lanes.due(self.mono):
            dev_eui = one.downlink.dev_eui
            assert self.queues[dev_eui][0] == one.seq, "the oldest of its device"
            assert all(other.downlink.dev_eui != dev_eui for other in self.flying), "one under way for each device"
            assert one.downlink.expires is None or one.downlink.expires > self.wall
            self.flying.append(one)
        assert len(self.flying) <= UNDER_WAY
        assert len(self.lanes) == sum(map(len, self.queues.values()))

    def run_out(self) -> None:
        """Answer yes to all until nothing is left; time passes only as the lanes ask for it."""
        for _ in range(20 * self.seq + 100):
            self.look()
            while self.flying:
                self.answer(0, Taken())
            if len(self.outcomes) == self.seq:
                return
            self.look()
            if not self.flying:
                delay = self.lanes.delay(self.wall, self.mono)
                assert delay is not None, "somebody waits for ever"
                self.mono += delay
                self.wall += round(delay * 1000 + 0.5)
        pytest.fail("it goes round in circles")


@settings(max_examples=200, deadline=None)
@given(steps=STEPS, random=st.floats(0, 0.999))
def test_whatever_happens_order_holds_and_each_ends_once(steps: list[tuple], random: float) -> None:
    checked = Checked(random)
    for what, number, detail in steps:
        match what:
            case "add":
                checked.add(number, detail)
            case "answer":
                checked.answer(number, detail)
            case _:
                checked.mono += number / 1000
                checked.wall += number
        checked.look()
    checked.run_out()
    assert set(checked.outcomes) == set(range(1, checked.seq + 1))
    assert checked.lanes.weight == 0
