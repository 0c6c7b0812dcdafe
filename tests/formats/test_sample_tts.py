"""The sample of The Things Stack is a message like a network server's."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.formats import sample_tts
from mqttbridge.formats.tts import parse


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert sample_tts.uplink("0018B20000000B20", fcnt=1) == sample_tts.uplink("0018b20000000b20", fcnt=1)
    assert sample_tts.uplink("0018B20000000B20", fcnt=1) != sample_tts.uplink("0018B20000000B20", fcnt=2)


def test_zeros_are_left_out_as_the_things_stack_does() -> None:
    assert "f_cnt" not in json.loads(sample_tts.uplink("0018B20000000B20", fcnt=0))["uplink_message"]


def test_it_has_the_main_fields() -> None:
    body = sample_tts.uplink("0018B20000000B21", fcnt=3, fport=9, payload_hex="0102", tags=("A",), name="Cellar")
    content = json.loads(parse(body, source="ns", received=1).body)["DevEUI_uplink"]
    assert (content["payload_hex"], content["FPort"], content["FCntUp"]) == ("0102", 9, 3)
    assert content["CustomerData"]["name"] == "Cellar"
    assert "A" in content["CustomerData"]["tags"]
    assert content["DevLrrCnt"] == len(content["Lrrs"]["Lrr"]) == 3
    assert content["LrrRSSI"] == max(lrr["LrrRSSI"] for lrr in content["Lrrs"]["Lrr"])


def test_without_a_payload_the_bytes_and_the_decoded_values_agree() -> None:
    body = sample_tts.uplink("0018B20000000B20", fcnt=5)
    content = json.loads(parse(body, source="ns", received=1).body)["DevEUI_uplink"]
    raw = bytes.fromhex(content["payload_hex"])
    assert int.from_bytes(raw[:2], "big") / 10 == content["payload"]["temperature"]
    assert raw[2] == content["payload"]["humidity"]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 4_000_000_000_000), st.lists(st.text("ab")))
def test_it_is_always_taken(device: int, fcnt: int, time_ms: int, tags: list[str]) -> None:
    body = sample_tts.uplink(f"{device:016x}", fcnt=fcnt, time_ms=time_ms, tags=tags)
    found = parse(body, source="ns", received=1)
    assert (found.dev_eui, found.fcnt, found.time) == (f"{device:016X}", fcnt, time_ms)
    assert found.tags >= set(filter(None, tags))
    assert found.way == f"climate/eui-{device:016x}"
