"""A diagnosis as text and as JSON."""

from __future__ import annotations

import json

from mqttbridge.doctor.findings import Diagnosis, Finding, State
from mqttbridge.doctor.show import as_json, as_lines
from mqttbridge.observe.redact import Redactor

LONG = "x" * 300
FINDINGS = (
    Finding(step="configuration", state=State.OK, says="good", details=("  inner " + "word " * 40,)),
    Finding(step="DNS", state=State.OK, ms=0.2, says="192.0.2.1"),
    Finding(step="TLS", state=State.FAILED, ms=1234.5, says=f"a {LONG}", advice=("do this " * 30, "say hunter22")),
    Finding(step="PUBACK", state=State.SKIPPED, says="not tried", facts={"password": "hunter22", "n": 1}),
)


def diagnosis(*findings: Finding) -> Diagnosis:
    return Diagnosis(
        subject="connection acme",
        address=f"{'long.' * 40}example:8883",
        protocol="SSL",
        mqtt_version="5",
        client_id="mqttbridge-acme-doctor",
        published=False,
        findings=findings,
    )


def mask() -> Redactor:
    redactor = Redactor()
    redactor.add("hunter22")
    return redactor


def test_no_line_is_longer_than_79_columns_and_secrets_are_masked() -> None:
    lines = as_lines(diagnosis(*FINDINGS), mask().text)
    assert max(map(len, lines)) <= 79
    assert not any("\x1b" in line for line in lines)
    text = "\n".join(lines)
    assert "hunter22" not in text
    assert "  > say *****" in lines
    assert LONG in text.replace("\n", "").replace(" ", "")


def test_each_step_has_its_state_and_time_and_the_end_says_it_all() -> None:
    lines = as_lines(diagnosis(*FINDINGS), mask().text)
    assert "DNS            ok          <1 ms" in lines
    assert "TLS            FAILED    1234 ms" in lines
    assert "PUBACK         -" in lines
    assert lines[-1] == "failed: TLS; nothing was published"
    warned = Finding(step="TLS", state=State.WARNING, says="soon")
    assert as_lines(diagnosis(warned), mask().text)[-1] == "all well, with warnings: TLS; nothing was published"


def test_json_says_the_same_for_programs() -> None:
    whole = json.loads(as_json(diagnosis(*FINDINGS), mask().plain))
    assert (whole["subject"], whole["well"], whole["published"]) == ("connection acme", False, False)
    assert [step["state"] for step in whole["steps"]] == ["ok", "ok", "failed", "skipped"]
    assert whole["steps"][2]["ms"] == 1234.5
    assert whole["steps"][3]["facts"] == {"password": "*****", "n": 1}


def test_a_masked_value_breaks_no_json() -> None:
    redactor = Redactor()
    redactor.add("false", "steps", "failed")  # passwords that people do have
    whole = json.loads(as_json(diagnosis(*FINDINGS), redactor.plain))
    assert (whole["well"], len(whole["steps"])) == (False, 4)
