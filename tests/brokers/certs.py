"""Certificates for tests: an authority, and what it signs, good and bad. All in memory, as PEM text."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

if TYPE_CHECKING:
    from pathlib import Path


class Pair(NamedTuple):
    """A certificate with its chain, and its key in PKCS#8: PEM text."""

    certificate: str
    key: str

    def pkcs1(self) -> str:
        """Give the key as `BEGIN RSA PRIVATE KEY` (or `EC PRIVATE KEY`)."""
        return self._as(PrivateFormat.TraditionalOpenSSL)

    def encrypted(self) -> str:
        """Give the key with a passphrase."""
        return self._as(PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))

    def _as(self, form: PrivateFormat, encryption: object = None) -> str:
        key = load_pem_private_key(self.key.encode(), None)
        return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode()

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Write `<name>.crt` and `<name>.key`; gives both paths."""
        directory.mkdir(parents=True, exist_ok=True)
        certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
        certificate.write_text(self.certificate)
        key.write_text(self.key)
        return certificate, key


def _pair(leaf: trustme.LeafCert) -> Pair:
    chain = "".join(blob.bytes().decode() for blob in leaf.cert_chain_pems)
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    return Pair(chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


class Certificates:
    """One authority and its certificates, each made when it is first asked for."""

    def __init__(self, key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> None:
        self._key_type = key_type
        self._authority = trustme.CA(key_type=key_type)

    @property
    def ca(self) -> str:
        """The authority's certificate."""
        return self._authority.cert_pem.bytes().decode()

    def issue(self, *names: str, days: int = 1) -> Pair:
        """Give a certificate for host names or addresses; negative `days`: it has expired."""
        until = datetime.now(UTC) + timedelta(days=days)
        since = until - timedelta(days=2)
        return _pair(self._authority.issue_cert(*names, not_before=since, not_after=until, key_type=self._key_type))

    @cached_property
    def server(self) -> Pair:
        """For localhost, 127.0.0.1 and ::1."""
        return self.issue("localhost", "127.0.0.1", "::1")

    @cached_property
    def client(self) -> Pair:
        return self.issue("client@example.com")

    @cached_property
    def expired(self) -> Pair:
        return self.issue("localhost", "127.0.0.1", days=-1)

    @cached_property
    def wrong_host(self) -> Pair:
        return self.issue("elsewhere.example")

    @cached_property
    def self_signed(self) -> Pair:
        """A certificate that vouches for itself alone."""
        ca = trustme.CA(organization_name="localhost", key_type=self._key_type)
        key = load_pem_private_key(ca.private_key_pem.bytes(), None)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return Pair(ca.cert_pem.bytes().decode(), text)

    def server_context(self, directory: Path, pair: Pair | None = None, *, demand: bool = False) -> ssl.SSLContext:
        """Give a context for a TLS server in the test's own process; `demand`: clients must have a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate, key = (pair or self.server).write(directory, "fake-server")
        context.load_cert_chain(certificate, key)
        if demand:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.ca)
        return context

    def listener(self, directory: Path, pair: Pair | None = None, *, demand: bool = False) -> list[str]:
        """Give the lines of a mosquitto listener with TLS."""
        certificate, key = (pair or self.server).write(directory, f"server{id(pair)}")
        authority = directory / "ca.crt"
        authority.write_text(self.ca)
        lines = [f"certfile {certificate}", f"keyfile {key}"]
        if demand:
            lines += [f"cafile {authority}", "require_certificate true"]
        return lines
