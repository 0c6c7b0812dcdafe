"""Edits by the API: files that are right, whole and in force, or nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from mqttbridge.api.seam import Refused
from mqttbridge.clock import SystemClock
from mqttbridge.editing import Editing, slug
from mqttbridge.settings import writing
from mqttbridge.settings.documents import document_of
from mqttbridge.settings.loader import load
from mqttbridge.settings.reader import etag
from mqttbridge.settings.seal import Seal
from mqttbridge.tryout import TryOut
from tests.settings.helpers import write
from tests.settings.pki import ca_certificate, pair
from tests.support.edits import LARGE, Edits, document, edits, read
from tests.test_reloader import began, running, until

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from mqttbridge.api.seam import Editor, Tested
    from mqttbridge.settings.loader import Loaded
    from mqttbridge.settings.schema import Connection

ROOT = Path(__file__).parents[1]
MAIN = """\
connections:
  main:
    configuration: {hostName: m}
flows:
  all: {connections: [main]}
"""
HAND = """\
# by hand
name: Hand
configuration:
  hostName: !env HOST  # where it is
  username: u
  password: !env KEY
"""


async def furnished(directory: Path, main: str = MAIN, **files: str) -> Edits:
    """Begin with a main file, and connections beside it."""
    for id_, text in files.items():
        write(directory, text, f"connections.d/{id_}.yaml")
    return await edits(write(directory, main))


def looks(directory: Path) -> dict[str, bytes]:
    """Give every file."""
    return {str(one.relative_to(directory)): one.read_bytes() for one in directory.rglob("*") if one.is_file()}


async def refused(status: int, asked: Awaitable[object], world: Edits | None = None) -> Refused:
    """Expect a refusal that leaves every file as it is, and nothing else in force."""
    before = None if world is None else (looks(world.path.parent), world.loaded.settings)
    with pytest.raises(Refused) as caught:
        await asked
    assert caught.value.status == status, caught.value.detail
    assert caught.value.detail
    if world is not None:
        assert (looks(world.path.parent), world.loaded.settings) == before
    return caught.value


# -- create


async def test_a_new_connection_is_a_file_that_is_in_force_and_nobody_else_may_read(tmp_path: Path) -> None:
    world = await furnished(tmp_path)
    made = await world.editor.create("connection", "acme", document("ACME", username="u", password="!file /etc/passwd"))
    file = tmp_path / "connections.d" / "acme.yaml"
    assert file.read_text() == (
        "name: ACME\nconfiguration:\n"
        "  hostName: h\n  username: u\n  password: '!file /etc/passwd'\n  description: ACME\n"
    )
    assert (made.id, made.etag) == ("acme", etag(file.read_bytes()))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert world.loaded.settings.connections["acme"].name == "ACME"
    assert world.loaded.owners["connection", "acme"] == file
    assert world.loaded.owners["connection", "main"] == world.path
    assert world.loaded.etags == {("connection", "acme"): made.etag}


async def test_a_new_flow_is_a_file_too(tmp_path: Path) -> None:
    world = await furnished(tmp_path)
    made = await world.editor.create("flow", None, {"name": "Hot water!", "connections": ["main"]})
    assert made.id == "hot-water"
    assert (tmp_path / "flows.d" / "hot-water.yaml").read_text() == "name: Hot water!\nconnections: [main]\n"
    assert world.loaded.owners["flow", "hot-water"] == tmp_path / "flows.d" / "hot-water.yaml"
    assert list(world.loaded.settings.flows) == ["all", "hot-water"]
    assert not made.warnings


async def test_the_first_flow_of_all_comes_with_a_warning(tmp_path: Path) -> None:
    world = await furnished(tmp_path, "connections: {main: {configuration: {hostName: m}}}\n")
    made = await world.editor.create("flow", "f", {"connections": ["main"]})
    assert "the first flow" in made.warnings[-1]


async def test_an_id_is_made_of_the_name_and_is_new(tmp_path: Path) -> None:
    world = await furnished(tmp_path)
    write(tmp_path, "{", "connections.d/acme-2.yaml.bak")
    (tmp_path / "connections.d" / "acme-3.yaml").symlink_to("nowhere.yml")
    # A file that is not in force yet.
    names = ["Main", "ÀCME!", "acme", "../..", "", "x" * 500]
    (tmp_path / "connections.d" / "acme-3.yaml").unlink()
    ids = [(await world.editor.create("connection", None, document(name))).id for name in names]
    assert ids == ["main-2", "acme", "acme-2", "connection", "connection-2", "x" * 56]
    assert (await world.editor.create("connection", None, {"configuration": {"hostName": "h"}})).id == "connection-3"


@pytest.mark.parametrize(
    ("name", "id_"), [("Ünïcode Näme", "unicode-name"), ("東京", ""), ("-a-", "a"), ("a\n../b", "a-b")]
)
def test_a_slug_has_what_an_id_may_have(name: str, id_: str) -> None:
    assert slug(name) == id_


@pytest.mark.parametrize("id_", ["", "../x", "a/b", ".x", "x\n", "-x", "x" * 65, "ä", "a\0", "a b"])
async def test_an_id_that_cannot_be_one_is_refused(tmp_path: Path, id_: str) -> None:
    world = await furnished(tmp_path)
    error = await refused(422, world.editor.create("connection", id_, document("x")), world)
    assert [each.property for each in error.problems] == ["id"]


async def test_an_id_that_exists_anywhere_is_a_conflict(tmp_path: Path) -> None:
    world = await furnished(tmp_path, beside=HAND)
    write(tmp_path, "[", "connections.d/broken.yaml")
    (tmp_path / "connections.d" / "link.yaml").symlink_to("nowhere")
    for id_ in ("main", "beside", "broken", "link"):
        await refused(409, world.editor.create("connection", id_, document("x")), world)
    (tmp_path / "connections.d" / "broken.yaml").unlink()
    (tmp_path / "connections.d" / "link.yaml").unlink()
    world.path.write_text(MAIN.replace("  main:\n", "  late: {configuration: {hostName: l}}\n  main:\n"))
    error = await refused(409, world.editor.create("connection", "late", document("x")), world)
    assert "not in force yet" in error.detail


async def test_what_is_wrong_with_a_document_is_told_by_property_and_nothing_is_written(tmp_path: Path) -> None:
    world = await furnished(tmp_path)
    wrong = {"nam": "x", "configuration": {"hostName": "http://h", "qos": 7, "password": "*****"}}
    error = await refused(422, world.editor.create("connection", "acme", wrong), world)
    assert [each.property for each in error.problems] == ["configuration.password"]
    del wrong["configuration"]["password"]  # type: ignore[attr-defined]
    error = await refused(422, world.editor.create("connection", "acme", wrong), world)
    assert [each.property for each in error.problems] == ["configuration.hostName", "configuration.qos", "nam"]
    assert "did you mean name" in error.problems[2].detail
    strange = {"configuration": {"hostName": "h", "foo": 1, "bar": 2}}
    error = await refused(422, world.editor.create("connection", "acme", strange), world)
    assert [each.detail.partition(";")[0] for each in error.problems] == ["is not a known property"] * 2
    assert "line" not in error.problems[1].detail
    error = await refused(422, world.editor.create("connection", "acme", {"name": "x"}), world)
    assert [each.property for each in error.problems] == ["configuration"]
    error = await refused(422, world.editor.create("flow", "f", {"connections": ["main", "nobody"]}), world)
    assert [each.property for each in error.problems] == ["connections[1]"]
    assert world.reload.count == 0


async def test_warnings_of_the_document_are_given_back(tmp_path: Path) -> None:
    world = await furnished(tmp_path)
    made = await world.editor.create("connection", "acme", document("x", downlinkReceiptTopicPattern="r/{DevEUI}"))
    assert any(text.startswith("configuration.downlinkReceiptTopicPattern: has nothing") for text in made.warnings)


# -- replace


async def test_a_replaced_document_keeps_masked_values_with_their_tags(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND)
    document = document_of(world.loaded.settings.connections["hand"])
    assert document["configuration"] == {"hostName": "*****", "username": "u", "password": "*****"}
    document["configuration"]["username"] = "v"
    before = world.loaded.etags["connection", "hand"]
    made = await world.editor.replace("connection", "hand", document, if_match=before)
    assert world.file("hand").read_text() == (
        "name: Hand\nconfiguration:\n  hostName: !env HOST\n  username: v\n  password: !env KEY\n"
    )
    assert made.etag == world.loaded.etags["connection", "hand"] != before
    configuration = world.loaded.settings.connections["hand"].configuration
    assert (configuration.password, configuration.username) == ("secret word", "v")


async def test_whoever_meets_a_hand_edit_that_is_not_in_force_is_told_that_getting_it_again_does_not_help(
    tmp_path: Path,
) -> None:
    world = await furnished(tmp_path, hand=HAND)
    seen = world.loaded.etags["connection", "hand"]
    write(tmp_path, HAND + "active: false\n", "connections.d/hand.yaml")
    error = await refused(412, world.editor.replace("connection", "hand", document("x"), if_match=seen), world)
    assert "reload" in error.detail
    await world.reload.reload()
    error = await refused(412, world.editor.replace("connection", "hand", document("x"), if_match=seen), world)
    assert "reload" not in error.detail


async def test_the_tag_that_is_shown_is_sealed_and_still_tells_who_was_faster(tmp_path: Path) -> None:
    world = await furnished(tmp_path)
    seal = Seal(b"key")
    editor = Editing(world.reload, environ={}, try_out=TryOut(SystemClock()).try_out, seal=seal)
    made = await editor.create("connection", "acme", document("x", password="bar"))
    plain_tag = etag(world.file("acme").read_bytes())
    assert made.etag == seal(plain_tag) != plain_tag
    await refused(412, editor.replace("connection", "acme", document("y"), if_match=plain_tag), world)
    after = await editor.replace("connection", "acme", document("y"), if_match=made.etag)
    await refused(412, editor.delete("connection", "acme", if_match=made.etag), world)
    await editor.delete("connection", "acme", if_match=after.etag)


async def test_an_edit_elsewhere_does_not_copy_a_certificate_out_of_the_file_that_is_renewed(tmp_path: Path) -> None:
    write(tmp_path, ca_certificate(), "ca.crt")
    hand = "configuration: {hostName: h, protocol: SSL, trustedCaCertificate: !file ../ca.crt}"
    world = await furnished(tmp_path, hand=hand)
    key = ("connection", "hand")
    shown = document_of(world.loaded.settings.connections["hand"], world.loaded.outlines[key])
    same = await world.editor.replace("connection", "hand", shown)
    assert (world.file("hand").read_text(), same.etag) == (hand, world.loaded.etags[key])
    shown["configuration"]["username"] = "u"
    await world.editor.replace("connection", "hand", shown)
    assert "trustedCaCertificate: !file ../ca.crt" in world.file("hand").read_text()
    # Somebody has written another reference meanwhile: what was shown is not of that one.
    write(tmp_path, hand.replace("ca.crt", "other.crt"), "connections.d/hand.yaml")
    write(tmp_path, pair()[0], "other.crt")
    await world.editor.replace("connection", "hand", shown)
    assert "!file" not in world.file("hand").read_text()


async def test_what_is_not_there_or_not_ours_or_not_as_it_was_is_not_replaced(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND)
    replace = world.editor.replace
    await refused(404, replace("connection", "nobody", document("x")), world)
    await refused(404, replace("connection", "../hand", document("x")), world)
    await refused(404, replace("flow", "hand", document("x")), world)
    error = await refused(409, replace("connection", "main", document("x"), if_match="0"), world)
    assert "mqttbridge.yaml" in error.detail
    await refused(409, replace("flow", "all", {"connections": ["main"]}), world)
    await refused(412, replace("connection", "hand", {"nam": "x"}, if_match="0"), world)
    await replace("connection", "hand", document("x"), if_match="*")


async def test_a_hand_edit_that_is_not_in_force_yet_makes_an_etag_old(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND)
    known = world.loaded.etags["connection", "hand"]
    world.file("hand").write_text(HAND.replace("name: Hand", "name: Other"))
    await refused(412, world.editor.replace("connection", "hand", document("x"), if_match=known), world)
    await refused(412, world.editor.delete("connection", "hand", if_match=known), world)
    world.file("hand").unlink()
    await refused(412, world.editor.replace("connection", "hand", document("x"), if_match=known), world)


async def test_a_file_that_somebody_removed_is_made_again_or_taken_up_as_gone(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND, other=HAND)
    world.file("hand").unlink()
    masked = document("x", password="*****")
    error = await refused(422, world.editor.replace("connection", "hand", masked), world)
    assert error.problems[0].property == "configuration.password"
    await refused(409, world.editor.activate("hand", active=False), world)
    await world.editor.replace("connection", "hand", document("x"))
    world.file("other").unlink()
    await world.editor.delete("connection", "other")
    assert list(world.loaded.settings.connections) == ["main", "hand"]


async def test_a_link_is_not_replaced(tmp_path: Path) -> None:
    write(tmp_path, HAND, "elsewhere.yaml")
    (tmp_path / "connections.d").mkdir()
    (tmp_path / "connections.d" / "hand.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    world = await furnished(tmp_path)
    for asked in (
        world.editor.replace("connection", "hand", document("x")),
        world.editor.activate("hand", active=False),
        world.editor.delete("connection", "hand"),
    ):
        error = await refused(409, asked, world)
        assert "is a link" in error.detail
    assert world.file("hand").is_symlink()


async def test_active_changes_alone_and_the_comments_stay(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND)
    await world.editor.activate("hand", active=False)
    assert world.file("hand").read_text() == HAND.replace("name: Hand", "active: false\nname: Hand")
    assert not world.loaded.settings.connections["hand"].active
    again = await world.editor.activate("hand", active=False)
    await world.editor.activate("hand", active=True)
    assert world.file("hand").read_text() == HAND.replace("name: Hand", "active: true\nname: Hand")
    assert again.etag != world.loaded.etags["connection", "hand"]
    await refused(409, world.editor.activate("main", active=False), world)
    await refused(404, world.editor.activate("nobody", active=False), world)


# -- delete


async def test_a_deleted_connection_is_gone_unless_a_flow_names_it(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND)
    await world.editor.create("flow", "f", {"connections": ["hand", "main"]})
    error = await refused(409, world.editor.delete("connection", "hand"), world)
    assert "“f”" in error.detail
    await refused(412, world.editor.delete("flow", "f", if_match="0"), world)
    await world.editor.delete("flow", "f", if_match=world.loaded.etags["flow", "f"])
    await world.editor.delete("connection", "hand")
    assert list(world.loaded.settings.connections) == ["main"]
    assert looks(tmp_path) == {"mqttbridge.yaml": MAIN.encode()}
    await refused(404, world.editor.delete("connection", "hand"), world)
    await refused(409, world.editor.delete("connection", "main"), world)
    await refused(409, world.editor.delete("flow", "all"), world)


async def test_a_flow_that_is_not_in_force_yet_keeps_its_connection_too(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND)
    write(tmp_path, "connections: [hand]", "flows.d/late.yaml")
    error = await refused(409, world.editor.delete("connection", "hand"), world)
    assert "flows.d/late.yaml:1:15: flows.late.connections[0]" in error.detail


# -- what else is wrong


async def test_an_error_elsewhere_keeps_every_edit_from_being_written(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND)
    world.path.write_text(MAIN + "watch: perhaps\nzzz: 1\n")
    for asked in (
        world.editor.create("connection", "acme", document("x")),
        world.editor.replace("connection", "hand", document("x")),
        world.editor.activate("hand", active=False),
        world.editor.delete("connection", "hand"),
        world.editor.try_out(None, document("x")),
    ):
        error = await refused(409, asked, world)
        assert "elsewhere: " in error.detail
        assert "mqttbridge.yaml:6:8: watch: must be true or false" in error.detail
        assert "(and 1 more)" in error.detail
    assert world.reload.count == 0
    # A document that is wrong itself is told so first.
    await refused(422, world.editor.create("connection", "acme", {"nam": 1}), world)


async def edit(editor: Editor, name: str) -> None:
    match name:
        case "create":
            await editor.create("connection", "acme", document("x"))
        case "replace":
            await editor.replace("connection", "hand", document("x"))
        case "activate":
            await editor.activate("hand", active=False)
        case _:
            await editor.delete("connection", "hand")


EDITS = ("create", "replace", "activate", "delete")


@pytest.mark.parametrize("name", EDITS)
async def test_what_the_reload_refuses_after_all_is_put_back(tmp_path: Path, name: str) -> None:
    world = await furnished(tmp_path, hand=HAND)

    async def other_edit() -> None:
        await anyio.Path(world.path).write_text("[")

    world.reload.before = other_edit
    settings = world.loaded.settings
    error = await refused(409, edit(world.editor, name))
    assert "mqttbridge.yaml:" in error.detail
    assert "elsewhere" in error.detail
    assert looks(tmp_path) == {"mqttbridge.yaml": b"[", "connections.d/hand.yaml": HAND.encode()}
    assert (world.loaded.settings, world.reload.count) == (settings, 1)


@pytest.mark.parametrize("name", EDITS)
async def test_a_reload_that_fails_for_another_reason_is_503_and_everything_is_as_it_was(
    tmp_path: Path, name: str
) -> None:
    world = await furnished(tmp_path, hand=HAND)
    world.reload.refuses = ("the configuration was not taken up: the disk fails",)
    error = await refused(503, edit(world.editor, name), world)
    assert "the disk fails" in error.detail


async def test_a_reload_that_crashes_puts_the_file_back(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND)

    async def crash() -> None:
        raise ZeroDivisionError

    world.reload.before = crash
    with pytest.raises(ZeroDivisionError):
        await edit(world.editor, "replace")
    assert world.file("hand").read_text() == HAND


async def test_what_somebody_wrote_meanwhile_is_not_put_back_over(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND)

    async def other_edit() -> None:
        await anyio.Path(world.path).write_text("[")
        await anyio.Path(world.file("hand")).write_text("# mine\n" + HAND)

    world.reload.before = other_edit
    await refused(409, edit(world.editor, "replace"))
    assert world.file("hand").read_text() == "# mine\n" + HAND


async def test_a_hand_edit_between_reading_and_writing_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await furnished(tmp_path, hand=HAND)
    real = writing.sweep
    edited = [HAND.replace("!env KEY", "by-hand"), HAND.replace("!env KEY", "again")]

    def sweep(directory: Path) -> None:
        if edited:
            world.file("hand").write_text(edited.pop(0))
        real(directory)

    monkeypatch.setattr(writing, "sweep", sweep)
    await world.editor.replace("connection", "hand", document("x", username="u", password="*****"))
    assert "password: again\n" in world.file("hand").read_text()
    etag_before = world.loaded.etags["connection", "hand"]
    edited.append(HAND)
    await refused(412, world.editor.replace("connection", "hand", document("x"), if_match=etag_before))
    assert world.file("hand").read_text() == HAND


async def test_somebody_who_writes_without_end_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await furnished(tmp_path, hand=HAND)

    def sweep(_: Path) -> None:
        with world.file("hand").open("a") as file:
            file.write("#\n")

    monkeypatch.setattr(writing, "sweep", sweep)
    error = await refused(409, world.editor.delete("connection", "hand"))
    assert "somebody else" in error.detail


# -- the disk


@pytest.mark.parametrize(("number", "status"), [(errno.EROFS, 409), (errno.EACCES, 409), (errno.ENOSPC, 503)])
@pytest.mark.parametrize("name", EDITS)
async def test_a_directory_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, status: int
) -> None:
    world = await furnished(tmp_path, hand=HAND)

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", fail)
    monkeypatch.setattr(Path, "unlink", fail)
    error = await refused(status, edit(world.editor, name))
    assert "connections.d" in error.detail
    assert world.file("hand").read_text() == HAND
    assert world.reload.count == 0


@pytest.mark.parametrize("name", EDITS)
async def test_a_disk_that_fails_after_the_file_took_its_name_brings_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    world = await furnished(tmp_path, hand=HAND)
    real = writing._sync
    failures = [OSError(errno.EIO, "Input/output error")]

    def sync(directory: Path) -> None:
        if failures:
            raise failures.pop()
        real(directory)

    monkeypatch.setattr(writing, "_sync", sync)
    await refused(503, edit(world.editor, name), world)


async def test_what_a_crash_left_is_removed_by_the_next_edit(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND)
    write(tmp_path, "half", "connections.d/.mqttbridge-0011.tmp")
    await edit(world.editor, "replace")
    assert sorted(looks(tmp_path)) == ["connections.d/hand.yaml", "mqttbridge.yaml"]


async def test_an_edit_goes_on_when_the_one_who_asked_has_gone(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND)
    with anyio.CancelScope() as scope:

        async def leave() -> None:
            scope.cancel()

        world.reload.before = leave
        await edit(world.editor, "replace")
    assert world.loaded.settings.connections["hand"].name == "x"
    assert world.loaded.etags["connection", "hand"] == etag(world.file("hand").read_bytes())


# -- which brokers


async def test_only_allowed_brokers_are_connected_to(tmp_path: Path) -> None:
    main = MAIN + "api: {brokerAllowlist: ['*.example', 192.0.2.0/24]}\n"
    outside = "active: false\nconfiguration: {hostName: other.test}\n"
    world = await furnished(tmp_path, main, hand=HAND, outside=outside, running=outside.replace("false", "true"))
    good, bad = document("x", hostName="b.example:1883"), document("x", hostName="169.254.169.254")
    for asked in (
        world.editor.create("connection", "acme", bad),
        world.editor.replace("connection", "hand", bad),
        world.editor.try_out(None, bad),
        world.editor.try_out("hand", bad),
        world.editor.activate("outside", active=True),
    ):
        error = await refused(422, asked, world)
        assert [each.property for each in error.problems] == ["configuration.hostName"]
    await world.editor.activate("running", active=False)
    await world.editor.delete("connection", "running")
    await world.editor.create("connection", "acme", good)
    kept = document_of(world.loaded.settings.connections["hand"])
    await world.editor.replace("connection", "hand", kept)
    write(tmp_path, HAND, "connections.d/hidden.yaml")
    assert not world.tried


# -- try out


async def test_a_document_is_tried_out_and_nothing_is_kept(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND)
    before = looks(tmp_path)
    given = document("Hand", username="u", password="p\n", hostName="broker")
    tested = await world.editor.try_out(None, given)
    assert tested.ok
    assert tested.warnings[-1] == "of the broker"
    assert tested.warnings[0].startswith("configuration.password: holds a line end")
    masked = document_of(world.loaded.settings.connections["hand"])
    await world.editor.try_out("hand", masked)
    assert [id_ for id_, _ in world.tried] == ["hand-2", "hand"]
    assert world.tried[1][1].configuration.password == "secret word"
    assert (looks(tmp_path), world.reload.count) == (before, 0)
    await refused(404, world.editor.try_out("nobody", given), world)
    await refused(409, world.editor.try_out("main", given), world)
    error = await refused(422, world.editor.try_out(None, document("x", password="*****")), world)
    assert error.problems[0].property == "configuration.password"


async def test_sixty_documents_that_are_tried_out_at_once_do_not_read_the_configuration_all_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await furnished(tmp_path)
    lock, now, most = threading.Lock(), 0, 0

    def counted(path: Path, **options: Any) -> Loaded:  # noqa: ANN401 (whatever `load` takes)
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        try:
            return load(path, **options)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr("mqttbridge.editing.load", counted)
    await asyncio.gather(*(world.editor.try_out(None, document("x")) for _ in range(60)))
    assert len(world.tried) == 60
    assert most <= 2


# -- many at once


async def test_a_hundred_writers_who_say_what_they_saw_lose_nothing(tmp_path: Path) -> None:
    world = await furnished(tmp_path)
    await world.editor.create("connection", "acme", document("0"))
    again, told = 0, set[int]()

    async def add_one() -> None:
        nonlocal again
        while True:
            seen = document_of(world.loaded.settings.connections["acme"])
            known = world.loaded.etags["connection", "acme"]
            seen["name"] = str(int(seen["name"]) + 1)
            try:
                await world.editor.replace("connection", "acme", seen, if_match=known)
            except Refused as error:
                again += 1
                told.add(error.status)
            else:
                return

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(add_one)
    assert world.loaded.settings.connections["acme"].name == "100"
    assert again > 0
    assert told == {412}


async def test_of_a_hundred_writers_who_say_nothing_the_last_wins_and_no_file_is_ever_torn(tmp_path: Path) -> None:
    world = await furnished(tmp_path)
    await world.editor.create("connection", "acme", document("x"))
    path, done, seen = world.file("acme"), threading.Event(), set[bytes]()

    def watch() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    async def write_one(number: int) -> None:
        await world.editor.replace("connection", "acme", document(str(number) * 1000))

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, watch)
        async with anyio.create_task_group() as writers:
            for number in range(100):
                writers.start_soon(write_one, number)
        done.set()
    assert len(seen) > 10
    for data in seen:
        assert data.startswith(b"name: ")
        name, description = data.split(b"\n")[0][6:], data.split(b"\n")[-2].strip()[13:]
        assert name == description
    assert world.loaded.settings.connections["acme"].name == str(99) * 1000


async def test_many_new_connections_of_one_name_at_once_are_as_many(tmp_path: Path) -> None:
    world = await furnished(tmp_path)
    made = set()

    async def create() -> None:
        made.add((await world.editor.create("connection", None, document("ACME"))).id)

    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(create)
    assert len(made) == 30
    assert set(world.loaded.settings.connections) == made | {"main"}


async def test_edits_by_hand_and_by_api_may_take_turns(tmp_path: Path) -> None:
    world = await furnished(tmp_path, hand=HAND, other="configuration: {hostName: h0}\n")
    done, told = threading.Event(), set[int]()

    def by_hand() -> None:
        """As editors do: another file in the place of the old one."""
        number = 0
        while not done.is_set():
            number += 1
            draft = tmp_path / "connections.d" / "other.yaml~"
            draft.write_text(f"configuration: {{hostName: h{number}}}\n")
            draft.replace(world.file("other"))
            world.file("hand").write_bytes(world.file("hand").read_bytes() + b"")

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, by_hand)
        for number in range(40):
            try:
                await world.editor.replace("connection", "hand", document(f"n{number}"))
            except Refused as error:
                # The file was empty for a moment, or written all the time.
                told.add(error.status)
        done.set()
    assert told <= {409, 503}
    await world.editor.replace("connection", "hand", document("last"))
    assert await anyio.to_thread.run_sync(read, world.path) == world.loaded
    assert world.loaded.settings.connections["hand"].name == "last"
    assert world.loaded.settings.connections["other"].configuration.host_name != "h0"


# -- crashes


@pytest.mark.timeout(60)
async def test_killed_at_any_moment_there_is_the_old_or_the_new_and_it_loads(tmp_path: Path) -> None:
    path = write(tmp_path, MAIN)
    write(tmp_path, "configuration: {hostName: h}\n", "connections.d/acme.yaml")
    chance = random.Random(5)  # noqa: S311 (moments, no keys)
    for _ in range(6):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.edits", str(path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"0\n"
        await asyncio.sleep(chance.uniform(0, 0.3))  # the moment is the matter
        process.kill()
        await process.communicate()
        loaded = await anyio.to_thread.run_sync(read, path)
        acme = loaded.settings.connections["acme"]
        assert acme.name in {"a" * LARGE, "b" * LARGE}
        assert acme.configuration.description == acme.name
        if ("connection", "other") in loaded.owners:
            world = await edits(path)
            await world.editor.delete("connection", "other")
    await (await edits(path)).editor.activate("acme", active=False)
    assert sorted(looks(tmp_path)) == ["connections.d/acme.yaml", "mqttbridge.yaml"]


# -- with the real reload


async def test_an_edit_through_the_real_reload_begins_changes_and_ends_a_session(tmp_path: Path) -> None:
    world = await began(tmp_path, "connections: {acme: {configuration: {hostName: h, protocol: TCP}}}\nwatch: true\n")

    async def try_out(_: str, __: Connection) -> Tested:
        raise AssertionError("nobody asked for it")

    editor = Editing(world.reloader, environ={}, try_out=try_out)
    async with running(world):
        made = await editor.create("connection", "new", document("N"))
        assert set(world.parts.sessions) == {"acme", "new"}
        assert world.reloader.loaded.etags["connection", "new"] == made.etag
        session = world.parts.sessions.get("new")
        await editor.replace("connection", "new", document("N", maxInflight=7), if_match=made.etag)
        assert world.parts.sessions.get("new") is session
        assert world.reloader.loaded.settings.connections["new"].configuration.max_inflight == 7
        world.journal.fails = True
        error = await refused(503, editor.create("connection", "late", document("L")))
        assert "the disk fails" in error.detail
        assert not (tmp_path / "connections.d" / "late.yaml").exists()
        world.journal.fails = False
        await editor.delete("connection", "new")
        await until(lambda: set(world.parts.sessions) == {"acme"})
        assert "late" not in world.reloader.loaded.settings.connections
