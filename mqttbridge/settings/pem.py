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
ENCRYPTED = re.compile(r"BEGIN ENCRYPTED PRIVATE KEY|Proc-Type:\s*4\s*,\s*ENCRYPTED")
FAILURES = (ValueError, TypeError, UnsupportedAlgorithm)


class Certificate(msgspec.Struct, frozen=True):
    """What matters of a certificate: its public key, as DER, and its time."""

    public_key: bytes
    not_before: datetime
    not_after: datetime


def holds_private_key(text: str) -> bool:
    """Tell whether a PEM text holds more than the public may see."""
    return "PRIVATE KEY" in text


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


def _certificate(text: str) -> Certificate:
    if "-----BEGIN " not in text or "CERTIFICATE-----" not in text:
        raise ValueError("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
    try:
        with warnings.catch_warnings():
            # Certificates that bend the rules a little still work.
            warnings.simplefilter("ignore")
            first = x509.load_pem_x509_certificates(text.encode())[0]
            public_key = first.public_key().public_bytes(
                serialization.Encoding.DER,
                serialization.PublicFormat.SubjectPublicKeyInfo,
            )
            return Certificate(public_key, first.not_valid_before_utc, first.not_valid_after_utc)
    except (*FAILURES, IndexError):
        raise ValueError("cannot be read as a certificate in PEM form") from None
