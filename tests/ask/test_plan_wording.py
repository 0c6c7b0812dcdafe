"""What a plan looks like."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.ask.plan_wording import page
from mqttbridge.control.plan import Example, PlanReport, Rerouted, Topic
from mqttbridge.settings.diff import Action, PartChange, Property

AT = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
EUI = "0018B20000000B20"
PATTERN = Property("configuration.uplinkTopicPattern", "a/{DevEUI}", "b/{FPort}/{DevEUI}")


def lines(report: PlanReport) -> list[str]:
    return [line.text for line in page(report)]


def test_nothing_to_do_is_one_line() -> None:
    assert lines(PlanReport(empty=True)) == ["nothing changed: the daemon runs with the file as it stands"]


def test_what_waits_for_a_connection_that_comes_back_is_named() -> None:
    back, new = (
        PartChange("connection", "acme", Action.START, "new"),
        PartChange("connection", "b", Action.START, "new"),
    )
    report = PlanReport(connections=(back, new), waiting={"acme": 1207})
    assert lines(report)[2:] == [
        "connection acme   starts: new",
        "  1,207 uplinks wait for it, and are sent unless they are too old by then",
        "",
        "connection b   starts: new",
    ]
    assert "1 uplink waits for it" in lines(PlanReport(connections=(back,), waiting={"acme": 1}))[3]


def test_a_plan_reads_like_this() -> None:
    report = PlanReport(
        connections=(
            PartChange("connection", "acme", Action.CHANGE, "", (PATTERN,)),
            PartChange(
                "connection",
                "beta",
                Action.RESTART,
                "password changed",
                (Property("configuration.password", "*****", "*****"),),
            ),
        ),
        flows=(PartChange("flow", "cold", Action.CHANGE, "", (Property("connections", "[acme]", "[acme, beta]"),)),),
        daemon=(Property("journal.maxSize", "1GiB", "2GiB"),),
        needs_restart=(Property("http.listen", "127.0.0.1:8080", "127.0.0.1:8081"),),
        examples=(
            Example("acme", EUI, AT, Topic(f"a/{EUI}"), Topic(f"b/2/{EUI}")),
            Example("acme", EUI, AT, Topic(f"a/{EUI}"), Topic(parked="no {FPort}")),
        ),
        devices=(Rerouted(EUI, ("acme",), ("acme", "beta")),),
        devices_rerouted=1,
        devices_known=1200,
        warnings=("f.yaml:1:1: careful",),
    )
    assert lines(report) == [
        "a reload would do this: 1 connection restarts, 1 connection changes in place, 1",
        "  flow changes in place, 1 property of the daemon, 1 property needs a restart of",
        "  the daemon",
        "",
        "connection beta   restarts: password changed",
        "  password               ***** -> *****",
        "",
        "connection acme   changes in place",
        "  uplinkTopicPattern     a/{DevEUI} -> b/{FPort}/{DevEUI}",
        f"    {EUI}     a/{EUI} -> b/2/{EUI}",
        f"    {EUI}     a/{EUI} -> parked: no {{FPort}}",
        "",
        "flow cold   changes in place",
        "  connections            [acme] -> [acme, beta]",
        "",
        "the daemon   changes in place",
        "  journal.maxSize        1GiB -> 2GiB",
        "",
        "the daemon   goes on as it was until it is restarted:",
        "  http.listen            127.0.0.1:8080 -> 127.0.0.1:8081",
        "",
        "1 of 1,200 known devices goes to other connections",
        f"  {EUI}       acme -> acme, beta",
        "",
        "warning: f.yaml:1:1: careful",
    ]


def test_the_page_shows_what_a_plan_looks_like_and_names_all_that_json_has() -> None:
    moved = tuple(Rerouted(f"0018B20000000B2{number}", ("acme",), ("acme", "beta")) for number in range(3))
    report = PlanReport(
        connections=(
            PartChange(
                "connection",
                "acme",
                Action.RESTART,
                "password changed",
                (Property("configuration.password", "*****", "*****"), PATTERN),
            ),
        ),
        flows=(PartChange("flow", "cold", Action.CHANGE, "", (Property("connections", "[acme]", "[acme, beta]"),)),),
        examples=(Example("acme", EUI, AT, Topic(f"a/{EUI}"), Topic(f"b/2/{EUI}")),),
        devices=moved,
        devices_rerouted=3,
        devices_known=1200,
    )
    text = (Path(__file__).parents[2] / "docs" / "reload.md").read_text()
    assert "\n".join(lines(report)) == text.partition("```text\n")[2].partition("\n```")[0]
    for field in msgspec.structs.fields(PlanReport):
        assert f"`{field.name}`" in text, field.name


def test_what_was_done_is_told_in_the_past() -> None:
    changes = tuple(PartChange("source", f"s{number}", Action.START, "new") for number in range(2))
    assert lines(PlanReport(sources=changes))[0] == "a reload would do this: 2 sources start"
    assert lines(PlanReport(sources=changes, applied=True))[0] == "the file is in force: 2 sources started"


def test_what_ends_says_what_becomes_of_its_queue() -> None:
    removed = PlanReport(connections=(PartChange("connection", "acme", Action.STOP, "removed"),))
    assert "what is queued for it is kept" in "\n".join(lines(removed))
    off = PartChange("connection", "acme", Action.STOP, "active is now false", (Property("active", "true", "false"),))
    assert "expires by its uplinkTimeValidity" in "\n".join(lines(PlanReport(connections=(off,))))
    source = PlanReport(sources=(PartChange("source", "lrc", Action.STOP, "removed"),))
    assert "queued" not in "\n".join(lines(source))


def test_what_does_not_fit_a_line_takes_several() -> None:
    long = Property("configuration.description", "x" * 100, "y " * 60)
    text = lines(PlanReport(connections=(PartChange("connection", "acme", Action.CHANGE, "", (long,)),)))
    assert text[3] == "  description"
    assert text[4].startswith("     xxx")
    assert any(line.startswith("  -> y y") for line in text)


def test_of_many_devices_ten_are_shown_and_the_rest_is_counted() -> None:
    devices = tuple(Rerouted(f"{number:016X}", (), ("a",)) for number in range(100))
    text = lines(PlanReport(devices=devices, devices_rerouted=2990, devices_known=3000, applied=True))
    assert "2,990 of 3,000 known devices go from now on to other connections" in text
    assert text[-1] == "  and 2,980 more; --json names more"
    assert text[-2] == "  0000000000000009       none -> a"


TEXT = st.text(max_size=300)


@given(TEXT, TEXT, TEXT, st.sampled_from(Action))
def test_no_line_is_too_long_or_steers_the_terminal(one: str, other: str, why: str, action: Action) -> None:
    report = PlanReport(
        connections=(
            PartChange(
                "connection",
                "a" * 64,
                action,
                why,
                (Property("configuration.uplinkTopicPattern", one, other), PATTERN),
            ),
        ),
        examples=(Example("a" * 64, EUI, AT, Topic(one), Topic(parked=other)),),
        devices=(Rerouted(EUI, (one,), (other, one)),),
        devices_rerouted=1,
        devices_known=1,
        warnings=(why,),
    )
    for line in lines(report):
        assert len(line) <= 80
        assert line.isprintable()
