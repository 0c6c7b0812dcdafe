"""Read `host:port` as brokers and listeners are named. Pure.

The functions raise `ValueError` with a sentence that says what to write instead. A sentence never shows what stands
before an `@`: people paste URLs with their password in them.
"""

from __future__ import annotations

import ipaddress
import re

__all__ = ["DEFAULT_PORTS", "broker", "listener", "url"]

DEFAULT_PORTS = {"SSL": 8883, "WSS": 443, "TCP": 1883}

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)", re.DOTALL).fullmatch
PROTOCOLS = {
    "mqtt": "TCP",
    "tcp": "TCP",
    "mqtts": "SSL",
    "ssl": "SSL",
    "tls": "SSL",
    "ws": "WSS",
    "wss": "WSS",
}
LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)").fullmatch
NUMERIC = re.compile(r"[0-9.]+").fullmatch
DIGITS = re.compile(r"[0-9]+").fullmatch
PORT = re.compile(r"[0-9]{1,5}").fullmatch
MAX_HOST = 253
MAX_PORT = 65535
SHORTEST_TEXT = 0x21


def broker(text: str, protocol: str) -> tuple[str, int]:
    """Read a broker's `hostName`: `host` or `host:port`, IPv6 in brackets. Gives host (without brackets) and port."""
    if found := SCHEME(text):
        raise ValueError(_without_scheme(found[1].lower(), found[2]))
    if "@" in text:
        raise ValueError("must not hold a user name or password; these are properties of their own")
    if "/" in text:
        raise ValueError("must be host or host:port, without a path; the path of a WebSocket is webSocketPath")
    if DIGITS(text):
        raise ValueError("must be host or host:port, such as broker.example.com:8883, not a number alone")
    host, port = _split(text, "broker.example.com:8883")
    return host, DEFAULT_PORTS[protocol] if port is None else _port(port, 1)


def listener(text: str) -> tuple[str, int]:
    """Read an address to listen on: `address:port`, IPv6 in brackets; port 0 takes a free one."""
    if "/" in text or "@" in text:
        raise ValueError("must be address:port, such as 127.0.0.1:8080, and nothing else")
    if text.startswith(":") and PORT(text[1:]):
        raise ValueError(f'names no address; write 0.0.0.0{text} or "[::]{text}" to listen on all of them')
    if DIGITS(text):
        raise ValueError("must be address:port, such as 127.0.0.1:8080, not a number alone")
    host, port = _split(text, "127.0.0.1:8080")
    if port is None:
        raise ValueError("names no port; write address:port, such as 127.0.0.1:8080")
    return host, _port(port, 0)


def url(text: str) -> str:
    """Read a URL of an HTTP API: `https://host[:port][/path]`; gives it without a final slash."""
    example = "https://ns.example.com"
    found = SCHEME(text)
    if not found or found[1].lower() not in {"http", "https"}:
        raise ValueError(f"must be a URL that begins with https:// (or http://), such as {example}")
    if "@" in found[2]:
        raise ValueError("must not hold a user name or password; keys are properties of their own")
    if "?" in text or "#" in text or "\\" in text:
        raise ValueError(f"must be a URL without ?, # and backslashes, such as {example}")
    place, slash, path = found[2].partition("/")
    host, port = _split(place, example)
    if port is not None:
        _port(port, 1)
    if any(ord(character) <= SHORTEST_TEXT - 1 or ord(character) >= ord("\x7f") for character in path):
        raise ValueError("must not hold spaces, control or non-ASCII characters in its path; encode them (%20)")
    if not host.isascii():
        place = place.replace(host, host.encode("idna").decode())
    return f"{found[1].lower()}://{place}{slash}{path}".rstrip("/")


def _without_scheme(scheme: str, rest: str) -> str:
    """Say what to write instead of a URL."""
    place, slash, path = rest.rpartition("@")[2].partition("/")
    words = f'must be host or host:port, without {scheme}://; write "hostName: {place or "broker.example.com"}"'
    protocol = PROTOCOLS.get(scheme)
    if protocol:
        words += f' and "protocol: {protocol}"'
    if protocol == "WSS" and slash:
        words += f' and "webSocketPath: /{path}"'
    return words


def _split(text: str, example: str) -> tuple[str, str | None]:
    """Take host and port apart, and look at the host."""
    if any(ord(character) < SHORTEST_TEXT or character == "\x7f" or character.isspace() for character in text):
        raise ValueError(f"must not hold spaces or control characters; write it such as {example}")
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or not _is_ipv6(inner):
            raise ValueError('is not an IPv6 address in brackets with a port, such as "[::1]:1883"')
        return inner, rest[1:] if rest else None
    host, colon, port = text.partition(":")
    if ":" in port:
        raise ValueError(f'has too many colons; write {example}, or an IPv6 address in brackets, such as "[::1]:1883"')
    _check_host(host, example)
    return host, port if colon else None


def _check_host(host: str, example: str) -> None:
    if not host:
        raise ValueError(f"names no host; write it such as {example}")
    if NUMERIC(host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError("is not an IPv4 address, such as 192.0.2.1") from None
        return
    if len(host) > MAX_HOST + 1:
        # Python's idna takes a minute for a megabyte.
        raise ValueError(f"is longer than any host name; write it such as {example}")
    try:
        plain = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(f"is not a host name; write it such as {example}") from None
    name = plain.removesuffix(".")
    if len(name) > MAX_HOST or not all(map(LABEL, name.split("."))):
        raise ValueError(f"is not a host name (letters, digits, hyphens, dots); write it such as {example}")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _port(text: str, low: int) -> int:
    if PORT(text) and low <= int(text) <= MAX_PORT:
        return int(text)
    raise ValueError(f"must end with a port from {low} to {MAX_PORT}")
