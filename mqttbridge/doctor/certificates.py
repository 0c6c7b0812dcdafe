"""Certificates in plain words: whose they are, until when, for which hosts, and where a chain breaks. Pure.

Nothing here decides whom to trust: that is OpenSSL's business. This only explains what it decided.
"""

from __future__ import annotations

import ipaddress
import itertools
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["Seen", "age", "describe", "host_matches", "missing", "order", "read_chain", "read_pem"]

SOON = timedelta(days=30)
"""Before its end from which on a certificate is worth a warning, unless that is more than a third of its life."""
LONGEST = 120
"""Characters of a name that are shown."""
MOST_NAMES = 8
"""Host names of a certificate that are shown."""
FAILURES = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


class Seen(msgspec.Struct, frozen=True):
    """One certificate."""

    subject: str
    issuer: str
    hosts: tuple[str, ...]
    """DNS names and IP addresses that it is for."""
    since: datetime
    until: datetime
    whole: Any
    """The certificate itself (`x509.Certificate`)."""

    @property
    def own(self) -> bool:
        """Whether it is its own issuer."""
        return bool(self.whole.subject == self.whole.issuer)

    def facts(self) -> dict[str, Any]:
        """Give it as JSON data."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "hosts": list(self.hosts),
            "notBefore": self.since.isoformat(),
            "notAfter": self.until.isoformat(),
        }


def read_chain(chain: Sequence[bytes]) -> list[Seen]:
    """Read certificates in DER; what cannot be read is left out."""
    found = []
    for der in chain:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.append(_seen(x509.load_der_x509_certificate(der)))
        except FAILURES:
            continue
    return found


def read_pem(text: str) -> list[Seen]:
    """Read the certificates of a PEM text; none if one of them cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [_seen(one) for one in x509.load_pem_x509_certificates(text.encode())]
    except FAILURES:
        return []


def _seen(whole: x509.Certificate) -> Seen:
    hosts: tuple[str, ...] = ()
    try:
        names = whole.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
        hosts = (*map(_clean, dns), *map(str, names.get_values_for_type(x509.IPAddress)))
    except (*FAILURES, x509.ExtensionNotFound):
        pass
    return Seen(
        _name(whole.subject), _name(whole.issuer), hosts, whole.not_valid_before_utc, whole.not_valid_after_utc, whole
    )


def _name(name: x509.Name) -> str:
    """Give the common name; without one, all parts."""
    parts = name.get_attributes_for_oid(NameOID.COMMON_NAME)[:1] or list(name)
    return _clean(", ".join(str(part.value) for part in parts)) or "(no name)"


def _clean(text: str) -> str:
    """Shorten a name, and leave out what a terminal might take for a command."""
    shown = "".join(char for char in text[:LONGEST] if char.isprintable())
    return shown + "…" if len(text) > LONGEST else shown


def age(seen: Seen, now: datetime) -> tuple[str, int]:
    """Say when a certificate ends or begins; with 0: good, 1: ends soon, 2: not valid now."""
    day = f"{seen.until:%Y-%m-%d}"
    if now > seen.until:
        return f"expired on {seen.until:%Y-%m-%d %H:%M} UTC", 2
    if now < seen.since:
        return f"not valid before {seen.since:%Y-%m-%d %H:%M} UTC", 2
    left = seen.until - now
    words = f"{left.days} days" if left.days > 1 else f"{left // timedelta(hours=1)} hours"
    return f"valid until {day} ({words} left)", int(left < min(SOON, (seen.until - seen.since) / 3))


def describe(seen: Seen, now: datetime) -> str:
    """Describe a certificate in one line."""
    issuer = "signed by itself" if seen.own else f"issued by {seen.issuer}"
    hosts = ""
    if seen.hosts:
        more = len(seen.hosts) - MOST_NAMES
        hosts = f", for {', '.join(seen.hosts[:MOST_NAMES])}" + (f" and {more} more" if more > 0 else "")
    return f"{seen.subject}: {issuer}, {age(seen, now)[0]}{hosts}"


def host_matches(seen: Seen, host: str) -> bool:
    """Tell whether a certificate is for a host: the name itself, or a `*` for its first label (RFC 6125)."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    else:
        return str(address) in seen.hosts
    try:
        name = host.encode("idna").decode().lower().removesuffix(".")
    except UnicodeError:
        return False
    parent = name.partition(".")[2]
    return any(own.lower() == name or (own.startswith("*.") and own[2:].lower() == parent) for own in seen.hosts)


def order(chain: Sequence[Seen]) -> str:
    """Say where a chain is out of order, or nothing."""
    for lower, upper in itertools.pairwise(chain):
        if not _signed(lower, upper):
            return f"behind {lower.subject} comes {upper.subject}, which did not sign it: {lower.issuer} did"
    return ""


def missing(chain: Sequence[Seen], trusted: Sequence[Seen] | None) -> str:
    """Say which authority is missing to verify a chain. `trusted`: trustedCaCertificate; None: the system's.

    Gives nothing where it is not an authority that is missing, or where the chain cannot be followed.
    """
    if not chain:
        return ""
    top = chain[0]
    for _ in chain:
        above = next((one for one in chain if one is not top and _signed(top, one)), None)
        if above is None or above.own:
            top = above or top
            break
        top = above
    wanted, whose = (top.subject if top.own else top.issuer), "trustedCaCertificate" if trusted else "the system"
    name = top.whole.issuer
    if trusted and any(_signed(one, upper) for one in chain for upper in trusted):
        return ""
    if trusted and any(one.whole.subject == name for one in trusted):
        return f"trustedCaCertificate holds an authority named {wanted}, but not the one that signed: its key differs"
    holds = f"; it holds {', '.join(dict.fromkeys(one.subject for one in trusted))}" if trusted else ""
    if top.own:
        return f"{whose} does not hold {wanted}, which signed itself{holds}"
    return f"the certificate of {wanted} is missing: neither the broker sends it, nor does {whose} hold it{holds}"


def _signed(lower: Seen, upper: Seen) -> bool:
    try:
        lower.whole.verify_directly_issued_by(upper.whole)
    except (*FAILURES, InvalidSignature):
        return False
    return True
