"""Text to values: what is taken, and how the refusal words what would be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.settings import scalars

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("0", 0), ("250", 250), ("250ms", 250), ("5s", 5000), ("10m", 600_000), ("72h", 259_200_000), ("7d", 604_800_000)],
)
def test_durations_are_milliseconds_or_have_a_unit(text: str, milliseconds: int) -> None:
    assert scalars.duration(text, 0, 10**12) == milliseconds


@pytest.mark.parametrize(
    "text", ["", "s", "5 s", "1.5s", "-1", "+5", "5S", "5sec", "1e3", "\u0665s", "9" * 5000, "5s5s"]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        scalars.duration(text, 1000, 10_000)
    assert str(caught.value) == "a duration from 1s to 10s, as milliseconds or such as 250ms, 5s, 10m, 72h, 7d"


@pytest.mark.parametrize("text", ["999", "10001", "11s", "1h"])
def test_durations_have_a_range(text: str) -> None:
    with pytest.raises(ValueError):
        scalars.duration(text, 1000, 10_000)


def test_the_least_of_all_durations_has_no_unit() -> None:
    with pytest.raises(ValueError, match="a duration from 0 to 1d,"):
        scalars.duration("ten", 0, 24 * 3600 * 1000)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1024", 1024), ("7B", 7), ("64KiB", 65536), ("1MiB", 1024**2), ("1GiB", 1024**3), ("2TiB", 2 * 1024**4)],
)
def test_sizes_are_bytes_or_have_a_unit(text: str, size: int) -> None:
    assert scalars.size(text, 0, 1024**5) == size


@pytest.mark.parametrize("text", ["1GB", "1gib", "1 GiB", "1.5GiB", "-1", "", "2048TiB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        scalars.size(text, 1024**2, 1024**5)
    assert str(caught.value).startswith("a size from 1MiB to 1024TiB")


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("007", 7), ("+5", 5), ("-3", -3), (" 8 ", 8)])
def test_integers_are_decimal(text: str, value: int) -> None:
    assert scalars.integer(text, None, None) == value


@pytest.mark.parametrize("text", ["", "1.0", "0x10", "1_000", "1e3", "²", "9" * 19, "--1"])
def test_other_integers_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        scalars.integer(text, None, None)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(1, 9, "an integer from 1 to 9"), (1, None, "an integer of at least 1"), (None, -1, "an integer of at most -1")],
)
def test_the_range_of_an_integer_is_named(low: int | None, high: int | None, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        scalars.integer("x" if low is None else "0", low, high)
    assert str(caught.value) == words


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "yes", "YES", "on", "On"])
def test_yes_in_every_spelling(text: str) -> None:
    assert scalars.boolean(text) is True


@pytest.mark.parametrize("text", ["false", "No", "OFF"])
def test_no_in_every_spelling(text: str) -> None:
    assert scalars.boolean(text) is False


@pytest.mark.parametrize("text", ["y", "n", "1", "0", "", "truee"])
def test_other_booleans_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        scalars.boolean(text)


@given(
    st.text(),
    st.sampled_from(
        [
            scalars.boolean,
            lambda text: scalars.integer(text, 0, 9),
            lambda text: scalars.duration(text, 0, 9),
            lambda text: scalars.size(text, 0, 9),
        ],
    ),
)
def test_any_text_is_a_value_in_range_or_a_value_error(text: str, read: Callable[[str], int]) -> None:
    try:
        value = read(text)
    except ValueError:
        return
    assert 0 <= value <= 9
