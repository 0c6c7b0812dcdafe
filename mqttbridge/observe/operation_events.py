"""The log events of operating: reload, watches, history, replay. Part of the table in `observe/events.py`."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from mqttbridge.observe.event import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OPERATION_EVENTS"]

OPERATION_EVENTS: Mapping[str, Event] = MappingProxyType(
    {
        "config.reloaded": Event(
            "info",
            ("started", "stopped", "restarted", "changed", "seconds"),
            "A changed configuration is in force; the numbers are connections, sources and flows.",
            "Nothing; a `config.applied` line tells of each of them.",
        ),
        "config.unchanged": Event(
            "info",
            (),
            "A reload that somebody asked for found nothing that changed.",
            "Nothing. If you did change something, look whether it was in the file that this daemon runs with.",
        ),
        "config.applied": Event(
            "info",
            ("connection", "source", "flow", "change", "properties", "queued"),
            "A reload started, stopped, restarted or changed this; `properties` are those that differ.",
            "What changed applies to the next uplink. What was stopped keeps its queue: see `connection.orphaned`.",
        ),
        "config.needs_restart": Event(
            "warning",
            ("reason",),
            "A reload found a property that only a restart can change; all else is in force.",
            "Restart the daemon when it suits you: systemctl restart mqttbridge.",
        ),
        "config.crashed": Event(
            "error",
            (),
            "A bug in the code of the reload ended it; what was begun of it may be in force.",
            "Restart the daemon when it suits you, and please report the error, with its traceback from level debug.",
        ),
        "config.renewed": Event(
            "info",
            ("connection", "source"),
            "A certificate or key was renewed on disk, and is taken up; the rest of the configuration was not read.",
            "The connection is made anew with it.",
        ),
        "certificate.rejected": Event(
            "warning",
            ("reason",),
            "A certificate or key was renewed on disk and cannot be used, such as one that does not fit the other, and "
            "the files have rested for a minute. While `watch` is true, `config.rejected` tells it.",
            "What is in force goes on until it expires. Put the right files in place; they are taken up by themselves.",
        ),
        "api.edited": Event(
            "info",
            ("what", "connection", "flow", "role", "client"),
            "Somebody changed the configuration through the API; `client` is the address, or `local`.",
            "Nothing; the file is written, and `config.applied` tells what came of it.",
        ),
        "api.unauthorised": Event(
            "warning",
            ("client", "reason", "left_out"),
            "A request with a wrong token came to the API: one that was mistyped or withdrawn, or somebody guesses.",
            "Guessing is slowed down. If you do not know the client, keep it from http.listen.",
        ),
        "http.renewed": Event(
            "info",
            (),
            "The certificate of http.listen was renewed, and is shown to whoever connects from now on.",
            "Nothing.",
        ),
        "connection.queue_dropped": Event(
            "warning",
            ("connection", "count", "reason"),
            "Uplinks that waited for a connection which is no longer configured were dropped.",
            "They are counted as dropped, and lost to this connection.",
        ),
        "connection.low_rate": Event(
            "warning",
            ("connection", "rate", "minimum", "reason"),
            "A connection got fewer uplinks in an hour than its alarm asks for (`alarms`).",
            "Look at its devices and sources; a `connection.rate_recovered` follows.",
        ),
        "connection.rate_recovered": Event(
            "info",
            ("connection", "rate", "minimum"),
            "A connection gets as many uplinks an hour again as its alarm asks for.",
            "Nothing.",
        ),
        "certificate.expiring": Event(
            "warning",
            ("connection", "source", "http", "days", "reason"),
            "A certificate in the configuration expires soon, or has expired; told again as the day comes nearer.",
            "Renew it: a renewed file is taken up by itself.",
        ),
        "journal.filling": Event(
            "warning",
            ("size", "max_size", "percent", "reason"),
            "The journal fills up: brokers take less than sources bring.",
            "Look at `mqttbridge status` for the queues that grow; when it is full, journal.whenFull decides.",
        ),
        "journal.relieved": Event(
            "info",
            ("size", "max_size", "percent"),
            "The journal has room again after it filled up.",
            "Nothing.",
        ),
        "history.behind": Event(
            "warning",
            ("count", "reason"),
            "The history could not keep up, or its disk fails: these uplinks or events are not in it. No uplink is "
            "lost by that.",
            "`mqttbridge trace` and `replay` do not know them; look at the disk.",
        ),
        "history.failed": Event(
            "warning",
            ("reason",),
            "The history cannot be written. No uplink is lost by that.",
            "`mqttbridge trace` and `replay` know nothing new until it can; do what the reason says.",
        ),
        "history.recovered": Event(
            "info",
            (),
            "The history can be written again.",
            "Nothing; what passed meanwhile is not in it.",
        ),
        "uplink.missing": Event(
            "info",
            ("source", "dev_eui", "fcnt", "count", "reason", "left_out"),
            "Uplinks of a device did not come here: its FCntUp made a leap.",
            "They were lost on the air, or while nothing could be accepted; look at the log of that time.",
        ),
        "uplink.replayed": Event(
            "info",
            ("connection", "dev_eui", "count", "reason"),
            "Uplinks of the past were queued again, as an operator asked; each is marked.",
            "They go out behind what is queued.",
        ),
        "parked.retried": Event(
            "info",
            ("connection", "count"),
            "Parked uplinks were queued again, as an operator asked.",
            "They go out behind what is queued; what parked them may do so again.",
        ),
        "parked.dropped": Event(
            "info",
            ("connection", "count"),
            "Parked uplinks were given up, as an operator asked.",
            "They stay counted as parked; their content is gone.",
        ),
    }
)
