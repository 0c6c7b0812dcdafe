"""The fakes refuse what the real network servers refuse: a test against a fake that takes anything proves nothing."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest

from tests.networks import chirpstack, tts
from tests.networks.lrc import FakeLrc
from tests.networks.samples import AS_ID, AS_KEY
from tests.networks.server import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

TIME = "2026-01-02T03:04:05.678+01:00"
TOKEN = "2aaab3e128bb863ab57e02dca37e60c4669a55449f2ff2c8d7f26f81bbe3e29f"
QUERY = f"DevEUI=0018B20000000B20&FPort=2&Payload=0103&Confirmed=1&AS_ID={AS_ID}&Time={quote(TIME)}&Token={TOKEN}"
EUI = "0018b20000000b20"
ITEM = {"devEui": EUI, "fPort": 2, "data": "AQM="}
PUSH = {"f_port": 2, "frm_payload": "AQM="}


def moment(*, after: float = 0.0) -> Callable[[], float]:
    return lambda: datetime.fromisoformat(TIME).timestamp() + after


async def post(url: str, body: bytes = b"") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:  # noqa: S501 - plain HTTP
        return await client.post(url, content=body)


async def test_the_lrc_takes_the_references_vector_and_nothing_else_with_its_token() -> None:
    async with FakeLrc({AS_ID: AS_KEY}, now=moment()) as lrc:
        answer = await post(f"{lrc.url}?{QUERY}")
        assert (answer.status_code, "Request queued by LRC" in answer.text) == (200, True)
        for change, status, words in (
            (("FPort=2", "FPort=3"), 403, "bad Token"),
            ((f"AS_ID={AS_ID}", "AS_ID=OTHER"), 403, "Security Check. bad AS_ID"),
            ((f"&Token={TOKEN}", ""), 403, "Token is missing"),
            (("FPort=2", "FPort=225"), 400, "bad FPort"),
            (("Payload=0103", "Payload=010"), 400, "bad Payload"),
            (("Confirmed=1", "Confirmed=true"), 400, "bad Confirmed"),
            (("Confirmed=1", "Colour=1"), 400, "unknown parameter"),
            (("Confirmed=1", "FPort=2"), 400, "twice"),
            (("%2B", "+"), 400, "percent-encoded"),
        ):
            answer = await post(f"{lrc.url}?{QUERY.replace(*change)}")
            assert (answer.status_code, words in answer.text) == (status, True), (change, answer.text)
        assert len(lrc.queued) == 1


@pytest.mark.parametrize("after", [-61.0, 61.0])
async def test_the_lrc_refuses_a_time_that_is_too_far_from_its_own(after: float) -> None:
    async with FakeLrc({AS_ID: AS_KEY}, now=moment(after=after)) as lrc:
        answer = await post(f"{lrc.url}?{QUERY}")
        assert (answer.status_code, "Time" in answer.text) == (403, True)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({**ITEM, "devEui": EUI.upper()}, "does not match"),
        ({**ITEM, "fPort": 0}, "FPort"),
        ({**ITEM, "fPort": "2"}, "FPort"),
        ({**ITEM, "data": "0103?"}, "invalid value"),
        ({**ITEM, "confirmed": 1}, "confirmed"),
        ({**ITEM, "id": "no uuid"}, "invalid value"),
        ({**ITEM, "expiresAt": "2026-01-02T03:04:05"}, "offset"),
        ({**ITEM, "colour": 1}, "unknown field"),
        (None, "missing"),
    ],
)
def test_chirpstack_refuses_an_item_that_is_wrong(item: object, words: str) -> None:
    queue = chirpstack.Queue()
    with pytest.raises(chirpstack.Wrong) as caught:
        queue.add(EUI, item)
    assert words in str(caught.value)
    assert not queue.items
    assert queue.add(EUI, {**ITEM, "expiresAt": "2026-01-02T03:04:05Z"})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "Expecting"),
        ([PUSH], "object with downlinks"),
        ({"downlinks": [{**PUSH, "f_port": 0}]}, "f_port"),
        ({"downlinks": [{**PUSH, "frm_payload": "0103?"}]}, "frm_payload"),
        ({"downlinks": [{**PUSH, "decoded_payload": {}}]}, "decoded_payload"),
        ({"downlinks": [{**PUSH, "confirmed": 1}]}, "confirmed"),
        ({"downlinks": [{**PUSH, "correlation_ids": ["x" * 101]}]}, "correlation_ids"),
        ({"downlinks": [{**PUSH, "fPort": 1}]}, "unknown field"),
    ],
)
def test_the_things_stack_refuses_a_body_that_is_wrong(body: object, words: str) -> None:
    queue = tts.Queue()
    with pytest.raises(tts.Wrong) as caught:
        queue.take("dev-1", body if isinstance(body, bytes) else json.dumps(body).encode(), "push")
    assert words in str(caught.value)
    assert not queue.items


async def test_faults_are_done_once_each_and_a_slow_answer_is_an_honest_one() -> None:
    async with FakeLrc() as lrc:
        lrc.faults = [Fault(status=503), Fault(delay=0.01)]
        query = QUERY.partition("&AS_ID")[0]
        statuses = [(await post(f"{lrc.url}?{query}")).status_code for _ in range(3)]
        assert statuses == [503, 200, 200]
        assert [answer is None for _, answer in lrc.requests] == [True, False, False]
