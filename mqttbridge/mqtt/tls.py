"""TLS contexts from PEM text, and what went wrong with TLS in plain words.

Certificates and host names are always verified, and nothing below TLS 1.2 is spoken: there is no switch for less.
Keys are shown to OpenSSL through memory that no path leads to once the context is built.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mqttbridge.errors import TlsFailed
from mqttbridge.mqtt.offload import Offload
from mqttbridge.mqtt.reasons import CHECK_PORT

if TYPE_CHECKING:
    from mqttbridge.mqtt.options import LinkOptions

__all__ = ["build", "context_for", "explain", "load_pair"]

_builders = Offload(2, "mqttbridge-tls")

SHARED = 1024
"""Contexts kept; links with equal certificates share one, because a context with many authorities is large."""

_contexts: dict[bytes, ssl.SSLContext] = {}  # oldest first

NO_TLS = f"the broker does not speak TLS on this port; {CHECK_PORT}"

REASONS = {
    "CERTIFICATE_UNKNOWN": "the broker does not accept the client certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the broker demands a client certificate; set certificate and privateKey",
    "TLSV1_ALERT_UNKNOWN_CA": "the broker does not know the authority of the client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the broker rejects the client certificate as bad",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the broker says that the client certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the broker says that the client certificate was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the broker does not accept the client certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        "the broker refuses the handshake: no shared cipher, or it demands a client certificate"
    ),
    "TLSV1_ALERT_ACCESS_DENIED": "the broker denies access to this client certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the broker speaks no TLS version that is allowed here (1.2 or newer)",
    "UNSUPPORTED_PROTOCOL": "the broker speaks no TLS version that is allowed here (1.2 or newer)",
    "WRONG_VERSION_NUMBER": NO_TLS,
    "HTTP_REQUEST": NO_TLS,
    "HTTPS_PROXY_REQUEST": NO_TLS,
    "PACKET_LENGTH_TOO_LONG": NO_TLS,
    "RECORD_LAYER_FAILURE": NO_TLS,
    "NO_APPLICATION_PROTOCOL": "the broker accepts none of the alpn names",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "the broker accepts none of the alpn names",
    "UNEXPECTED_EOF_WHILE_READING": "the broker closed the connection during the handshake",
}

PAIR = {
    "KEY_VALUES_MISMATCH": "certificate and privateKey do not belong together",
    "EE_KEY_TOO_SMALL": "the key of certificate is too short for OpenSSL (RSA: 2048 bits or more); have it issued anew",
    "CA_KEY_TOO_SMALL": "an authority in certificate has a key that is too short for OpenSSL (RSA: 2048 bits or more)",
    "CA_MD_TOO_WEAK": "certificate is signed by means of a hash that is too weak for OpenSSL; have it issued anew",
}
"""Why a certificate with its key cannot be loaded."""

# X509_V_ERR_*: the codes of `ssl.SSLCertVerificationError.verify_code`.
VERIFY = {
    9: "the broker's certificate is not valid yet; check this machine's clock",
    10: "the broker's certificate has expired",
    23: "the broker's certificate was revoked",
    62: "the broker's certificate is not for this host name; check hostName",
    64: "the broker's certificate is not for this IP address; check hostName",
}

AUTHORITY = {
    2: "the root authority of the broker's certificate is unknown",
    7: "the broker's certificate is not signed by the authority that it names",
    18: "the broker's certificate is self-signed",
    19: "the broker's certificate chain ends in an unknown self-signed authority",
    20: "the authority of the broker's certificate is unknown",
    21: "the broker's certificate cannot be verified: it sends an incomplete chain, or its authority is unknown",
}
"""Likewise, where another trustedCaCertificate would help."""


def explain(error: ssl.SSLError, *, own_ca: bool) -> str:
    """Say in plain words why TLS failed. `own_ca`: trustedCaCertificate is set."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in AUTHORITY:
            advice = "trustedCaCertificate does not hold this authority" if own_ca else "set trustedCaCertificate"
            return f"{AUTHORITY[error.verify_code]}; {advice}"
        known = VERIFY.get(error.verify_code)
        return known or f"the broker's certificate cannot be verified: {error.verify_message}"
    reason = error.reason or ""
    if isinstance(error, ssl.SSLEOFError):
        reason = reason or "UNEXPECTED_EOF_WHILE_READING"
    return REASONS.get(reason) or f"TLS failed: {reason.replace('_', ' ').lower() or error}"


async def context_for(options: LinkOptions) -> ssl.SSLContext:
    """Give the context of a link, built in a thread the first time. Raises `TlsFailed`."""
    key = options.private_key.reveal() if options.private_key is not None else None
    inputs = (options.ca, options.certificate, key, options.alpn)
    # By digest: the cache holds no key as text.
    digest = hashlib.sha256(repr(inputs).encode()).digest()
    context = _contexts.pop(digest, None)
    try:
        if context is None:
            context = await _builders.run(digest, lambda: build(*inputs))
    except ValueError as error:
        raise TlsFailed(f"{options.where}: {error}") from None
    except OSError as error:
        raise TlsFailed(f"{options.where}: the certificates cannot be loaded: {error.strerror}") from None
    _contexts[digest] = context  # now the youngest
    while len(_contexts) > SHARED:
        _contexts.pop(next(iter(_contexts)))
    return context


def build(ca: str | None, certificate: str | None, key: str | None, alpn: tuple[str, ...]) -> ssl.SSLContext:
    """Build a context. Blocks for some milliseconds. Raises `ValueError` with a sentence."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if ca is None:
        _trust_system(context, shared=certificate is None)
    else:
        try:
            context.load_verify_locations(cadata=ca)
        except (ssl.SSLError, ValueError):
            raise ValueError("trustedCaCertificate holds no usable PEM certificate") from None
    if certificate is not None:
        if key is None:
            raise ValueError("certificate needs privateKey")
        load_pair(context, certificate, key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _trust_system(context: ssl.SSLContext, *, shared: bool) -> None:
    """Trust the system's authorities.

    All of them take about 1 MB in a context. One that no other link shares (it has a client certificate of its own)
    looks them up in the system's directory instead, one small file when it is needed, where there is such a directory.
    """
    paths = ssl.get_default_verify_paths()
    chosen = {paths.openssl_cafile_env, paths.openssl_capath_env} & set(os.environ)
    if not shared and not chosen and paths.capath and any(Path(paths.capath).glob("????????.0")):
        context.load_verify_locations(capath=paths.capath)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)


def load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load certificate and key through a private file that has no name. Raises `ValueError` with a sentence."""

    def no_passphrase() -> str:
        raise ValueError("privateKey is encrypted; give it without a passphrase")  # OpenSSL would ask the terminal

    with _nameless_file() as file:
        file.write(f"{key.strip()}\n{certificate.strip()}\n".encode())
        file.flush()
        try:
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=no_passphrase)
        except ssl.SSLError as error:
            raise ValueError(PAIR.get(error.reason or "", "certificate or privateKey is not usable PEM")) from None


def _nameless_file() -> BinaryIO:
    """Open a file in memory; where the kernel has none, one on disk that is unlinked at once."""
    try:
        return os.fdopen(os.memfd_create("mqttbridge-tls", os.MFD_CLOEXEC), "w+b")
    except OSError:
        return tempfile.TemporaryFile()
