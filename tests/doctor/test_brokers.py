"""What is known of the brokers that people use."""

from __future__ import annotations

import pytest

from mqttbridge.doctor import brokers
from mqttbridge.doctor.brokers import Broker
from mqttbridge.errors import LinkLost
from mqttbridge.mqtt.options import LinkOptions
from mqttbridge.mqtt.reasons import connack_error
from mqttbridge.settings.secret import Secret

AWS = "a1b2c3-ats.iot.eu-west-1.amazonaws.com"


def to(host: str, **more: object) -> LinkOptions:
    return LinkOptions(**{"host": host, "port": 8883, "client_id": "x-doctor", "protocol": "SSL", **more})


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        (AWS, Broker.AWS),
        ("A1B2C3-ATS.iot.cn-north-1.amazonaws.com.cn.", Broker.AWS),
        ("hub.azure-devices.net", Broker.AZURE),
        ("0123.s1.eu.hivemq.cloud", Broker.HIVEMQ),
        ("x.ala.eu-central-1.emqxsl.com", Broker.EMQX),
        ("amazonaws.com.example.org", Broker.OTHER),
        ("localhost", Broker.OTHER),
        ("192.0.2.1", Broker.OTHER),
    ],
)
def test_a_hosted_broker_is_known_by_its_name(host: str, kind: Broker) -> None:
    assert brokers.broker(host) is kind


PAIR = {"certificate": "PEM", "private_key": Secret("PEM")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (to(AWS, **PAIR), ""),
        (to(AWS), "set certificate and privateKey"),
        (to(AWS, **PAIR, port=443), "alpn: [x-amzn-mqtt-ca]"),
        (to(AWS, **PAIR, port=443, alpn=("x-amzn-mqtt-ca",)), ""),
        (to(AWS, **PAIR, qos=2), "no QoS 2"),
        (to(AWS, protocol="WSS"), "signed requests"),
        (to("a1b2c3.iot.eu-west-1.amazonaws.com", **PAIR), "-ats"),
        (to("hub.azure-devices.net", username="me"), "api-version"),
        (to("x.s1.eu.hivemq.cloud"), "username and password"),
        (to("x.s1.eu.hivemq.cloud", username="me"), ""),
        (to("localhost"), ""),
    ],
)
def test_what_such_a_broker_does_not_take_is_said_before(options: LinkOptions, words: str) -> None:
    said = brokers.about(options)
    assert words in " ".join(said) if words else said == []


def test_aws_that_hangs_up_is_a_matter_of_its_policy_and_of_the_client_id() -> None:
    said = " ".join(brokers.of_login(LinkLost("closed"), to(AWS), "x"))
    assert "iot:Connect" in said
    assert "allow x*" in said
    assert "--client-id" in said
    assert "iot:Subscribe on topicfilter/d/+" in brokers.of_subscribe(to(AWS), "d/+")[0]
    assert "iot:Publish on topic/u/1" in brokers.of_publish(to(AWS), "u/1")[0]


@pytest.mark.parametrize(("code", "about_ids"), [(2, True), (3, False), (4, False), (5, True)])
def test_the_client_id_is_suspected_only_where_the_answer_may_mean_it(code: int, about_ids: bool) -> None:
    said = " ".join(brokers.of_login(connack_error("h:1", code, v5=False), to("localhost"), "x"))
    assert ("--client-id" in said) is about_ids
    assert ("mosquitto says" in said) is (code == 5)


def test_a_client_id_too_long_for_old_brokers_is_counted() -> None:
    options = to("localhost", client_id="c" * 24)
    said = " ".join(brokers.of_login(connack_error("h:1", 2, v5=False), options, "c"))
    assert "has 24 characters, and an old broker takes 23" in said
