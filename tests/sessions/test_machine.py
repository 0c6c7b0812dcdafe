"""The life of a session, decided without a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.sessions.machine import (
    Close,
    Dial,
    Dialled,
    Drain,
    Drained,
    Due,
    End,
    Failed,
    Granted,
    Login,
    Lost,
    Policy,
    Serve,
    Session,
    Started,
    Starved,
    State,
    Steady,
    StopRequested,
    Wait,
    never_open,
    step,
)

if TYPE_CHECKING:
    from mqttbridge.sessions import machine

POLICY = Policy("NORMAL", "mqttbridge-acme")


class Life:
    """Plays events, and remembers what was said."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.policy = policy
        self.session = Session()
        self.said: list[tuple[str, str]] = []
        self.fields: dict[str, dict[str, object]] = {}

    def play(self, event: machine.Event) -> machine.Action:
        self.session, said, action = step(self.session, event, self.policy)
        for line in said:
            self.said.append((line.level, line.event))
            self.fields[line.event] = line.fields
        return action

    def open(self, now: float) -> machine.Action:
        self.play(Dialled(now))
        return self.play(Granted(now))


def opened(now: float = 0.0, policy: Policy = POLICY) -> Life:
    life = Life(policy)
    assert isinstance(life.play(Started(now)), Dial)
    assert life.session.state is State.OPENING
    assert isinstance(life.play(Dialled(now)), Login)
    assert life.session.state is State.AUTHENTICATING
    assert isinstance(life.play(Granted(now)), Serve)
    assert life.session.state is State.OPENED
    return life


def test_it_opens_step_by_step_and_says_so_once() -> None:
    life = opened()
    assert life.said == [("info", "connection.opened")]
    assert life.session.why == ""


def test_a_failed_connect_is_unreachable_with_the_cause_and_the_next_try() -> None:
    life = Life()
    life.play(Started(0.0))
    action = life.play(Failed(5.0, 0.5, "connection refused"))
    assert life.session.state is State.UNREACHABLE
    assert life.session.why == "connection refused"
    assert isinstance(action, Wait)
    assert action.delay is not None
    assert life.session.retry_at == 5.0 + action.delay
    assert life.said == [("warning", "connection.failed")]
    assert isinstance(life.play(Due(9.0)), Dial)


def test_a_refused_login_is_authentication_failed_and_waits_for_the_schedule() -> None:
    life = Life()
    life.play(Started(0.0))
    life.play(Dialled(0.0))
    action = life.play(Failed(0.0, 0.5, "bad user name or password", refused=True))
    assert life.session.state is State.AUTHENTICATION_FAILED
    assert isinstance(action, Wait)
    assert action.delay is not None
    assert action.delay > 200
    assert life.said == [("warning", "connection.authentication_failed")]


def test_a_lost_link_is_tried_again_at_once() -> None:
    life = opened()
    life.play(Steady(30.0))
    assert life.play(Lost(100.0, 0.5, "the broker closed the connection")) == Wait(0.0)


def test_a_flapping_connection_tells_its_first_failure_then_a_summary() -> None:
    life = opened()
    now = 0.0
    for _ in range(1000):
        now += 1.0
        life.play(Lost(now, 0.1, "reset"))
        life.play(Due(now))
        life.open(now)
    names = [name for _, name in life.said]
    assert names.count("connection.lost") == 1
    assert names.count("connection.still_failing") == 1, "one in ten minutes"
    assert names.count("connection.client_id_conflict") == 1
    assert names.count("connection.opened") <= 3


def test_backoff_resets_only_after_thirty_seconds_of_health() -> None:
    life = opened()
    life.play(Lost(1.0, 0.5, "reset"))
    life.open(1.0)
    action = life.play(Lost(2.0, 0.5, "reset"))
    assert isinstance(action, Wait)
    assert action.delay
    life.open(10.0)
    life.play(Steady(40.0))
    assert life.play(Lost(50.0, 0.5, "reset")) == Wait(0.0)


def test_steady_after_silent_reopenings_is_told() -> None:
    life = opened()
    for now in (1.0, 2.0, 3.0):
        life.play(Lost(now, 0.1, "reset"))
        life.open(now)
    before = len(life.said)
    life.play(Steady(33.0))
    assert life.said[before:] == [("info", "connection.opened")]


def test_two_clients_with_one_id_are_named_once_and_backed_off() -> None:
    life = opened()
    delays = []
    for now in (1.0, 2.0, 3.0, 4.0):
        action = life.play(Lost(now, 0.5, "session taken over", taken_over=True))
        assert isinstance(action, Wait)
        delays.append(action.delay)
        life.open(now)
    assert [name for _, name in life.said].count("connection.client_id_conflict") == 1
    assert "mqttbridge-acme" in str(life.fields["connection.client_id_conflict"]["reason"])
    assert all(delay is not None and delay >= 1.0 for delay in delays)


def test_calm_ends_closed_and_says_so() -> None:
    life = Life(Policy("CALM", "x"))
    life.play(Started(0.0))
    now = 0.0
    for _ in range(10_000):
        action = life.play(Failed(now, 0.5, "no route"))
        if action == Wait(None):
            break
        assert isinstance(action, Wait)
        now += action.delay or 0.0
        life.play(Due(now))
    assert life.session.state is State.CLOSED
    assert life.said[-1] == ("error", "connection.closed")


def test_a_starved_session_reconnects() -> None:
    life = opened(policy=Policy("AGGRESSIVE", "x"))
    assert life.play(Starved(4000.0)) == Wait(0.0)


def test_a_stop_drains_an_open_session_and_closes_any_other() -> None:
    life = opened()
    assert isinstance(life.play(StopRequested(1.0)), Drain)
    assert life.session.state is State.CLOSING
    assert isinstance(life.play(Drained(2.0)), End)
    assert life.session.state is State.CLOSED
    other = Life()
    other.play(Started(0.0))
    assert isinstance(other.play(StopRequested(1.0)), Close)
    assert isinstance(other.play(Drained(1.0)), End)


EVENTS = st.sampled_from(["started", "dialled", "granted", "failed", "refused", "lost", "due", "steady", "starved"])


@given(
    kinds=st.lists(st.tuples(EVENTS, st.floats(0, 1000), st.floats(0, 0.999)), max_size=60),
    strategy=st.sampled_from(["CALM", "NORMAL", "AGGRESSIVE"]),
)
def test_any_sequence_of_events_keeps_the_promises(kinds: list[tuple[str, float, float]], strategy: str) -> None:
    life, now = Life(Policy(strategy, "x")), 0.0
    for kind, later, chance in kinds:
        now += later
        event = {
            "started": Started(now),
            "dialled": Dialled(now),
            "granted": Granted(now),
            "failed": Failed(now, chance, "why"),
            "refused": Failed(now, chance, "why", refused=True),
            "lost": Lost(now, chance, "why"),
            "due": Due(now),
            "steady": Steady(now),
            "starved": Starved(now),
        }[kind]
        action = life.play(event)
        if isinstance(action, Wait) and action.delay is not None:
            assert 0.0 <= action.delay <= 1.05 * 24 * 3600
            assert life.session.why, "what is not open says why"
        if isinstance(action, Serve) and kind == "granted":
            assert life.session.state is State.OPENED
            assert not life.session.why
    assert isinstance(life.play(StopRequested(now)), Drain | Close | End), "it can always be stopped"


def test_each_kind_of_failure_is_told_in_full_once_an_episode() -> None:
    life = opened()
    now = 0.0
    for _ in range(20):
        now += 1.0
        life.play(Lost(now, 0.1, "reset", by_uplink=True))
        life.play(Failed(now, 0.1, "connection refused"))
        life.play(Failed(now, 0.1, "wrong password", refused=True))
        life.open(now)
    failures = [name for level, name in life.said if level == "warning"]
    assert failures == ["connection.lost", "connection.failed", "connection.authentication_failed"]
    assert len(life.said) <= 6


def test_summaries_come_every_ten_minutes_with_the_number_of_attempts() -> None:
    life = Life(Policy("AGGRESSIVE", "x"))
    life.play(Started(0.0))
    for minute in range(61):
        life.play(Failed(minute * 60.0, 0.5, "no route"))
    assert [name for _, name in life.said] == ["connection.failed", *["connection.still_failing"] * 6]
    assert life.fields["connection.still_failing"]["attempts"] == 61


def test_losses_that_an_uplink_may_have_caused_are_no_fight_over_the_client_id() -> None:
    life = opened()
    for now in range(1, 10):
        life.play(Lost(float(now), 0.1, "closed", by_uplink=True))
        life.open(float(now))
    assert "connection.client_id_conflict" not in life.fields


def test_long_lived_links_are_no_fight_over_the_client_id() -> None:
    life = opened()
    for now in range(20, 400, 20):
        life.play(Lost(float(now), 0.1, "closed"))
        life.open(float(now))
    assert "connection.client_id_conflict" not in life.fields


def test_closed_after_calm_can_be_stopped() -> None:
    life = Life(Policy("CALM", "x"))
    life.play(Started(0.0))
    life.play(Failed(0.0, 0.5, "why", refused=True))
    assert life.play(Failed(100 * 3600.0, 0.5, "why", refused=True)) == Wait(None)
    assert isinstance(life.play(StopRequested(100 * 3600.0)), End)


def test_links_that_the_session_ends_itself_accuse_no_second_client() -> None:
    life = opened()
    for now in range(1, 10):
        life.play(Lost(float(now), 0.1, "to have downlinks sent again", by_us=True))
        life.open(float(now))
    assert "connection.client_id_conflict" not in life.fields


def test_it_knows_since_when_it_is_down_through_all_attempts_until_it_is_open() -> None:
    life = Life()
    life.session = never_open(5.0)
    life.play(Started(6.0))
    life.play(Failed(7.0, 0.5, "no", refused=False))
    life.play(Due(8.0))
    assert (life.session.down_since, life.session.since) == (5.0, 8.0)
    life.open(9.0)
    assert life.session.down_since is None
    life.play(Lost(50.0, 0.5, "gone"))
    life.play(Due(51.0))
    life.play(Failed(52.0, 0.5, "no", refused=False))
    assert life.session.down_since == 50.0
