"""Properties of downlinks that must fit together, of sources and of connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.settings.helpers import complaints, connection, loaded

if TYPE_CHECKING:
    from pathlib import Path

KEY = "00112233445566778899aabbccddeeff"


def source(*lines: str, transport: str = "http") -> str:
    """Give a file with one source of these lines."""
    link = ["hostName: ns", "topics: [a/b]"] if transport == "mqtt" else []
    return f"sources:\n  ns:\n    transport: {transport}\n" + "".join(f"    {line}\n" for line in [*link, *lines])


GOOD = [
    source("format: thingpark", "apiUrl: https://lrc.example.com"),
    source(f"asKey: {KEY}", "apiUrl: https://lrc.example.com/thingpark/lrc/rest/downlink", "downlinkAsId: TWA_1.2.AS"),
    source("downlinkAsId: A", f"downlinkAsKey: {KEY}", "apiUrl: http://127.0.0.1:1", transport="mqtt"),
    source("format: chirpstack"),
    source("format: chirpstack", "apiUrl: http://[::1]:8090", "apiKey: k"),
    source("format: chirpstack", "apiUrl: https://h/apis", "apiKey: k"),
    source("format: chirpstack", transport="mqtt"),
    source("format: tts", "apiUrl: https://eu1.cloud.thethings.network", "apiKey: NNSXS.A", "webhook: my-hook"),
    source("format: tts", "username: app@ttn", transport="mqtt"),
    source("authorization: Bearer abc", "duplicateWindow: 0", "passThrough: true"),
]


@pytest.mark.parametrize("text", GOOD)
def test_what_fits_together_loads_without_a_warning(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text).warnings == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (source("format: tts", f"asKey: {KEY}"), "sources.ns.asKey: is for format thingpark, and this source's is tts"),
        (source("format: chirpstack", "downlinkAsId: A"), "sources.ns.downlinkAsId: is for format thingpark"),
        (source("apiKey: k"), "sources.ns.apiKey: is for format chirpstack or tts, and this source's is thingpark"),
        (source("format: chirpstack", "webhook: ab"), "sources.ns.webhook: is for format tts"),
        (source("format: chirpstack", "apiUrl: http://h"), "sources.ns.apiUrl: needs apiKey beside it"),
        (source("format: chirpstack", "apiKey: k"), "sources.ns.apiKey: needs apiUrl beside it"),
        (source("format: tts", "apiUrl: http://h", "apiKey: k"), "sources.ns.apiUrl: needs webhook beside it"),
        (source("downlinkAsId: A"), "sources.ns.downlinkAsId: needs asKey or downlinkAsKey beside it"),
        (source("downlinkAsId: A", transport="mqtt"), "sources.ns.downlinkAsId: needs downlinkAsKey beside it"),
        (
            source("format: chirpstack", "apiUrl: https://h/api", "apiKey: k"),
            "sources.ns.apiUrl: must end before /api, which is added",
        ),
        (
            source("format: tts", "apiUrl: https://h/x/api/v3/", "apiKey: k", "webhook: ab"),
            "sources.ns.apiUrl: must end before /api, which is added",
        ),
        (source("apiUrl: https://h", "apiCaCertificate: abc"), "sources.ns.apiCaCertificate: holds no certificate"),
        (source("apiUrl: https://h", "apiCaCertificate: ca.pem"), "write “!file ca.pem”"),
        (connection("hostName: h", "qos: 2", "downlinkTopicPattern: a/{DevEUI}"), "qos: must be 0 or 1"),
        (
            connection("hostName: h", "uplinkTopicPattern: a/{DevEUI}", "downlinkTopicPattern: a/{DevEUI}"),
            "an uplink would come back as a downlink",
        ),
        (
            connection("hostName: h", "downlinkTopicPattern: a/{DevEUI}", "uplinkTopicPattern: 'a/{FPort}'"),
            "an uplink would come back as a downlink",
        ),
        (
            connection(
                "hostName: h",
                "downlinkTopicPattern: a/{DevEUI}/d",
                "downlinkReceiptTopicPattern: 'a/{DevEUI}/{outcome}'",
            ),
            "a receipt would come back as a downlink",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (found,) = complaints(tmp_path, text)
    assert words in found
    assert KEY not in found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (source(f"downlinkAsKey: {KEY}"), "sources.ns.downlinkAsKey: is of no use without downlinkAsId"),
        (source("format: tts", transport="mqtt"), "sources.ns.topics: have no username beside them"),
        (connection("hostName: h", "downlinkReceiptTopicPattern: r"), "has nothing to tell without"),
        (
            connection("hostName: h", "uplinkTopicPattern: 'a/up-{DevEUI}'", "downlinkTopicPattern: 'a/down-{DevEUI}'"),
            "has the broker send back an uplink each time",
        ),
    ],
)
def test_what_is_hardly_meant_is_a_warning(tmp_path: Path, text: str, words: str) -> None:
    (found,) = loaded(tmp_path, text).warnings
    assert words in found


def test_qos_2_is_fine_while_downlinks_are_off(tmp_path: Path) -> None:
    text = connection("hostName: h", "qos: 2", "downlinkTopicPattern: a/{DevEUI}", "downlinkEnabled: false")
    assert loaded(tmp_path, text).warnings == ()


def test_the_words_of_a_secret_pattern_are_not_shown(tmp_path: Path) -> None:
    text = connection("hostName: h", "uplinkTopicPattern: !env P", "downlinkTopicPattern: !env P")
    path = tmp_path / "x"
    path.mkdir()
    (found,) = complaints(path, text.replace("!env P", "'secret/{DevEUI}'"))
    assert "secret" not in found.partition("downlinkTopicPattern: ")[2]
