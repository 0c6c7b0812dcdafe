"""What the README and the pages on formats tell people to write is what the loader takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mqttbridge.settings.advice import advice
from mqttbridge.settings.schema import HttpSource, MqttSource
from tests.settings.helpers import loaded, write

if TYPE_CHECKING:
    from mqttbridge.settings.loader import Loaded
    from mqttbridge.settings.schema import Source

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL).findall
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)").findall
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE).findall
REFERENCE = re.compile(r"!(?:file|credential) (\S+)").findall


def furnished(directory: Path, text: str) -> Loaded:
    """Load a text, with every file that it names."""
    for name in REFERENCE(text):
        write(directory, "00112233445566778899aabbccddeeff", name)
    return loaded(directory, text, {"CREDENTIALS_DIRECTORY": str(directory)})


def whole() -> str:
    """Put the README's blocks where it says that they belong."""
    main, *others = BLOCK(PAGES[0].read_text(encoding="utf-8"))
    recipes = "".join(block for block in others if block.startswith("  ") and not block.startswith("   "))
    downlinks = "".join(block for block in others if block.startswith("      "))
    assert recipes.count("format:") + downlinks.count("downlinkTopicPattern:") == 6
    before, connections, after = main.partition("connections:\n")
    before = before[: before.index("  lrc:")]
    return before + recipes + connections + after + downlinks


def test_the_first_configuration_of_the_readme_loads(tmp_path: Path) -> None:
    found = furnished(tmp_path, BLOCK(PAGES[0].read_text(encoding="utf-8"))[0])
    assert found.warnings == ()
    assert set(found.settings.connections) == {"acme", "local"}


def test_the_readmes_recipes_and_downlink_topics_load_without_a_warning(tmp_path: Path) -> None:
    found = furnished(tmp_path, whole())
    assert found.warnings == ()
    assert advice(found.settings) == []
    kinds = {id_: (source.format, type(source)) for id_, source in found.settings.sources.items()}
    assert kinds == {
        "lrc": ("thingpark", HttpSource),
        "lns": ("chirpstack", MqttSource),
        "lns-http": ("chirpstack", HttpSource),
        "ttn": ("tts", MqttSource),
        "ttn-http": ("tts", HttpSource),
    }
    local = found.settings.connections["local"].configuration
    assert local.takes_downlinks
    assert local.downlink_receipt_topic_pattern == "mqtt/things/{DevEUI}/receipt"


def test_every_recipe_of_the_readme_has_a_way_back_for_downlinks(tmp_path: Path) -> None:
    def has_way_back(source: Source) -> bool:
        return source.api_url is not None or (isinstance(source, MqttSource) and source.format != "thingpark")

    sources = furnished(tmp_path, whole()).settings.sources
    assert all(map(has_way_back, sources.values()))


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_whole_configurations_on_other_pages_load(tmp_path: Path, page: Path) -> None:
    for block in BLOCK(page.read_text(encoding="utf-8")):
        if block.startswith("sources:"):
            assert furnished(tmp_path, block).settings.sources


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_other_pages_lead_somewhere(page: Path) -> None:
    for target, heading in LINK(page.read_text(encoding="utf-8")):
        path = page.parent / target if target else page
        assert path.exists(), target
        if heading:
            headings = [one.lower().replace(" ", "-") for one in HEADING(path.read_text(encoding="utf-8"))]
            assert heading in headings, heading
