"""ThingPark documents: JSON with one root key that names the kind (reference, "ThingPark documents").

Called by the sources for everything that comes in, so it is fast: one typed pass over the bytes, which skips what is
not needed. It never changes or rebuilds a document, and raises nothing but `DocumentError`.

Only what mqttbridge itself works with is checked: root key, DevEUI, Time, frame counter. All else is the network
server's word and is passed through as it came, also an FPort of 300 or a payload_hex that is no hex.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec
from msgspec import Raw, Struct, field

from mqttbridge.errors import DocumentError
from mqttbridge.formats.fingerprint import of_text, of_uplink
from mqttbridge.formats.outline import deeper_than
from mqttbridge.formats.times import milliseconds
from mqttbridge.formats.words import bare, not_json, shown
from mqttbridge.model import DocumentKind, Uplink

__all__ = ["MAX_DEPTH", "is_ours", "parse"]

MAX_DEPTH = 64
"""How deep a document may nest, so that whoever decodes it later can."""

MAX_FCNT = 2**32 - 1
MAX_DIGITS = 40
NO_OFFSET = datetime(1970, 1, 1)  # noqa: DTZ001 - that is the point
KINDS = ", ".join(DocumentKind)
DEV_EUI_DIGITS = 16
DEV_EUI = re.compile(r"[0-9A-Fa-f]{16}").fullmatch
EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")
PLACE = re.compile(r" - at `\$(?:\[\.\.\.\])?\.?([^`]*)`$")
WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
}
NO_MODEL = len('"0"')
"""Up to here, a ModelCfg holds no tag: most say `"0"`."""
UPLINK = DocumentKind.UPLINK
NO_TAGS = frozenset[str]()
ABSENT = Raw()


class Content(Struct, gc=False):
    """What routing and the journal need of what stands inside the root key."""

    dev_eui: str | None = field(name="DevEUI", default=None)
    time: str | None = field(name="Time", default=None)
    fcnt_up: int | str | None = field(name="FCntUp", default=None)
    fcnt_down: int | str | None = field(name="FCntDn", default=None)
    payload: Raw = field(name="payload_hex", default=ABSENT)
    join: Raw = field(name="rawJoinRequest", default=ABSENT)
    customer_data: Raw = field(name="CustomerData", default=ABSENT)
    model_cfg: Raw = field(name="ModelCfg", default=ABSENT)
    correlation: Raw = field(name="CorrelationID", default=ABSENT)


class CustomerData(Struct, gc=False):
    """The one thing needed of CustomerData."""

    tags: list[str] | None = None


decode_document = msgspec.json.Decoder(dict[DocumentKind, Content]).decode
decode_roots = msgspec.json.Decoder(dict[str, Raw]).decode
decode_customer_data = msgspec.json.Decoder(CustomerData).decode
decode_any = msgspec.json.Decoder().decode


def parse(
    body: bytes,
    *,
    source: str,
    received: int,
    hint: str = "",  # noqa: ARG001  of the seam: a document names its own kind
    pass_through: bool = False,  # noqa: ARG001  of the seam: a document goes out as it came anyway
    origin: str = "",
) -> Uplink:
    """Read one document, of any kind in `DocumentKind`, with numbers as numbers or as strings.

    `body` is UTF-8 JSON; whitespace and a byte order mark around it are taken off, all else is kept as it came.
    `received` (ms) stands in where the document has no Time. `hint` and `pass_through` change nothing: the document
    says all, and is a ThingPark document already. Raises `DocumentError` with the field's path.
    """
    body = bare(body)
    kind, content = _decode(body)
    dev_eui = _dev_eui(content.dev_eui, kind)
    fcnt = _fcnt(content, kind)
    return Uplink(
        source=source,
        kind=kind,
        dev_eui=dev_eui,
        time=received if content.time is None else _time(content.time, kind),
        received=received,
        fcnt=fcnt,
        body=body,
        tags=_tags(content),
        fingerprint=_fingerprint(content, kind, dev_eui, fcnt, body),
        correlation_id=_correlation(content.correlation) if content.correlation else "",
        origin=origin,
    )


def _decode(body: bytes) -> tuple[DocumentKind, Content]:
    """Decode the bytes into the kind and what is needed of the content."""
    try:
        if not body.isascii():
            body.decode()
        roots = decode_document(body)
    except UnicodeDecodeError as error:
        raise DocumentError(f"the document is not UTF-8 (byte {error.start}); send it in UTF-8") from error
    except RecursionError as error:
        raise DocumentError(f"the document nests deeper than {MAX_DEPTH} levels") from error
    except msgspec.DecodeError as error:
        raise _refusal(body, error) from error
    if len(roots) != 1:
        raise DocumentError(_wrong_roots(list(roots)))
    if deeper_than(body, MAX_DEPTH):
        raise DocumentError(f"the document nests deeper than {MAX_DEPTH} levels")
    return roots.popitem()


# --- fields


def _dev_eui(text: str | None, kind: DocumentKind) -> str:
    """Give the DevEUI in upper case, without dashes and colons."""
    if text is not None:
        plain = text if len(text) == DEV_EUI_DIGITS else text.replace("-", "").replace(":", "")
        if DEV_EUI(plain):
            return plain.upper()
    path = f"{kind}.DevEUI"
    if text is None:
        raise DocumentError(f"{path} is missing; every document names its device by 16 hex digits", field=path)
    raise DocumentError(f"{path} is {shown(text)}; a DevEUI has 16 hex digits", field=path)


def _time(text: str, kind: DocumentKind) -> int:
    """Give an ISO 8601 time in milliseconds."""
    try:
        moment = datetime.fromisoformat(text)
        problem = "which has no offset"
    except ValueError:
        moment, problem = NO_OFFSET, "which is not an ISO 8601 time"
    if moment.tzinfo is None:
        path = f"{kind}.Time"
        example = "write it like 2026-01-02T03:04:05.678+01:00"
        raise DocumentError(f"{path} is {shown(text)}, {problem}; {example}", field=path)
    return milliseconds(moment)


def _fcnt(content: Content, kind: DocumentKind) -> int | None:
    """Give FCntUp of an uplink, FCntDn of a downlink report; an empty text is none."""
    if kind is UPLINK:
        name, value = "FCntUp", content.fcnt_up
    elif kind in {DocumentKind.DOWNLINK_SENT, DocumentKind.DOWNLINK_REJECTED}:
        name, value = "FCntDn", content.fcnt_down
    else:
        return None
    if value is None or value == "":
        return None
    number = value if isinstance(value, int) else _digits(value)
    if not 0 <= number <= MAX_FCNT:
        path = f"{kind}.{name}"
        raise DocumentError(f"{path} is {shown(str(value))}; a frame counter is a whole number of 32 bits", field=path)
    return number


def _fingerprint(content: Content, kind: DocumentKind, dev_eui: str, fcnt: int | None, body: bytes) -> int:
    """Tell copies of one uplink, in whatever spelling. What has neither a counter nor a time of its own is no copy.

    A join has its raw request instead of a payload: the next one has another DevNonce, and is another uplink.
    """
    if kind is UPLINK and fcnt is not None:
        payload = bytes(content.payload).strip(b'"')
        if not payload or payload == b"null":
            payload = bytes(content.join).strip(b'"')
        return of_uplink(dev_eui, fcnt, payload.decode())
    return of_text(kind.encode() + body) if content.time else 0


def _correlation(raw: Raw) -> str:
    """Give the CorrelationID of a report; what is none is passed by."""
    value = decode_leniently(raw)
    return value if isinstance(value, str) else ""


def is_ours(hint: str) -> bool:  # noqa: ARG001  of the seam: nothing is sent to an LRC by MQTT
    """Tell whether a topic is that of a command of ours: never."""
    return False


def _digits(text: str) -> int:
    """Give the number that some digits make; -1 if they do not."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < MAX_DIGITS else -1


def _tags(content: Content) -> frozenset[str]:
    """Give the tags of CustomerData and of older documents' ModelCfg, case-folded. What is not a tag is passed by."""
    tags: list[str] = []
    if content.customer_data:
        try:
            tags = decode_customer_data(content.customer_data).tags or tags
        except msgspec.DecodeError:
            tags = _odd_tags(content.customer_data)
    if len(content.model_cfg) > NO_MODEL:
        tags = tags + _model_tags(decode_leniently(content.model_cfg))
    return frozenset(map(str.casefold, tags)) if tags else NO_TAGS


def _odd_tags(raw: Raw) -> list[str]:
    """Find the tags of a CustomerData of another shape: legacy documents have it as a string of JSON."""
    data = decode_leniently(raw)
    if isinstance(data, str):
        data = decode_leniently(data)
    tags = data.get("tags") if isinstance(data, dict) else None
    if isinstance(tags, str):
        return [tags]
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def _model_tags(text: object) -> list[str]:
    """Read `1:TagA, 2:TagB`."""
    if not isinstance(text, str):
        return []
    return [tag for part in text.split(",") if (tag := part.partition(":")[2].strip())]


def decode_leniently(text: Raw | str) -> object:
    """Decode JSON; None if it is none."""
    try:
        return decode_any(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


# --- refusals


def _refusal(body: bytes, error: msgspec.DecodeError) -> DocumentError:
    """Put into a sentence why these bytes could not be decoded."""
    return _mistyped(body, error) if isinstance(error, msgspec.ValidationError) else not_json(body, error)


def _mistyped(body: bytes, error: msgspec.ValidationError) -> DocumentError:
    """Put into a sentence where this JSON is not of the right shape."""
    try:
        roots = list(decode_roots(body))
    except msgspec.DecodeError:
        return DocumentError(f"the document is not a JSON object with a root key, one of {KINDS}")
    if len(roots) != 1 or roots[0] not in KINDS.split(", "):
        return DocumentError(_wrong_roots(roots))
    place = PLACE.search(str(error))
    path = f"{roots[0]}.{place[1]}" if place and place[1] else roots[0]
    types = EXPECTED.match(str(error))
    if types is None:
        return DocumentError(f"{path} is out of range", field=path)
    want = " or ".join(WORDS.get(word, word) for word in types[1].split(" | ") if word != "null")
    return DocumentError(f"{path} is {WORDS.get(types[2], types[2])}; it must be {want}", field=path)


def _wrong_roots(roots: list[str]) -> str:
    """Say what is wrong with the root keys."""
    if not roots:
        return f"the document is an empty object; its root key must be one of {KINDS}"
    if "DevEUI" in roots:
        return f"the document has no root key around its fields; put them inside one of {KINDS}"
    if len(roots) > 1:
        return f"the document has {len(roots)} root keys, {shown(', '.join(roots))}; send a document for each"
    if roots[0] == "DevEUI_downlink":
        return "DevEUI_downlink goes to a device, and is not taken from a network server; publish it as a downlink"
    if roots[0] == "BS_alarm":
        return "BS_alarm is about a gateway and has no DevEUI; have the network server send it elsewhere"
    return f"the root key {shown(roots[0])} is not known; it must be one of {KINDS}"
