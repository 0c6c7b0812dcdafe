"""The life of a broker session, as a pure function: (session, event) -> (session, announcements, next action).

`step` decides, `runner` acts: it performs the one action that `step` gave and comes back with what happened. Times
are monotonic seconds, and chance comes in with the event, so that every path can be tested by hand.

A session fails in *episodes*: from the first failure until the link has been healthy for 30 s. Within one, each kind
of news is told once, then a summary from time to time, however fast the broker flaps.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from mqttbridge.mqtt.backoff import FRESH, Backoff, next_try

__all__ = [
    "Action",
    "Announcement",
    "Close",
    "Dial",
    "Dialled",
    "Drain",
    "Drained",
    "Due",
    "End",
    "Event",
    "Failed",
    "Granted",
    "Login",
    "Lost",
    "Policy",
    "Serve",
    "Session",
    "Started",
    "Starved",
    "State",
    "Steady",
    "StopRequested",
    "Wait",
    "never_open",
    "step",
]

SUMMARY_EVERY = 600.0
"""Seconds between summaries of a session that goes on failing."""
QUICK_LOSSES = 3
"""So many openings in a row that ended at once make us suspect a second client with our client id."""
QUICK = 10.0
"""Seconds: an opening that lasted less ended "at once"."""
OVERFLOWN_PAUSE = 0.5
"""Seconds."""


class State(enum.StrEnum):
    """States as ThingPark X IoT Flow names them."""

    CLOSED = "CLOSED"
    OPENING = "OPENING"
    AUTHENTICATING = "AUTHENTICATING"
    OPENED = "OPENED"
    AUTHENTICATION_FAILED = "AUTHENTICATION_FAILED"
    CLOSING = "CLOSING"
    UNREACHABLE = "UNREACHABLE"
    DEACTIVATED = "DEACTIVATED"


class Policy(msgspec.Struct, frozen=True):
    """What of the settings decides: the reconnect strategy, and the client id for messages."""

    strategy: str
    client_id: str


class Session(msgspec.Struct, frozen=True):
    """Everything that the next decision depends on."""

    state: State = State.CLOSED
    since: float = 0.0
    """When this state began."""
    down_since: float | None = 0.0
    """Since when it is not open, whatever it tried; None: it is."""
    why: str = ""
    """Why it is not open, in one sentence; empty while all is well."""
    backoff: Backoff = FRESH
    retry_at: float | None = None
    attempts: int = 0
    """Failed tries in this episode."""
    quick_losses: int = 0
    told: frozenset[str] = frozenset()
    """The kinds of failure that were told in this episode."""
    said_up: bool = False
    said_conflict: bool = False
    owes_up: bool = False
    """It opened again without a line, since it was flapping; told once it is steady."""
    summary_at: float = 0.0


def never_open(now: float) -> Session:
    """Give a session at its very beginning."""
    return Session(since=now, down_since=now)


class Event(msgspec.Struct, frozen=True):
    """Something that happened at `now`."""

    now: float


class Started(Event, frozen=True):
    """The session is to open."""


class Dialled(Event, frozen=True):
    """The network connection stands; MQTT has not spoken yet."""


class Granted(Event, frozen=True):
    """CONNACK: welcome."""


class Failed(Event, frozen=True):
    """An attempt failed. `refused`: the login was refused."""

    random: float
    reason: str
    refused: bool = False


class Lost(Event, frozen=True):
    """An open link ended.

    `taken_over`: the broker said that another client took our client id. `by_uplink`: an uplink or receipt in flight
    may be the cause. `by_us`: the session ended it on purpose. `overflown`: likewise, and nothing is broken.
    """

    random: float
    reason: str
    taken_over: bool = False
    by_uplink: bool = False
    by_us: bool = False
    overflown: bool = False


class Due(Event, frozen=True):
    """The wait is over."""


class Steady(Event, frozen=True):
    """The link has been open for 30 s."""


class Starved(Event, frozen=True):
    """No uplink was delivered for an hour while some are queued."""


class StopRequested(Event, frozen=True):
    """The daemon ends."""


class Drained(Event, frozen=True):
    """What was in flight is settled, or its time is over; or the link is closed."""


class Action(msgspec.Struct, frozen=True):
    """What the runner does next; it comes back with one event."""


class Dial(Action, frozen=True):
    """Build the network connection: gives Dialled or Failed."""


class Login(Action, frozen=True):
    """CONNECT: gives Granted or Failed."""


class Serve(Action, frozen=True):
    """Deliver until something happens: gives Steady, Starved or Lost."""


class Wait(Action, frozen=True):
    """Close the link if there is one, then wait so many seconds (None: for ever): gives Due."""

    delay: float | None


class Drain(Action, frozen=True):
    """Send nothing new, wait for what is in flight, settle it: gives Drained."""


class Close(Action, frozen=True):
    """Close the link: gives Drained."""


class End(Action, frozen=True):
    """The session is over."""


class Announcement(msgspec.Struct, frozen=True):
    """A line for the log."""

    level: str
    event: str
    fields: dict[str, Any]


Step = tuple[Session, tuple[Announcement, ...], Action]

_change = msgspec.structs.replace


def step(session: Session, event: Event, policy: Policy) -> Step:  # noqa: PLR0911 (one return per event)
    """Decide what follows from an event. Total: an event that does not fit the state is answered safely."""
    match event:
        case StopRequested():
            return _stop(session, event)
        case Started() | Due():
            return _enter(session, State.OPENING, event.now), (), Dial()
        case Dialled():
            return _enter(session, State.AUTHENTICATING, event.now), (), Login()
        case Granted():
            return _opened(session, event)
        case Failed():
            return _failed(session, event, policy)
        case Lost():
            return _lost(session, event, policy)
        case Steady():
            return _steady(session, event)
        case Starved():
            return _starved(session, event)
        case _:
            return _enter(session, State.CLOSED, event.now, why=session.why), (), End()


def _enter(session: Session, state: State, now: float, *, why: str | None = None) -> Session:
    down_since = None if state is State.OPENED else now if session.down_since is None else session.down_since
    why = session.why if why is None else why
    return _change(session, state=state, since=now, down_since=down_since, retry_at=None, why=why)


def _opened(session: Session, event: Granted) -> Step:
    opened = _change(_enter(session, State.OPENED, event.now, why=""), said_up=True, owes_up=session.said_up)
    return opened, () if opened.owes_up else (_up(session),), Serve()


def _up(session: Session) -> Announcement:
    fields = {"attempts": session.attempts} if session.attempts else {}
    return Announcement("info", "connection.opened", fields)


def _steady(session: Session, event: Steady) -> Step:
    """Forget the episode, and tell what flapping kept untold."""
    calm = _change(
        session,
        backoff=FRESH,
        attempts=0,
        quick_losses=0,
        told=frozenset(),
        said_up=False,
        said_conflict=False,
        owes_up=False,
        summary_at=event.now,
    )
    return calm, (_up(session),) if session.owes_up else (), Serve()


def _failed(session: Session, event: Failed, policy: Policy) -> Step:
    backoff, delay = next_try(
        session.backoff,
        now=event.now,
        random=event.random,
        strategy=policy.strategy,
        refused=event.refused,
    )
    state = State.AUTHENTICATION_FAILED if event.refused else State.UNREACHABLE
    name = "connection.authentication_failed" if event.refused else "connection.failed"
    failed = _change(
        _enter(session, state, event.now, why=event.reason), backoff=backoff, attempts=session.attempts + 1
    )
    return _retry(failed, event.now, name, delay)


def _lost(session: Session, event: Lost, policy: Policy) -> Step:
    quick = event.now - session.since < QUICK and not event.by_uplink and not event.by_us
    backoff: Backoff
    delay: float | None
    if event.overflown:
        # A flood of downlinks is no failure, and must not take the uplinks to the schedule of a broken connection.
        backoff, delay = session.backoff, OVERFLOWN_PAUSE
    else:
        backoff, delay = next_try(
            session.backoff,
            now=event.now,
            random=event.random,
            strategy=policy.strategy,
            at_once=not event.taken_over,
        )
    lost = _change(
        _enter(session, State.UNREACHABLE, event.now, why=event.reason),
        backoff=backoff,
        attempts=session.attempts + 1,
        quick_losses=session.quick_losses + 1 if quick else 0,
    )
    told, said, action = _retry(lost, event.now, "connection.lost", delay)
    if not lost.said_conflict and (event.taken_over or lost.quick_losses >= QUICK_LOSSES):
        told, said = _change(told, said_conflict=True), (*said, _conflict(event, policy))
    return told, said, action


def _conflict(event: Lost, policy: Policy) -> Announcement:
    certainty = "took" if event.taken_over else "probably takes"
    reason = f"another client {certainty} over the client id {policy.client_id}: give each client an id of its own"
    return Announcement("error", "connection.client_id_conflict", {"client_id": policy.client_id, "reason": reason})


def _retry(session: Session, now: float, name: str, delay: float | None) -> Step:
    """Wait for the next try, and say so: the first of each kind in full, then in summaries."""
    if delay is None:
        closed = _enter(session, State.CLOSED, now)
        fields = {"reason": session.why, "attempts": session.attempts}
        return closed, (Announcement("error", "connection.closed", fields),), Wait(None)
    waiting = _change(session, retry_at=now + delay)
    fields = {"reason": session.why, "retry_in": round(delay, 1)}
    if name not in session.told:
        # The first opening after the first failure is told; of a flapping connection no other.
        said_up = session.said_up and bool(session.told)
        told = _change(waiting, told=session.told | {name}, said_up=said_up, summary_at=now)
        return told, (Announcement("warning", name, fields),), Wait(delay)
    if now - session.summary_at >= SUMMARY_EVERY:
        fields["attempts"] = session.attempts
        told = _change(waiting, summary_at=now)
        return told, (Announcement("warning", "connection.still_failing", fields),), Wait(delay)
    return waiting, (), Wait(delay)


def _starved(session: Session, event: Starved) -> Step:
    """Restart: the AGGRESSIVE strategy mistrusts a link that is open and delivers nothing."""
    why = "no uplink was delivered for an hour while some are queued: reconnecting"
    waiting = _enter(session, State.UNREACHABLE, event.now, why=why)
    return waiting, (Announcement("warning", "connection.lost", {"reason": why, "retry_in": 0.0}),), Wait(0.0)


def _stop(session: Session, event: StopRequested) -> Step:
    if session.state is State.OPENED:
        return _enter(session, State.CLOSING, event.now), (), Drain()
    if session.state in (State.CLOSED, State.DEACTIVATED):
        return session, (), End()
    return _enter(session, State.CLOSING, event.now), (), Close()
