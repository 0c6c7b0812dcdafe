"""From a topic back to the device."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.errors import TopicError
from mqttbridge.topics import compile_pattern

DEV_EUI = "0018B20000000B20"


@pytest.mark.parametrize(
    ("text", "topic", "found"),
    [
        ("a/{DevEUI}/b", f"a/{DEV_EUI}/b", {"DevEUI": DEV_EUI}),
        ("a/{DevEUI}/b", "a/0018b20000000b20/b", {"DevEUI": DEV_EUI}),
        ("a/{DevEUI}/b", "a/00-18-b2-00-00-00-0b-20/b", {"DevEUI": DEV_EUI}),
        ("a/{DevEUI}/b", f"a/{DEV_EUI}/c", None),
        ("a/{DevEUI}/b", f"a/{DEV_EUI}", None),
        ("a/{DevEUI}/b", f"a/{DEV_EUI}/b/", None),
        ("a/{DevEUI}/b", f"a/{DEV_EUI}0/b", None),
        ("a/{DevEUI}/b", "a/0018B20000000B2G/b", None),
        ("a/{DevEUI}/b", "a//b", None),
        ("x-{DevEUI}-y", f"x-{DEV_EUI}-y", {"DevEUI": DEV_EUI}),
        ("x-{DevEUI}-y", f"x-{DEV_EUI}y", None),
        ("{DevEUI}/{DevEUI}", f"{DEV_EUI}/{DEV_EUI}", {"DevEUI": DEV_EUI}),
        ("{DevEUI}/{DevEUI}", f"{DEV_EUI}/0018B20000000B21", None),
        ("{DevEUI}{DevEUI}", DEV_EUI * 2, {"DevEUI": DEV_EUI}),
        ("{CustomerData.name}/{DevEUI}", f"x y/{DEV_EUI}", {"CustomerData.name": "x y", "DevEUI": DEV_EUI}),
        ("p-{name}-{DevEUI}", f"p-a-b-{DEV_EUI}", {"name": "a-b", "DevEUI": DEV_EUI}),
        ("p-{name}-{DevEUI}", f"p--{DEV_EUI}", None),
        ("{a}-{b}/{c}", "x-y-z/w", {"c": "w"}),
        ("{a}-{b}/{c}", "xyz/w", None),
        ("{a}-{b}", "-x", None),
        ("{a}--{b}", "---x", {}),
        ("{a}-{DevEUI}-{b}", f"x-{DEV_EUI}-y", {}),
        ("{a}-{DevEUI}-{b}", "x-0018-y", None),
        ("{a|'x'}/b", "y/b", {}),
        ("{$..x}/b", "/b", None),
        ("a/b", "a/b", {}),
        ("a/b", "a/b/c", None),
        ("a//b", "a//b", {}),
    ],
)
def test_a_topic_gives_its_values_back(text: str, topic: str, found: dict[str, str] | None) -> None:
    assert compile_pattern(text).match(topic) == found


@pytest.mark.parametrize(
    ("text", "leads"),
    [
        ("a/b", True),
        ("a/{DevEUI}", True),
        ("a-{DevEUI}-b/{x}", True),
        ("a/{x}-{DevEUI}", True),
        ("a/{DevEUI}{x}{y}", True),
        ("a/{DevEUI|'x'}", True),
        ("a/{x}{DevEUI}{y}", False),
        ("a/{x}", False),
        ("a/{x|DevEUI}", False),
        ("a/{$..DevEUI}", False),
        ("a/{DevEUI_uplink.DevEUI}", False),
    ],
)
def test_it_is_known_which_patterns_lead_back_to_the_device(text: str, *, leads: bool) -> None:
    assert compile_pattern(text).leads_back() is leads


@given(
    st.integers(0, 2**64 - 1).map(lambda number: f"{number:016X}"),
    st.lists(st.sampled_from(["{DevEUI}", "{v}", "{w}", "-", "/", "a", "0"]), min_size=1, max_size=9).map("".join),
    st.text(min_size=1, max_size=9),
    st.sampled_from(["0", "00", "-", "00-11-22", "ABCDEF0123456789", "a-"]),
)
def test_what_was_rendered_leads_back_to_the_same_device(dev_eui: str, text: str, one: str, other: str) -> None:
    pattern = compile_pattern(text)
    try:
        topic = pattern.render(dev_eui, lambda: {"v": one, "w": other})
    except TopicError:
        return
    found = pattern.match(topic)
    assert found is not None
    assert found.get("DevEUI", dev_eui) == dev_eui
    if pattern.leads_back() and "{" in text:
        assert found["DevEUI"] == dev_eui


@given(st.text(alphabet="a-/{}0", max_size=30))
def test_any_topic_may_come(topic: str) -> None:
    for text in ("a/{DevEUI}", "{a}-{b}-{c}/{DevEUI}", "{a}{b}{DevEUI}{c}", "a-{x}-a"):
        compile_pattern(text).match(topic)


def test_a_hostile_topic_does_not_take_long() -> None:
    pattern = compile_pattern("-".join("{a}" for _ in range(60)) + "-{DevEUI}-x")
    started = time.perf_counter()
    assert pattern.match("-" * 65000) is None
    assert time.perf_counter() - started < 0.5
