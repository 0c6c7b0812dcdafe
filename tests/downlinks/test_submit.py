"""A downlink that is given by hand: judged as if the broker had sent it, and told at once what became of it."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from mqttbridge.downlinks.intake import ROOM, Busy
from mqttbridge.downlinks.receipts import Ended, receipt
from mqttbridge.errors import JournalFailed
from mqttbridge.journal.downlink_protocol import AcceptedDownlink
from mqttbridge.model import Device, DownlinkOutcome
from mqttbridge.mqtt.link import Received
from tests.downlinks import hostile
from tests.downlinks.hostile import Desk
from tests.downlinks.memory import DEV_EUI, NOW

if TYPE_CHECKING:
    from collections.abc import Iterator


def document(**fields: Any) -> bytes:  # noqa: ANN401 (any field)
    return json.dumps({"DevEUI_downlink": {"DevEUI": DEV_EUI, "FPort": 1, "payload_hex": "0102", **fields}}).encode()


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.journal.learn([Device(DEV_EUI, "lrc", "way")])
    return made


@pytest.fixture(autouse=True)
def lines() -> Iterator[list[Any]]:
    with capture_logs() as found:
        yield found


async def test_a_good_one_is_stored_as_those_of_the_broker_are_and_goes_on(desk: Desk) -> None:
    given = await desk.intake.submit("acme", document(CorrelationID="00000000000000aa", FPrt=1))
    assert isinstance(given, AcceptedDownlink)
    assert desk.journal.accepted == [given]
    assert (given.connection, given.source, given.way, given.mid, given.received) == ("acme", "lrc", "way", 0, NOW)
    assert given.downlink is not None
    assert given.downlink.dev_eui == DEV_EUI
    assert any("FPrt" in warning for warning in given.warnings)
    assert desk.kicked == ["lrc"]
    assert desk.metrics.received == {"acme": 1}


@pytest.mark.parametrize(
    ("body", "outcome", "field", "says"),
    [
        (document(FPort=0), "rejected", "DevEUI_downlink.FPort", "FPort"),
        (b"{", "rejected", "", "JSON"),
        (b"", "rejected", "", ""),
        (b"x" * 70_000, "rejected", "", "70000 bytes"),
        (document(DevEUI=None), "rejected", "DevEUI_downlink.DevEUI", "DevEUI"),
        (document(ValidityTime="2020-01-01T00:00:00Z"), "expired", "DevEUI_downlink.ValidityTime", ""),
    ],
)
async def test_what_is_wrong_ends_at_once_with_field_and_reason_and_its_receipt(
    desk: Desk, body: bytes, outcome: str, field: str, says: str
) -> None:
    ended = await desk.intake.submit("acme", body)
    assert isinstance(ended, Ended)
    assert (ended.outcome, ended.field, ended.topic) == (outcome, field, "")
    assert says in ended.reason
    (stored,) = desk.journal.accepted
    assert stored.downlink is None
    assert stored.receipt == receipt(ended)
    assert desk.metrics.ended == {("acme", outcome): 1}
    assert desk.kicked == []


async def test_it_may_command_no_other_devices_than_the_broker_may() -> None:
    desk = Desk(downlink_devices=("70B3*",))
    desk.journal.learn([Device(DEV_EUI, "lrc", "way")])
    ended = await desk.intake.submit("acme", document())
    assert isinstance(ended, Ended)
    assert ended.outcome is DownlinkOutcome.REJECTED
    assert "downlinkDevices" in ended.reason


async def test_without_downlinks_it_is_rejected_and_of_a_connection_that_is_gone_nobody_knows(desk: Desk) -> None:
    none = Desk(downlink_enabled=False)
    ended = await none.intake.submit("acme", document())
    assert isinstance(ended, Ended)
    assert "takes no downlinks" in ended.reason
    assert await desk.intake.submit("gone", document()) is None
    assert desk.journal.accepted == []


async def test_a_broker_that_names_no_topic_does_not_pass_for_a_hand(desk: Desk) -> None:
    await desk.intake.take("acme", [Received("", document(), 0, retain=False, mid=0)])
    (stored,) = desk.journal.accepted
    assert stored.downlink is None


async def test_a_full_queue_refuses_it_at_once_and_stores_nothing(desk: Desk) -> None:
    desk.hands.time += 1000
    while len(desk.journal.accepted) < ROOM:
        await desk.intake.take("acme", [Received("mqtt/things/x", b"?", 0, retain=False, mid=0)] * 250)
        desk.hands.turn(10)
    busy = await desk.intake.submit("acme", document())
    assert isinstance(busy, Busy)
    assert "not finished" in busy.reason
    assert busy.delay > 0
    assert len(desk.journal.accepted) == ROOM
    other = await desk.intake.submit("quiet", document())
    assert isinstance(other, AcceptedDownlink)


async def test_the_last_place_is_given_once_however_many_come_at_the_same_time(desk: Desk) -> None:
    while len(desk.journal.accepted) < ROOM - 1:
        number = min(250, ROOM - 1 - len(desk.journal.accepted))
        await desk.intake.take("acme", [Received("mqtt/things/x", b"?", 0, retain=False, mid=0)] * number)
        desk.hands.turn(10)
    found = await asyncio.gather(*(desk.intake.submit("acme", document()) for _ in range(20)))
    assert sorted(type(one).__name__ for one in found) == ["AcceptedDownlink", *["Busy"] * 19]


async def test_what_comes_too_fast_is_refused_with_the_time_to_wait() -> None:
    slow = Desk(downlink_rate=1)
    slow.journal.learn([Device(DEV_EUI, "lrc", "way")])
    found = await asyncio.gather(*(slow.intake.submit("acme", document()) for _ in range(11)))
    busy = found[-1]
    assert isinstance(busy, Busy)
    assert all(isinstance(one, AcceptedDownlink) for one in found[:-1])
    assert "downlinkRate" in busy.reason
    slow.hands.turn(busy.delay)
    assert isinstance(await slow.intake.submit("acme", document()), AcceptedDownlink)


async def test_a_disk_that_fails_is_told_and_the_place_is_free_again(desk: Desk) -> None:
    desk.journal.failing = True
    with pytest.raises(JournalFailed):
        await desk.intake.submit("acme", document())
    desk.journal.failing = False
    assert isinstance(await desk.intake.submit("acme", document()), AcceptedDownlink)
    assert len(desk.journal.accepted) == 1


async def test_whatever_is_given_ends_exactly_once() -> None:
    rng = random.Random(5)  # noqa: S311 (a test repeats itself)
    desk = Desk()
    desk.journal.learn([Device(DEV_EUI, "lrc", "way")])
    for _ in range(500):
        message = hostile.made(rng)
        before = len(desk.journal.accepted), desk.metrics.ended.total()
        given = await desk.intake.submit("quiet", message.payload)
        assert given is not None
        assert len(desk.journal.accepted) == before[0] + isinstance(given, AcceptedDownlink | Ended)
        assert desk.metrics.ended.total() == before[1] + isinstance(given, Ended)
        desk.hands.turn(1)
        for seq in list(desk.journal.queue):
            del desk.journal.queue[seq]
