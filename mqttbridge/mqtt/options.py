"""What a link needs to know, as one frozen struct, made from the settings. Pure.

Sessions and sources make theirs by `link_options`. Passwords and keys stay `Secret` in it: only the modules that use
them reveal them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mqttbridge.settings.secret import Secret, plain

if TYPE_CHECKING:
    from mqttbridge.settings.schema import LinkSettings

__all__ = ["LinkOptions", "link_options"]

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


def link_options(
    settings: LinkSettings,
    *,
    client_id: str,
    clean: bool,
    qos: int = 1,
    retain: bool = False,
) -> LinkOptions:
    """Make the options of a link. Here what came by `!env` or the like becomes plain: it is about to be used."""
    host, port = settings.address
    return LinkOptions(
        host=host,
        port=port,
        client_id=client_id,
        protocol=settings.protocol,
        web_socket_path=plain(settings.web_socket_path),
        username=None if settings.username is None else plain(settings.username),
        password=settings.password,
        ca=settings.trusted_ca_certificate,
        certificate=settings.certificate,
        private_key=settings.private_key,
        alpn=tuple(plain(name) for name in settings.alpn),
        v5=settings.mqtt_version == "5",
        keep_alive=min(65535, -(-settings.keep_alive // 1000)),
        clean=clean,
        qos=qos,
        retain=retain,
    )
