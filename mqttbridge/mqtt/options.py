"""What a link needs to know, as one frozen struct, made from the settings. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mqttbridge.settings.secret import Secret  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from mqttbridge.settings.schema import LinkSettings

__all__ = ["LinkOptions", "host_and_port", "link_options"]

PORTS = {"SSL": 8883, "TCP": 1883, "WSS": 443}
WEEK = 7 * 24 * 3600
SOURCE_WINDOW = 1000


class LinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach and enter one broker. Times are seconds."""

    host: str
    port: int
    client_id: str
    protocol: str = "TCP"
    """SSL, WSS or TCP."""
    web_socket_path: str = "/mqtt"
    username: str | None = None
    password: Secret | None = None
    ca: str | None = None
    """PEM; None: the system's authorities."""
    certificate: str | None = None
    private_key: Secret | None = None
    alpn: tuple[str, ...] = ()
    v5: bool = False
    keep_alive: int = 20
    clean: bool = True
    """False: the broker keeps the session (subscriptions and unacknowledged messages) for `session_expiry`."""
    session_expiry: int = WEEK
    receive_maximum: int = SOURCE_WINDOW
    """MQTT 5: how many unacknowledged messages the broker may send ahead."""
    qos: int = 1
    retain: bool = False

    @property
    def where(self) -> str:
        """`host:port`, for sentences."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def host_and_port(host_name: str, protocol: str) -> tuple[str, int]:
    """Take `host`, `host:port`, `[v6]` or `[v6]:port` apart. Raises `ValueError`."""
    default = PORTS[protocol]
    if host_name.startswith("["):
        host, bracket, rest = host_name[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{host_name!r} is not [address] or [address]:port")
        return host, int(rest[1:]) if rest else default
    if host_name.count(":") > 1:
        return host_name, default
    host, _, port = host_name.partition(":")
    return host, int(port) if port else default


def link_options(
    settings: LinkSettings,
    *,
    client_id: str,
    clean: bool,
    qos: int = 1,
    retain: bool = False,
) -> LinkOptions:
    """Make the options of a link; `client_id` counts where the settings name none."""
    host, port = host_and_port(settings.host_name, settings.protocol)
    return LinkOptions(
        host=host,
        port=port,
        client_id=settings.client_id or client_id,
        protocol=settings.protocol,
        web_socket_path=settings.web_socket_path,
        username=settings.username,
        password=settings.password,
        ca=settings.trusted_ca_certificate,
        certificate=settings.certificate,
        private_key=settings.private_key,
        alpn=settings.alpn,
        v5=settings.mqtt_version == "5",
        keep_alive=min(65535, -(-settings.keep_alive // 1000)),
        clean=clean,
        qos=qos,
        retain=retain,
    )
