"""How messages that came as downlinks are judged and stored."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from mqttbridge.downlinks import intake as room
from mqttbridge.downlinks.intake import ROOM, random_key
from mqttbridge.downlinks.receipts import Ended, receipt
from mqttbridge.errors import JournalFailed
from mqttbridge.model import Device, DownlinkOutcome
from mqttbridge.mqtt.link import Received
from mqttbridge.routing import Router
from mqttbridge.settings.schema import Flow, HttpSource
from tests.downlinks import hostile, memory
from tests.downlinks.hostile import Desk
from tests.downlinks.memory import DEV_EUI, NOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mqttbridge.journal.downlink_protocol import AcceptedDownlink

TOPIC = f"mqtt/things/{DEV_EUI}/downlink"
OTHER = "70B3D5E75E000001"


def message(
    topic: str = TOPIC,
    *,
    mid: int = 1,
    dup: bool = False,
    retain: bool = False,
    correlation: bytes = b"",
    body: bytes | None = None,
    **fields: Any,  # noqa: ANN401 (any field)
) -> Received:
    document = {"DevEUI_downlink": {"DevEUI": DEV_EUI, "FPort": 1, "payload_hex": "0102", **fields}}
    payload = json.dumps(document).encode() if body is None else body
    return Received(topic, payload, 1 if mid else 0, retain, mid, dup, correlation)


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.journal.learn([Device(DEV_EUI, "lrc", "way")])
    return made


@pytest.fixture(autouse=True)
def lines() -> Iterator[list[Any]]:
    with capture_logs() as found:
        yield found


async def taken(desk: Desk, *messages: Received, connection: str = "acme") -> list[AcceptedDownlink]:
    before = len(desk.journal.accepted)
    await desk.intake.take(connection, messages)
    return desk.journal.accepted[before:]


async def refused(desk: Desk, one: Received) -> dict[str, Any]:
    """Give the receipt of a message that must end at once."""
    (stored,) = await taken(desk, one)
    assert stored.downlink is None
    assert stored.receipt is not None
    assert stored.source == ""
    assert desk.kicked == []
    assert desk.metrics.ended.total() == 1
    return json.loads(stored.receipt.body)


async def test_a_good_one_is_stored_for_its_source_and_the_dispatcher_is_kicked(desk: Desk, lines: list[Any]) -> None:
    (stored,) = await taken(desk, message(mid=7, correlation=b"c", CorrelationID="00000000000000aa"))
    assert (stored.connection, stored.key, stored.mid, stored.received) == ("acme", f"{1:016x}", 7, NOW)
    assert (stored.source, stored.way, stored.correlation, stored.receipt) == ("lrc", "way", b"c", None)
    assert stored.downlink is not None
    assert (stored.downlink.dev_eui, stored.downlink.payload_hex) == (DEV_EUI, "0102")
    assert stored.downlink.correlation_id.lower() == "00000000000000aa"
    assert desk.kicked == ["lrc"]
    assert desk.metrics.received == {"acme": 1}
    assert not desk.metrics.ended
    assert lines == [
        {
            "event": "downlink.accepted",
            "log_level": "debug",
            "connection": "acme",
            "dev_eui": DEV_EUI,
            "source": "lrc",
            "key": f"{1:016x}",
        }
    ]


async def test_many_are_committed_together_and_each_source_is_kicked_once(desk: Desk) -> None:
    await taken(desk, *(message(mid=mid) for mid in range(1, 101)), message(body=b"?"))
    assert desk.journal.batches == [101]
    assert desk.kicked == ["lrc"]
    assert desk.metrics.received == {"acme": 101}
    assert desk.metrics.ended == {("acme", "rejected"): 1}


async def test_a_copy_has_the_key_of_the_message_and_another_message_has_not(desk: Desk) -> None:
    first, copy, new, other, zero = await taken(desk, message(mid=5)) + await taken(
        desk,
        message(mid=5, dup=True),
        message(mid=5),
        message(mid=5, dup=True, FPort=2),
        message(mid=0, dup=True),
    )
    assert copy.key == first.key
    assert len({first.key, new.key, other.key, zero.key}) == 4
    (latest,) = await taken(desk, message(mid=5, dup=True, FPort=2))
    assert latest.key == other.key
    (late,) = await taken(desk, message(mid=5, dup=True))
    assert late.key not in {first.key, new.key}, "the broker has used its packet identifier again since"


async def test_the_default_key_is_sixteen_random_hex_digits() -> None:
    keys = {random_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 16 and int(key, 16) >= 0 and key == key.lower() for key in keys)


async def test_what_is_no_downlink_is_rejected_with_all_that_can_be_told(desk: Desk, lines: list[Any]) -> None:
    told = await refused(desk, message(FPort=0, CorrelationID="00000000000000aa", correlation=b"\1"))
    assert (told["outcome"], told["DevEUI"], told["field"]) == ("rejected", DEV_EUI, "DevEUI_downlink.FPort")
    assert told["CorrelationID"].lower() == "00000000000000aa"
    assert told["correlationData"] == "AQ=="
    (line,) = lines
    assert (line["event"], line["log_level"], line["topic"], line["field"], line["reason"]) == (
        "downlink.rejected",
        "warning",
        TOPIC,
        "DevEUI_downlink.FPort",
        told["reason"],
    )
    assert "source" not in line


async def test_invalid_json_has_the_topics_device_and_the_key_as_correlation(desk: Desk) -> None:
    told = await refused(desk, message(body=b"{not json"))
    assert (told["outcome"], told["DevEUI"], told["CorrelationID"]) == ("rejected", DEV_EUI, f"{1:016x}")
    assert "field" not in told


async def test_a_validity_time_that_is_past_is_expired(desk: Desk) -> None:
    told = await refused(desk, message(ValidityTime="2020-01-01T00:00:00Z"))
    assert (told["outcome"], told["field"]) == ("expired", "DevEUI_downlink.ValidityTime")
    assert desk.metrics.ended == {("acme", "expired"): 1}


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (message(retain=True), "retained"),
        (message("mqtt/old/x"), "downlinkTopicPattern, which may have been another one before"),
        (message("mqtt/things/0018B2/downlink"), "no DevEUI, 16 hex digits, where downlinkTopicPattern has one"),
        (message(body=b"1" * 70_000), "70000 bytes"),
        (message(f"mqtt/things/{OTHER}/downlink"), "DevEUI"),
        (message(FPort=13), "FPort 13 is unlucky"),
        (message(FPort=14), "internal error (ZeroDivisionError)"),
    ],
)
async def test_what_cannot_be_taken_is_rejected_with_a_sentence(desk: Desk, one: Received, reason: str) -> None:
    told = await refused(desk, one)
    assert told["outcome"] == "rejected"
    assert reason in told["reason"]


async def test_a_bug_that_one_message_finds_costs_the_others_nothing(desk: Desk, lines: list[Any]) -> None:
    stored = await taken(desk, message(mid=1), message(mid=2, FPort=14), message(mid=3))
    assert [one.downlink is not None for one in stored] == [True, False, True]
    assert [line["connection"] for line in lines if line["event"] == "downlink.crashed"] == ["acme"]


async def test_the_port_of_the_connection_serves_those_that_name_none() -> None:
    desk = Desk(downlink_port=9)
    body = json.dumps({"DevEUI_downlink": {"payload_hex": "01"}}).encode()
    (stored,) = await taken(desk, message(body=body))
    assert stored.downlink is not None
    assert (stored.downlink.fport, stored.downlink.dev_eui) == (9, DEV_EUI)


async def test_a_connection_that_wants_no_receipts_gets_none(desk: Desk) -> None:
    (stored,) = await taken(desk, message(body=b"?"), connection="quiet")
    assert stored.downlink is None
    assert stored.receipt is None
    assert desk.metrics.ended == {("quiet", "rejected"): 1}


async def test_a_connection_that_takes_no_downlinks_any_more_rejects_what_its_session_still_gets() -> None:
    for change in ({"downlink_enabled": False}, {"downlink_topic_pattern": None}):
        told = await refused(Desk(**change), message())
        assert "takes no downlinks" in told["reason"]


@pytest.mark.parametrize("topic", [TOPIC, "anything/else"])
@pytest.mark.parametrize("retain", [False, True])
async def test_a_receipt_that_comes_back_has_no_receipt_of_its_own(
    desk: Desk, lines: list[Any], topic: str, retain: bool
) -> None:
    for outcome in DownlinkOutcome:
        body = receipt(Ended("acme", f"{9:016x}", outcome, NOW, correlation=b"x" * 65_535)).body
        (stored,) = await taken(desk, message(topic, body=body, retain=retain))
        assert (stored.downlink, stored.receipt) == (None, None)
    assert desk.metrics.ended == {("acme", "rejected"): 4}
    assert [line["event"] for line in lines] == ["downlink.rejected"] * 4


async def test_receipts_do_not_go_round_in_circles(desk: Desk) -> None:
    body: bytes | None = b"?"
    for _ in range(2):
        (stored,) = await taken(desk, message(body=body))
        body = stored.receipt.body if stored.receipt is not None else None
    assert body is None


async def test_unknown_fields_are_told_and_the_downlink_goes_on(desk: Desk, lines: list[Any]) -> None:
    (stored,) = await taken(desk, message(Fport=2))
    assert stored.downlink is not None
    (line,) = [line for line in lines if line["event"] == "downlink.warning"]
    assert (line["log_level"], line["connection"], line["dev_eui"], line["key"]) == (
        "info",
        "acme",
        DEV_EUI,
        stored.key,
    )
    assert "Fport" in line["reason"]


async def test_warnings_are_stored_with_the_downlink_for_its_receipt(desk: Desk) -> None:
    (stored,) = await taken(desk, message(Confirmd=1))
    assert stored.downlink is not None
    (warning,) = stored.warnings
    assert "did you mean Confirmed" in warning


async def test_warnings_stand_in_the_receipt_of_what_is_refused_later(desk: Desk) -> None:
    told = await refused(desk, message(Fport=2, FPort=13))
    assert "Fport" in told["warnings"][0]


# --- whose device, which source


async def test_a_device_that_the_connection_must_not_command_is_rejected() -> None:
    desk = Desk(downlink_devices=("70B3D5*",))
    told = await refused(desk, message())
    assert (told["outcome"], told["DevEUI"]) == ("rejected", DEV_EUI)
    assert "downlinkDevices" in told["reason"]
    (stored,) = await taken(desk, message(f"mqtt/things/{OTHER}/downlink", DevEUI=OTHER))
    assert stored.downlink is not None


async def test_the_only_source_is_the_one_even_for_a_device_that_was_elsewhere() -> None:
    desk = Desk()
    (unknown,) = await taken(desk, message())
    desk.journal.learn([Device(DEV_EUI, "gone", "application/device")])
    (moved,) = await taken(desk, message())
    assert (unknown.source, unknown.way, moved.source, moved.way) == ("lrc", "", "lrc", "")


async def test_of_several_sources_it_is_the_one_that_brought_the_uplinks() -> None:
    desk = Desk(sources=("lrc", "ns"))
    desk.journal.learn([Device(DEV_EUI, "ns", "app/dev")])
    (stored,) = await taken(desk, message())
    assert (stored.source, stored.way) == ("ns", "app/dev")


async def test_of_several_sources_an_unknown_device_has_none() -> None:
    told = await refused(Desk(sources=("lrc", "ns")), message())
    assert told["reason"] == (
        "no uplink of this device has come yet, so that it is not known which of the sources lrc, ns it belongs to; "
        "send the downlink again after one"
    )


async def test_of_several_sources_a_device_of_another_one_has_none() -> None:
    desk = Desk(sources=("lrc", "ns"))
    desk.journal.learn([Device(DEV_EUI, "old")])
    told = await refused(desk, message())
    assert "the source old, which is not configured any more" in told["reason"]


async def test_without_any_source_nothing_can_be_sent() -> None:
    assert "no source is configured" in (await refused(Desk(sources=()), message()))["reason"]


async def test_a_source_without_way_back_says_why() -> None:
    desk = Desk()
    desk.sources = {"lrc": HttpSource()}
    desk.networks = {}
    desk.intake = desk.make()
    told = await refused(desk, message())
    assert told["reason"].startswith(
        "the source lrc, which this device belongs to, takes no downlinks: it has no apiUrl"
    )


# --- the disk


async def test_a_disk_that_fails_stores_nothing_and_tells_nothing(desk: Desk, lines: list[Any]) -> None:
    desk.journal.failing = True
    for messages in ([message(), message(body=b"?")], [message(mid=4, dup=True)], [message(body=b"?")]):
        with pytest.raises(JournalFailed):
            await desk.intake.take("acme", messages)
    assert (desk.journal.accepted, lines, desk.kicked) == ([], [], [])
    assert not desk.metrics.received
    assert not desk.metrics.ended
    desk.journal.failing = False
    assert len(await taken(desk, message(), message(body=b"?"))) == 2


async def test_once_a_part_is_stored_the_rest_is_tried_until_it_is_too(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PART", 10)
    desk.journal.failing_from = 2
    stored = await taken(desk, *(message(mid=mid) for mid in range(1, 51)))
    assert [one.mid for one in stored] == list(range(1, 51))
    assert len({one.key for one in stored}) == 50
    assert desk.hands.time >= 1001.0
    assert desk.metrics.received == {"acme": 50}


# --- room and rate


async def test_a_full_queue_makes_it_wait_and_nothing_is_discarded(lines: list[Any]) -> None:
    desk = Desk(downlink_rate=100_000)
    task = asyncio.create_task(desk.intake.take("acme", [message(mid=mid) for mid in range(1, 2501)]))
    most = 0
    while not task.done():
        await asyncio.sleep(0)
        most = max(most, desk.journal.unfinished("acme"))
        if desk.hands.time > 1010 and len(desk.journal.queue) >= ROOM:
            for seq in list(desk.journal.queue)[:300]:
                del desk.journal.queue[seq]
            desk.hands.time = 1000.0
    await task
    assert most == ROOM
    assert [one.mid for one in desk.journal.accepted] == list(range(1, 2501))
    assert desk.metrics.delayed["acme"] == 1, "told once, however often it looks again"
    line = next(line for line in lines if line["event"] == "downlink.delayed")
    assert (line["connection"], line["log_level"]) == ("acme", "warning")
    assert "1000 downlinks" in line["reason"]


async def test_receipts_that_wait_take_room_too(desk: Desk) -> None:
    task = asyncio.create_task(desk.intake.take("acme", [message(body=b"?")] * (ROOM + 1)))
    while desk.hands.time < 1005:  # noqa: ASYNC110 (the hands turn with each look)
        await asyncio.sleep(0)
    assert len(desk.journal.accepted) == ROOM
    await desk.journal.receipted(list(desk.journal.waiting_receipts)[:1])
    await asyncio.wait_for(task, 5)
    assert len(desk.journal.accepted) == ROOM + 1


async def test_what_is_stored_is_told_part_by_part_while_the_rest_has_to_wait() -> None:
    desk = Desk(downlink_rate=20)
    told: list[tuple[int, int]] = []
    messages = [message(mid=mid) for mid in range(1, 221)]
    await desk.intake.take("acme", messages, lambda number: told.append((number, len(desk.journal.accepted))))
    assert told[0] == (200, 200)
    assert sum(number for number, _ in told) == 220
    assert [stored for _, stored in told] == [sum(number for number, _ in told[:at]) for at in range(1, len(told) + 1)]


async def test_a_flood_is_taken_at_the_rate_of_the_connection(lines: list[Any]) -> None:
    desk = Desk(downlink_rate=20)
    await desk.intake.take("acme", [message(mid=mid) for mid in range(1, 601)])
    assert 19.99 <= desk.hands.time - 1000 <= 20.2, "200 at once, 400 at 20 a second"
    assert desk.metrics.delayed["acme"] == 1
    (told,) = [line for line in lines if line["event"] == "downlink.delayed"]
    assert "downlinkRate, 20 a second" in told["reason"]


async def test_a_flood_of_one_connection_does_not_hold_up_another(desk: Desk) -> None:
    await desk.intake.take("acme", [message()] * 900)
    began = desk.hands.time
    await taken(desk, message(), connection="quiet")
    assert desk.hands.time == began


async def test_waiting_can_be_cancelled(desk: Desk) -> None:
    desk.intake = desk.make(sleep=asyncio.sleep)
    task = asyncio.create_task(desk.intake.take("acme", [message()] * 1001))
    while not desk.metrics.delayed:  # noqa: ASYNC110 (the intake takes its turns)
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(desk.journal.accepted) == ROOM


# --- settings that change


async def test_a_faster_rate_counts_for_those_who_wait_already(lines: list[Any]) -> None:
    desk = Desk(downlink_rate=1)

    async def sleep(seconds: float) -> None:
        await desk.hands.sleep(seconds)
        desk.connections["acme"] = changed

    changed = memory.connection(downlink_rate=1000)
    desk.intake = desk.make(sleep=sleep)
    await desk.intake.take("acme", [message()] * 500)
    assert desk.hands.time - 1000 < 2.0
    assert "downlink.delayed" in {line["event"] for line in lines}


async def test_other_ports_patterns_and_devices_count_from_the_next_message_on(desk: Desk) -> None:
    await taken(desk, message())
    desk.connections["acme"] = memory.connection(downlink_topic_pattern="other/{DevEUI}", downlink_port=77)
    told = json.loads((await taken(desk, message()))[0].receipt.body)
    assert "does not fit downlinkTopicPattern" in told["reason"]
    (one,) = await taken(desk, message(topic=f"other/{DEV_EUI}", FPort=None))
    assert one.downlink is not None
    assert one.downlink.fport == 77
    desk.connections["acme"] = memory.connection(downlink_devices=("70B3*",))
    assert (await taken(desk, message()))[0].downlink is None


async def test_other_flows_and_sources_count_from_the_next_message_on(desk: Desk) -> None:
    desk.intake.use(Router({"f": Flow(connections=("quiet",))}, desk.connections))
    assert (await taken(desk, message()))[0].downlink is None
    desk.intake.use(Router({}, desk.connections))
    assert (await taken(desk, message()))[0].downlink is not None
    del desk.networks["lrc"]
    desk.sources["lrc"] = HttpSource()
    told = json.loads((await taken(desk, message()))[0].receipt.body)
    assert "takes no downlinks: it has no apiUrl" in told["reason"]
    del desk.sources["lrc"]
    told = json.loads((await taken(desk, message()))[0].receipt.body)
    assert "no source is configured" in told["reason"]


async def test_a_way_back_that_is_being_replaced_is_waited_for() -> None:
    desk = Desk()
    desk.journal.learn([Device(DEV_EUI, "lrc", "way")])
    network = desk.networks.pop("lrc")
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        await asyncio.sleep(0)
        if len(sleeps) == 3:
            desk.networks["lrc"] = network

    desk.intake = desk.make(sleep=sleep)
    (one,) = await taken(desk, message())
    assert one.downlink is not None
    assert len(sleeps) == 3


async def test_a_source_that_goes_while_messages_are_judged_leaves_none_that_nobody_would_read(desk: Desk) -> None:
    desk.sources["lrc"] = HttpSource()
    taking = asyncio.ensure_future(taken(desk, *(message(mid=number) for number in range(1, 41))))
    for _ in range(2):
        await asyncio.sleep(0)
    del desk.sources["lrc"], desk.networks["lrc"]
    stored = await taking
    assert len(stored) == 40
    assert [one.downlink for one in stored] == [None] * 40
    assert "no source is configured" in json.loads(stored[0].receipt.body)["reason"]


async def test_a_connection_that_comes_later_is_known_and_of_one_that_is_gone_nothing_is_taken(desk: Desk) -> None:
    desk.connections["new"] = memory.connection()
    desk.intake.use(Router({}, desk.connections))
    assert (await taken(desk, message(), connection="new"))[0].downlink is not None
    del desk.connections["new"]
    waiting = asyncio.ensure_future(desk.intake.take("new", [message()]))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert len(desk.journal.accepted) == 1


# --- hostile messages


async def test_hostile_messages_end_with_exactly_one_outcome_each() -> None:
    outcomes, _ = await hostile.run(300, seed=20)
    assert outcomes.total() == 300
    assert set(outcomes) >= {"rejected", "pending", "receipt of ours"}


@settings(max_examples=150, deadline=None)
@given(
    payload=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))),
    topic=st.one_of(st.just(TOPIC), st.text(st.characters(), max_size=50)),
    correlation=st.binary(max_size=50),
    dup=st.booleans(),
)
def test_any_bytes_under_any_topic_end_with_exactly_one_outcome(
    payload: bytes, topic: str, correlation: bytes, dup: bool
) -> None:
    desk = Desk()
    one = Received(topic, payload, 1, False, 3, dup, correlation)  # noqa: FBT003 (as links make it)
    (stored,) = asyncio.run(taken(desk, one))
    assert hostile.check(desk, one, stored, desk.metrics.ended.total()) in {"rejected", "expired", "pending"}


async def test_what_one_message_makes_stored_is_bounded(desk: Desk) -> None:
    body = json.dumps({"DevEUI_downlink": {"DevEUI": DEV_EUI, "x" * 60_000: 1, "FPort": "x" * 5000}}).encode()
    refusal = await refused(desk, message(body=body, correlation=b"c" * 65_535))
    assert "Correlation Data has 65535 bytes; at most 4096 can" in refusal["reason"]
    assert "correlationData" not in refusal
    (fits,) = await taken(desk, message(mid=2, correlation=b"c" * 4096))
    assert fits.correlation == b"c" * 4096
    assert fits.downlink is not None
    assert max(len(msgspec.json.encode(one)) for one in desk.journal.accepted) < 32 * 1024
