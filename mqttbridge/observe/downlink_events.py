"""The part of the table of events that tells of downlinks; `events` joins it with the rest."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from mqttbridge.observe.event import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DOWNLINK_EVENTS"]

ENDED = ("connection", "dev_eui", "source", "key", "correlation_id", "topic", "field", "reason")

DOWNLINK_EVENTS: Mapping[str, Event] = MappingProxyType(
    {
        "connection.subscribed": Event(
            "info",
            ("connection", "topic"),
            "A connection takes downlinks: the broker granted its subscription.",
            "Nothing to do.",
        ),
        "connection.subscription_refused": Event(
            "warning",
            ("connection", "topic", "reason"),
            "The broker refuses the subscription to downlinks; uplinks go on.",
            "Allow the topic in the broker's rules; it is tried again by itself.",
        ),
        "downlink.accepted": Event(
            "debug",
            ("connection", "dev_eui", "source", "key"),
            "A downlink is on disk, and the broker was told so.",
            "It is sent to the network server of its device.",
        ),
        "downlink.queued": Event(
            "info",
            ("connection", "dev_eui", "source", "key", "correlation_id", "attempts"),
            "The network server took a downlink.",
            "It sends it to the device when that may be; some tell by a DevEUI_downlink_Sent.",
        ),
        "downlink.rejected": Event(
            "warning",
            (*ENDED, "left_out"),
            "A downlink is not valid, not allowed to this connection, or refused by the network server; `field` names "
            "what is wrong in it.",
            "The receipt says the same; the sender has to correct it and send it again.",
        ),
        "downlink.expired": Event(
            "warning",
            ENDED,
            "The ValidityTime of a downlink passed before the network server took it.",
            "It is not sent any more.",
        ),
        "downlink.failed": Event(
            "warning",
            ENDED,
            "A downlink without ValidityTime could not be handed over for 24 hours, or its source is gone.",
            "It is not tried any more; the reason says what to repair.",
        ),
        "downlink.retrying": Event(
            "warning",
            ("source", "connection", "dev_eui", "reason", "retry_in", "attempts", "left_out"),
            "The network server did not take a downlink now.",
            "It is sent again by itself while it is valid; those of other devices go on.",
        ),
        "downlink.delayed": Event(
            "warning",
            ("connection", "reason", "left_out"),
            "Downlinks of a connection have to wait: they come faster than downlinkRate, or too many are unfinished.",
            "They are not acknowledged until there is room, so that the broker keeps them; nothing is lost.",
        ),
        "downlink.warning": Event(
            "info",
            ("connection", "dev_eui", "key", "reason"),
            "A downlink is valid, but holds something that is not used, a misspelt field for example.",
            "It goes out without it.",
        ),
        "downlink.receipt_lost": Event(
            "warning",
            ("connection", "dev_eui", "reason"),
            "The broker does not take a receipt, or it has no usable topic.",
            "It is given up; the outcome of the downlink stands in the log and in the counters.",
        ),
        "downlink.unfinished": Event(
            "debug",
            ("connection",),
            "Downlinks were still being taken when a connection ended.",
            "The broker was not told that they were; it sends them again.",
        ),
        "downlink.crashed": Event(
            "error",
            ("connection", "source", "dev_eui"),
            "A bug in the code that handles downlinks; the others are not touched.",
            "Please report the error, with its traceback from level debug.",
        ),
        "network.failing": Event(
            "warning",
            ("source", "reason", "retry_in"),
            "The network server of a source cannot be reached for downlinks; one line for the whole outage.",
            "Its downlinks wait and are sent when it is back, while they are valid. Uplinks are not concerned.",
        ),
        "network.recovered": Event(
            "info",
            ("source",),
            "The network server of a source takes downlinks again.",
            "Nothing to do.",
        ),
        "uplink.duplicate": Event(
            "debug",
            ("source", "dev_eui", "fcnt"),
            "An uplink came again within the source's duplicateWindow.",
            "It was answered as taken, counted, and not stored again.",
        ),
    }
)
