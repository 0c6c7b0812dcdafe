"""The classification of changes: complete, and as the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from mqttbridge.settings import effects
from mqttbridge.settings.effects import Effect
from mqttbridge.settings.schema import Connection, Flow, HttpSource, LinkSettings, MqttSource, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = Path(__file__).parents[2] / "docs" / "reload.md"
PARTS = {"sources", "flows", "connections"}
TABLES: dict[str, tuple[type[msgspec.Struct], Mapping[str, Effect]]] = {
    "connection": (Connection, effects.CONNECTION),
    "HTTP source": (HttpSource, effects.HTTP_SOURCE),
    "MQTT source": (MqttSource, effects.MQTT_SOURCE),
    "flow": (Flow, effects.FLOW),
    "daemon": (Settings, effects.DAEMON),
}
ROW = re.compile(r"^\| ([\w ]+) \| (.+) \| (in place|restart|needs a restart) \|$", re.MULTILINE)


def names(struct: type[msgspec.Struct]) -> set[str]:
    """Give every property, down to those that are no section."""
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    found = {info.tag_field} if info.tag_field else set()
    for field in info.fields:
        if isinstance(field.type, msgspec.inspect.StructType):
            found |= {f"{field.encode_name}.{name}" for name in names(field.type.cls)}
        else:
            found.add(field.encode_name)
    return found


@pytest.mark.parametrize("part", TABLES)
def test_every_property_of_the_schema_is_classified_and_no_other(part: str) -> None:
    struct, table = TABLES[part]
    left_out = PARTS if struct is Settings else set()
    assert set(table) == names(struct) - left_out


def test_a_link_is_made_anew_by_the_same_properties_for_a_connection_and_a_source() -> None:
    for name in names(LinkSettings):
        assert effects.CONNECTION[f"configuration.{name}"] is effects.MQTT_SOURCE[name]


def test_the_page_says_of_each_property_what_its_change_takes() -> None:
    told: dict[str, dict[str, Effect]] = {}
    for part, listed, effect in ROW.findall(PAGE.read_text()):
        for name in re.findall(r"`([\w.]+)`", listed):
            assert told.setdefault(part, {}).setdefault(name, Effect(effect)) is Effect(effect), name
    for part, (_, table) in TABLES.items():
        assert told[part] == {name.removeprefix("configuration."): effect for name, effect in table.items()}, part
