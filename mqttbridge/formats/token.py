"""The Token by which ThingPark's LRC signs each HTTP request (reference, "LRC to application server").

    Token = hex(SHA-256(body_part + query_part + as_key))

`verify` is for what comes in, `sign` for what acts as an LRC. Values enter as they stand in the document: numbers
with the very characters of the JSON, texts decoded. For DevEUI_downlink_Rejected and DevEUI_alarm the reference has
no rule; they are signed as a notification is, over CustomerID and DevEUI. The former is taken as well when it is signed
as DevEUI_downlink_Sent is: to lose it for a wrong guess would be worse. Never shows a key or an expected Token.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote, unquote_to_bytes

import msgspec
from msgspec import Raw, Struct, field

from mqttbridge.errors import DocumentError, TokenError
from mqttbridge.model import DocumentKind

__all__ = ["require_token", "sign", "verify"]

PARAMETERS = (b"LrnDevEui", b"LrnFPort", b"LrnInfos", b"AS_ID", b"Time")
TOKEN = b"Token"
REQUIRED = (b"AS_ID", b"Time", TOKEN)
"""The others may be absent: a report has no port. What is absent does not enter the Token."""
MAX_QUERY = 4096
BOM = b"\xef\xbb\xbf"
ABSENT = Raw()


class Signed(Struct, gc=False):
    """What enters the Token, as it stands in the document."""

    customer_id: Raw = field(name="CustomerID", default=ABSENT)
    dev_eui: Raw = field(name="DevEUI", default=ABSENT)
    fport: Raw = field(name="FPort", default=ABSENT)
    fcnt_up: Raw = field(name="FCntUp", default=ABSENT)
    fcnt_down: Raw = field(name="FCntDn", default=ABSENT)
    payload: Raw = field(name="payload_hex", default=ABSENT)


decode_signed = msgspec.json.Decoder(dict[DocumentKind, Signed]).decode
decode_text = msgspec.json.Decoder(str).decode


def require_token(query_string: bytes) -> None:
    """Raise `TokenError` for a query string that has no Token at all: cheap, and needs no body."""
    if not query_string:
        raise TokenError("the request has no query string, and so no Token; have the network server sign its requests")
    if b"Token=" not in query_string:
        raise TokenError("Token missing in the query string; have the network server sign its requests")


def verify(query_string: bytes, uplink_body: bytes, as_key: str) -> None:
    """Check the Token of a request: `query_string` without its `?`, the body as it came, the AS key (32 hex digits).

    Raises `TokenError`, whose sentence names what is missing or wrong, and `DocumentError` for a body that is no
    document, so that no Token can cover it. A Token covers one document, not a batch.
    """
    require_token(query_string)
    if len(query_string) > MAX_QUERY:
        raise TokenError(f"the query string has more than {MAX_QUERY} bytes; a signed one is far shorter")
    values = _parameters(query_string)
    missing = [name.decode() for name in REQUIRED if name not in values]
    if missing:
        raise TokenError(f"{' and '.join(missing)} missing in the query string; a signed request has all of them")
    given = values[TOKEN].lower()
    expected = [_token(part, values, as_key).encode() for part in _body_parts(uplink_body)]
    if not any(hmac.compare_digest(given, token) for token in expected):
        raise TokenError("the Token does not match this document; compare the AS key with the network server's")


def sign(uplink_body: bytes, as_key: str, *, as_id: str, time: str, infos: str = "") -> str:
    """Give the query string (percent-encoded, with Token) that an LRC would send with this document.

    `time` is ISO 8601 with an offset; `infos` defaults to the AS_ID with a routing profile, as an LRC writes it.
    Raises `TokenError` if the document lacks what enters the Token, `DocumentError` if it is none.
    """
    _, signed = _signed(uplink_body)
    values = {
        b"LrnDevEui": _text(signed.dev_eui, "DevEUI"),
        b"LrnFPort": _text(signed.fport, "FPort") or b"0",
        b"LrnInfos": (infos or f"{as_id}-1-1").encode(),
        b"AS_ID": as_id.encode(),
        b"Time": time.encode(),
    }
    values[TOKEN] = _token(_body_parts(uplink_body)[0], values, as_key).encode()
    return "&".join(f"{name.decode()}={quote(value, safe='')}" for name, value in values.items())


def _parameters(query_string: bytes) -> dict[bytes, bytes]:
    """Take the query string apart: percent-decoded, a literal + stays +. What is not ours is passed by."""
    values: dict[bytes, bytes] = {}
    for pair in query_string.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name not in PARAMETERS and name != TOKEN:
            continue
        if name in values:
            raise TokenError(f"{name.decode()} stands twice in the query string; it must stand once")
        values[name] = unquote_to_bytes(value)
    return values


def _token(body_part: bytes, values: dict[bytes, bytes], as_key: str) -> str:
    """Compute the Token."""
    query_part = b"&".join(name + b"=" + values[name] for name in PARAMETERS if name in values)
    # Not str(): a Secret shows a mask there.
    return hashlib.sha256(body_part + query_part + as_key.lower().encode()).hexdigest()


def _body_parts(body: bytes) -> tuple[bytes, ...]:
    """Give what the document adds, by its kind; where several rules may hold, the likeliest first."""
    kind, signed = _signed(body)
    customer, dev_eui = _text(signed.customer_id, "CustomerID"), _text(signed.dev_eui, "DevEUI")
    if not dev_eui:
        raise DocumentError(f"{kind}.DevEUI is missing, which the Token needs", field=f"{kind}.DevEUI")
    if not customer:
        raise TokenError(f"{kind}.CustomerID is missing, which the Token needs")
    port = _text(signed.fport, "FPort") or b"0"
    device, sent = customer + dev_eui, customer + dev_eui + port + _text(signed.fcnt_down, "FCntDn")
    match kind:
        case DocumentKind.UPLINK:
            return (device + port + _text(signed.fcnt_up, "FCntUp") + _text(signed.payload, "payload_hex"),)
        case DocumentKind.DOWNLINK_SENT:
            return (sent,)
        case DocumentKind.DOWNLINK_REJECTED:
            return (device, sent)
        case DocumentKind.LOCATION:
            return (customer + dev_eui.lower(),)
        case _:
            return (device,)


def _signed(body: bytes) -> tuple[DocumentKind, Signed]:
    """Find what enters the Token in a document."""
    body = body.strip().removeprefix(BOM).lstrip()
    if body.startswith(b"["):
        raise TokenError("a Token covers one document, and this is a batch; send each document on its own")
    try:
        roots = decode_signed(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise DocumentError("the body is not one document of a known kind, so that its Token covers nothing") from error
    if len(roots) != 1:
        raise DocumentError(f"the Token covers a document with one root key; this one has {len(roots)}")
    return next(iter(roots.items()))


def _text(raw: Raw, name: str) -> bytes:
    """Give a value as it stands in the document; nothing for what is missing or null."""
    value = bytes(raw).strip()
    if value in {b"", b"null"}:
        return b""
    if value[0] in b"-0123456789":
        return value
    try:
        return decode_text(value).encode()
    except (msgspec.DecodeError, UnicodeError) as error:
        raise TokenError(f"{name} is neither a text nor a number, so that the Token cannot be verified") from error
