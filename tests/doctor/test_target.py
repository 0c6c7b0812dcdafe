"""What is to be examined, and under which client id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mqttbridge.doctor.target import DoctorError, Target, Wish, find
from mqttbridge.settings.loader import load
from tests.doctor.helpers import write

if TYPE_CHECKING:
    from pathlib import Path

CONNECTIONS: dict[str, Any] = {
    "acme": {"hostName": "a.example"},
    "named": {"hostName": "a.example", "clientId": "the-one", "downlinkTopicPattern": "d/{DevEUI}"},
    "odd": {"hostName": "a.example", "uplinkTopicPattern": "u/{CustomerData.nothing}"},
}
SOURCES: dict[str, Any] = {
    "ns": {"transport": "mqtt", "hostName": "n.example", "topics": ["a/#", "b"]},
    "lrc": {"transport": "http"},
}


def target(directory: Path, **wish: Any) -> Target:  # noqa: ANN401 (wishes of any kind)
    settings = load(write(directory, CONNECTIONS, SOURCES), environ={}).settings
    return find(settings, Wish(**wish))


def test_it_has_a_client_id_of_its_own(tmp_path: Path) -> None:
    assert target(tmp_path, connection="acme").client_id == "mqttbridge-acme-doctor"
    assert target(tmp_path, connection="named").client_id == "the-one-doctor"
    assert target(tmp_path, source="ns").client_id == "mqttbridge-source-ns-doctor"
    assert target(tmp_path, connection="acme", client_id="mine").client_id == "mine"


def test_it_subscribes_to_what_the_daemon_does(tmp_path: Path) -> None:
    assert target(tmp_path, connection="acme").filters == ()
    assert target(tmp_path, connection="named").filters == ("d/+",)
    assert target(tmp_path, source="ns").filters == ("a/#", "b")


def test_a_topic_that_a_made_up_uplink_does_not_give_is_no_fault(tmp_path: Path) -> None:
    found = target(tmp_path, connection="odd")
    assert found.topic == ""
    assert found.no_topic.startswith("no topic for a made-up uplink")


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"connection": "acne"}, "did you mean 'acme'?"),
        ({"connection": "zzz"}, "there are: acme, named, odd"),
        ({"source": "nss"}, "did you mean 'ns'?"),
        ({"source": "lrc"}, "mqttbridge send --source lrc"),
        ({"source": "ns", "publish": True}, "--publish is for connections"),
        ({"connection": "acme", "dev_eui": "12"}, "give 16 hex digits"),
        ({"connection": "acme", "client_id": "mqttbridge-acme"}, "would end the daemon's session"),
        ({"connection": "acme", "client_id": "the-one"}, "is that of connection named"),
        ({"connection": "acme", "client_id": "mqttbridge-source-ns"}, "is that of source ns"),
    ],
)
def test_what_cannot_be_examined_is_refused_in_a_sentence(tmp_path: Path, wish: dict[str, Any], words: str) -> None:
    with pytest.raises(DoctorError) as refused:
        target(tmp_path, **wish)
    assert words in str(refused.value)
