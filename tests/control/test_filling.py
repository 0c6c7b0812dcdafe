"""How full the journal is: levels, growth, and what is said of them."""

from __future__ import annotations

import pytest

from mqttbridge.control.filling import SAMPLES, Growth, Level, largest_queues, outlook
from mqttbridge.model import Counts

MIB = 1024**2


def test_each_level_is_told_once_a_rise() -> None:
    level = Level()
    assert [percent for percent in range(101) if level.rises(percent)] == [50, 80, 95]
    assert not level.rises(100)


def test_a_leap_over_several_levels_is_one_rise() -> None:
    level = Level()
    assert level.rises(96)
    assert level.reached == 95


def test_a_level_is_told_again_only_after_a_fall_of_ten_points() -> None:
    level = Level()
    assert level.rises(81)
    assert not level.falls(70)
    assert not level.rises(85)
    assert not level.falls(69.9)
    assert level.rises(80)


def test_relief_is_below_forty_percent_and_told_once() -> None:
    level = Level()
    assert not level.falls(0)
    level.rises(99)
    assert [percent for percent in range(99, -1, -1) if level.falls(percent)] == [39]
    assert level.rises(50)


def test_growth_is_that_of_the_last_ten_minutes() -> None:
    growth = Growth()
    for second in range(3600):
        growth.see(0 if second < 3000 else (second - 3000) * 100, float(second))
    assert growth.rate(60_000, 3600.0) == pytest.approx(100, rel=0.02)
    assert len(growth._samples) == SAMPLES


def test_growth_is_not_known_before_a_minute() -> None:
    growth = Growth()
    assert growth.rate(5, 0.0) is None
    growth.see(0, 0.0)
    assert growth.rate(5, 59.0) is None
    assert growth.rate(120, 60.0) == 2


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (None, "how fast it grows is not known yet"),
        (0.0, "it does not grow now"),
        (-5.0, "it does not grow now"),
        (1.0, "it does not grow now"),
        (MIB / 60, "it grows by 1.0 MiB a minute, and is full in about 3 hours at this rate"),
        (2 * MIB / 60, "it grows by 2.0 MiB a minute, and is full in about 90 minutes at this rate"),
        (MIB / 3600, "it grows by 17.1 KiB a minute, and is full in about 8 days at this rate"),
        (MIB * 10.0, "it grows by 600.0 MiB a minute, and is full in less than two minutes at this rate"),
    ],
)
def test_how_it_goes_on_is_a_sentence(rate: float | None, words: str) -> None:
    max_size = 1024 * MIB
    assert outlook(max_size - 180 * MIB, max_size, rate) == words


def test_a_journal_beyond_its_size_is_full_now() -> None:
    assert outlook(11, 10, 1.0) == "it is full"
    assert outlook(10, 10, None) == "it is full"


def test_the_largest_queues_are_named_first() -> None:
    counts = {name: Counts(routed=routed) for name, routed in (("a", 5), ("b", 0), ("c", 70), ("d", 6), ("e", 5))}
    assert largest_queues(counts) == "c 70, d 6, a 5"
    assert largest_queues({"b": Counts(routed=3, delivered=3)}) == ""
