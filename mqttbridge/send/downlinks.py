"""Sends downlinks as a customer's application would: published to a connection's broker, its receipt read back."""

from __future__ import annotations

import difflib
import secrets
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.errors import TopicError
from mqttbridge.model import DownlinkOutcome
from mqttbridge.send.talk import SendError, Talk, talk, unknown
from mqttbridge.send.uplinks import Sample, device
from mqttbridge.settings.secret import plain
from mqttbridge.topics import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mqttbridge.mqtt.link import Received
    from mqttbridge.settings.loader import Loaded
    from mqttbridge.settings.schema import Configuration

__all__ = ["Downlink", "send_downlinks"]

RECEIPT_WITHIN = 15.0
"""Seconds."""
MEMBERS = ("outcome", "reason", "field", "CorrelationID", "warnings")


class Downlink(msgspec.Struct, frozen=True):
    """What to send, and whether the device shall confirm it."""

    content: Sample
    confirmed: bool = False


async def send_downlinks(
    loaded: Loaded, connection: str, what: Downlink, count: int, tell: Callable[[str], None]
) -> None:
    """Publish `count` downlinks on a connection's broker; with a receipt topic, `tell` each outcome in a line.

    Raises `SendError`, also when one of them was not queued.
    """
    dev_eui = device(what.content)
    connections = loaded.settings.connections
    if connection not in connections:
        near = difflib.get_close_matches(connection, connections, 1)
        raise unknown("connection", connection, list(connections), near)
    configuration = connections[connection].configuration
    topic = _topic(connection, configuration, dev_eui)
    receipts = configuration.downlink_receipt_topic_pattern
    client_id = f"mqttbridge-send-{secrets.token_hex(4)}"
    async with talk(configuration, f"the broker of connection {connection}", client_id) as broker:
        if receipts is not None:
            await broker.subscribe(compile_pattern(plain(receipts)).subscription)
        sent = [secrets.token_hex(8) for _ in range(count)]
        for correlation_id in sent:
            await broker.publish(topic, _document(dev_eui, what, correlation_id))
        await broker.answered()
        failure = "" if receipts is None else await _receipts(broker, sent, tell)
    if failure:
        raise SendError(failure)


def _topic(connection: str, configuration: Configuration, dev_eui: str) -> str:
    pattern = configuration.downlink_topic_pattern
    if pattern is None or not configuration.downlink_enabled:
        raise SendError(f"connection {connection} takes no downlinks; set its downlinkTopicPattern")
    try:
        return compile_pattern(plain(pattern)).render(dev_eui, dict)
    except TopicError as error:
        raise SendError(f"no topic for this downlink: {error}; publish it with an MQTT client instead") from error


def _document(dev_eui: str, what: Downlink, correlation_id: str) -> bytes:
    content: dict[str, Any] = {
        "DevEUI": dev_eui,
        "FPort": what.content.fport,
        "payload_hex": what.content.payload.lower(),
        "Confirmed": int(what.confirmed),
        "CorrelationID": correlation_id,
    }
    return msgspec.json.encode({"DevEUI_downlink": content})


async def _receipts(broker: Talk, sent: Sequence[str], tell: Callable[[str], None]) -> str:
    """Wait for the receipt of each, and tell it. Gives a sentence if all is not well."""
    wanted = set(sent)

    def found(messages: Sequence[Received]) -> dict[str, dict[str, Any]]:
        receipts = (_receipt(message.payload) for message in messages)
        return {receipt["CorrelationID"]: receipt for receipt in receipts if receipt.get("CorrelationID") in wanted}

    try:
        messages = await broker.messages(lambda came: len(found(came)) == len(wanted), RECEIPT_WITHIN)
    except TimeoutError:
        return (
            f"no receipt within {RECEIPT_WITHIN:.0f} s; is mqttbridge running? Then its log tells more "
            "(downlink.retrying, network.failing)"
        )
    receipts = found(messages)
    for correlation_id in sent:
        receipt = receipts[correlation_id]
        tell(", ".join(f"{name} {receipt[name]}" for name in MEMBERS if name in receipt))
    bad = sum(receipts[one].get("outcome") != DownlinkOutcome.QUEUED for one in sent)
    if not bad:
        return ""
    return "the downlink was not queued" if len(sent) == 1 else f"{bad} of {len(sent)} downlinks were not queued"


def _receipt(payload: bytes) -> dict[str, Any]:
    try:
        receipt = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return receipt if isinstance(receipt, dict) else {}
