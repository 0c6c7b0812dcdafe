"""What a session does while its link is open, with a link and a journal that the test plays."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from mqttbridge.errors import BrokerRefused, JournalError, LinkError, LinkLost, LinkTimeout
from mqttbridge.model import Outcome
from mqttbridge.mqtt.link import Grant
from mqttbridge.observe.throttle import BURST, Throttle
from mqttbridge.sessions import delivery as module
from mqttbridge.sessions import suspicion
from mqttbridge.sessions.delivery import Delivery
from mqttbridge.sessions.outgoing import outgoing
from mqttbridge.settings.schema import Configuration
from tests.sessions.simulated import NOW, Hands, SimulatedJournal, SimulatedLink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HOUR = 3_600_000


class Bench:
    """A delivery with both its sides; `open` and `lose` do what the runner does."""

    def __init__(self, *, window: int = 4, action_timeout: float = 5.0, debug: bool = False) -> None:
        self.clock = Hands()
        self.journal = SimulatedJournal()
        self.delivery = Delivery(
            "acme",
            outgoing(Configuration(host_name="localhost", uplink_time_validity=HOUR)),
            window=window,
            action_timeout=action_timeout,
            journal=self.journal,
            clock=self.clock,
            throttle=Throttle(self.clock),
            debug=debug,
        )
        self.link = SimulatedLink(self.delivery.acknowledged)
        self.dead: asyncio.Future[LinkError] = asyncio.get_running_loop().create_future()
        self.work: list[asyncio.Task[None]] = []

    def open(self, **grant: int) -> SimulatedLink:
        self.dead = asyncio.get_running_loop().create_future()
        self.link = SimulatedLink(self.delivery.acknowledged)
        self.delivery.open(self.link, Grant(**grant), self.dead)
        self.work = [asyncio.ensure_future(loop) for loop in (self.delivery.deliver(), self.delivery.settle())]
        return self.link

    async def lose(self, error: LinkError | None = None) -> None:
        if error is not None:
            self.delivery.blame(error)
        for task in self.work:
            task.cancel()
        await asyncio.gather(*self.work, return_exceptions=True)
        try:
            await self.delivery.settle_now()
        except JournalError:
            assert self.journal.failing or self.journal.settling_fails
        self.delivery.interrupt()

    def check(self) -> None:
        """Raise what a loop has raised."""
        for task in self.work:
            if task.done():
                task.result()

    async def until(self, holds: Callable[[], object], timeout: float = 5.0) -> None:
        async with asyncio.timeout(timeout):
            while not holds():
                self.check()
                await asyncio.sleep(0)

    async def spin(self, times: int = 12) -> None:
        for _ in range(times):
            await asyncio.sleep(0)
        self.check()


@asynccontextmanager
async def bench(**arguments: object) -> AsyncIterator[Bench]:
    """Give a bench with an open link; nothing of it is left behind."""
    made = Bench(**arguments)
    made.open()
    try:
        yield made
    finally:
        await made.lose()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JOURNAL_RETRY", 0.0)
    monkeypatch.setattr(module, "HOLD_FIRST", 0.0)
    monkeypatch.setattr(suspicion, "QUIET", 0.0)


async def test_uplinks_are_sent_in_order_up_to_the_window_and_settled_when_answered() -> None:
    async with bench(window=3) as it:
        seqs = it.journal.put(5)
        await it.until(lambda: len(it.link.sent) == 3)
        await it.spin()
        assert it.link.sent == seqs[:3]
        it.link.answer(seqs[0])
        await it.until(lambda: len(it.link.sent) == 4)
        it.link.answer(*seqs[1:4])
        await it.until(lambda: len(it.link.sent) == 5)
        it.link.answer(seqs[4])
        await it.until(lambda: not it.journal.unsettled)
        assert it.journal.outcomes(Outcome.DELIVERED) == seqs
        assert it.delivery.in_flight == 0


async def test_nothing_is_settled_before_what_lies_in_front_of_it() -> None:
    async with bench(window=3) as it:
        first, *others = it.journal.put(3)
        await it.until(lambda: len(it.link.sent) == 3)
        it.link.answer(*others)
        await it.spin()
        assert it.journal.ends == {}
        it.link.answer(first)
        await it.until(lambda: not it.journal.unsettled)


async def test_what_was_answered_is_not_sent_again_on_the_next_link() -> None:
    async with bench(window=3) as it:
        first, second, third = it.journal.put(3)
        await it.until(lambda: len(it.link.sent) == 3)
        it.link.answer(second)
        await it.lose()
        link = it.open()
        await it.until(lambda: len(link.sent) == 2)
        link.answer(first, third)
        await it.until(lambda: not it.journal.unsettled)
        assert link.sent == [first, third]


async def test_while_the_link_is_down_no_uplink_is_kept_in_memory() -> None:
    async with bench(window=3) as it:
        seqs = it.journal.put(300)
        await it.until(lambda: len(it.link.sent) == 3)
        it.link.answer(*seqs[1:3])
        await it.lose()
        delivery = it.delivery
        assert not delivery._ahead
        assert not delivery._flying
        assert len(delivery._window._kept) == 2
        it.open()


@pytest.mark.parametrize("code", [0x87, 0x90, 0x95, 0x99])
async def test_a_refused_uplink_is_parked_with_the_reason(code: int) -> None:
    async with bench() as it:
        (seq,) = it.journal.put()
        await it.until(lambda: it.link.waiting)
        with capture_logs() as lines:
            it.link.answer(seq, code=code)
        await it.until(lambda: not it.journal.unsettled)
        end = it.journal.ends[seq]
        assert end.outcome is Outcome.PARKED
        assert "mqtt/things/0018B20000000B20/uplink" in end.reason
        assert f"0x{code:02X}" in end.reason
        assert [line["event"] for line in lines] == ["uplink.parked"]


async def test_an_exceeded_quota_is_never_parked_however_often() -> None:
    async with bench() as it:
        seqs = it.journal.put(2)
        await it.until(lambda: len(it.link.waiting) == 2)
        for _ in range(20):
            it.link.answer(*it.link.waiting, code=0x97)
            await it.until(lambda: len(it.link.waiting) == 2)
        it.link.answer(*seqs)
        await it.until(lambda: not it.journal.unsettled)
        assert it.journal.outcomes(Outcome.DELIVERED) == seqs


async def test_a_quota_holds_back_what_is_behind_and_resends_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_FIRST", 0.05)
    async with bench(window=3) as it:
        it.delivery._hold = 0.05
        seqs = it.journal.put(5)
        await it.until(lambda: len(it.link.sent) == 3)
        with capture_logs() as lines:
            it.link.answer(seqs[2], seqs[0], seqs[1], code=0x97)
        told = [line["event"] for line in lines if line["log_level"] == "warning"]
        assert told == ["connection.throttled"], "one a minute"
        await it.spin()
        assert len(it.link.sent) == 3, "held for a while"
        await it.until(lambda: len(it.link.sent) == 6)
        assert it.link.sent[3:] == seqs[:3]
        it.link.answer(*seqs[:3])
        await it.until(lambda: len(it.link.sent) == 8)


async def test_another_error_is_repeated_three_times_and_then_parks() -> None:
    async with bench() as it:
        (seq,) = it.journal.put()
        for _ in range(4):
            await it.until(lambda: it.link.waiting)
            it.link.answer(seq, code=0x83)
        await it.until(lambda: not it.journal.unsettled)
        assert it.link.sent == [seq] * 4
        assert it.journal.ends[seq].outcome is Outcome.PARKED


async def test_uplinks_that_are_too_old_expire_and_are_told_up_to_a_number() -> None:
    async with bench() as it:
        with capture_logs() as lines:
            it.journal.put(1000, time=NOW - 2 * HOUR)
            (fresh,) = it.journal.put()
            await it.until(lambda: it.link.waiting)
        assert it.link.sent == [fresh]
        assert [line["log_level"] for line in lines if line["event"] == "uplink.expired"].count("warning") == BURST
        it.link.answer(fresh)
        await it.until(lambda: not it.journal.unsettled)
        assert len(it.journal.outcomes(Outcome.EXPIRED)) == 1000


async def test_a_failing_journal_stops_reading_and_settling_until_it_heals() -> None:
    async with bench(window=2) as it:
        seqs = it.journal.put(3)
        await it.until(lambda: len(it.link.sent) == 2)
        it.journal.failing = True
        it.link.answer(*seqs[:2])
        await it.spin(50)
        assert it.journal.ends == {}
        assert it.link.sent == seqs[:2], "no place is free before the settlement is on disk"
        it.journal.failing = False
        await it.until(lambda: len(it.link.sent) == 3)


async def test_silence_kills_the_link_but_only_while_an_answer_is_due() -> None:
    async with bench(action_timeout=0.05) as it:
        (seq,) = it.journal.put()
        await it.until(lambda: it.link.waiting)
        await asyncio.sleep(0.06)  # the clock of the bench stands still: the time is not over by it
        assert not it.dead.done()
        it.clock.time = 1.0
        await it.until(it.dead.done)
        assert isinstance(it.dead.result(), LinkTimeout)
        assert "50 ms" in str(it.dead.result())
        await it.lose(it.dead.result())
        link = it.open()
        await it.until(lambda: link.waiting == [seq])


async def test_the_time_for_an_answer_begins_with_the_publish_not_with_an_earlier_answer() -> None:
    async with bench(action_timeout=0.1) as it:
        (first,) = it.journal.put()
        await it.until(lambda: it.link.waiting)
        it.link.answer(first)
        it.clock.time = 0.09
        it.journal.put()
        await it.until(lambda: it.link.waiting)
        it.clock.time = 0.15
        it.delivery._deadline.check()
        assert not it.dead.done()
        it.clock.time = 0.191
        it.delivery._deadline.check()
        assert it.dead.done()


async def test_each_answer_gives_the_broker_its_time_anew() -> None:
    async with bench(action_timeout=0.1) as it:
        first, *_ = it.journal.put(4)
        await it.until(lambda: len(it.link.waiting) == 4)
        it.clock.time = 0.08
        it.link.answer(first)
        it.clock.time = 0.17
        it.delivery._deadline.check()
        assert not it.dead.done()
        it.clock.time = 0.181
        it.delivery._deadline.check()
        assert it.dead.done()


async def test_what_the_broker_put_off_is_not_awaited() -> None:
    async with bench(action_timeout=0.1) as it:
        it.delivery._hold = 60.0
        (seq,) = it.journal.put()
        await it.until(lambda: it.link.waiting)
        it.link.answer(seq, code=0x97)
        it.clock.time = 50.0
        it.delivery._deadline.check()
        assert not it.dead.done()
        it.work[0].cancel()
        await asyncio.wait_for(it.delivery.drained(), 1.0)


async def poisoned(it: Bench, poison: int, error: LinkError, times: int) -> list[list[int]]:
    """Play a broker that answers nothing and ends the link when it gets the poison; give what each link was sent."""
    sent = []
    for _ in range(times):
        await it.until(lambda: poison in it.link.sent)
        await it.spin()
        sent.append(list(it.link.sent))
        await it.lose(error)
        it.open()
    return sent


async def test_an_uplink_that_makes_the_broker_hang_up_is_parked_and_the_rest_go_on() -> None:
    async with bench() as it:
        poison, *others = it.journal.put(8)
        sent = await poisoned(it, poison, LinkLost("the broker closed the connection"), 5)
        assert [len(each) for each in sent] == [4, 4, 1, 1, 1]
        while it.journal.unsettled:
            await it.until(lambda: it.link.waiting or not it.journal.unsettled)
            it.link.answer(*it.link.waiting)
        assert it.journal.outcomes(Outcome.PARKED) == [poison]
        assert "ended the connection 3 times" in it.journal.ends[poison].reason
        assert it.journal.outcomes(Outcome.DELIVERED) == others
        assert it.delivery._window.size == 4, "the window is wide again"


async def test_a_convicted_uplink_is_not_sent_again_if_the_link_is_lost_before_it_is_settled() -> None:
    async with bench() as it:
        poison, *_ = it.journal.put(3)
        await poisoned(it, poison, LinkLost("closed"), 5)
        it.journal.settling_fails = True
        await it.until(lambda: poison in it.delivery._window._ends)
        await it.lose(BrokerRefused("shutting down", code=0x8B))
        it.journal.settling_fails = False
        link = it.open()
        await it.until(lambda: link.waiting and it.journal.ends)
        assert poison not in link.sent
        assert it.journal.ends[poison].outcome is Outcome.PARKED


async def test_an_uplink_under_suspicion_is_acquitted_when_the_settings_change() -> None:
    async with bench(window=2) as it:
        poison, other = it.journal.put(2)
        await poisoned(it, poison, LinkLost("closed"), 4)
        out = outgoing(Configuration(host_name="localhost", uplink_topic_pattern="other/{DevEUI}"))
        it.delivery.reconfigure(out, window=2, action_timeout=5.0, debug=False)
        await poisoned(it, poison, LinkLost("closed"), 1)
        await it.until(lambda: len(it.link.waiting) == 2)
        assert it.link.messages[0].topic == "other/0018B20000000B20"
        it.link.answer(poison, other)
        await it.until(lambda: not it.journal.unsettled)
        assert it.journal.outcomes(Outcome.PARKED) == []


async def test_each_end_says_on_which_topic_when_sent_and_when_ended() -> None:
    topic = "mqtt/things/0018B20000000B20/uplink"
    async with bench(window=5) as it:
        good, bad, later, *_ = it.journal.put(3)
        (old,) = it.journal.put(time=NOW - 2 * HOUR)
        (odd,) = it.journal.put(body=b"no JSON")
        it.delivery._out = outgoing(Configuration(host_name="localhost", send_metadata=True, uplink_time_validity=HOUR))
        await it.until(lambda: len(it.link.waiting) >= 3)
        it.clock.wall += 7
        it.link.answer(good)
        it.link.answer(bad, code=0x87)
        it.link.answer(later, code=0x97)
        it.clock.wall += 5
        await it.until(lambda: later in it.link.waiting)
        it.clock.wall += 3
        it.link.answer(*it.link.waiting)
        await it.until(lambda: not it.journal.unsettled)
        found = {seq: (end.outcome, end.topic, end.sent - NOW, end.at - NOW) for seq, end in it.journal.ends.items()}
        assert found[good] == (Outcome.DELIVERED, topic, 0, 7)
        assert found[bad] == (Outcome.PARKED, topic, 0, 7)
        assert found[later] == (Outcome.DELIVERED, topic, 12, 15), "when it was sent last"
        assert found[old] == (Outcome.EXPIRED, "", -NOW, 0)
        assert found[odd] == (Outcome.PARKED, topic, -NOW, 0), "it has a topic, but nothing to send"


async def test_what_is_too_large_and_what_is_convicted_has_its_topic_and_its_times() -> None:
    topic = "mqtt/things/0018B20000000B20/uplink"
    async with bench() as it:
        await it.lose()
        it.open(maximum_packet_size=60)
        (large,) = it.journal.put(body=b'{"DevEUI_uplink": {"FCntUp": 1, "x": "%s"}}' % (b"x" * 100))
        await it.until(lambda: not it.journal.unsettled)
        assert (it.journal.ends[large].topic, it.journal.ends[large].sent) == (topic, 0)
        assert it.journal.ends[large].at == NOW
        await it.lose()
        it.open()
        (poison,) = it.journal.put()
        await poisoned(it, poison, LinkLost("closed"), 4)
        await it.until(lambda: poison in it.link.sent)
        it.clock.wall += 50
        await poisoned(it, poison, LinkLost("closed"), 1)
        await it.until(lambda: not it.journal.unsettled)
        end = it.journal.ends[poison]
        assert (end.outcome, end.topic, end.sent - NOW, end.at - NOW) == (Outcome.PARKED, topic, 0, 50)


@pytest.mark.parametrize("error", [LinkTimeout("acknowledged nothing"), BrokerRefused("shutting down", code=0x8B)])
async def test_a_frozen_or_restarting_broker_parks_nothing(error: LinkError) -> None:
    async with bench() as it:
        first, *_ = it.journal.put(8)
        sent = await poisoned(it, first, error, 30)
        assert {len(each) for each in sent} == {4}
        assert it.journal.ends == {}


async def test_a_broker_that_freezes_between_its_deaths_parks_nothing() -> None:
    async with bench() as it:
        first, *_ = it.journal.put(8)
        for _ in range(10):
            await poisoned(it, first, LinkLost("closed"), 3)
            await poisoned(it, first, LinkTimeout("acknowledged nothing"), 1)
        assert it.journal.ends == {}


async def test_a_broker_that_also_loses_idle_links_parks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspicion, "QUIET", 60.0)
    async with bench() as it:
        first, *_ = it.journal.put(8)
        for _ in range(10):
            await poisoned(it, first, LinkLost("closed"), 2)
            await it.spin()
            assert it.link.sent == [], "a quiet moment first"
            await it.lose(LinkLost("closed"))
            it.open()
        assert it.journal.ends == {}


@pytest.mark.parametrize(("debug", "level"), [(True, "info"), (False, "debug")])
async def test_each_uplink_is_told_at_debug_or_where_debug_is_set(*, debug: bool, level: str) -> None:
    with capture_logs() as lines:
        async with bench(debug=debug) as it:
            (seq,) = it.journal.put()
            await it.until(lambda: it.link.waiting)
            it.link.answer(seq)
            await it.until(lambda: not it.journal.unsettled)
    told = [line for line in lines if line["event"].startswith("uplink.")]
    assert [line["event"] for line in told] == ["uplink.published", "uplink.delivered"]
    for line in told:
        assert line["log_level"] == level
        assert line["connection"] == "acme"
        assert line["dev_eui"] == "0018B20000000B20"
        assert line["fcnt"] == seq
        assert line["topic"] == "mqtt/things/0018B20000000B20/uplink"


# -- any sequence of what brokers and disks do -------------------------------------------------------------------

MOVES = st.one_of(
    st.tuples(
        st.sampled_from(["ack", "ack", "ack", "refuse", "quota", "error", "hang up", "freeze"]), st.integers(0, 9)
    ),
    st.tuples(st.sampled_from(["put", "drop", "disk"]), st.integers(0, 5)),
)
CODES = {"ack": 0, "refuse": 0x87, "quota": 0x97, "error": 0x80}


class Play:
    """Random moves against a bench, with the books kept on the side."""

    def __init__(self, it: Bench, window: int) -> None:
        self.it = it
        self.window = window
        self.granted = window
        self.codes: dict[int, list[int]] = {}
        self.ever_sent: set[int] = set()
        self.hung_up: dict[int, int] = {}

    async def move(self, kind: str, number: int) -> None:
        it = self.it
        if kind in CODES and it.link.waiting:
            token = it.link.waiting[number % len(it.link.waiting)]
            self.codes.setdefault(token, []).append(CODES[kind])
            it.link.answer(token, code=CODES[kind])
        elif kind in ("hang up", "freeze"):
            for token in it.link.waiting:
                self.hung_up[token] = self.hung_up.get(token, 0) + (kind == "hang up")
            await it.lose(LinkLost("closed") if kind == "hang up" else LinkTimeout("silence"))
            self.granted = number + 1
            it.open(receive_maximum=self.granted)
        elif kind == "put":
            it.journal.put(number)
        elif kind == "drop":
            it.journal.drop_oldest(number)
        elif kind == "disk":
            it.journal.failing = not it.journal.failing
        await it.spin()
        self.check()

    def check(self) -> None:
        it = self.it
        self.ever_sent |= set(it.link.sent)
        assert len(it.link.waiting) <= min(self.window, self.granted)
        assert len({seq for seq in self.ever_sent if seq > it.journal.cursor}) <= self.window

    async def finish(self) -> None:
        """Let the broker and the disk become honest: everything must end."""
        it = self.it
        it.journal.failing = False
        for _ in range(2000):
            for token in list(it.link.waiting):
                self.codes.setdefault(token, []).append(0)
            if it.link.waiting:
                it.link.answer(*it.link.waiting)
            if not it.journal.unsettled:
                return
            await it.spin(4)
            self.check()
        raise AssertionError(f"never settled: {it.journal.unsettled}")

    def judge(self) -> None:
        ends = self.it.journal.ends
        assert list(ends) == [one.seq for one in self.it.journal.queue], "each once, in order"
        for seq, end in ends.items():
            codes = self.codes.get(seq, [])
            if end.outcome is Outcome.DELIVERED:
                assert codes[-1] == 0
                assert 0x87 not in codes
            elif end.outcome is Outcome.PARKED:
                assert 0x87 in codes or codes.count(0x80) == 4 or self.hung_up.get(seq, 0) >= 3


@settings(max_examples=300, deadline=None)
@given(window=st.integers(1, 6), moves=st.lists(MOVES, max_size=60))
def test_every_uplink_ends_exactly_once_and_in_order(window: int, moves: list[tuple[str, int]]) -> None:
    async def play() -> None:
        async with bench(window=window) as it:
            it.journal.put(5)
            await it.spin()
            game = Play(it, window)
            game.check()
            for kind, number in moves:
                await game.move(kind, number)
            await game.finish()
            game.judge()

    asyncio.run(play())


def test_the_simulated_documents_are_json() -> None:
    journal = SimulatedJournal()
    (seq,) = journal.put()
    assert json.loads(journal.queue[0].uplink.body)["DevEUI_uplink"]["FCntUp"] == seq
