"""From settings to link options."""

from __future__ import annotations

from mqttbridge.mqtt.options import LinkOptions, link_options
from mqttbridge.settings.schema import Configuration, MqttSource
from mqttbridge.settings.secret import Secret


def test_a_connection_becomes_options() -> None:
    settings = Configuration(
        host_name="b.example", username="u", password=Secret("planted"), mqtt_version="5", keep_alive=1500, alpn=("x",)
    )
    options = link_options(settings, client_id="mqttbridge-a", clean=True, qos=2, retain=True)
    assert (options.host, options.port, options.protocol) == ("b.example", 8883, "SSL")
    assert (options.v5, options.keep_alive, options.alpn) == (True, 2, ("x",))
    assert (options.client_id, options.clean, options.qos, options.retain) == ("mqttbridge-a", True, 2, True)
    assert "planted" not in repr(options)


def test_a_source_becomes_options() -> None:
    settings = MqttSource(host_name="ns.example:1883", protocol="TCP", client_id="mine", topics=("a",))
    options = link_options(settings, client_id=settings.client_id_for("ns"), clean=False)
    assert (options.host, options.port) == ("ns.example", 1883)
    assert (options.client_id, options.clean, options.v5, options.keep_alive) == ("mine", False, False, 20)


def test_values_that_came_by_reference_are_plain_where_they_are_used() -> None:
    """A Secret shows itself as ***** wherever a library formats it."""
    settings = Configuration(
        host_name=Secret("b.example:1"),
        protocol="WSS",
        web_socket_path=Secret("/hidden"),
        username=Secret("user"),
        client_id=Secret("id"),
        alpn=(Secret("x"),),
    )
    options = link_options(settings, client_id=settings.client_id_for("a"), clean=True)
    shown = f"{options.host} {options.web_socket_path} {options.username} {options.client_id} {options.alpn[0]}"
    assert shown == "b.example /hidden user id x"


def test_where_is_host_and_port() -> None:
    assert LinkOptions(host="h", port=1, client_id="x").where == "h:1"
    assert LinkOptions(host="::1", port=1, client_id="x").where == "[::1]:1"
