"""Certificates and keys for tests, made once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

if TYPE_CHECKING:
    from pathlib import Path


@cache
def authority() -> trustme.CA:
    return trustme.CA()


def ca_certificate() -> str:
    return authority().cert_pem.bytes().decode()


def pair(*, ends_in_days: int = 30) -> tuple[str, str]:
    """Give a client certificate with its chain, and its key."""
    end = datetime.now(UTC) + timedelta(days=ends_in_days)
    leaf = authority().issue_cert("client.example", not_after=end, key_type=trustme.KeyType.ECDSA)
    chain = "".join(blob.bytes().decode() for blob in leaf.cert_chain_pems)
    return chain, leaf.private_key_pem.bytes().decode()


@cache
def shared_pair() -> tuple[str, str]:
    return pair()


def key(*, form: str = "PKCS8", passphrase: str = "", kind: str = "EC") -> str:
    """Give a new private key in a form of PEM."""
    private = ec.generate_private_key(ec.SECP256R1()) if kind == "EC" else rsa.generate_private_key(65537, 2048)
    encryption = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    shape = serialization.PrivateFormat.PKCS8 if form == "PKCS8" else serialization.PrivateFormat.TraditionalOpenSSL
    return private.private_bytes(serialization.Encoding.PEM, shape, encryption).decode()


def indented(pem: str, spaces: int = 8) -> str:
    """Give PEM as a block in YAML: `|` and its lines."""
    return "|\n" + "\n".join(" " * spaces + line for line in pem.strip().splitlines())


def furnish(directory: Path) -> dict[str, str]:
    """Put all that config/full.yaml refers to into a directory; gives the environment."""
    certificate, private_key = shared_pair()
    contents = {
        "acme.crt": certificate,
        "acme.key": private_key,
        "acme-ca.crt": ca_certificate(),
        "http.crt": certificate,
        "http.key": private_key,
        "api-admin-token": "planted-admin-token\n",
        "api-read-only-token": "planted-read-only-token\n",
        "acme-password": "planted-password\n",
        "acme-as-key": "00112233445566778899aabbccddeeff\n",
        "lrc-as-key": "ffeeddccbbaa99887766554433221100\n",
        "lrc-ca.crt": ca_certificate(),
        "lns-authorization": "Bearer planted-authorization\n",
        "lns-api-key": "planted-api-key\n",
    }
    for name, content in contents.items():
        (directory / name).write_text(content)
    return {"CREDENTIALS_DIRECTORY": str(directory), "TTN_API_KEY": "planted-ttn-key"}
