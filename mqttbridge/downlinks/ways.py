"""What each kind of network server wants to be sent, and what its answers mean. Pure.

One small class for each way back: three over HTTP (an `Api`), two over MQTT (`Commands`). `http` and `mqtt` do the
sending. No answer made here quotes more of a network server than the format's own `refusal` lets through.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import msgspec

from mqttbridge.downlinks.network import Answer, Later, Refused, Taken
from mqttbridge.errors import DocumentError
from mqttbridge.formats import chirpstack, lrc, tts
from mqttbridge.formats.times import iso
from mqttbridge.formats.tts_downlinks import is_id
from mqttbridge.formats.words import shown
from mqttbridge.settings.secret import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mqttbridge.journal.downlink_protocol import PendingDownlink
    from mqttbridge.model import Downlink

__all__ = [
    "Api",
    "ChirpStackApi",
    "ChirpStackCommands",
    "Commands",
    "Credentials",
    "LrcApi",
    "Post",
    "ThingsStackApi",
    "ThingsStackCommands",
    "application_in",
]

LRC_PATH = "/thingpark/lrc/rest/downlink"
LEVEL = re.compile(r"[^\x00-\x20/+#\x7f-\U0010ffff]{1,128}").fullmatch
"""What may stand in a topic as one level: ChirpStack's applications, as the format learns them."""
TOKEN = re.compile(r"(?<=[?&]Token=)[^&]+")
ROOT = "DevEUI_downlink"

OK, NOT_OK = 200, 300
BAD = 400
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT = 401, 403, 404, 409
SERVER_ERROR, NOT_IMPLEMENTED, LOOP_OR_LIMIT = 500, 501, 600
BUSY = frozenset({429, 502, 503, 504})
"""Said of the network server or by a proxy in front of it, not of this downlink."""
NOT_NOW = frozenset({408, 425})

STORED_ALREADY = ("duplicate key value violates unique constraint", "UNIQUE constraint failed")
"""How PostgreSQL and SQLite say it, which ChirpStack hands on as an internal error."""
CODEC_FAILED = ("encodeDownlink", "JS error")
"""ChirpStack's codec; likewise."""


class Post(msgspec.Struct, frozen=True):
    """One request. `secrets` stand in it and must not come back in a sentence, nor must `keys`, which signed it."""

    url: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


class Credentials(msgspec.Struct, frozen=True):
    """AS_ID and AS key of downlinks from one connection; without an `as_id` they go unsigned."""

    as_id: str = ""
    as_key: str = ""


class Api(Protocol):
    """A network server with an HTTP interface for downlinks. `name` begins sentences."""

    name: str

    def refusal(self, downlink: Downlink, way: str) -> DocumentError | None:
        """See `Network.refusal`."""
        ...

    def post(self, pending: PendingDownlink, now: int) -> Post:
        """Make the request; `now` in ms. Raises `DocumentError`."""
        ...

    def answer(self, status: int, text: str, *, whole: bool) -> Answer:
        """Say what an answer means. `text`: its body; not `whole`: there was more of it."""
        ...


class LrcApi:
    """ThingPark's LRC."""

    name = "the LRC"

    def __init__(self, url: str, credentials: Callable[[str], Credentials]) -> None:
        """Take apiUrl, and who gives the credentials for a connection."""
        bare = urlsplit(url).path in {"", "/"}
        self._url = url.rstrip("/") + LRC_PATH if bare else url
        self._credentials = credentials

    def refusal(self, downlink: Downlink, way: str) -> DocumentError | None:
        """Tell what needs a codec: an LRC has none."""
        del way
        if downlink.payload_hex is None:
            return DocumentError(
                "the LRC takes no decoded payload; send payload_hex instead of payload", field=f"{ROOT}.payload"
            )
        return None

    def post(self, pending: PendingDownlink, now: int) -> Post:
        """Make the query, signed where there are credentials (reference, "Application server to LRC")."""
        credentials = self._credentials(pending.connection)
        time = iso(now)
        query = lrc.query(
            pending.downlink,
            correlation_id=pending.correlation_id,
            as_id=credentials.as_id,
            as_key=credentials.as_key,
            time=time,
        )
        url = f"{self._url}{'&' if '?' in self._url else '?'}{query}"
        return Post(url, secrets=tuple(TOKEN.findall(url)), keys=(credentials.as_key,) if credentials.as_key else ())

    def answer(self, status: int, text: str, *, whole: bool) -> Answer:
        """Take 200 for an acceptance only if it says so."""
        if not OK <= status < NOT_OK:
            signs = "check downlinkAsId, the AS key and this machine's clock"
            return _no(self.name, status, lrc.refusal(text), {NOT_FOUND: "check apiUrl", FORBIDDEN: signs})
        if "queued" in text.lower():
            return Taken()
        if not whole:
            return Later(f"{self.name} answered {status}, but not whether it queued the downlink")
        return Refused(f"{self.name} refuses the downlink: {lrc.refusal(text) or 'it gives no reason'}")


class ChirpStackApi:
    """ChirpStack's REST API: grpc-gateway in front of it maps gRPC codes to HTTP (its runtime/errors.go)."""

    name = "ChirpStack"

    def __init__(self, url: str, key: str) -> None:
        """Take apiUrl and apiKey."""
        self._url = url.rstrip("/")
        self._headers = (("Grpc-Metadata-Authorization", f"Bearer {key}"), ("Content-Type", "application/json"))

    def refusal(self, downlink: Downlink, way: str) -> DocumentError | None:
        """Take everything: the DevEUI is address enough."""
        del downlink, way
        return None

    def post(self, pending: PendingDownlink, now: int) -> Post:
        """Make the queue item (reference, "ChirpStack v4")."""
        del now
        downlink = pending.downlink
        body = chirpstack.queue_item(downlink, correlation_id=pending.correlation_id, key=pending.key)
        return Post(f"{self._url}/api/devices/{downlink.dev_eui.lower()}/queue", body, self._headers)

    def answer(self, status: int, text: str, *, whole: bool) -> Answer:
        """Take what it has already for taken, whichever way it says so."""
        del whole
        said = chirpstack.refusal(text.encode()) if status >= BAD else ""
        if status == SERVER_ERROR:
            if any(words in text for words in STORED_ALREADY):
                return Taken()
            if any(words in text for words in CODEC_FAILED):
                return Refused(f"{self.name}'s codec cannot encode the payload: {said}", f"{ROOT}.payload")
        if OK <= status < NOT_OK:
            return Taken(chirpstack.enqueued(text.encode()))
        if status == CONFLICT:
            return Taken()
        return _no(self.name, status, said, {UNAUTHORIZED: "check apiKey", FORBIDDEN: "check apiKey"})


class ThingsStackApi:
    """The downlink queue operations of a webhook of The Things Stack."""

    name = "The Things Stack"

    def __init__(self, url: str, key: str, webhook: str) -> None:
        """Take apiUrl, apiKey and the id of the webhook."""
        self._url = url.rstrip("/")
        self._webhook = webhook
        self._headers = (("Authorization", f"Bearer {key}"), ("Content-Type", "application/json"))

    def refusal(self, downlink: Downlink, way: str) -> DocumentError | None:
        """Tell what it needs to find the device: it goes by ids of its own."""
        del downlink
        return _no_device(way)

    def post(self, pending: PendingDownlink, now: int) -> Post:
        """Make a push or replace (reference, "The Things Stack v3")."""
        del now
        _require(_no_device(pending.way))
        application, _, device = pending.way.partition("/")
        path = tts.path(application, self._webhook, device, replace=pending.downlink.flush)
        body = tts.push(pending.downlink, correlation_id=pending.correlation_id, key=pending.key)
        return Post(f"{self._url}/{path.lstrip('/')}", body, self._headers)

    def answer(self, status: int, text: str, *, whole: bool) -> Answer:
        """Take an expired key for final too: the first receipt tells of it, not one after a day of retries."""
        del whole
        if OK <= status < NOT_OK:
            return Taken()
        hints = {UNAUTHORIZED: "check apiKey", FORBIDDEN: "check the rights of apiKey"}
        return _no(self.name, status, tts.refusal(text.encode()), hints)


def _no(name: str, status: int, said: str, hints: dict[int, str]) -> Answer:
    """Judge a status that is no success. `said`: the network server's reason, if it gave one."""
    reason = f"{name} answered {status}"
    if NOT_OK <= status < BAD:
        return Refused(f"{reason}, a redirect, which is not followed; correct apiUrl")
    reason += f": {said}" if said else ""
    if status in BUSY:
        return Later(reason, everyone=True)
    if status in NOT_NOW or (SERVER_ERROR <= status < LOOP_OR_LIMIT and status != NOT_IMPLEMENTED):
        return Later(reason)
    hint = hints.get(status)
    return Refused(f"{reason}; {hint}" if hint else reason)


# -- over MQTT ---------------------------------------------------------------------------------------------------------


class Commands(Protocol):
    """A network server that takes downlinks as messages."""

    name: str
    qos: int

    def refusal(self, downlink: Downlink, way: str) -> DocumentError | None:
        """See `Network.refusal`."""
        ...

    def command(self, pending: PendingDownlink) -> tuple[str, bytes]:
        """Make topic and payload. Raises `DocumentError`."""
        ...


class ChirpStackCommands:
    """ChirpStack's command topic. What it refuses there, only its own log says."""

    name = "ChirpStack"
    qos = 1

    def __init__(self, application: str) -> None:
        """Take the application of devices that nothing was heard of yet; empty: there is none."""
        self._application = application

    def refusal(self, downlink: Downlink, way: str) -> DocumentError | None:
        """Its command has no flush, and its topic needs the application."""
        if downlink.flush:
            return DocumentError(
                "ChirpStack cannot flush its queue by MQTT; give the source apiUrl and apiKey, or leave it out",
                field=f"{ROOT}.FlushDownlinkQueue",
            )
        return self._unknown(way)

    def command(self, pending: PendingDownlink) -> tuple[str, bytes]:
        """Make the command (reference, "ChirpStack v4")."""
        _require(self._unknown(pending.way))
        topic = chirpstack.command_topic(pending.way or self._application, pending.downlink.dev_eui)
        return topic, chirpstack.command(pending.downlink, correlation_id=pending.correlation_id, key=pending.key)

    def _unknown(self, way: str) -> DocumentError | None:
        if LEVEL(way or self._application):
            return None
        why = f"is {shown(way)}, which can be no level of a topic," if way else "is not known before its first uplink"
        return _undeliverable(f"the ChirpStack application of this device {why}")


class ThingsStackCommands:
    """The MQTT server of The Things Stack, which has QoS 0 alone."""

    name = "The Things Stack"
    qos = 0

    def __init__(self, user: str) -> None:
        """Take the user name: `<application>@<tenant>`."""
        self._user = user

    def refusal(self, downlink: Downlink, way: str) -> DocumentError | None:
        """Tell what it needs to find the device: it goes by ids of its own."""
        del downlink
        return _no_device(way)

    def command(self, pending: PendingDownlink) -> tuple[str, bytes]:
        """Make a push or replace (reference, "The Things Stack v3")."""
        _require(_no_device(pending.way))
        device = pending.way.partition("/")[2]
        topic = tts.topic(self._user, device, replace=pending.downlink.flush)
        return topic, tts.push(pending.downlink, correlation_id=pending.correlation_id, key=pending.key)


def application_in(topics: Sequence[str]) -> str:
    """Give the one ChirpStack application that topic filters name; empty if there is none, or more than one."""
    found = set()
    for topic in topics:
        levels = plain(topic).split("/")
        if levels[0] == "$share":
            levels = levels[2:]
        if levels[0] != "application" or len(levels) < 2 or not LEVEL(levels[1]):  # noqa: PLR2004 - the id's place
            return ""
        found.add(levels[1])
    return found.pop() if len(found) == 1 else ""


def _no_device(way: str) -> DocumentError | None:
    """Say why The Things Stack's ids of a device cannot be used."""
    application, _, device = way.partition("/")
    if is_id(application) and is_id(device):
        return None
    why = f"are none that it could have given ({shown(way)})" if way else "are not known before its first uplink"
    return _undeliverable(f"the ids of this device at The Things Stack {why}")


def _undeliverable(why: str) -> DocumentError:
    return DocumentError(f"{why}, so that no downlink finds it", field=f"{ROOT}.DevEUI")


def _require(error: DocumentError | None) -> None:
    if error is not None:
        raise error
