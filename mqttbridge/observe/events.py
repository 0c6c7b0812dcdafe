"""The one table of events: every name that may stand in a log line, its level, its fields and what it means.

Names are dotted and stable: operators write alerts on them. `docs/events.md` shows the same table; a test holds this
table, that page and every call of a logger in the code together.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from mqttbridge.observe.downlink_events import DOWNLINK_EVENTS
from mqttbridge.observe.event import Event, Level
from mqttbridge.observe.operation_events import OPERATION_EVENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EVENTS", "Event", "Level"]

EVENTS: Mapping[str, Event] = MappingProxyType(
    {
        "daemon.started": Event(
            "info",
            ("version", "state_directory", "connections", "sources"),
            "Everything is built and running.",
            "Nothing to do.",
        ),
        "daemon.stopping": Event(
            "info",
            ("signal",),
            "The daemon was asked to stop.",
            "It settles what was acknowledged, closes its links and the journal; uplinks still queued are "
            "kept on disk.",
        ),
        "daemon.stopped": Event(
            "info",
            (),
            "Everything is closed.",
            "Queued uplinks are delivered after the next start.",
        ),
        "daemon.failed": Event(
            "error",
            ("reason",),
            "The daemon cannot start with what the machine gives it: a port, the state directory.",
            "It ends with exit code 1; systemd starts it again after a while.",
        ),
        "config.rejected": Event(
            "error",
            ("reason",),
            "The configuration has an error, one line each; none of it was taken.",
            "Correct what is named and start or reload again; a daemon that runs goes on with what it has.",
        ),
        "config.warning": Event(
            "warning",
            ("reason",),
            "The configuration works, but probably not as it was meant.",
            "Read the reason.",
        ),
        "http.listening": Event(
            "info",
            ("address",),
            "The HTTP listener takes requests.",
            "Nothing to do.",
        ),
        "source.opened": Event(
            "info",
            (
                "source",
                "topics",
            ),
            "An MQTT source is connected and subscribed.",
            "Nothing to do.",
        ),
        "source.failed": Event(
            "warning",
            (
                "source",
                "reason",
                "attempts",
                "retry_in",
            ),
            "An MQTT source could not be connected, for the first time in a row.",
            "It is tried again by itself; uplinks wait at the source's broker, if it keeps a session.",
        ),
        "source.still_failing": Event(
            "warning",
            (
                "source",
                "reason",
                "attempts",
                "retry_in",
            ),
            "An MQTT source has failed again and again; one line stands for many attempts.",
            "Check the broker, the network and the credentials of the source.",
        ),
        "source.lost": Event(
            "warning",
            (
                "source",
                "reason",
                "attempts",
                "retry_in",
            ),
            "An MQTT source that was connected lost its link.",
            "It is connected again by itself; uplinks that were not acknowledged are sent again by the broker.",
        ),
        "uplink.accepted": Event(
            "debug",
            ("source", "dev_eui", "fcnt", "connections"),
            "An uplink is on disk, and the source was told so.",
            "It is delivered to each connection named.",
        ),
        "uplink.rejected": Event(
            "warning",
            (
                "source",
                "kind",
                "reason",
                "client",
                "path",
                "dev_eui",
                "index",
                "left_out",
            ),
            "A source sent something that is not taken: no uplink, a wrong Token, too large; or somebody (`client`) "
            "sent it to a URL of no source (kind `unknown_source`, with the `path`).",
            "A client by HTTP was told; nothing was stored. `dev_eui`, and `index` in a batch, stand there if known.",
        ),
        "uplink.unrouted": Event(
            "warning",
            (
                "source",
                "dev_eui",
                "fcnt",
                "reason",
                "left_out",
            ),
            "No flow leads this uplink to an active connection.",
            "It is counted and not kept; add a flow, or activate a connection.",
        ),
        "uplink.published": Event(
            "debug",
            ("connection", "dev_eui", "fcnt", "topic"),
            "An uplink was handed to the link.",
            "It is settled when the broker acknowledges it.",
        ),
        "uplink.delivered": Event(
            "debug",
            ("connection", "dev_eui", "fcnt", "topic"),
            "The broker acknowledged an uplink.",
            "Nothing to do.",
        ),
        "uplink.expired": Event(
            "warning",
            (
                "connection",
                "dev_eui",
                "fcnt",
                "reason",
                "count",
                "left_out",
            ),
            "An uplink grew older than uplinkTimeValidity before it could be sent. Of a connection that is not "
            "open, one line stands for `count` uplinks.",
            "It is counted as expired and not sent.",
        ),
        "uplink.parked": Event(
            "warning",
            (
                "connection",
                "dev_eui",
                "fcnt",
                "topic",
                "reason",
                "left_out",
            ),
            "An uplink cannot be delivered, now or later: no topic can be made of it, or the broker refuses it.",
            "It is kept aside with its reason and does not hold up the others; correct the pattern or the "
            "broker's rules.",
        ),
        "uplink.dropped": Event(
            "error",
            ("connection", "count", "reason"),
            "The journal was full, and the oldest uplinks made room (whenFull: drop-oldest); at most a line a minute "
            "for each connection, with their number.",
            "They are counted as dropped and gone; enlarge journal.maxSize or repair the connection that "
            "holds the backlog.",
        ),
        "connection.opening": Event(
            "debug",
            ("connection", "address", "attempt"),
            "A connection begins to connect.",
            "Nothing to do.",
        ),
        "connection.opened": Event(
            "info",
            (
                "connection",
                "attempts",
            ),
            "A connection is open, and uplinks flow.",
            "Nothing to do.",
        ),
        "connection.failed": Event(
            "warning",
            ("connection", "reason", "retry_in"),
            "A connection could not be made, for the first time in a row.",
            "It is tried again by itself; its uplinks are queued.",
        ),
        "connection.still_failing": Event(
            "warning",
            (
                "connection",
                "reason",
                "attempts",
                "retry_in",
            ),
            "A connection has failed again and again; one line stands for many attempts.",
            "Check the broker, the network and the certificates; its uplinks are queued.",
        ),
        "connection.lost": Event(
            "warning",
            ("connection", "reason", "retry_in"),
            "A connection that was open ended without being asked to.",
            "It is made again by itself, and what was not acknowledged is sent again.",
        ),
        "connection.closed": Event(
            "error",
            (
                "connection",
                "reason",
                "attempts",
            ),
            "A connection was given up: its reconnect schedule (reconnectStrategy) has ended.",
            "Its uplinks stay queued; restart the daemon when the broker is back.",
        ),
        "connection.authentication_failed": Event(
            "warning",
            ("connection", "reason", "retry_in"),
            "The broker refuses the credentials.",
            "Correct username, password or certificate; it is tried again on the slow schedule.",
        ),
        "connection.client_id_conflict": Event(
            "error",
            (
                "connection",
                "client_id",
                "reason",
            ),
            "Another client uses the same client id, and the two end each other's links.",
            "Give one of them another clientId; until then this one holds back.",
        ),
        "connection.throttled": Event(
            "warning",
            (
                "connection",
                "reason",
                "retry_in",
                "left_out",
            ),
            "The broker says that its quota is exceeded.",
            "Uplinks are sent again later, more slowly; nothing is lost.",
        ),
        "connection.orphaned": Event(
            "warning",
            ("connection", "queued"),
            "The journal holds uplinks for a connection that is no longer configured.",
            "They are kept for 72 hours, and then expire; configure the connection again to have them delivered.",
        ),
        "journal.failed": Event(
            "error",
            ("reason",),
            "The journal takes no uplinks: it is full (whenFull: block), or the disk under it fails.",
            "New uplinks are refused (503), nothing that was accepted is lost; do what the reason says, it heals "
            "by itself.",
        ),
        "journal.recovered": Event(
            "info",
            (),
            "The journal works again after a failure.",
            "New uplinks are taken.",
        ),
        "connection.unsettled": Event(
            "debug",
            ("connection",),
            "What the broker acknowledged could not be recorded at the end of a connection.",
            "The uplinks stay queued and are sent again: at most maxInflight of them arrive twice.",
        ),
        "session.crashed": Event(
            "error",
            ("connection",),
            "A bug in the code of a connection ended it; the others are not touched.",
            "It is made again by itself; please report the error, with its traceback from level debug.",
        ),
        "source.crashed": Event(
            "error",
            ("source",),
            "A bug in the code of an MQTT source ended its link; nothing else is touched.",
            "It is made again by itself, and its broker sends again what was not acknowledged; please report the "
            "error, with its traceback from level debug.",
        ),
        "http.crashed": Event(
            "error",
            ("path",),
            "A bug in the code of an HTTP request; it was answered with 500.",
            "Please report the error, with its traceback from level debug.",
        ),
        "library.message": Event(
            "warning",
            ("logger", "message", "error", "exception"),
            "A library that the daemon uses says something, at its own level (warning, error or critical).",
            "Mostly nothing; keep it for a report of an error.",
        ),
    }
    | dict(DOWNLINK_EVENTS)
    | dict(OPERATION_EVENTS)
)
