"""The link passes its conformance suite at every kind of broker, on asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from mqttbridge.mqtt.client import open_link as open_real_link
from tests.brokers.fake import Fake, fake_broker
from tests.mqtt.conformance import LinkConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.brokers.mosquitto import Mosquitto
    from tests.brokers.nats import Nats
    from tests.mqtt.conformance import OpenLink


@pytest.fixture
def open_link() -> OpenLink:
    return open_real_link


class TestMosquitto(LinkConformance):
    """mosquitto, MQTT 3.1.1."""

    @pytest.fixture
    def broker(self, plain_mosquitto: Mosquitto) -> Mosquitto:
        return plain_mosquitto


class TestMosquitto5(TestMosquitto):
    """mosquitto, MQTT 5."""

    version = "5"


class TestNats(LinkConformance):
    """NATS, MQTT 3.1.1."""

    @pytest.fixture
    def broker(self, nats_broker: Nats) -> Nats:
        return nats_broker


class TestFake(LinkConformance):
    """The scripted broker, MQTT 3.1.1."""

    @pytest_asyncio.fixture
    async def broker(self) -> AsyncIterator[Fake]:
        async with fake_broker() as broker:
            yield broker


class TestFake5(TestFake):
    """The scripted broker, MQTT 5."""

    version = "5"
