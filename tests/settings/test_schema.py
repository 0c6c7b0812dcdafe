"""The schema: what is declared agrees with what is documented and with itself."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from mqttbridge.settings.schema import Configuration, Connection, Http, HttpSource, Journal, MqttSource, Settings

DEFAULTS = msgspec.structs.asdict(Configuration(host_name="h"))


def test_the_smallest_journal_is_one_that_works_and_the_log_on_top_is_told() -> None:
    size = msgspec.json.schema(Journal)["$defs"]["Journal"]["properties"]["maxSize"]
    assert size["anyOf"][0]["minimum"] == 64 * 1024
    assert "write-ahead log comes on top" in size["description"]


def test_the_defaults_are_those_of_the_contract() -> None:
    assert DEFAULTS["protocol"] == "SSL"
    assert DEFAULTS["connection_timeout"] == 5000
    assert DEFAULTS["action_timeout"] == 1000
    assert DEFAULTS["uplink_time_validity"] == 72 * 3600 * 1000
    assert DEFAULTS["reconnect_strategy"] == "NORMAL"
    assert (DEFAULTS["mqtt_version"], DEFAULTS["qos"], DEFAULTS["retain"]) == ("3.1.1", 1, False)
    assert (DEFAULTS["keep_alive"], DEFAULTS["max_inflight"]) == (20_000, 100)
    assert Settings().http.address == ("127.0.0.1", 8080)
    assert Settings().journal.max_size == 1024**3
    assert Settings().journal.when_full == "block"


@pytest.mark.parametrize(("protocol", "port"), [("SSL", 8883), ("WSS", 443), ("TCP", 1883)])
def test_a_link_knows_its_address(protocol: str, port: int) -> None:
    link = msgspec.structs.replace(Configuration(host_name="h.example"), protocol=protocol)
    assert link.address == ("h.example", port)
    assert Http(listen="[::]:0").address == ("::", 0)


def test_a_link_knows_its_client_id() -> None:
    assert Configuration(host_name="h").client_id_for("acme") == "mqttbridge-acme"
    assert MqttSource(host_name="h", topics=("a",)).client_id_for("acme") == "mqttbridge-source-acme"
    assert MqttSource(host_name="h", topics=("a",), client_id="x").client_id_for("acme") == "x"


def test_the_full_example_shows_every_property_of_a_connection() -> None:
    text = (Path(__file__).parents[2] / "config" / "full.yaml").read_text()
    for struct in (Configuration, Connection, Settings, HttpSource, MqttSource):
        for field in msgspec.structs.fields(struct):
            assert re.search(rf"^ *{field.encode_name}:", text, re.MULTILINE), field.encode_name
