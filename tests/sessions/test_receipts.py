"""Receipts on their way out, against a scripted broker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from mqttbridge.journal.downlink_protocol import Receipt, ReceiptBody
from mqttbridge.mqtt import backoff
from mqttbridge.mqtt.link import Publish
from mqttbridge.sessions import receipts, suspicion
from mqttbridge.sessions.receipts import prepare
from mqttbridge.topics import compile_pattern
from tests.brokers.fake import Fake, fake_broker
from tests.sessions.bench import Bench, bench, until
from tests.sessions.taking import Counted, MemoryReceipts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.brokers.fake import Published
    from tests.sessions.bench import Running

DEV_EUI = "0018B20000000B20"
PATTERN = "mqtt/things/{DevEUI}/receipt"
RECEIPT_TOPIC = f"mqtt/things/{DEV_EUI}/receipt"
BODY = b'{"outcome":"queued","CorrelationID":"00000000000000AA"}'


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[Fake]:
    async with fake_broker() as broker:
        yield broker


@pytest_asyncio.fixture
async def it(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path / "state") as made:
        yield made


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "JITTER_LOW", 0.02)
    monkeypatch.setattr(suspicion, "QUIET", 0.02)
    monkeypatch.setattr(receipts, "JOURNAL_RETRY", 0.02)
    monkeypatch.setattr(receipts, "HOLD_FIRST", 0.02)


def begin(it: Bench, port: int, queue: MemoryReceipts, counted: Counted | None = None, **more: object) -> Running:
    given = {"downlink_receipt_topic_pattern": PATTERN, **more}
    return it.start(port, wiring={"downlinks": queue, "metrics": counted}, **given)


def sent(fake: Fake) -> list[Published]:
    return [message for message in fake.published if message.topic.endswith("/receipt")]


def is_receipt(message: Published, body: bytes) -> bool:
    return message.topic.endswith("/receipt") and message.payload == body


@pytest.mark.parametrize("qos", [0, 1])
async def test_receipts_are_published_in_order_and_never_retained(fake: Fake, it: Bench, qos: int) -> None:
    queue = MemoryReceipts()
    for seq in range(1, 251):
        queue.put(seq, b'{"n":%d}' % seq, DEV_EUI, b"c%d" % seq)
    run = begin(it, fake.port, queue, qos=qos, retain=True, mqtt_version="5")
    await run.put(1, 50)
    await run.until_settled()
    await until(lambda: not queue.queue, "all are recorded")
    assert [message.payload for message in sent(fake)] == [b'{"n":%d}' % seq for seq in range(1, 251)]
    assert {(message.qos, message.retain, message.topic) for message in sent(fake)} == {(qos, False, RECEIPT_TOPIC)}
    assert sent(fake)[6].properties == b"\x09\x00\x02c7"
    assert run.counts().delivered == 50
    queue.put(7, b"late", DEV_EUI)
    await until(lambda: not queue.queue, "one that is concluded late is found")


@pytest.mark.parametrize("maximum", [1, 2, 9])
async def test_the_receive_maximum_holds_for_both_and_neither_starves(fake: Fake, it: Bench, maximum: int) -> None:
    fake.script.receive_maximum = maximum
    fake.script.connack_properties = b"\x21" + maximum.to_bytes(2, "big")
    queue = MemoryReceipts()
    run = begin(it, fake.port, queue, mqtt_version="5")
    await run.put(1, 40)
    for seq in range(1, 41):
        queue.put(seq, BODY, DEV_EUI)
    await run.until_settled()
    await until(lambda: not queue.queue, "all are recorded")
    assert fake.violations == []
    first_half = fake.published[:40]
    assert 5 <= sum(message in sent(fake) for message in first_half if message.topic == RECEIPT_TOPIC) <= 35


async def test_acknowledgements_that_are_late_never_let_too_much_fly(fake: Fake, it: Bench) -> None:
    fake.script.receive_maximum = 4
    fake.script.connack_properties = b"\x21\x00\x04"
    fake.script.puback = lambda _: None
    queue = MemoryReceipts()
    for seq in range(1, 11):
        queue.put(seq, BODY, DEV_EUI)
    run = begin(it, fake.port, queue, mqtt_version="5", action_timeout=10_000)
    await run.put(1, 10)
    for answered in range(20):
        await fake.wait_published(answered + 1)
        fake.client.unanswered.discard(fake.published[answered].mid)
        fake.client.answer(4, fake.published[answered].mid)
    await run.until_settled()
    await until(lambda: not queue.queue, "all are recorded")
    assert fake.violations == []
    assert len(fake.published) == 20


@pytest.mark.parametrize("code", [0x87, 0x90])
async def test_a_refused_receipt_is_given_up_and_counted(fake: Fake, it: Bench, code: int) -> None:
    fake.script.puback = lambda message: code if is_receipt(message, b"bad") else 0
    queue, counted = MemoryReceipts(), Counted()
    queue.put(1, b"bad", DEV_EUI)
    queue.put(2, BODY, DEV_EUI)
    with capture_logs() as lines:
        begin(it, fake.port, queue, counted, mqtt_version="5")
        await until(lambda: not queue.queue, "both are recorded")
    assert counted.lost == 1
    [line] = [line for line in lines if line["event"] == "downlink.receipt_lost"]
    assert (line["dev_eui"], line["log_level"]) == (DEV_EUI, "warning")


async def test_quota_is_tried_again_until_it_is_taken(fake: Fake, it: Bench) -> None:
    answers = iter([0x97] * 5)
    fake.script.puback = lambda message: next(answers, 0) if is_receipt(message, BODY) else 0
    queue, counted = MemoryReceipts(), Counted()
    queue.put(1, BODY, DEV_EUI)
    run = begin(it, fake.port, queue, counted, mqtt_version="5", max_inflight=1)
    await run.put(1, 20)
    await run.until_settled()
    await until(lambda: not queue.queue, "recorded")
    assert (len(sent(fake)), counted.lost) == (6, 0)


async def test_an_error_that_repeats_gives_a_receipt_up(fake: Fake, it: Bench) -> None:
    fake.script.puback = lambda message: 0x83 if is_receipt(message, BODY) else 0
    queue, counted = MemoryReceipts(), Counted()
    queue.put(1, BODY, DEV_EUI)
    begin(it, fake.port, queue, counted, mqtt_version="5")
    await until(lambda: not queue.queue, "recorded")
    assert (len(sent(fake)), counted.lost) == (4, 1)


async def test_no_answer_in_time_ends_the_link_and_loses_nothing(fake: Fake, it: Bench) -> None:
    fake.script.puback = lambda _: None
    queue, counted = MemoryReceipts(), Counted()
    queue.put(1, BODY, DEV_EUI)
    begin(it, fake.port, queue, counted, action_timeout=50)
    await fake.wait_until(lambda: len(fake.clients) >= 6)
    fake.script.puback = lambda _: 0
    await until(lambda: not queue.queue, "recorded")
    assert counted.lost == 0


async def test_a_receipt_that_makes_the_broker_hang_up_is_given_up_and_no_uplink_is_blamed(
    fake: Fake, it: Bench
) -> None:
    def puback(message: Published) -> int | None:
        if is_receipt(message, b"poison"):
            fake.client.hang_up()
            return None
        return 0

    fake.script.puback = puback
    queue, counted = MemoryReceipts(), Counted()
    for seq in range(1, 11):
        queue.put(seq, b"poison" if seq == 4 else BODY, DEV_EUI)
    with capture_logs() as lines:
        run = begin(it, fake.port, queue, counted)
        await run.put(1, 100)
        counts = await run.until_settled()
        await until(lambda: not queue.queue, "recorded")
        await run.put(101, 10)
        counts = await run.until_settled()
    assert (counts.delivered, counts.parked, counted.lost) == (110, 0, 1)
    assert sum(is_receipt(message, b"poison") for message in fake.published) == 3
    assert len(fake.clients) == 4
    assert "connection.client_id_conflict" not in {line["event"] for line in lines}


async def test_a_disk_that_fails_publishes_no_receipt_twice(fake: Fake, it: Bench) -> None:
    queue = MemoryReceipts()
    run = begin(it, fake.port, queue)
    await fake.wait_until(lambda: fake.clients and fake.client.packets)
    queue.put(1, BODY, DEV_EUI)
    await fake.wait_published(1)
    queue.failing = True
    queue.put(2, BODY, DEV_EUI)
    await asyncio.sleep(0.06)
    fake.client.hang_up()
    await fake.wait_until(lambda: len(fake.clients) == 2)
    queue.failing = False
    await until(lambda: not queue.queue, "recorded")
    assert len(sent(fake)) == 2
    await run.stop()


async def test_a_stop_records_the_receipts_in_flight_and_sends_no_more(fake: Fake, it: Bench) -> None:
    fake.script.puback = lambda _: None
    queue = MemoryReceipts()
    for seq in range(1, 41):
        queue.put(seq, BODY, DEV_EUI)
    run = begin(it, fake.port, queue, action_timeout=5_000, max_inflight=20)
    await fake.wait_published(5)
    run.session.stop()
    await asyncio.sleep(0.02)
    for message in list(fake.published):
        fake.client.answer(4, message.mid)
    await asyncio.wait_for(run.task, 2.0)
    assert (len(fake.published), len(queue.queue)) == (5, 35)


async def test_without_a_pattern_waiting_receipts_are_given_up(fake: Fake, it: Bench) -> None:
    queue, counted = MemoryReceipts(), Counted()
    queue.put(1, BODY, DEV_EUI)
    begin(it, fake.port, queue, counted, downlink_receipt_topic_pattern=None)
    await until(lambda: not queue.queue, "recorded")
    assert (fake.published, counted.lost) == ([], 1)


@pytest.mark.parametrize(
    ("pattern", "dev_eui", "body", "expected"),
    [
        (PATTERN, DEV_EUI, BODY, RECEIPT_TOPIC),
        (PATTERN, "", b"not JSON", "mqtt/things/unknown/receipt"),
        ("r/{outcome}/{CorrelationID}", "", BODY, "r/queued/00000000000000AA"),
        ("r/{DevEUI}/{outcome}", "", BODY, "r/unknown/queued"),
    ],
)
def test_the_topic_is_made_of_the_receipts_fields(pattern: str, dev_eui: str, body: bytes, expected: str) -> None:
    receipt = Receipt(5, ReceiptBody(dev_eui, body, b"c"))
    ready = prepare(receipt, compile_pattern(pattern), maximum_packet=1000)
    assert ready == Publish(-5, expected, body, b"c", retain=False)


@pytest.mark.parametrize(
    ("pattern", "body", "word"),
    [
        ("r/{outcome}", b"[]", "decoded"),
        ("r/{outcome}", b"{}", "no value"),
        ("r/{outcome}", b'{"outcome":"a/b"}', "one topic level"),
        ("r", b"x" * 1000, "at most 1000 bytes"),
    ],
)
def test_what_cannot_be_published_says_why(pattern: str, body: bytes, word: str) -> None:
    ready = prepare(Receipt(5, ReceiptBody("", body)), compile_pattern(pattern), maximum_packet=1000)
    assert isinstance(ready, str)
    assert word in ready
