"""A publisher with QoS 1, for many topics on one connection: paho in the thread that calls it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from paho.mqtt.client import Client, MQTTErrorCode
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.brokers.recorder import Address

DEADLINE = 20.0


def publish(broker: Address, messages: Sequence[tuple[str, bytes]], pause: float = 0.0) -> None:
    """Publish (topic, payload) in this order, with a pause before each; returns when the broker has taken all."""
    client = Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(65_535)
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        sent = []
        for topic, payload in messages:
            time.sleep(pause)
            sent.append(client.publish(topic, payload, 1))
        for info in sent:
            assert info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS
            info.wait_for_publish(DEADLINE)
            assert info.is_published()
    finally:
        client.disconnect()
        client.loop_stop()
