"""Why a request to a network server failed, in plain words. Pure.

`httpx` wraps what the system and OpenSSL say, some times over; here the innermost of it is found and told. No
sentence quotes an address or anything of a request.
"""

from __future__ import annotations

import asyncio
import os
import ssl

import httpx

__all__ = ["cause"]

CHECK_TLS = "it does not speak TLS on this port; check https or http, and the port, in apiUrl"

# X509_V_ERR_*: the codes of `ssl.SSLCertVerificationError.verify_code`.
CERTIFICATE = {
    9: "its certificate is not valid yet; check this machine's clock",
    10: "its certificate has expired",
    23: "its certificate was revoked",
    62: "its certificate is not for this host name; check apiUrl",
    64: "its certificate is not for this IP address; check apiUrl",
}
AUTHORITY = {
    2: "the root authority of its certificate is unknown",
    18: "its certificate is self-signed",
    19: "its certificate chain ends in an unknown self-signed authority",
    20: "the authority of its certificate is unknown",
    21: "its certificate cannot be verified: it sends an incomplete chain, or its authority is unknown",
}
"""Likewise, where another apiCaCertificate would help."""

TLS = {
    "WRONG_VERSION_NUMBER": CHECK_TLS,
    "HTTP_REQUEST": CHECK_TLS,
    "RECORD_LAYER_FAILURE": CHECK_TLS,
    "PACKET_LENGTH_TOO_LONG": CHECK_TLS,
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS version that is allowed here (1.2 or newer)",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it speaks no TLS version that is allowed here (1.2 or newer)",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refuses the TLS handshake: no shared cipher, or it wants a client certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a client certificate, which this bridge has none of",
    "TLSV1_UNRECOGNIZED_NAME": "it does not know this host name; check apiUrl",
    "UNEXPECTED_EOF_WHILE_READING": "it closed the connection during the TLS handshake",
}
WORDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (httpx.ConnectTimeout, "it does not answer when connected to"),
    ((httpx.TimeoutException, TimeoutError), "it does not answer in time"),
    ((httpx.UnsupportedProtocol, httpx.InvalidURL), "apiUrl is not a URL that can be used"),
    (httpx.ProtocolError, "it closed the connection without an answer, or what it answers is not HTTP"),
    (httpx.NetworkError, "the connection broke"),
)
"""Where neither OpenSSL nor the system gave a reason; the first that fits."""
NOT_YET = (ssl.SSLWantReadError, ssl.SSLWantWriteError, asyncio.CancelledError)
MOST = 20
"""Exceptions looked at: a chain may be a circle."""


def cause(error: BaseException, *, own_ca: bool) -> str:
    """Say why a request failed. `own_ca`: apiCaCertificate is set."""
    for inner in _chain(error):
        if isinstance(inner, NOT_YET):
            break  # what was under way when the time was over, no failure
        if isinstance(inner, ssl.SSLError):
            return _tls(inner, own_ca=own_ca)
        if isinstance(inner, OSError) and inner.errno:
            # The loop puts the address into `strerror`.
            return os.strerror(inner.errno).lower()
    for kinds, words in WORDS:
        if isinstance(error, kinds):
            return words
    return f"the request failed ({type(error).__name__})"


def _chain(error: BaseException) -> list[BaseException]:
    """Give an exception and what it was raised from, the outermost first."""
    found: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None and len(found) < MOST:
        found.append(inner)
        group = inner.exceptions if isinstance(inner, BaseExceptionGroup) else ()
        inner = group[0] if group else inner.__cause__ or inner.__context__
    return found


def _tls(error: ssl.SSLError, *, own_ca: bool) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in AUTHORITY:
            advice = "apiCaCertificate does not hold this authority" if own_ca else "set apiCaCertificate"
            return f"{AUTHORITY[error.verify_code]}; {advice}"
        known = CERTIFICATE.get(error.verify_code)
        return known or f"its certificate cannot be verified: {error.verify_message}"
    reason = "UNEXPECTED_EOF_WHILE_READING" if isinstance(error, ssl.SSLEOFError) else error.reason or ""
    return TLS.get(reason) or f"TLS failed: {reason.replace('_', ' ').lower() or 'no reason is given'}"
