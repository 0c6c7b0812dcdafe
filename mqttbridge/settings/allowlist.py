"""Which brokers the API may have connected to: `api.brokerAllowlist`. Pure.

Names are judged as they stand in the configuration, since that is what is dialled: nothing is looked up here, and so
a name that is allowed is trusted with whatever address it has. A host that could be taken for an address by some
resolver (`127.1`, `0x7f000001`, `2130706433`) is treated as one: no entry of names allows it. An IPv6 address that
holds an IPv4 address (`::ffff:127.0.0.1`) is that one.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["allowed", "entry"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ENTRY = re.compile(
    r"(?:[a-z0-9_*](?:[a-z0-9_*-]{0,61}[a-z0-9_*])?\.)*[a-z0-9_*](?:[a-z0-9_*-]{0,61}[a-z0-9_*])?"
).fullmatch
NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)").fullmatch
"""What inet_aton(3) takes for a part of an address."""
OCTETS = re.compile(r"[0-9.*]*[0-9][0-9.*]*").fullmatch
HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*").fullmatch
DOTS = re.compile("[\u3002\uff0e\uff61]")
"""What IDNA takes for a dot (RFC 3490, section 3.1)."""
MAX_HOST = 253


def entry(text: str) -> str:
    """Read one entry: an address, a CIDR, or a name with `*`. Gives it as `allowed` wants it; raises `ValueError`."""
    bare = _unbracketed(text.strip()).lower()
    if "/" in bare or _address(bare) is not None:
        try:
            return str(ipaddress.ip_network(bare))
        except ValueError:
            raise ValueError("is no network: write its first address and a length, such as 192.0.2.0/24") from None
    if ":" in bare:
        raise ValueError("must be a host without a port, such as broker.example.com, or an IPv6 address")
    try:
        name = _name(bare)
    except ValueError:
        name = ""
    if not name or len(name) > MAX_HOST or not ENTRY(name) or _numeric(name) or OCTETS(name):
        raise ValueError(
            "must be a host name, in which * stands for a part of it, such as *.example.com, an IP address, or a "
            "network such as 192.0.2.0/24"
        )
    return name


def allowed(host: str, allowlist: Sequence[str]) -> bool:
    """Tell whether a host (without port and brackets) may be connected to. An empty list allows every host.

    A name is in any case, with a final dot or none; `*` stands for any characters, dots too, but at least one. An
    address is allowed by an entry that is this address or a network that holds it, never by a name.
    """
    if not allowlist:
        return True
    entries = ["".join(one) for one in allowlist]
    address = _address(host)
    if address is not None:
        networks = [network for one in entries if (network := _network(one)) is not None]
        return any(address in network for network in networks if network.version == address.version)
    try:
        name = _name(host)
    except ValueError:
        return False
    if not HOST(name) or _numeric(name):
        return False
    return any(_matches(one, name) for one in entries if _network(one) is None)


def _matches(pattern: str, name: str) -> bool:
    parts = [re.escape(part) for part in pattern.lower().removesuffix(".").split("*")]
    return re.fullmatch(".+".join(parts), name) is not None


def _name(text: str) -> str:
    """Give a host name as it is dialled: in ASCII and small letters, without a final dot. Raises `ValueError`."""
    dotted = DOTS.sub(".", text).removesuffix(".").lower()
    if dotted.isascii():
        return dotted
    if len(dotted) > MAX_HOST:
        # Python's idna takes a minute for a megabyte.
        raise ValueError("is too long")
    return dotted.encode("idna").decode("ascii").lower()


def _numeric(name: str) -> bool:
    """Tell whether a resolver may take a name for an address; no top-level domain is a number (RFC 3696, section 2)."""
    return NUMBER(name.rpartition(".")[2]) is not None


def _unbracketed(text: str) -> str:
    """Take off the brackets that stand around IPv6 addresses."""
    inner = text[1:-1]
    return inner if text == f"[{inner}]" and ":" in inner else text


def _address(text: str) -> Address | None:
    """Read an address; a zone (`%eth0`) does not count, and an IPv4 address stays one inside of IPv6."""
    try:
        address = ipaddress.ip_address(_unbracketed(text).partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


def _network(text: str) -> Network | None:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return None
    return network
