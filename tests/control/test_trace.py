"""GET /trace: what it asks whom, what it answers, and what it costs the loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec.structs import replace

from mqttbridge.control.passport import Passport
from mqttbridge.control.trace import SessionView, TraceDesk
from mqttbridge.errors import JournalFailed
from mqttbridge.history.records import Ended, KeptEvent, Passed
from mqttbridge.journal.downlink_protocol import PendingDownlink, Sender
from mqttbridge.model import Device, DocumentKind, Downlink, Outcome
from mqttbridge.settings.schema import Flow, Journal, KeyMatcher, Settings, ThingMatcher
from tests.control.test_passages import DEVICE, NOW, SETTINGS, connection, document, passed

if TYPE_CHECKING:
    from collections.abc import Collection


class Clock:
    """A minute after all that is remembered."""

    def now(self) -> int:
        return NOW + 60_000

    def monotonic(self) -> float:
        return 0.0


class History:
    """Remembers what it is given, newest last."""

    def __init__(self) -> None:
        self.passed: list[Passed] = []
        self.ended: list[Ended] = []
        self.kept: list[KeptEvent] = []
        self.asked: list[str] = []

    async def of_device(self, dev_eui: str, *, limit: int) -> list[Passed]:
        await asyncio.sleep(0)
        return [one for one in reversed(self.passed) if one.dev_eui == dev_eui][:limit]

    async def ends(self, seqs: Collection[int]) -> list[Ended]:
        self.asked.append("ends")
        await asyncio.sleep(0)
        return [end for end in self.ended if end.seq in seqs]

    async def events(
        self, *, limit: int, since: int = 0, name: str = "", connection: str = "", device: str = ""
    ) -> list[KeptEvent]:
        await asyncio.sleep(0)
        return [
            event
            for event in self.kept
            if (event.name.startswith(name[:-1]) if name.endswith("*") else event.name == name)
            and event.at >= since
            and device in ("", event.fields.get("dev_eui"))
            and connection in ("", event.fields.get("connection"))
        ][-limit:]

    def problem(self) -> str:
        return ""


class Here:
    """A desk, and everybody whom it asks."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.history = History()
        self.queued: set[tuple[str, int]] = set()
        self.sessions: dict[str, SessionView] = {}
        self.pending: list[PendingDownlink] = []
        self.known: Device | None = None
        self.senders: dict[str, Sender] = {}
        self.settings = settings
        self.failing = False
        self.desk = TraceDesk(self.history, self, self, self.sessions.get, lambda: self.settings, Clock())

    def is_queued(self, connection: str, seq: int) -> bool:
        self.history.asked.append("queued")
        return (connection, seq) in self.queued

    async def pending_of(self, dev_eui: str) -> list[PendingDownlink]:
        if self.failing:
            raise JournalFailed("the disk fails")
        return [one for one in self.pending if one.downlink.dev_eui == dev_eui]

    async def device(self, dev_eui: str) -> Device | None:
        return self.known if self.known is not None and self.known.dev_eui == dev_eui else None

    def problem(self) -> str:
        return ""

    async def sender(self, dev_eui: str, name: str) -> Sender | None:
        assert dev_eui == DEVICE
        return self.senders.get(name)

    async def ask(self, query: str) -> tuple[int, dict[str, Any], bytes]:
        """Ask as the socket does; give status, the answer and its bytes."""
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:  # noqa: ANN401 (of ASGI)
            sent.append(message)

        async def receive() -> Any:  # noqa: ANN401 (of ASGI)
            raise AssertionError("nobody reads a body here")

        method, handler = self.desk.routes()["/trace"]
        assert method == "GET"
        await handler({"query_string": query.encode(), "headers": []}, receive, send)
        return sent[0]["status"], msgspec.json.decode(sent[1]["body"]), sent[1]["body"]

    async def passport(self, query: str = f"device={DEVICE}") -> Passport:
        status, _, body = await self.ask(query)
        assert status == 200
        return msgspec.json.decode(body, type=Passport)


@pytest.fixture
def here() -> Here:
    return Here()


def end(connection: str, seq: int = 1, outcome: Outcome = Outcome.DELIVERED, **changes: object) -> Ended:
    values = {"reason": "", "topic": "t", "sent": NOW + 5, "at": NOW + 41} | changes
    return Ended(seq=seq, connection=connection, outcome=outcome, **values)


def event(name: str, at: int = NOW, **fields: object) -> KeptEvent:
    return KeptEvent(id=1, at=at, level="info", name=name, fields=fields)


async def test_a_device_may_be_written_in_any_spelling_and_the_newest_uplinks_come_first(here: Here) -> None:
    here.history.passed = [passed(document(), id=number, seq=number, received=NOW + number) for number in range(1, 9)]
    page = await here.passport("device=00-18-b2-00-00-00-0b-20")
    assert [one.id for one in page.uplinks] == [8, 7, 6]
    assert page.device == DEVICE
    page = await here.passport("device=lora%3A0018b20000000b20&limit=5")
    assert [one.id for one in page.uplinks] == [8, 7, 6, 5, 4]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "name a device by its DevEUI"),
        ("device=", "name a device by its DevEUI"),
        ("device=12", "it has 2 hex digits"),
        (f"device={DEVICE}&limit=0", "limit is a whole number from 1 to 100"),
        (f"device={DEVICE}&limit=101", "limit is a whole number from 1 to 100"),
        (f"device={DEVICE}&device={DEVICE}", "twice"),
        (f"device={DEVICE}&dveice=1", "'dveice' is not asked for here"),
    ],
)
async def test_a_wrong_question_is_answered_with_a_sentence(here: Here, query: str, why: str) -> None:
    status, answer, _ = await here.ask(query)
    assert status == 400
    assert why in answer["detail"]


async def test_each_connection_is_told_by_its_end_or_its_state(here: Here) -> None:
    names = ("closed", "expired", "gone", "lost", "off", "sent", "slow")
    here.settings = replace(
        SETTINGS, connections={name: connection(active=name != "off") for name in names if name != "gone"}
    )
    here.history.passed = [passed(document(), connections=names)]
    here.history.ended = [end("sent"), end("expired", outcome=Outcome.EXPIRED, reason="too old", sent=0)]
    here.queued = {(name, 1) for name in ("slow", "gone", "off", "closed")}
    here.sessions["slow"] = SessionView("UNREACHABLE", "connection refused", NOW + 100_000, NOW - 5000)
    (one,) = (await here.passport()).uplinks
    assert one.routed == names
    by_name = {each.connection: each for each in one.connections}
    assert {name: each.outcome for name, each in by_name.items()} == {
        "closed": "queued",
        "expired": "expired",
        "gone": "queued",
        "lost": "unknown",
        "off": "queued",
        "sent": "delivered",
        "slow": "queued",
    }
    slow, sent = by_name["slow"], by_name["sent"]
    assert (slow.state, slow.why) == ("UNREACHABLE", "connection refused")
    assert slow.retry_at is not None
    assert slow.down_since is not None
    assert (slow.retry_at - slow.down_since).total_seconds() == 105
    assert (sent.milliseconds, sent.topic, sent.state) == (36, "t", "")
    states = [(by_name[name].state, by_name[name].why) for name in ("gone", "off", "closed")]
    assert states == [
        ("REMOVED", "it is not configured any more"),
        ("DEACTIVATED", "active is false"),
        ("CLOSED", "it has not been started yet"),
    ]
    assert by_name["lost"].reason.startswith("its end was not recorded: ")


async def test_what_ends_while_it_is_asked_is_not_taken_for_lost(here: Here) -> None:
    here.history.passed = [passed(document(), connections=("acme", "beta"))]
    await here.passport()
    assert here.history.asked == ["queued", "queued", "ends"], "whatever is not queued is with the history by then"


async def test_of_a_connection_that_dropped_uplinks_since_that_is_told(here: Here) -> None:
    here.history.passed = [passed(document(), connections=("acme", "beta"))]
    here.history.kept = [
        event("uplink.dropped", NOW - 1, connection="beta", count=3),
        event("uplink.dropped", NOW + 1, connection="acme", count=3),
        event("uplink.dropped", NOW + 1, connection="other", count=3),
    ]
    acme, beta = (await here.passport()).uplinks[0].connections
    assert "dropped queued uplinks of this connection" in acme.reason
    assert "mqttbridge events --connection acme" in acme.reason
    assert "dropped" not in beta.reason


async def test_what_no_connection_got_is_told_with_the_flows(here: Here) -> None:
    here.history.passed = [passed(document(tags=("roof",)), seq=0, connections=())]
    (one,) = (await here.passport()).uplinks
    assert (one.stored, one.routed, one.connections, one.now_differs) == (False, (), (), False)
    assert [(reason.flow, reason.matched, reason.why) for reason in one.flows] == [
        ("f", False, "its tags are roof; the flow wants Temperature")
    ]


async def test_flows_are_those_of_now(here: Here) -> None:
    here.history.passed = [passed(document(tags=("temperature",)))]
    assert not (await here.passport()).uplinks[0].now_differs
    here.settings = replace(SETTINGS, flows={"g": Flow(connections=("meta",))})
    (one,) = (await here.passport()).uplinks
    assert (one.routed, one.now, one.now_differs) == (("acme",), ("meta",), True)


async def test_a_report_is_explained_by_who_sent_the_downlink(here: Here) -> None:
    kind = DocumentKind.DOWNLINK_SENT
    here.history.passed = [passed(document(kind, CorrelationID="8899AABBCCDDEEFF"), kind)]
    here.senders["8899AABBCCDDEEFF"] = Sender("acme", "8899AABBCCDDEEFF")
    (one,) = (await here.passport()).uplinks
    assert (one.now, one.now_differs) == (("acme",), False)
    assert one.flows[-1].why == "it is a report about a downlink of acme"


async def test_a_damaged_document_hides_nothing_else(here: Here) -> None:
    here.history.passed = [passed(document(), id=1), passed(b"\xff{", id=2), passed(b"", id=3)]
    page = await here.passport()
    assert [bool(one.unread) for one in page.uplinks] == [True, True, False]
    assert all(one.connections for one in page.uplinks)


def waiting(number: int, **changes: object) -> PendingDownlink:
    whole = PendingDownlink(
        number, "acme", f"{number:016x}", NOW + number, "lrc", "", Downlink(DEVICE, 5, payload_hex="00"), b""
    )
    return replace(whole, **changes)


async def test_downlinks_that_wait_come_first_then_those_that_ended(here: Here) -> None:
    here.pending = [waiting(1), waiting(2), waiting(3, connection="beta")]
    about = {"connection": "acme", "source": "lrc", "dev_eui": DEVICE}
    here.history.kept = [
        event("downlink.queued", NOW - 9, key="a", **about),
        event("downlink.retrying", NOW + 9, reason="503", **about),
        event("downlink.rejected", NOW + 10, key="b", reason="no", **about),
        event("downlink.rejected", NOW + 11, key="c", connection="acme", dev_eui="0" * 16),
    ]
    page = await here.passport()
    assert [(one.outcome, one.key, one.reason) for one in page.downlinks] == [
        ("pending", f"{3:016x}", ""),
        ("pending", f"{2:016x}", "503"),
        ("pending", f"{1:016x}", "503"),
        ("rejected", "b", "no"),
        ("queued", "a", ""),
    ]
    assert len((await here.passport(f"device={DEVICE}&limit=1")).downlinks) == 2


async def test_of_an_unknown_device_it_tells_what_is_known_at_least(here: Here) -> None:
    here.settings = replace(SETTINGS, journal=Journal(retention=3600_000))
    page = await here.passport()
    assert (page.uplinks, page.downlinks, page.last_source, page.remembered_seconds) == ((), (), None, 3600.0)
    here.known = Device(DEVICE, "lrc")
    assert (await here.passport()).last_source == "lrc"


async def test_a_disk_that_fails_is_a_sentence(here: Here) -> None:
    here.failing = True
    status, answer, _ = await here.ask(f"device={DEVICE}")
    assert (status, answer["detail"]) == (503, "the disk fails")


async def test_neither_secrets_nor_bodies_are_in_it(here: Here) -> None:
    here.history.passed = [passed(document(secret="hidden in the body", payload_hex="ab" * 100))]
    _, _, body = await here.ask(f"device={DEVICE}")
    assert b"hidden" not in body
    assert b"ab" * 24 in body
    assert b"ab" * 25 not in body


async def test_an_answer_is_bounded_whatever_the_number_of_connections(here: Here) -> None:
    names = tuple(f"c{number:04}" for number in range(3000))
    here.history.passed = [passed(document(), id=number, seq=number, connections=names) for number in range(1, 5)]
    page = await here.passport(f"device={DEVICE}&limit=4")
    assert [one.id for one in page.uplinks] == [4]
    assert page.left_out == 3
    assert len(page.uplinks[0].connections) == 3000


async def test_of_500_connections_it_tells_four_uplinks_at_once_which_is_more_than_it_is_asked_for(here: Here) -> None:
    names = tuple(f"c{number:03}" for number in range(500))
    here.history.passed = [passed(document(), id=number, seq=number, connections=names) for number in range(1, 21)]
    page = await here.passport(f"device={DEVICE}&limit=20")
    assert (len(page.uplinks), page.left_out) == (4, 16)
    page = await here.passport(f"device={DEVICE}")
    assert (len(page.uplinks), page.left_out) == (3, 0)


async def test_it_costs_the_loop_some_ms_at_a_time_whatever_is_configured(here: Here) -> None:
    many = {f"c{number}": connection() for number in range(500)}
    flows = {f"k{n}": Flow(matchers=(KeyMatcher(key=f"lora:{n:016x}"),), connections=(f"c{n}",)) for n in range(250)}
    flows |= {
        f"t{n}": Flow(matchers=(ThingMatcher(tags=(f"t{n}", "best")),), connections=(f"c{n}",)) for n in range(250)
    }
    here.settings = Settings(sources=SETTINGS.sources, flows=flows, connections=many)
    body = document(tags=("t1", "best"), payload_hex="ab" * 50, more=["x" * 50] * 40)
    here.history.passed = [passed(body, id=number, seq=number, connections=("c1", "c2")) for number in range(1, 101)]
    here.history.ended = [end("c1", number) for number in range(1, 101)]
    longest, spent = 0.0, 0.0
    asking = asyncio.create_task(here.passport(f"device={DEVICE}&limit=100"))
    while not asking.done():
        started = time.thread_time()
        await asyncio.sleep(0)
        took = time.thread_time() - started
        longest, spent = max(longest, took), spent + took
    assert len((await asking).uplinks) == 100
    # Some 5 ms and 20 ms (the test's own decoding too); the limits leave room for a busy machine.
    assert longest < 0.05, longest
    assert spent < 0.3, spent
    print(f"longest {longest * 1000:.1f} ms, in all {spent * 1000:.1f} ms")  # noqa: T201 (shown by -s)
