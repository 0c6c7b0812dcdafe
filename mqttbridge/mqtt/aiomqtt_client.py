"""aiomqtt 2.5.1, and paho 2.2.0 inside it: login, subscriptions, keep alive, goodbye. The only module to import them.

Publishes and their answers are not its business (`Exchange`): there paho is slow and acknowledges before anyone
handled the message. The private names used here are pinned by `tests/mqtt/test_contract.py`.

Invariants:

1. aiomqtt's client is never entered: `__aenter__` uses the loop's default thread pool, and leaks a thread and a
   session when it is cancelled. Its paho gets a socket that is connected already, so nothing here blocks.
2. paho never touches the socket or the loop: it writes into a function and reads the packets that it is fed.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from mqttbridge.mqtt import packets
from mqttbridge.mqtt.link import Grant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paho.mqtt.client import Client as PahoClient
    from paho.mqtt.client import ConnectFlags
    from paho.mqtt.reasoncodes import ReasonCode

    from mqttbridge.mqtt.options import LinkOptions

__all__ = ["AiomqttClient", "reason_string"]

FILTER_INVALID = 0x8F

_logger = logging.getLogger("mqttbridge.mqtt.client")
_logger.addHandler(logging.NullHandler())
_logger.propagate = False  # errors are told through the link, not by the library's log


class AiomqttClient:
    """One aiomqtt client that lives once."""

    def __init__(
        self,
        options: LinkOptions,
        write: Callable[[bytes], None],
        identifier: Callable[[], int],
        granted: Callable[[Grant], None],
    ) -> None:
        """Take where its bytes go, who gives packet identifiers, and whom to tell of the CONNACK that grants."""
        self._granted = granted
        self._v5 = options.v5
        self._socket = socket = _Socket(write)
        self._client = _make(options)
        self._paho: PahoClient = self._client._client  # noqa: SLF001 - pinned
        paho: Any = self._paho  # its methods are replaced
        paho.disable_logger()
        paho.on_connect = self._on_connect
        # Without these paho writes at once, and never asks the loop for anything.
        paho.on_socket_open = paho.on_socket_close = None
        paho.on_socket_register_write = paho.on_socket_unregister_write = None
        paho.on_disconnect = paho.on_message = paho.on_publish = None
        paho._create_socket = lambda: socket  # noqa: SLF001 - pinned
        paho._mid_generate = identifier  # noqa: SLF001 - pinned

    def login(self) -> None:
        """Write CONNECT: the part of `__aenter__` that needs no thread here."""
        self._client._client_connect()  # noqa: SLF001 - pinned

    def feed(self, first: int, body: bytes) -> None:
        """Give paho one packet of its own: CONNACK, SUBACK, UNSUBACK, PINGRESP. Raises `packets.Malformed`."""
        self._socket.feed(packets.encode(first, body))
        if self._paho.loop_read() or self._paho.socket() is None:
            raise packets.Malformed(f"a packet of type {first >> 4} that cannot be read")

    async def subscribe(self, filters: Sequence[str], qos: int) -> list[int] | None:
        """SUBSCRIBE; gives the reason codes, or None if the connection ended. Waits for ever if it falls silent."""
        # MQTT 5 lets us ask for what is retained only where the subscription is new (section 3.8.3.1).
        retained = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
        how: Any = SubscribeOptions(qos=qos, retainHandling=retained) if self._v5 else qos
        try:
            codes = await self._client.subscribe([(topic, how) for topic in filters], timeout=math.inf)
        except aiomqtt.MqttError:
            return None
        except ValueError:  # paho refuses to send such a filter
            return [FILTER_INVALID] * len(filters)
        return [code if isinstance(code, int) else code.value for code in codes]

    def keep_alive(self, *, heard: bool) -> bool:
        """Write PINGREQ when it is due; False if the answer is overdue. `heard`: somebody reads the answers."""
        if not heard:
            self._paho._ping_t = 0.0  # noqa: SLF001 - pinned
        return not self._paho.loop_misc() and self._paho.socket() is not None

    @property
    def keep_alive_time(self) -> int:
        """Seconds; MQTT 5 lets the broker decide. 0: none."""
        return int(self._paho.keepalive)

    def goodbye(self) -> None:
        """Write DISCONNECT."""
        self._paho.disconnect()

    def _on_connect(
        self,
        _client: PahoClient,
        _userdata: Any,  # noqa: ANN401 - paho's signature
        flags: ConnectFlags,
        _code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        """Take the CONNACK that grants (refusals never come here)."""
        get = _getter(properties)
        keep_alive = get("ServerKeepAlive", -1)
        grant = Grant(
            session_present=flags.session_present,
            receive_maximum=get("ReceiveMaximum", 65535),
            maximum_packet_size=get("MaximumPacketSize", 268_435_460),
            maximum_qos=get("MaximumQoS", 2),
            retain_available=bool(get("RetainAvailable", 1)),
            wildcards_available=bool(get("WildcardSubscriptionAvailable", 1)),
            shared_available=bool(get("SharedSubscriptionAvailable", 1)),
            keep_alive=None if keep_alive < 0 else keep_alive,
        )
        self._granted(grant)


class _Socket:
    """The socket as paho sees it: what it sends goes to a function, and it receives what it is fed."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._fed = bytearray()

    def feed(self, data: bytes) -> None:
        self._fed += data

    def send(self, buffer: bytes | bytearray) -> int:
        self._write(bytes(buffer))
        return len(buffer)

    def recv(self, size: int) -> bytes:
        if not self._fed:
            raise BlockingIOError
        data = bytes(self._fed[:size])
        del self._fed[:size]
        return data

    def setblocking(self, flag: bool) -> None:
        """Do nothing: nothing here blocks."""

    def close(self) -> None:
        """Do nothing: the link closes the connection itself."""

    def fileno(self) -> int:
        return -1


def _make(options: LinkOptions) -> aiomqtt.Client:
    """Make the client that `options` describe."""
    password = options.password.reveal() if options.password is not None else None
    common: dict[str, Any] = {
        "username": "" if options.username is None and password is not None else options.username,
        "password": password,
        "logger": _logger,
        "identifier": options.client_id,
        "keepalive": options.keep_alive,
    }
    if not options.v5:
        return aiomqtt.Client(
            options.host,
            options.port,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=options.clean,
            **common,
        )
    properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = options.receive_maximum
    properties.MaximumPacketSize = packets.LARGEST
    if not options.clean:
        properties.SessionExpiryInterval = options.session_expiry
    return aiomqtt.Client(
        options.host,
        options.port,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=options.clean,
        properties=properties,
        **common,
    )


def _getter(properties: Properties | None) -> Callable[[str, int], int]:
    """Give access to the properties that are there: paho's own object knows only those."""
    return lambda name, default: int(getattr(properties, name, default))


def reason_string(packet_type: int, data: bytes) -> str:
    """Give the broker's own words from the properties of a packet of MQTT 5, if there are any that can be read."""
    properties: Any = Properties(packet_type)  # type: ignore[no-untyped-call]
    try:
        properties.unpack(data)
    except Exception:  # noqa: BLE001 - it is only for people; paho raises what it likes
        return ""
    return str(getattr(properties, "ReasonString", ""))
