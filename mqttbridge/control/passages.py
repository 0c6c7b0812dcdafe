"""Fills the passport of a device from what is remembered and queued. Pure; for `control/trace.py`.

Documents are read again here, whatever they hold: nothing raises but `DocumentError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from mqttbridge.control.passport import Delivery, DownlinkPassage, UplinkPassage
from mqttbridge.errors import DocumentError
from mqttbridge.formats import FORMATS
from mqttbridge.formats.times import moment
from mqttbridge.model import DocumentKind, Outcome
from mqttbridge.routing.explain import Reason, Withheld, explain, goes_to, withheld_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.history.records import Ended, KeptEvent, Passed
    from mqttbridge.journal.downlink_protocol import PendingDownlink
    from mqttbridge.model import Uplink
    from mqttbridge.settings.schema import Settings

__all__ = [
    "Guide",
    "delivered",
    "device_in",
    "ended_downlink",
    "passage",
    "pending_downlink",
    "reread",
]

DIGITS = "0123456789ABCDEF"
DEV_EUI_DIGITS = 16
MAX_HEX = 48
"""Digits of a payload that are shown."""
MAX_READ = 256 * 1024
"""Bytes: a larger document is not read again."""
MOST_NOT_MATCHED = 20
"""Flows that did not match, with their reasons; of the others, how many."""
MOST_GUIDES = 64
REPLAY = "replay of "
ON_PURPOSE = (REPLAY, "retry of ")
HINTS = {
    DocumentKind.UPLINK: "event=up",
    DocumentKind.LOCATION: "event=location",
    DocumentKind.DOWNLINK_SENT: "event=txack",
}
"""What ChirpStack called an event, by what became of it, where the event alone does not tell."""


# -- reading


def device_in(text: str) -> str:
    """Read a DevEUI in any spelling: with -, : or spaces between its digits, with lora: before it, in any case.

    Raises `ValueError` with a sentence.
    """
    bare = text.strip().upper().removeprefix("LORA:").removeprefix("0X")
    for between in "-: .":
        bare = bare.replace(between, "")
    if len(bare) == DEV_EUI_DIGITS and all(char in DIGITS for char in bare):
        return bare
    if not bare:
        raise ValueError("name a device by its DevEUI: 16 hex digits, such as 0018B20000000B20")
    wrong = sorted({char for char in bare if char not in DIGITS})
    why = f"{wrong[0]!r} is no hex digit" if wrong else f"it has {len(bare)} hex digits"
    raise ValueError(f"{text[:50]!r} is no DevEUI: {why}; a DevEUI has 16, such as 0018B20000000B20")


class Facts(msgspec.Struct, gc=False):
    """What is shown of a document."""

    fport: Raw = msgspec.field(name="FPort", default_factory=Raw)
    payload: Raw = msgspec.field(name="payload_hex", default_factory=Raw)


decode_facts = msgspec.json.Decoder(dict[str, Facts]).decode
decode_any = msgspec.json.Decoder().decode


def _fport(raw: Raw) -> int | None:
    """Read an FPort, a number or a text of digits; None if there is none, or another thing."""
    text = bytes(raw).strip(b'"')
    return int(text) if text.isdigit() and len(text) < 10 else None  # noqa: PLR2004 (no FPort has as many)


def _payload(raw: Raw) -> str | None:
    """Read a payload_hex; None if there is none, or another thing."""
    try:
        value = decode_any(raw) if raw else None
    except (msgspec.DecodeError, UnicodeError):
        return None
    return value if isinstance(value, str) and not value.upper().strip(DIGITS) else None


def _facts(body: bytes, kind: DocumentKind) -> tuple[int | None, str | None]:
    """Give FPort and payload of a ThingPark document, as far as it has them."""
    try:
        facts = decode_facts(body).get(kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None, None
    return (None, None) if facts is None else (_fport(facts.fport), _payload(facts.payload))


def _cut(payload: str) -> tuple[str, bool]:
    return payload[:MAX_HEX], len(payload) > MAX_HEX


def reread(passed: Passed, format_: str | None) -> Uplink:
    """Read a stored document again: a ThingPark document, else one that its source passed through as it came.

    `format_` is that of its source, None if that is not known any more. Raises `DocumentError`.
    """
    if len(passed.body) > MAX_READ:
        raise DocumentError(f"its document is too large to be read again here: {len(passed.body)} bytes")
    others = [name for name in (FORMATS if format_ is None else (format_,)) if name != "thingpark"]
    topic = passed.origin.removeprefix("topic ") if passed.origin.startswith("topic ") else ""
    problem = DocumentError("its document cannot be read again")
    for name, hint in (("thingpark", ""), *((other, hint) for other in others for hint in _hints(passed, topic))):
        try:
            # In the ThingPark form, of which FPort and payload are shown.
            again = FORMATS[name].parse(passed.body, source=passed.source, received=passed.received, hint=hint)
        except (DocumentError, UnicodeError, RecursionError, ValueError) as error:
            problem = DocumentError(f"its document cannot be read again: {error}")
        else:
            return replace(again, kind=passed.kind)
    raise problem


def _hints(passed: Passed, topic: str) -> tuple[str, ...]:
    """Give what may have come beside a document, the likeliest first."""
    return tuple(dict.fromkeys((topic, HINTS.get(passed.kind, ""), "")))


# -- explaining


class Guide:
    """Explains by the flows of one moment. A device sends the same tags again and again: that is explained once."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings as they are now."""
        self._settings = settings
        self._known: dict[tuple[DocumentKind, str, frozenset[str]], tuple[Reason, ...]] = {}

    def source(self, id_: str) -> tuple[str | None, str | None]:
        """Give transport and format of a source; None if it is not configured."""
        source = self._settings.sources.get(id_)
        return (None, None) if source is None else (str(type(source).__struct_config__.tag), source.format)

    def reasons(self, uplink: Uplink, sender: str) -> tuple[Reason, ...]:
        """Explain, with the connection that sent the downlink which a report is about (empty: none, or not known)."""
        key = (uplink.kind, uplink.dev_eui, uplink.tags)
        reasons = self._known.get(key)
        if reasons is None:
            if len(self._known) >= MOST_GUIDES:
                self._known.clear()
            reasons = explain(self._settings.flows, self._settings.connections, uplink)
            self._known[key] = reasons
        return reasons if not sender or sender in goes_to(reasons) else (*reasons, self._sender(sender, uplink))

    def _sender(self, sender: str, uplink: Uplink) -> Reason:
        """Explain that a report goes to who sent the downlink, too, unless it takes none: as `Router.with_sender`."""
        why = f"it is a report about a downlink of {sender}"
        problem = withheld_from(sender, self._settings.connections, uplink.kind)
        if problem:
            return Reason("", matched=True, why=why, withheld=(Withheld(sender, problem),))
        return Reason("", matched=True, why=why, connections=(sender,))


def passage(
    passed: Passed, guide: Guide, connections: tuple[Delivery, ...], again: Uplink | None, *, unread: str, sender: str
) -> UplinkPassage:
    """Put together what is told of one uplink. `again`: as it was read again, None: it could not (`unread`)."""
    transport, format_ = guide.source(passed.source)
    reasons = guide.reasons(again, sender) if again is not None else ()
    shown = _shown(reasons)
    on_purpose = passed.origin.startswith(ON_PURPOSE)
    now = None if again is None or on_purpose else goes_to(reasons)
    fport, payload = _facts(again.body, again.kind) if again is not None else (None, None)
    text, cut = _cut(payload or "")
    return UplinkPassage(
        id=passed.id,
        received=moment(passed.received),
        source=passed.source,
        transport=transport,
        format=format_,
        origin=passed.origin,
        replayed=passed.origin.startswith(REPLAY),
        kind=passed.kind.value,
        time=moment(passed.time),
        fcnt=passed.fcnt,
        fport=fport,
        size=None if payload is None else len(payload) // 2,
        payload_hex=text,
        payload_cut=cut,
        stored=passed.seq > 0,
        routed=passed.connections,
        connections=connections,
        flows=shown,
        flows_not_shown=len(reasons) - len(shown),
        now=now,
        now_differs=now is not None and now != passed.connections,
        unread=unread,
    )


def _shown(reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Choose those that matched, and of the others those that were nearest; in the order of the file."""
    others = [reason for reason in reasons if not reason.matched]
    if len(others) <= MOST_NOT_MATCHED:
        return reasons
    nearest = sorted(others, key=lambda reason: -reason.near)[:MOST_NOT_MATCHED]
    kept = {reason.flow for reason in nearest}
    return tuple(reason for reason in reasons if reason.matched or reason.flow in kept)


# -- ends

OUTCOMES: Mapping[Outcome, Literal["delivered", "expired", "parked", "dropped"]] = {
    Outcome.DELIVERED: "delivered",
    Outcome.EXPIRED: "expired",
    Outcome.PARKED: "parked",
    Outcome.DROPPED: "dropped",
}


def delivered(end: Ended, qos: int | None) -> Delivery:
    """Tell how an uplink ended for a connection, which publishes with this QoS now (None: it is gone)."""
    sent = end.sent or None
    is_delivered = end.outcome is Outcome.DELIVERED
    return Delivery(
        connection=end.connection,
        outcome=OUTCOMES[end.outcome],
        topic=end.topic,
        sent=None if sent is None else moment(sent),
        ended=moment(end.at) if end.at else None,
        milliseconds=max(end.at - sent, 0) if is_delivered and sent is not None and end.at else None,
        reason=end.reason,
        qos=qos,
    )


# -- downlinks

ENDS: Mapping[str, Literal["queued", "rejected", "expired", "failed"]] = {
    "downlink.queued": "queued",
    "downlink.rejected": "rejected",
    "downlink.expired": "expired",
    "downlink.failed": "failed",
}


def pending_downlink(pending: PendingDownlink, reason: str) -> DownlinkPassage:
    """Tell of a downlink that waits for its network server; `reason`: why its last try failed, if that is known."""
    one = pending.downlink
    text, cut = _cut(one.payload_hex or "")
    return DownlinkPassage(
        outcome="pending",
        connection=pending.connection,
        source=pending.source,
        key=pending.key,
        correlation_id=pending.correlation_id,
        reason=reason,
        received=moment(pending.received),
        expires=None if one.expires is None else moment(one.expires),
        fport=one.fport,
        confirmed=one.confirmed,
        payload_hex=text,
        payload_cut=cut,
    )


def ended_downlink(event: KeptEvent) -> DownlinkPassage | None:
    """Tell of a downlink that ended, by the event of that; None: it is another event."""
    outcome = ENDS.get(event.name)
    if outcome is None:
        return None
    attempts = event.fields.get("attempts")
    return DownlinkPassage(
        outcome=outcome,
        connection=_field(event, "connection"),
        source=_field(event, "source"),
        key=_field(event, "key"),
        correlation_id=_field(event, "correlation_id"),
        reason=_field(event, "reason"),
        ended=moment(event.at),
        attempts=attempts if isinstance(attempts, int) else None,
    )


def _field(event: KeptEvent, name: str) -> str:
    return str(event.fields.get(name, ""))
