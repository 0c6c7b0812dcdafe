"""The link: a wire, aiomqtt's client for login and subscriptions, and an exchange for the publishes.

Invariants:

1. The listener is called from the loop alone: not before `login` returned, not from inside a method of the link, not
   while paused, not after `close`. `lost` comes once and last.
2. Whatever the broker sends, the worst that happens is that this link ends.
3. After `close`, or a failed or cancelled `connect` or `login`, no socket, task or timer of this link is left.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from websockets.exceptions import WebSocketException

from mqttbridge.errors import LinkError, LinkLost, LinkTimeout, TlsFailed
from mqttbridge.mqtt import packets, reasons, tls
from mqttbridge.mqtt.aiomqtt_client import AiomqttClient, reason_string
from mqttbridge.mqtt.dial import dial
from mqttbridge.mqtt.exchange import Exchange
from mqttbridge.mqtt.link import Step
from mqttbridge.mqtt.wire import WireFull

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.mqtt.facts import Fact, Learn
    from mqttbridge.mqtt.link import Grant, LinkListener, Publish, Received
    from mqttbridge.mqtt.options import LinkOptions
    from mqttbridge.mqtt.wire import Wire

__all__ = ["AiomqttLink"]

CLIENTS = frozenset({packets.SUBACK, packets.UNSUBACK, packets.PINGRESP})
"""The packets that aiomqtt's client gets after the login."""

MIN_TICK, MAX_TICK = 0.1, 5.0
"""Seconds between two looks at the keep alive."""


class AiomqttLink:
    """One life of a client at one broker; see `mqttbridge.mqtt.link.Link`."""

    def __init__(self, options: LinkOptions, listener: LinkListener, learn: Learn | None = None) -> None:
        """Take what to connect to and whom to tell; `learn` hears what is found on the way in."""
        self._options = options
        self._listener = listener
        self._learn = learn
        self._exchange = Exchange(qos=options.qos, retain=options.retain, v5=options.v5)
        self._splitter = packets.Splitter()
        self._wire: Wire | None = None
        self._client: AiomqttClient | None = None
        self._dialing: asyncio.Task[Wire] | None = None
        self._answer: asyncio.Future[Grant] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._error: LinkError | None = None
        self._step = Step.NONE
        self._granted = False  # CONNACK has come
        self._open = False  # login has returned
        self._paused = False
        self._closed = False
        self._telling = False

    # --- the link's life ---------------------------------------------------------------------------------------

    @property
    def step(self) -> Step:
        """See `Link.step`."""
        return self._step

    async def connect(self) -> None:
        """See `Link.connect`."""
        if self._closed:
            raise self._reason()
        dialing = self._dialing = asyncio.ensure_future(dial(self._options, self._learned))
        try:
            wire = await dialing
        except asyncio.CancelledError:
            dialing.add_done_callback(_discard)
            if self._is_closed() and not _cancelling():
                raise self._reason() from None
            raise
        finally:
            self._dialing = None
        if self._is_closed():
            wire.close()
            raise self._reason()
        self._wire = wire

    async def login(self) -> Grant:
        """See `Link.login`; raises `TlsFailed` where TLS 1.3 tells only now that it wants a client certificate."""
        if self._closed or self._wire is None:
            raise self._reason()
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        self._gone = loop.create_future()
        self._learned(Step.CONNACK)
        try:
            wire = self._wire
            self._client = AiomqttClient(self._options, wire.write, self._exchange.identifier, self._on_granted)
            self._client.login()
            wire.start(self._readable, self._drained, self._broken)
            grant = await self._answer
        except BaseException:
            if self._answer.done() and not self._answer.cancelled():
                self._answer.exception()  # seen, also where the cancellation was faster
            self._release()
            raise
        if self._error is not None:
            raise self._error
        self._open = True
        self._learned(Step.NONE)
        self._tick()
        self._tell_soon()
        return grant

    async def close(self) -> None:
        """See `Link.close`."""
        first, self._closed = not self._closed, True
        if first and self._open and self._client is not None and self._wire is not None:
            self._send_queued()
            self._client.goodbye()
            self._wire.finish()
        self._release()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(self._reason())
        if self._dialing is not None:
            self._dialing.cancel()
            await asyncio.wait([self._dialing])

    # --- use ---------------------------------------------------------------------------------------------------

    def publish(self, batch: Sequence[Publish]) -> None:
        """See `Link.publish`."""
        if self._is_up():
            self._exchange.publish(batch)
            self._send_queued()
            if self._exchange.acks:  # refused without being sent
                self._tell_soon()

    def acknowledge(self, messages: Sequence[Received]) -> None:
        """See `Link.acknowledge`."""
        if self._is_up():
            self._exchange.acknowledge(messages)
            self._send_queued()

    async def subscribe(self, filters: Sequence[str], qos: int) -> list[int]:
        """See `Link.subscribe`."""
        if not self._is_up() or self._client is None or self._gone is None:
            raise self._reason()
        asking = asyncio.ensure_future(self._client.subscribe(filters, qos))
        waiting: set[asyncio.Future[Any]] = {asking, self._gone}
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            codes = asking.result() if asking in done else None
        finally:
            asking.cancel()
        if codes is None:
            raise self._reason()
        return codes

    def pause(self) -> None:
        """See `Link.pause`."""
        self._paused = True
        if self._wire is not None:
            self._wire.pause()

    def resume(self) -> None:
        """See `Link.resume`."""
        self._paused = False
        if self._is_up() and self._wire is not None:
            self._wire.resume()
            self._tell_soon()

    # --- entering ----------------------------------------------------------------------------------------------

    def _learned(self, fact: Fact) -> None:
        """Take a step that begins, and whatever else is found."""
        if isinstance(fact, Step):
            self._step = fact
        if self._learn is not None:
            self._learn(fact)

    def _on_granted(self, grant: Grant) -> None:
        """Take the CONNACK that grants; what the broker does not offer is not used."""
        exchange = self._exchange
        exchange.qos = min(exchange.qos, grant.maximum_qos)
        exchange.retain = exchange.retain and grant.retain_available
        self._granted = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(grant)

    def _tick(self) -> None:
        """Keep the connection alive, and find a broker that is silent."""
        client = self._client
        if client is None:
            return
        if not client.keep_alive(heard=not self._paused):
            self._end(LinkTimeout(f"{self._options.where}: the broker did not answer within the keep alive time"))
        elif client.keep_alive_time:
            delay = min(MAX_TICK, max(MIN_TICK, client.keep_alive_time / 4))
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    # --- reading -----------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        """Read once, and take all that came."""
        if self._wire is None or self._paused:
            return
        where, wire = self._options.where, self._wire
        try:
            for first, body in self._splitter.feed(wire.fill()):
                if not self._granted or not self._exchange.take(first, body):
                    self._control(first, body)
                if self._error is not None:
                    break
            if wire.ended:
                self._end(LinkLost(f"{where}: the broker closed the connection{self._hint()}"))
        except packets.Malformed as error:
            if self._granted:
                self._end(LinkLost(f"{where}: the broker broke the MQTT protocol: it sent {error}"))
            else:
                self._end(LinkLost(f"{where}: what answered the login is not MQTT ({error}){self._hint('')}"))
        except (OSError, WebSocketException) as error:
            self._end(self._translated(error))
        except Exception as error:  # noqa: BLE001 - a library stumbled over what the broker sent: invariant 2
            self._end(LinkLost(f"{where}: the broker sent what cannot be read ({type(error).__name__}){self._hint()}"))
        self._send_queued()
        self._tell()

    def _control(self, first: int, body: bytes) -> None:
        """Take a packet that is not part of an exchange."""
        kind = first >> 4
        if kind == packets.DISCONNECT and self._options.v5:
            code = body[0] if body else 0
            text = reason_string(packets.DISCONNECT, body[1:])
            self._end(reasons.disconnect_error(self._options.where, code, text))
        elif kind == packets.CONNACK and not self._granted:
            self._connack(first, body)
        elif self._granted and kind in CLIENTS:
            self._feed_client(first, body)
        else:
            raise packets.Malformed(f"a packet of type {kind} where none may come")

    def _connack(self, first: int, body: bytes) -> None:
        """Take the answer to CONNECT."""
        if len(body) < 2:  # noqa: PLR2004 - flags and code
            raise packets.Malformed("a CONNACK that is too short")
        code, v5 = body[1], self._options.v5
        if code == 0:
            self._feed_client(first, body)
            return
        text = reason_string(packets.CONNACK, body[2:]) if v5 else ""
        named = self._options.username is not None
        self._end(reasons.connack_error(self._options.where, code, v5=v5, text=text, named=named))

    def _feed_client(self, first: int, body: bytes) -> None:
        if self._client is not None:
            self._client.feed(first, body)

    # --- writing -----------------------------------------------------------------------------------------------

    def _send_queued(self) -> None:
        """Move what the exchange wants to say to the wire."""
        out = self._exchange.out
        if out and self._wire is not None:
            self._wire.write(b"".join(out))
        out.clear()

    def _drained(self) -> None:
        """All is in the kernel's hands."""
        self._exchange.written()
        self._tell()

    def _broken(self, error: Exception) -> None:
        """Handle a failed write; what the broker said before it hung up tells more."""
        self._readable()
        self._end(self._translated(error))

    # --- telling -----------------------------------------------------------------------------------------------

    def _tell_soon(self) -> None:
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        """Hand what came to the listener, a batch of each."""
        self._telling = False
        exchange = self._exchange
        if exchange.acks and self._may_tell():
            acks, exchange.acks = exchange.acks, []
            self._listener.acknowledged(acks)
        if exchange.messages and self._may_tell():
            messages, exchange.messages = exchange.messages, []
            self._listener.received(messages)

    def _may_tell(self) -> bool:
        return self._open and not self._paused and not self._closed

    def _tell_lost(self, error: LinkError) -> None:
        if not self._closed:
            self._listener.lost(error)

    # --- ending ------------------------------------------------------------------------------------------------

    def _end(self, error: LinkError) -> None:
        """End the link."""
        if self._error is not None or self._closed:
            return
        self._error = error
        self._release()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        elif self._open:
            self._tell_soon()
            asyncio.get_running_loop().call_soon(self._tell_lost, error)

    def _release(self) -> None:
        """Let go of socket, timer and client, at once; in any state, any number of times."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        self._client = None

    def _is_closed(self) -> bool:
        return self._closed  # as a call: it changes while others wait

    def _is_up(self) -> bool:
        return self._open and self._error is None and not self._closed

    def _reason(self) -> LinkError:
        """Say why nothing can be done."""
        return self._error or LinkLost(f"{self._options.where}: the link was closed")

    def _translated(self, error: Exception) -> LinkError:
        """Turn a foreign error into one of ours."""
        where = self._options.where
        if isinstance(error, ssl.SSLEOFError):
            return LinkLost(f"{where}: the broker closed the connection{self._hint()}")
        if isinstance(error, ssl.SSLError):
            # TLS 1.3: what the broker thinks of the client certificate comes after the handshake.
            kind = LinkLost if self._granted else TlsFailed
            return kind(f"{where}: {tls.explain(error, own_ca=self._options.ca is not None)}")
        if isinstance(error, WireFull):
            return LinkTimeout(f"{where}: the broker does not read what is sent to it")
        if isinstance(error, WebSocketException):
            return LinkLost(f"{where}: the broker broke the WebSocket protocol{self._hint()}")
        return LinkLost(f"{where}: the connection broke: {_plain(error)}{self._hint()}")

    def _hint(self, when: str = " before the login was answered") -> str:
        """Say what to check when the connection ends before the broker answered the login."""
        if self._granted:
            return ""
        # Brokers that go by certificates (AWS IoT Core) close where others refuse the login.
        client = ", and that the broker allows this certificate and clientId" if self._options.certificate else ""
        return f"{when}; {reasons.CHECK_PORT}{client}"


def _discard(dialing: asyncio.Task[Wire]) -> None:
    """Close a wire that was ready in the moment in which its connect was cancelled."""
    if not dialing.cancelled() and dialing.exception() is None:
        dialing.result().close()


def _plain(error: Exception) -> str:
    """Say what the system says."""
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error) or type(error).__name__).lower()


def _cancelling() -> bool:
    """Whether the running task itself was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
