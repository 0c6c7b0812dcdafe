"""Look into certificates and keys in PEM form, to find at load what would otherwise fail at night.

Raises `ValueError` with a sentence; no sentence quotes anything of a key. Nothing here is kept beyond one load.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Certificate", "PemReader", "holds_private_key"]

KEY_BEGIN = re.compile(r"-----BEGIN ((?:[A-Z0-9]+ ){0,3}PRIVATE KEY)-----")
BOUNDARY = re.compile(r"-----(?:BEGIN|END) [A-Z0-9 ]{1,40}-----")
REST_OF_LINE = re.compile(r"[ \t\r]*(?:\n|\Z)")
PATH = re.compile(r"(?:/|\./|\.\./|~/)[^\n]{1,4096}|[^\n]{1,4096}\.(?:pem|crt|cer|key|der)").fullmatch
ENCRYPTED = re.compile(r"BEGIN ENCRYPTED PRIVATE KEY|Proc-Type:\s*4\s*,\s*ENCRYPTED")
FAILURES = (ValueError, TypeError, UnsupportedAlgorithm)


class Certificate(msgspec.Struct, frozen=True):
    """What matters of a text of certificates: of the first, its public key, as DER, and its time; then of the rest."""

    public_key: bytes
    not_before: datetime
    not_after: datetime
    others: frozenset[bytes]
    """The public keys of those behind the first."""
    latest: datetime
    """When the last of all of them expires."""
    authority: bool
    """Whether any of them may verify a broker."""


def holds_private_key(text: str) -> bool:
    """Tell whether a PEM text holds more than the public may see."""
    return "PRIVATE KEY" in text


def names_a_file(text: str) -> bool:
    """Tell whether a text is rather the path of a file than PEM."""
    return "-----" not in text and PATH(text.strip()) is not None


class PemReader:
    """Reads PEM, each text once: a thousand connections may share one bundle of authorities."""

    def __init__(self) -> None:
        """Start without memories."""
        self._certificates: dict[str, Certificate | str] = {}

    def certificate(self, text: str) -> Certificate:
        """Give the first certificate of a text; all of them must be readable."""
        known = self._certificates.get(text)
        if known is None:
            try:
                known = _certificate(text)
            except ValueError as error:
                known = str(error)
            self._certificates[text] = known
        if isinstance(known, str):
            raise ValueError(known)  # noqa: TRY004 - a remembered sentence, not a wrong type
        return known

    def public_key_of(self, private: str) -> bytes:
        """Give the public key, as DER, that belongs to a private key."""
        if ENCRYPTED.search(private):
            raise ValueError(
                "is an encrypted key, and nobody is there to type its passphrase; "
                "decrypt it: openssl pkey -in encrypted.key -out plain.key",
            )
        if names_a_file(private):
            # It is not shown: the base64 of a key may begin with a slash.
            raise ValueError("holds the path of a file, as it seems, not PEM; write !file in front of it")
        if "-----BEGIN CERTIFICATE-----" in private and not holds_private_key(private):
            raise ValueError("this is a certificate; it belongs into certificate")
        _check_lines(private)
        block = _key_block(private)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                key = serialization.load_pem_private_key(
                    block.encode(),
                    password=None,
                    unsafe_skip_rsa_key_validation=True,
                )
            return key.public_key().public_bytes(
                serialization.Encoding.DER,
                serialization.PublicFormat.SubjectPublicKeyInfo,
            )
        except FAILURES:
            raise ValueError("cannot be read as a private key in PEM form (PKCS#8, PKCS#1 or SEC 1)") from None


def _key_block(text: str) -> str:
    """Cut the key out of what may stand around it, such as its parameters or its certificate."""
    begin = KEY_BEGIN.search(text)
    # Not one regular expression: on a text of many beginnings it would take quadratic time.
    end = text.find(f"-----END {begin[1]}-----", begin.end()) if begin else -1
    if begin is None or end < 0:
        raise ValueError("holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)")
    return text[begin.start() : end] + f"-----END {begin[1]}-----\n"


def _check_lines(text: str) -> None:
    """Refuse what OpenSSL does not read: boundaries that are not lines of their own (RFC 7468, section 3)."""
    for boundary in BOUNDARY.finditer(text):
        begin = text.rfind("\n", 0, boundary.start()) + 1
        before = text[begin : boundary.start()]
        if before.strip(" \t") or not REST_OF_LINE.match(text, boundary.end()):
            raise ValueError(
                "its line breaks are missing: each -----BEGIN …----- and -----END …----- must be a line of its own",
            )
        if before:
            raise ValueError("its lines are indented; each must begin with its first character")


def _certificate(text: str) -> Certificate:
    if "CERTIFICATE-----" not in text and holds_private_key(text):
        raise ValueError("this is a private key; it belongs into privateKey")
    if "-----BEGIN " not in text or "CERTIFICATE-----" not in text:
        raise ValueError("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    _check_lines(text)
    try:
        with warnings.catch_warnings():
            # Certificates that bend the rules a little still work.
            warnings.simplefilter("ignore")
            first, *rest = certificates = x509.load_pem_x509_certificates(text.encode())
            return Certificate(
                _public_key(first),
                first.not_valid_before_utc,
                first.not_valid_after_utc,
                frozenset(filter(None, map(_public_key_if_known, rest))),
                max(one.not_valid_after_utc for one in certificates),
                any(map(_may_verify, certificates)),
            )
    except FAILURES:
        raise ValueError("cannot be read as a certificate in PEM form") from None


def _public_key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER,
        serialization.PublicFormat.SubjectPublicKeyInfo,
    )


def _public_key_if_known(certificate: x509.Certificate) -> bytes:
    """Give a public key, or nothing for one of a kind that cannot be read: only the first has to be."""
    try:
        return _public_key(certificate)
    except FAILURES:
        return b""


def _may_verify(certificate: x509.Certificate) -> bool:
    """Tell whether OpenSSL may take a certificate as the end of a chain: an authority, or signed by itself."""
    try:
        if certificate.issuer == certificate.subject:
            return True
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    except (*FAILURES, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        # It is no business of ours to judge what we cannot read.
        return True
