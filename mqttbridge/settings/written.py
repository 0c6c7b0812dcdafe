"""Write values of the configuration as anybody may read them: secrets masked, certificates and long texts short. Pure.

For `diff`, which shows what was and what shall be. Durations and sizes come in the units that people write.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import msgspec.inspect
from cryptography import x509
from cryptography.x509.oid import NameOID

from mqttbridge.settings import scalars
from mqttbridge.settings.convert import unwrapped
from mqttbridge.settings.problems import one_line
from mqttbridge.settings.secret import MASK, Secret

__all__ = ["NONE", "Named", "flat", "written"]

NONE = "none"
MAX_TEXT = 200
"""Characters; a list may hold a thousand devices."""
MAX_SUBJECT = 60
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
QUANTITIES = {"duration": scalars.write_duration, "size": scalars.write_size}


class Named(msgspec.Struct, frozen=True, gc=False):
    """A value with its kind, as the schema tells it (`duration`, `certificate`, …), or empty."""

    kind: str
    value: Any


def flat(struct: msgspec.Struct) -> dict[str, Named]:
    """Give the properties of a struct and of those inside it, by their dotted names. Mappings are left out."""
    found: dict[str, Named] = {}
    tag = struct.__struct_config__.tag_field
    if tag is not None:
        found[tag] = Named("", struct.__struct_config__.tag)
    for name, encoded, kind in _fields(type(struct)):
        value = getattr(struct, name)
        if isinstance(value, msgspec.Struct):
            found |= {f"{encoded}.{inner}": one for inner, one in flat(value).items()}
        elif not isinstance(value, dict):
            found[encoded] = Named(kind, value)
    return found


@functools.cache
def _fields(struct: type[msgspec.Struct]) -> tuple[tuple[str, str, str], ...]:
    """Give the name of each field, its name in the file, and its kind."""
    info = msgspec.inspect.type_info(struct)
    if not isinstance(info, msgspec.inspect.StructType):
        raise TypeError(f"{struct} is no struct")
    return tuple((one.name, one.encode_name, unwrapped(one.type)[1].get("kind") or "") for one in info.fields)


def written(old: Named, new: Named) -> tuple[str, str]:
    """Write both values of a property that differs."""
    before, after = _one(old), _one(new)
    if before == after and MASK not in before:
        # What differs is not shown: a certificate with the same name and end, or the end of a long text.
        after = "another certificate" if new.kind == "certificate" else "another value, which differs further on"
    return before, after


def _one(named: Named) -> str:
    text = _text(named)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _text(named: Named) -> str:
    value = named.value
    match value:
        case None | () | "":
            return NONE
        case tuple():
            return "[" + ", ".join(_text(Named(named.kind, one)) for one in value) + "]"
        case msgspec.Struct():
            return "{" + ", ".join(f"{name}: {_text(one)}" for name, one in flat(value).items()) + "}"
        case _:
            return _scalar(value, named.kind)


def _scalar(value: object, kind: str) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() if kind in QUANTITIES:
            return QUANTITIES[kind](value)
        case str() if kind == "certificate" and not isinstance(value, Secret):
            return _certificate(value)
        case _:
            return one_line(str(value))


def _certificate(pem: str) -> str:
    """Say whose certificate it is, and until when; of several, that of the first: a bundle may hold hundreds."""
    try:
        first = x509.load_pem_x509_certificate(pem[: pem.find(END) + len(END)].encode())
        names = first.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        subject = one_line(str(names[0].value) if names else first.subject.rfc4514_string()) or "nobody"
        until = first.not_valid_after_utc.date().isoformat()
    except ValueError:
        return "a certificate"
    short = subject if len(subject) <= MAX_SUBJECT else subject[: MAX_SUBJECT - 1] + "…"
    rest = pem.count(BEGIN) - 1
    more = f", and {rest} more" if rest > 0 else ""
    return f"certificate of {short}, until {until}{more}"
