"""The sample uplink is a document like a network server's."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.formats import sample
from mqttbridge.formats.thingpark import parse


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert sample.uplink("0018B20000000B20", fcnt=1) == sample.uplink("0018b20000000b20", fcnt=1)
    assert sample.uplink("0018B20000000B20", fcnt=1) != sample.uplink("0018B20000000B20", fcnt=2)


def test_it_has_the_main_fields() -> None:
    content = json.loads(sample.uplink("0018B20000000B21", fcnt=3, fport=9, payload_hex="0102", tags=("A",)))[
        "DevEUI_uplink"
    ]
    assert content["payload_hex"] == "0102"
    assert content["FPort"] == 9
    assert content["CustomerData"]["tags"] == ["A"]
    assert content["DevLrrCnt"] == len(content["Lrrs"]["Lrr"])
    assert content["Lrrid"] == content["Lrrs"]["Lrr"][0]["Lrrid"]
    assert content["payload"].keys() == {"temperature", "humidity"}
    assert content["DriverCfg"]["app"].keys() == {"pId", "mId", "ver"}


def test_without_a_payload_the_bytes_and_the_decoded_values_agree() -> None:
    content = json.loads(sample.uplink("0018B20000000B20", fcnt=5))["DevEUI_uplink"]
    raw = bytes.fromhex(content["payload_hex"])
    assert int.from_bytes(raw[:2], "big") / 10 == content["payload"]["temperature"]
    assert raw[2] == content["payload"]["humidity"]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 4_000_000_000_000), st.lists(st.text("ab")))
def test_it_is_always_taken(device: int, fcnt: int, time_ms: int, tags: list[str]) -> None:
    found = parse(sample.uplink(f"{device:016x}", fcnt=fcnt, time_ms=time_ms, tags=tags), source="demo", received=1)
    assert (found.dev_eui, found.fcnt, found.time) == (f"{device:016X}", fcnt, time_ms)
    assert found.tags == set(tags)
