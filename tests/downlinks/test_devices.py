"""Who may command which devices."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.downlinks.devices import DevicePatterns, Devices
from mqttbridge.model import Device
from mqttbridge.routing import Router
from mqttbridge.settings.schema import Flow, KeyMatcher, ThingMatcher
from mqttbridge.settings.secret import Secret
from tests.downlinks.memory import DEV_EUI, connection

OTHER = "70B3D5E75E000001"


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        (DEV_EUI, True),
        (DEV_EUI.lower(), True),
        ("00-18-b2-00-00-00-0b-20", True),
        ("lora:00:18:B2:00:00:00:0B:20", True),
        ("LoRa:0018b20000000b20", True),
        ("*", True),
        ("lora:*", True),
        ("0018B2*", True),
        ("00-18-b2-*", True),
        ("*0B20", True),
        ("0018B20000000B2?", True),
        ("????????????????", True),
        ("???????????????", False),
        ("?" * 17, False),
        ("0018B2*21", False),
        ("0018B20000000B21", False),
        ("0018B2", False),
        ("", False),
        ("lora:", False),
        ("*0*B*", True),
        ("*B*B*B*", False),
        ("[0]*", False),
    ],
)
def test_a_pattern_names_devices(pattern: str, fits: bool) -> None:
    assert DevicePatterns([pattern]).match(DEV_EUI) is fits


def test_a_pattern_may_come_from_a_secret_place() -> None:
    assert DevicePatterns([Secret("0018b2*")]).match(DEV_EUI)


@given(st.text("0B2?*", max_size=24), st.text("0B2", min_size=16, max_size=16))
def test_patterns_mean_what_they_mean_in_a_shell(pattern: str, dev_eui: str) -> None:
    assert DevicePatterns([pattern]).match(dev_eui) is fnmatch.fnmatchcase(dev_eui, pattern)


@pytest.mark.parametrize(
    "pattern", ["*0" * 16 + "1", "*?" * 16 + "G", "*" * 200_000 + "1", "*0" * 100_000, "?" * 200_000]
)
def test_hostile_patterns_are_not_slow(pattern: str) -> None:
    patterns = DevicePatterns([pattern] * 100)
    started = time.perf_counter()
    for _ in range(100):
        patterns.match("0" * 16)
    assert time.perf_counter() - started < 0.5


def test_ten_thousand_devices_by_name_cost_no_more_than_one() -> None:
    patterns = DevicePatterns([f"{number:016X}" for number in range(10_000)])
    started = time.perf_counter()
    for _ in range(1000):
        assert patterns.match("000000000000270F")
        assert not patterns.match(OTHER)
    assert time.perf_counter() - started < 0.5


def test_what_is_named_may_be_commanded_and_nothing_else() -> None:
    connections = {"acme": connection(downlink_devices=("0018b2*", OTHER))}
    devices = Devices(connections, Router({"f": Flow(connections=("none",))}, connections))
    assert devices.refusal("acme", DEV_EUI, None) == ""
    assert devices.refusal("acme", OTHER, None) == ""
    assert "downlinkDevices" in devices.refusal("acme", "FFFFFFFFFFFFFFFF", None)


def test_without_names_it_is_the_devices_whose_uplinks_come_here() -> None:
    connections = {"acme": connection(), "beta": connection()}
    flows = {
        "one": Flow(matchers=(KeyMatcher(key=f"lora:{DEV_EUI}"),), connections=("acme",)),
        "two": Flow(matchers=(ThingMatcher(tags=("Meters",)),), connections=("beta",)),
    }
    devices = Devices(connections, Router(flows, connections))
    meter = Device(OTHER, "lrc", "", frozenset({"meters"}))
    assert devices.refusal("acme", DEV_EUI, None) == ""
    assert devices.refusal("beta", OTHER, meter) == ""
    assert "does not get its uplinks" in devices.refusal("acme", OTHER, meter)
    assert "none has come yet" in devices.refusal("beta", OTHER, None)
    assert "none has come yet" not in devices.refusal("acme", OTHER, meter)


def test_without_flows_everybody_who_is_active_may_command_everything() -> None:
    connections = {"acme": connection()}
    assert Devices(connections, Router({}, connections)).refusal("acme", DEV_EUI, None) == ""


def test_other_flows_and_other_patterns_count_from_now_on() -> None:
    connections = {"acme": connection(), "beta": connection()}
    devices = Devices(connections, Router({"f": Flow(connections=("beta",))}, connections))
    assert devices.refusal("acme", DEV_EUI, None) != ""
    devices.use(Router({}, connections))
    assert devices.refusal("acme", DEV_EUI, None) == ""
    connections["acme"] = connection(downlink_devices=("70B3*",))
    assert "downlinkDevices" in devices.refusal("acme", DEV_EUI, None)
    connections["acme"] = connection(downlink_devices=("0018*",))
    assert devices.refusal("acme", DEV_EUI, None) == ""
    assert "downlinkDevices" in devices.refusal("acme", OTHER, None)
    connections["acme"] = connection()
    assert devices.refusal("acme", OTHER, None) == ""
    assert devices._patterns == {}
