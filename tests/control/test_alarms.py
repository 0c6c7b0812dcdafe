"""Low message rates: told once an episode, and never for an hour that does not count."""

from __future__ import annotations

from datetime import datetime

import anyio
import msgspec
import pytest
import structlog

from mqttbridge.control.alarms import SAMPLES, Alarms
from mqttbridge.model import Counts
from mqttbridge.settings.alarms import Alarm, Recurrence
from mqttbridge.settings.schema import Configuration, Connection
from tests.journal.samples import until

ALWAYS = Alarm(uplink_rate_min_per_hour=10)
BUSINESS = Alarm(
    start_time="09:00",
    end_time="18:00",
    timezone="Europe/Paris",
    recurrence=(Recurrence(frequency="weekly", by_days=("monday", "tuesday")),),
    uplink_rate_min_per_hour=10,
    message="Low rate during business day...",
)


class Day:
    """A daemon from Monday morning on: one connection, a clock that is turned by the minute, and the log."""

    def __init__(self, *alarms: Alarm, start: str = "2026-11-23T08:00:00+01:00") -> None:
        self.seconds = 1000.0
        self.offset = datetime.fromisoformat(start).timestamp() - self.seconds
        self.routed = 0
        connection = Connection(alarms=alarms, configuration=Configuration(host_name="h"))
        self.connections = {"acme": connection, "other": Connection(configuration=Configuration(host_name="h"))}
        self.alarms = Alarms(self.connections, self.counts, self)
        self.lines: list[str] = []
        self.fields: list[dict[str, object]] = []
        self.look()

    def now(self) -> int:
        return round((self.seconds + self.offset) * 1000)

    def monotonic(self) -> float:
        return self.seconds

    def counts(self) -> dict[str, Counts]:
        return {"acme": Counts(routed=self.routed)} if self.routed else {}

    def look(self) -> None:
        with structlog.testing.capture_logs() as lines:
            self.alarms.look()
        for line in lines:
            at = datetime.fromtimestamp(self.now() / 1000, tz=datetime.fromisoformat("2026-11-23T08:00+01:00").tzinfo)
            self.lines.append(f"{at:%a %H:%M} {line['event']}")
            self.fields.append(dict(line))

    def minutes(self, count: int, *, each: int = 0) -> None:
        """Let time pass; every sixth minute brings this many uplinks."""
        for minute in range(count):
            self.seconds += 60
            self.routed += each if minute % 6 == 0 else 0
            self.look()


def test_a_low_rate_is_told_once_with_its_figures_and_so_is_its_end() -> None:
    day = Day(BUSINESS)
    day.minutes(60, each=2)
    day.minutes(240)
    day.minutes(120, each=2)
    assert [line.partition(" ")[2].partition(" ")[2] for line in day.lines] == [
        "connection.low_rate",
        "connection.rate_recovered",
    ]
    low, recovered = day.fields
    assert (low["connection"], low["minimum"], low["reason"]) == ("acme", 10, "Low rate during business day...")
    assert low["rate"] in range(10)
    assert (recovered["connection"], recovered["minimum"]) == ("acme", 10)
    assert int(str(recovered["rate"])) >= 10


def test_a_daemon_that_has_just_started_waits_for_an_hour_of_data() -> None:
    day = Day(ALWAYS)
    day.minutes(59)
    assert day.lines == []
    day.minutes(1)
    assert day.lines == ["Mon 09:00 connection.low_rate"]
    assert day.fields[0]["rate"] == 0


def test_the_night_does_not_count() -> None:
    day = Day(BUSINESS, start="2026-11-23T02:00:00+01:00")
    day.minutes(7 * 60)
    assert day.lines == []
    day.minutes(9 * 60, each=2)
    day.minutes(15 * 60)
    day.minutes(9 * 60, each=2)
    assert day.lines == []


def test_the_first_full_hour_of_the_window_is_the_first_to_be_judged() -> None:
    day = Day(BUSINESS, start="2026-11-23T02:00:00+01:00")
    day.minutes(12 * 60)
    assert day.lines == ["Mon 10:00 connection.low_rate"]


def test_while_it_lasts_it_is_told_again_after_a_day() -> None:
    day = Day(ALWAYS)
    day.minutes(50 * 60)
    assert day.lines == [
        "Mon 09:00 connection.low_rate",
        "Tue 09:00 connection.low_rate",
        "Wed 09:00 connection.low_rate",
    ]


def test_an_episode_goes_on_when_the_window_opens_again() -> None:
    day = Day(BUSINESS)
    day.minutes(10 * 60)
    day.minutes(20 * 60, each=2)
    assert day.lines == ["Mon 10:00 connection.low_rate", "Tue 10:15 connection.rate_recovered"]


def test_a_rate_that_hovers_about_its_minimum_is_one_episode() -> None:
    day = Day(ALWAYS)
    day.minutes(60)
    for _ in range(30):
        day.routed += 10
        day.minutes(5)
        day.routed -= 10
        day.alarms._samples["acme"][-1] = (day.seconds, day.routed)
        day.minutes(5)
    assert day.lines == ["Mon 09:00 connection.low_rate"]


def test_status_is_told_while_it_lasts() -> None:
    day = Day(BUSINESS)
    day.minutes(119)
    assert day.alarms.low() == {}
    day.minutes(1)
    assert day.alarms.low() == {
        "acme": "0 uplinks in the last hour, and 10 at least are expected (Low rate during business day...)",
    }
    day.minutes(9 * 60)
    assert day.alarms.low() == {}


def test_each_alarm_is_judged_by_itself() -> None:
    more = msgspec.structs.replace(BUSINESS, uplink_rate_min_per_hour=30, message="")
    day = Day(BUSINESS, more)
    day.minutes(180, each=2)
    assert [(field["minimum"], field["reason"]) for field in day.fields] == [
        (30, "20 uplinks in the last hour, and 30 at least are expected"),
    ]


@pytest.mark.parametrize("change", [{"alarms": ()}, {"active": False}])
def test_what_a_reload_takes_away_is_forgotten(change: dict[str, object]) -> None:
    day = Day(ALWAYS)
    day.minutes(60)
    before = day.connections["acme"]
    day.connections["acme"] = msgspec.structs.replace(before, **change)
    day.minutes(30)
    assert day.alarms.low() == {}
    day.connections["acme"] = before
    day.minutes(59)
    assert day.alarms.low() == {}
    day.minutes(2)
    assert list(day.alarms.low()) == ["acme"]
    del day.connections["acme"]
    day.minutes(1)
    assert day.alarms.low() == {}
    assert not day.alarms._samples
    assert not day.alarms._episodes


def test_after_a_long_break_an_hour_is_awaited_again() -> None:
    day = Day(ALWAYS)
    day.minutes(50)
    day.seconds += 1000
    day.minutes(59)
    assert day.lines == []
    day.minutes(2)
    assert len(day.lines) == 1


def test_memory_is_bounded_however_often_it_looks() -> None:
    day = Day(ALWAYS)
    for _ in range(10_000):
        day.seconds += 1
        day.look()
    assert len(day.alarms._samples["acme"]) <= SAMPLES
    assert "other" not in day.alarms._samples
    assert len(day.lines) == 1


async def test_a_thousand_alarms_at_once_do_not_hold_up_the_loop() -> None:
    day = Day(ALWAYS)
    day.connections |= {f"c{number}": day.connections["acme"] for number in range(1000)}
    day.minutes(61)
    day.alarms._episodes.clear()
    before = len(day.alarms.low())
    steps = sum(1 for _ in day.alarms._steps())
    assert before == len(day.alarms.low()) == 1001
    assert steps == 40


async def test_it_looks_as_a_task_until_it_is_cancelled() -> None:
    day = Day(ALWAYS)
    day.minutes(59)
    day.seconds += 60
    async with anyio.create_task_group() as group:
        group.start_soon(day.alarms.run)
        await until(lambda: bool(day.alarms.low()))
        group.cancel_scope.cancel()
    assert list(day.alarms.low()) == ["acme"]
