"""From settings to link options."""

from __future__ import annotations

import pytest

from mqttbridge.mqtt.options import LinkOptions, host_and_port, link_options
from mqttbridge.settings.schema import Configuration, MqttSource
from mqttbridge.settings.secret import Secret


@pytest.mark.parametrize(
    ("name", "protocol", "expected"),
    [
        ("b.example", "SSL", ("b.example", 8883)),
        ("b.example", "TCP", ("b.example", 1883)),
        ("b.example", "WSS", ("b.example", 443)),
        ("b.example:1884", "SSL", ("b.example", 1884)),
        ("192.0.2.1:99", "TCP", ("192.0.2.1", 99)),
        ("[2001:db8::1]:1883", "TCP", ("2001:db8::1", 1883)),
        ("[2001:db8::1]", "TCP", ("2001:db8::1", 1883)),
        ("2001:db8::1", "SSL", ("2001:db8::1", 8883)),
    ],
)
def test_a_host_name_is_taken_apart(name: str, protocol: str, expected: tuple[str, int]) -> None:
    assert host_and_port(name, protocol) == expected


@pytest.mark.parametrize("name", ["[::1", "[::1]x", "b.example:many"])
def test_a_host_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        host_and_port(name, "TCP")


def test_a_connection_becomes_options() -> None:
    settings = Configuration(
        host_name="b.example", username="u", password=Secret("planted"), mqtt_version="5", keep_alive=1500, alpn=("x",)
    )
    options = link_options(settings, client_id="mqttbridge-a", clean=True, qos=2, retain=True)
    assert (options.host, options.port, options.protocol) == ("b.example", 8883, "SSL")
    assert (options.v5, options.keep_alive, options.alpn) == (True, 2, ("x",))
    assert (options.client_id, options.clean, options.qos, options.retain) == ("mqttbridge-a", True, 2, True)
    assert "planted" not in repr(options)


def test_a_source_becomes_options_and_its_own_client_id_counts() -> None:
    settings = MqttSource(host_name="ns.example:1883", protocol="TCP", client_id="mine", topics=("a",))
    options = link_options(settings, client_id="mqttbridge-ns", clean=False)
    assert (options.client_id, options.clean, options.v5, options.keep_alive) == ("mine", False, False, 20)


def test_where_is_host_and_port() -> None:
    assert LinkOptions(host="h", port=1, client_id="x").where == "h:1"
    assert LinkOptions(host="::1", port=1, client_id="x").where == "[::1]:1"
