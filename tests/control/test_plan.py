"""What a plan says: topics of real uplinks, devices that go elsewhere; and how it is answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.control.plan import (
    AT_ONCE,
    MAX_DEVICES,
    Example,
    PlanDesk,
    PlanReport,
    Rerouted,
    Topic,
    compare,
    examples,
    new_topics,
    rerouted,
)
from mqttbridge.errors import ConfigError
from mqttbridge.history.records import Passed
from mqttbridge.model import Device, DocumentKind, Queued, Uplink
from mqttbridge.routing import Router
from mqttbridge.sessions.outgoing import outgoing, prepare
from mqttbridge.settings.diff import diff
from mqttbridge.settings.schema import Configuration, Connection, Flow, Journal, KeyMatcher, Settings, ThingMatcher
from mqttbridge.settings.secret import Secret
from mqttbridge.topics import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable

ONE, OTHER = "0018B20000000B20", "0018B20000000B21"
OLD, NEW = compile_pattern("a/{DevEUI}"), compile_pattern("b/{FPort}")


def connection(pattern: str = "a/{DevEUI}", *, active: bool = True, **more: Any) -> Connection:  # noqa: ANN401
    return Connection(active=active, configuration=Configuration(host_name="h", uplink_topic_pattern=pattern, **more))


def acme(one: Connection) -> Settings:
    return Settings(connections={"acme": one})


def passed(number: int, dev_eui: str = ONE, body: bytes = b'{"DevEUI_uplink": {"FPort": 2}}') -> Passed:
    return Passed(
        id=number,
        seq=number,
        received=number * 1000,
        time=number * 1000,
        source="lrc",
        kind=DocumentKind.UPLINK,
        dev_eui=dev_eui,
        fcnt=number,
        origin="",
        connections=("acme",),
        body=body,
    )


async def plan(
    old: Settings, new: Settings, uplinks: Iterable[Passed] = (), devices: Iterable[Device] = ()
) -> PlanReport:
    return await compare(diff(old, new), old, new, uplinks={"acme": tuple(uplinks)}, devices=tuple(devices))


async def test_what_waits_for_a_connection_that_starts_is_counted() -> None:
    old, new = Settings(), Settings(connections={"acme": connection(), "beta": connection()})
    report = await compare(diff(old, new), old, new, uplinks={}, devices=(), queued={"acme": 7, "beta": 0, "gone": 5})
    assert report.waiting == {"acme": 7}
    report = await compare(diff(new, old), new, old, uplinks={}, devices=(), queued={"acme": 7})
    assert report.waiting == {}


# -- topics


async def test_topics_before_and_after_are_those_that_the_session_publishes_on() -> None:
    before, after = connection("a/{DevEUI}"), connection("b/{FPort}/{DevEUI}")
    uplink = passed(7)
    report = await plan(acme(before), acme(after), [uplink])
    (example,) = report.examples
    assert (example.connection, example.dev_eui, example.received.timestamp()) == ("acme", ONE, 7.0)
    queued = Queued(7, Uplink("lrc", uplink.kind, ONE, 7000, 7000, 7, uplink.body))
    for one, topic in ((before, example.before), (after, example.after)):
        publish = prepare(queued, outgoing(one.configuration), now=7000, maximum_packet=1 << 20)
        assert topic == Topic(publish.topic)


def test_what_cannot_be_rendered_says_why_it_would_be_parked() -> None:
    (example,) = examples("acme", OLD, NEW, [passed(1, body=b'{"DevEUI_uplink": {}}')])
    assert example.before == Topic(f"a/{ONE}")
    assert example.after == Topic(parked="the document has no value for {FPort}")
    (broken,) = examples("acme", OLD, NEW, [passed(1, body=b"{")])
    assert "cannot be decoded" in broken.after.parked


def test_three_uplinks_are_shown_of_different_devices_first() -> None:
    def shown(*uplinks: Passed) -> list[tuple[str, float]]:
        return [(one.dev_eui, one.received.timestamp()) for one in examples("acme", OLD, NEW, uplinks)]

    assert shown() == []
    assert shown(passed(5), passed(4), passed(3, OTHER), passed(2), passed(1)) == [(ONE, 5.0), (OTHER, 3.0), (ONE, 4.0)]


def test_only_connections_that_publish_before_and_after_have_examples() -> None:
    old = Settings(
        connections={
            "changed": connection(),
            "restarted": connection(),
            "stopped": connection(),
            "started": connection(active=False),
            "off": connection(active=False),
            "same": connection(),
            "gone": connection(),
        }
    )
    new = Settings(
        connections={
            "changed": connection("b"),
            "restarted": connection("b", qos=0),
            "stopped": connection("b", active=False),
            "started": connection("b"),
            "off": connection("b", active=False),
            "same": connection(max_inflight=7),
            "new": connection(),
        }
    )
    assert new_topics(diff(old, new), old, new) == ("changed", "restarted")


async def test_a_secret_pattern_is_rendered_and_not_shown() -> None:
    report = await plan(acme(connection()), acme(connection(Secret("p/{DevEUI}"))), [passed(1)])
    assert report.examples[0].after == Topic(f"p/{ONE}")
    assert report.connections[0].properties[0].new == "*****"


# -- devices


def test_devices_that_go_elsewhere_are_named_with_both_ways() -> None:
    connections = {"a": connection(), "b": connection()}
    cold = Flow(connections=("b",), matchers=(ThingMatcher(tags=("Cold",)), KeyMatcher(key=f"lora:{OTHER}")))
    before = Router({"all": Flow(connections=("a",))}, connections)
    after = Router({"all": Flow(connections=("a",)), "cold": cold}, connections)
    tagged = Device(ONE, "lrc", tags=frozenset({"cold"}))
    plain = Device("0018B20000000B22", "lrc")
    assert rerouted([tagged, plain, Device(OTHER, "lrc")], before, after) == [
        Rerouted(ONE, ("a",), ("a", "b")),
        Rerouted(OTHER, ("a",), ("a", "b")),
    ]


async def test_all_devices_are_counted_and_a_hundred_named() -> None:
    devices = [Device(f"0018B200000{number:05}", "lrc") for number in range(MAX_DEVICES + AT_ONCE + 7)]
    report = await plan(acme(connection()), acme(connection(active=False)), devices=devices)
    assert (report.devices_rerouted, report.devices_known) == (len(devices), len(devices))
    assert [one.dev_eui for one in report.devices] == [one.dev_eui for one in devices[:MAX_DEVICES]]
    assert report.devices[0] == Rerouted(devices[0].dev_eui, ("acme",), ())


async def test_what_routes_nothing_else_moves_no_device() -> None:
    report = await plan(acme(connection()), acme(connection("b", qos=0)), devices=[Device(ONE, "lrc")])
    assert (report.devices, report.devices_rerouted, report.devices_known) == ((), 0, 1)


async def test_ten_thousand_devices_and_500_connections_do_not_hold_the_loop() -> None:
    connections = {f"c{number}": connection() for number in range(500)}
    tags = [f"t{number}" for number in range(500)]
    old = Settings(
        connections=connections,
        flows={tag: Flow(connections=(f"c{tag[1:]}",), matchers=(ThingMatcher(tags=(tag,)),)) for tag in tags},
    )
    new = msgspec.structs.replace(old, flows=old.flows | {"all": Flow(connections=tuple(connections))})
    devices = [Device(f"{number:016X}", "lrc", tags=frozenset({tags[number % 500]})) for number in range(10_000)]
    turns, ended = 0, False

    async def look() -> None:
        nonlocal turns
        while not ended:
            await asyncio.sleep(0)
            turns += 1

    looking = asyncio.create_task(look())
    report = await plan(old, new, devices=devices)
    ended = True
    await looking
    assert report.devices_rerouted == 10_000
    # Not by the clock, which other work on the machine would move: a turn for others after so few devices is 4 ms.
    assert turns >= 10_000 // 50


async def test_a_report_has_all_that_differs() -> None:
    new = Settings(flows={"f": Flow(connections=("a",))}, state_directory="/s", journal=Journal(retention=0))
    report = await compare(
        diff(Settings(), new), Settings(), new, uplinks={}, devices=(), warnings=["careful"], applied=True
    )
    assert (report.empty, report.applied, report.warnings, report.problems) == (False, True, ("careful",), ())
    assert [one.id for one in report.flows] == ["f"]
    assert [one.name for one in (*report.daemon, *report.needs_restart)] == ["journal.retention", "stateDirectory"]
    assert (await plan(new, new)).empty
    assert msgspec.json.decode(msgspec.json.encode(report), type=PlanReport) == report


# -- answers

GIVEN = PlanReport(examples=(), devices=(Rerouted(ONE, ("a",), ()),), devices_rerouted=1)


class Fake:
    """Does what it is told."""

    def __init__(self, answer: PlanReport | ConfigError) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def plan(self) -> PlanReport:
        return self._do("plan")

    async def reload(self) -> PlanReport:
        return self._do("reload")

    def _do(self, what: str) -> PlanReport:
        self.asked.append(what)
        if isinstance(self.answer, ConfigError):
            raise self.answer
        return self.answer


async def ask(fake: Fake, path: str, method: str) -> tuple[int, dict[str, Any]]:
    """Ask as `LocalApp` does; give status and body."""
    sent: list[Any] = []

    async def send(message: Any) -> None:  # noqa: ANN401 (ASGI)
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    wanted, handler = PlanDesk(fake).routes()[path]
    assert wanted == method
    await handler({"type": "http", "headers": [], "query_string": b""}, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], msgspec.json.decode(body)


async def test_plan_and_reload_answer_what_they_gave() -> None:
    fake = Fake(GIVEN)
    for path, method in (("/plan", "GET"), ("/reload", "POST")):
        status, body = await ask(fake, path, method)
        assert (status, msgspec.convert(body, PlanReport)) == (200, GIVEN)
    assert fake.asked == ["plan", "reload"]


async def test_a_wrong_file_is_told_line_by_line_however_it_is_told_to_us() -> None:
    lines = ("f.yaml:1:1: a: wrong", "f.yaml:2:1: b: wrong too")
    for answer in (ConfigError(lines), PlanReport(problems=lines)):
        status, body = await ask(Fake(answer), "/reload", "POST")
        assert (status, tuple(body["problems"])) == (422, lines)
        assert body["detail"] == "the configuration is wrong (2 problems); nothing was changed"


def test_an_example_stands_on_its_own() -> None:
    (example,) = examples("acme", OLD, NEW, [passed(1)])
    assert isinstance(example, Example)
    assert msgspec.json.decode(msgspec.json.encode(example))["received"] == "1970-01-01T00:00:01Z"
