"""What is known of devices in memory: bounded, the last heard stay, and nothing is believed written that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.journal import downlink_devices
from mqttbridge.journal.downlink_devices import Devices
from mqttbridge.model import Device
from tests.journal.downlink_samples import device, eui

if TYPE_CHECKING:
    import pytest


def test_only_what_is_new_or_changed_is_to_be_written() -> None:
    devices = Devices()
    assert devices.learn([device(1), device(2)])
    assert devices.take() == [device(1), device(2)]
    devices.written()
    assert not devices.learn([device(1), device(2)])
    assert devices.learn([device(2, "tts")])
    assert devices.take() == [device(2, "tts")]
    assert devices.find(eui(2)) == device(2, "tts")


def test_those_heard_last_stay_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downlink_devices, "KNOWN", 3)
    devices = Devices()
    devices.learn([device(1), device(2), device(3), device(1), device(4)])
    assert devices.find(eui(2)) == device(2), "it is not written yet"
    devices.take()
    assert devices.find(eui(2)) == device(2), "it still is not"
    devices.written()
    assert [devices.find(eui(number)) for number in range(1, 5)] == [device(1), None, device(3), device(4)]


def test_what_could_not_be_written_is_not_known_unless_something_newer_is() -> None:
    devices = Devices()
    devices.learn([device(1), device(2)])
    devices.take()
    devices.learn([device(2, "tts")])
    devices.failed()
    assert devices.find(eui(1)) is None
    assert devices.find(eui(2)) == device(2, "tts")
    assert devices.learn([device(1)])
    assert devices.take() == [device(2, "tts"), device(1)]


def test_what_waits_to_be_written_is_bounded_and_the_rest_is_learnt_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downlink_devices, "UNWRITTEN", 2)
    devices = Devices()
    devices.learn([device(1), device(2), device(3), device(2, "tts")])
    assert devices.find(eui(3)) is None
    assert devices.take() == [device(1), device(2, "tts")]
    devices.written()
    assert devices.learn([device(3)])
    assert devices.take() == [device(3)]


def test_a_device_with_tags_without_end_is_known_without_them_and_not_written_again_and_again() -> None:
    devices = Devices()
    endless = Device("0018B20000000B20", "lrc", "way", frozenset(f"tag {number:060}" for number in range(1000)))
    assert devices.learn([endless])
    assert devices.find(endless.dev_eui) == Device("0018B20000000B20", "lrc", "way")
    devices.take()
    devices.written()
    assert not devices.learn([endless])
    usual = Device("0018B20000000B21", "lrc", "way", frozenset(f"tag {number:060}" for number in range(60)))
    devices.learn([usual])
    assert devices.find(usual.dev_eui) == usual
