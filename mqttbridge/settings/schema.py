"""The configuration as frozen structs: names, types, ranges and defaults, and nothing else.

This is the one place where a property is declared. The loader converts by these types, and the JSON Schema for
editors is generated from them. Property names in the file are the camelCase of the names here, as ThingPark X IoT
Flow spells them. `Meta.extra["kind"]` tells the loader how to read a value (a duration, a size) or which check looks
into it; `Meta.extra["alias"]` is another spelling of the name that is accepted.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from mqttbridge.settings import address
from mqttbridge.settings.alarms import Alarm  # noqa: TC001 - msgspec reads the annotations
from mqttbridge.settings.secret import Secret, plain

__all__ = [
    "Api",
    "Configuration",
    "Connection",
    "Flow",
    "Http",
    "HttpSource",
    "Journal",
    "KeyMatcher",
    "LinkSettings",
    "Matcher",
    "MqttSource",
    "Protocol",
    "ReconnectStrategy",
    "Settings",
    "Source",
    "ThingMatcher",
]

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
PEBIBYTE = 1024**5


Protocol = Literal["SSL", "WSS", "TCP"]
ReconnectStrategy = Literal["CALM", "NORMAL", "AGGRESSIVE"]
Format = Literal["thingpark", "chirpstack", "tts"]


def _duration(low: int, high: int, text: str) -> Meta:
    """Milliseconds in the struct; in the file an integer (milliseconds) or a string such as `5s`."""
    schema = {
        "anyOf": [
            {"type": "integer", "minimum": low, "maximum": high},
            {"type": "string", "pattern": r"^\d+(ms|s|m|h|d)?$"},
        ],
    }
    extra: dict[str, Any] = {"kind": "duration", "low": low, "high": high}
    return Meta(description=text, extra=extra, extra_json_schema=schema)


def _size(low: int, text: str) -> Meta:
    """Bytes in the struct; in the file an integer (bytes) or a string such as `1GiB`."""
    schema = {
        "anyOf": [
            {"type": "integer", "minimum": low},
            {"type": "string", "pattern": r"^\d+(B|KiB|MiB|GiB|TiB)?$"},
        ],
    }
    return Meta(description=text, extra={"kind": "size", "low": low, "high": PEBIBYTE}, extra_json_schema=schema)


def _text(kind: str, text: str, *, alias: str | None = None) -> Meta:
    """Describe a string that must not be empty; `kind` names the check that looks into it."""
    return Meta(description=text, extra={"kind": kind, "alias": alias}, extra_json_schema={"minLength": 1})


class Base(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What all sections share: camelCase names, no unknown keys."""


class LinkSettings(Base, frozen=True, kw_only=True):
    """How to reach and enter a broker: shared by connections and MQTT sources."""

    host_name: Annotated[str, _text("hostName", "host, or host:port; default port 8883 (SSL), 1883 (TCP), 443 (WSS)")]
    protocol: Annotated[Protocol, Meta(description="SSL and WSS verify the broker's certificate, always")] = "SSL"
    web_socket_path: Annotated[str, _text("webSocketPath", "WSS only: the path of the WebSocket")] = "/mqtt"
    username: Annotated[str | None, _text("username", "user name, if the broker asks for one")] = None
    password: Annotated[Secret | None, _text("password", "password; better as !credential or !file")] = None
    trusted_ca_certificate: Annotated[
        str | None,
        _text("certificate", "PEM: the authorities to trust instead of the system's", alias="trustedCaCertficate"),
    ] = None
    certificate: Annotated[str | None, _text("certificate", "PEM: the client certificate for mutual TLS")] = None
    private_key: Annotated[Secret | None, _text("privateKey", "PEM, PKCS#8 or PKCS#1: key of `certificate`")] = None
    connection_timeout: Annotated[
        int,
        _duration(1, 10 * SECOND, "DNS, TCP, TLS and CONNACK together"),
    ] = 5 * SECOND
    action_timeout: Annotated[int, _duration(1, 10 * SECOND, "how long an answer may take")] = SECOND
    mqtt_version: Annotated[Literal["3.1.1", "5"], Meta(description="the MQTT version to speak")] = "3.1.1"
    client_id: Annotated[
        str | None,
        _text("clientId", "default mqttbridge-<id>, of a source mqttbridge-source-<id>"),
    ] = None
    keep_alive: Annotated[int, _duration(SECOND, 65535 * SECOND, "MQTT keep alive")] = 20 * SECOND
    alpn: Annotated[
        tuple[Annotated[str, _text("alpn", "a protocol name")], ...],
        Meta(description="TLS only: protocol names to offer, such as x-amzn-mqtt-ca"),
    ] = ()

    @property
    def address(self) -> tuple[str, int]:
        """Where the broker is: host (IPv6 without its brackets) and port.

        The host comes as plain text even if it was read from a secret place: whoever connects needs it.
        """
        return address.broker(plain(self.host_name), self.protocol)

    def client_id_for(self, identity: str) -> str:
        """Give the client id to use: the configured one, else the default for this connection."""
        return plain(self.client_id or f"mqttbridge-{identity}")


class Configuration(LinkSettings, frozen=True, kw_only=True):
    """The `configuration` of a connection, as ThingPark names it."""

    description: Annotated[str, Meta(description="free text")] = ""
    uplink_topic_pattern: Annotated[
        str,
        _text("uplinkTopicPattern", "topic of every uplink, with {DevEUI} and other fields of the document"),
    ] = "mqtt/things/{DevEUI}/uplink"
    downlink_topic_pattern: Annotated[
        str | None,
        _text("downlinkTopicPattern", "where downlinks come from; it must lead back to the DevEUI"),
    ] = None
    downlink_enabled: Annotated[bool, Meta(description="false: no downlinks are taken")] = True
    downlink_port: Annotated[
        Annotated[int, Meta(ge=1, le=224)] | None,
        Meta(description="FPort of downlinks that name none"),
    ] = None
    downlink_as_id: Annotated[str | None, _text("text", "AS_ID towards ThingPark")] = None
    downlink_as_key: Annotated[Secret | None, _text("asKey", "AS key towards ThingPark: 32 hex digits")] = None
    downlink_receipt_topic_pattern: Annotated[
        str | None,
        _text("receiptTopicPattern", "where the outcome of each downlink is published; default: nowhere"),
    ] = None
    downlink_devices: Annotated[
        tuple[Annotated[str, _text("devicePattern", "a DevEUI, in which * and ? stand for digits")], ...],
        Meta(description="the devices that may be sent downlinks; default: those whose uplinks come here"),
    ] = ()
    downlink_rate: Annotated[
        int,
        Meta(ge=1, le=100_000, description="downlinks a second, over ten seconds; what comes faster has to wait"),
    ] = 100
    send_metadata: Annotated[
        bool,
        Meta(description="true: uplinks only, each without its DevEUI_uplink root"),
    ] = False
    send_raw_decoded_format: Annotated[
        bool,
        Meta(description="true: only the decoded `payload` field, where there is one"),
    ] = False
    uplink_time_validity: Annotated[
        int,
        _duration(1, 3650 * 24 * HOUR, "uplinks older than this expire"),
    ] = 72 * HOUR
    reconnect_strategy: Annotated[ReconnectStrategy, Meta(description="how patient the reconnects are")] = "NORMAL"
    qos: Annotated[int, Meta(ge=0, le=2, description="QoS of published uplinks")] = 1
    retain: Annotated[bool, Meta(description="publish with the retain flag")] = False
    max_inflight: Annotated[int, Meta(ge=1, le=65535, description="uplinks sent ahead of their PUBACK")] = 100
    debug: Annotated[bool, Meta(description="true: a log line per uplink of this connection")] = False

    @property
    def takes_downlinks(self) -> bool:
        """Whether this connection subscribes to downlinks."""
        return self.downlink_topic_pattern is not None and self.downlink_enabled


class Connection(Base, frozen=True, kw_only=True):
    """One customer's broker."""

    connector_id: Annotated[
        Literal["actility-mqtt-iot", "mqtt"],
        Meta(description="the connector type"),
    ] = "actility-mqtt-iot"
    name: Annotated[str, Meta(description="a name for people")] = ""
    active: Annotated[bool, Meta(description="false: gets no uplinks and is not connected")] = True
    alarms: Annotated[
        tuple[Alarm, ...],
        Meta(description="when fewer uplinks than usual are worth a warning; default: never"),
    ] = ()
    configuration: Configuration


PassThrough = Annotated[bool, Meta(description="true: documents go out as they came, not as ThingPark documents")]
DuplicateWindow = Annotated[
    int, _duration(0, 24 * HOUR, "an uplink that came before, no longer ago than this, is dropped; 0: none is")
]
ApiUrl = Annotated[str | None, _text("apiUrl", "where downlinks go: LRC, ChirpStack's REST API or The Things Stack")]
ApiKey = Annotated[Secret | None, _text("header", "API key of ChirpStack or The Things Stack")]
ApiCertificate = Annotated[str | None, _text("certificate", "PEM: the authorities to trust at `apiUrl`")]
Webhook = Annotated[str | None, _text("webhook", "The Things Stack: the id of the webhook, for downlinks by `apiUrl`")]
AsId = Annotated[str | None, _text("text", "AS_ID of downlinks, unless the connection has one")]
AsKey = Annotated[Secret | None, _text("asKey", "AS key of downlinks, unless the connection has one; 32 hex digits")]


class HttpSource(Base, frozen=True, kw_only=True, tag_field="transport", tag="http"):
    """A network server that POSTs to /uplink/<id>."""

    format: Annotated[Format, Meta(description="what its documents look like")] = "thingpark"
    as_key: Annotated[Secret | None, _text("asKey", "set: the Token of every request is verified")] = None
    authorization: Annotated[
        Secret | None,
        _text("header", "set: every request must have this Authorization header, such as Bearer …"),
    ] = None
    pass_through: PassThrough = False
    duplicate_window: DuplicateWindow = 10 * MINUTE
    api_url: ApiUrl = None
    api_key: ApiKey = None
    api_ca_certificate: ApiCertificate = None
    webhook: Webhook = None
    downlink_as_id: AsId = None
    downlink_as_key: AsKey = None


class MqttSource(LinkSettings, frozen=True, kw_only=True, tag_field="transport", tag="mqtt"):
    """A network server that publishes to a broker."""

    format: Annotated[Format, Meta(description="what its documents look like")] = "thingpark"
    topics: Annotated[
        tuple[Annotated[str, _text("topicFilter", "a topic filter")], ...],
        Meta(min_length=1, description="topic filters to subscribe to"),
    ]
    pass_through: PassThrough = False
    duplicate_window: DuplicateWindow = 10 * MINUTE
    api_url: ApiUrl = None
    api_key: ApiKey = None
    api_ca_certificate: ApiCertificate = None
    webhook: Webhook = None
    downlink_as_id: AsId = None
    downlink_as_key: AsKey = None

    def client_id_for(self, identity: str) -> str:
        """Give the client id to use; the default differs from that of a connection with the same id."""
        return plain(self.client_id or f"mqttbridge-source-{identity}")


Source = HttpSource | MqttSource


class ThingMatcher(Base, frozen=True, kw_only=True, tag_field="type", tag="thing"):
    """Matches a device that has all these tags."""

    tags: Annotated[
        tuple[Annotated[str, _text("text", "a tag of the device")], ...],
        Meta(min_length=1, description="all of them (AND), in any case"),
    ]


class KeyMatcher(Base, frozen=True, kw_only=True, tag_field="type", tag="key"):
    """Matches one device."""

    key: Annotated[str, _text("deviceKey", "lora:<DevEUI>")]


Matcher = ThingMatcher | KeyMatcher


class Flow(Base, frozen=True, kw_only=True):
    """Which uplinks go to which connections."""

    name: Annotated[str, Meta(description="a name for people")] = ""
    description: Annotated[str, Meta(description="free text")] = ""
    matchers: Annotated[
        tuple[Matcher, ...],
        Meta(description="any of them (OR); none: every uplink matches"),
    ] = ()
    connections: Annotated[
        tuple[Annotated[str, _text("text", "the id of a connection")], ...],
        Meta(min_length=1, description="ids of connections"),
    ]


class Http(Base, frozen=True, kw_only=True):
    """The daemon's one HTTP listener."""

    listen: Annotated[str, _text("listen", "address:port")] = "127.0.0.1:8080"
    certificate: Annotated[
        str | None,
        _text("certificate", "PEM: the server's certificate, then those that lead to its authority: HTTPS alone"),
    ] = None
    private_key: Annotated[Secret | None, _text("privateKey", "PEM, PKCS#8 or PKCS#1: key of `certificate`")] = None
    insecure: Annotated[
        bool,
        Meta(description="true: tokens may come in over the network without TLS, as behind a proxy that has it"),
    ] = False

    @property
    def address(self) -> tuple[str, int]:
        """Where to listen: address (IPv6 without its brackets) and port; port 0 takes a free one."""
        return address.listener(plain(self.listen))


Token = Annotated[Secret, _text("token", "at least 16 printable ASCII characters; better as !credential or !file")]


class Api(Base, frozen=True, kw_only=True):
    """Who may use the API and the page over `http.listen`, and what for. Without any token: nobody."""

    admin_tokens: Annotated[
        tuple[Token, ...],
        Meta(description="with one of these, everything may be read and changed"),
    ] = ()
    read_only_tokens: Annotated[tuple[Token, ...], Meta(description="with one of these, everything may be read")] = ()
    broker_allowlist: Annotated[
        tuple[
            Annotated[str, _text("allowedHost", "a host name, in which * stands for a part of it; an IP, a CIDR")], ...
        ],
        Meta(description="the brokers that the API may have connected to; none: all"),
    ] = ()

    @property
    def tokens(self) -> tuple[Secret, ...]:
        """All of them."""
        return self.admin_tokens + self.read_only_tokens


class Journal(Base, frozen=True, kw_only=True):
    """The durable queue."""

    max_size: Annotated[
        int,
        _size(
            64 * 1024,
            "how large the queue's file may grow; its write-ahead log comes on top: as a rule an eighth of this "
            "(64KiB at least, 16MiB at most), at times four times as much",
        ),
    ] = 1024**3
    when_full: Annotated[
        Literal["block", "drop-oldest"],
        Meta(description="block: refuse new uplinks; drop-oldest: make room, and count what was dropped"),
    ] = "block"
    retention: Annotated[
        int,
        _duration(
            0,
            365 * 24 * HOUR,
            "how long uplinks are remembered for `trace` and `replay`, beside the queue and in a quarter of maxSize at "
            "most; 0: not at all",
        ),
    ] = 24 * HOUR


class Settings(Base, frozen=True, kw_only=True):
    """The whole file."""

    state_directory: Annotated[
        str | None,
        _text("path", "default: $STATE_DIRECTORY, else `state` beside the file"),
    ] = None
    watch: Annotated[
        bool,
        Meta(description="true: a changed file is taken up by itself; false: on `systemctl reload` alone"),
    ] = False
    http: Http = field(default_factory=Http)
    api: Api = field(default_factory=Api)
    journal: Journal = field(default_factory=Journal)
    sources: dict[str, Source] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    connections: dict[str, Connection] = field(default_factory=dict)
