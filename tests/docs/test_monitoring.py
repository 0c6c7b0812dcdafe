"""The dashboard, the alert rules and the page on metrics speak of metrics that exist, and of all of them."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import rich_click as click
import yaml

from mqttbridge.cli import cli
from mqttbridge.observe.events import EVENTS
from tests.docs.pages import TARGET, Shown, mistakes, page
from tests.docs.scenarios import SCENARIOS, Scenario

DOCS = Path(__file__).parents[2] / "docs"
DASHBOARD = DOCS / "grafana-dashboard.json"
ALERTS = DOCS / "alerts.yaml"
METRICS = DOCS / "metrics.md"
KNOWN = page()
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| [^|]+ \|$", re.MULTILINE)
PROMQL = re.compile(r"^```promql\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"`(mqttbridge [^`]+)`")
TEMPLATE = re.compile(r"\{\{\s*\$labels\.(\w+)\s*\}\}")
VARIABLE = re.compile(r"\$\{?(\w+)\}?")
BUILT_IN = {"__rate_interval", "__interval", "__all"}


def dashboard() -> dict[str, Any]:
    """Read the dashboard."""
    read: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return read


def panels() -> list[dict[str, Any]]:
    """Give its panels, without the rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def drawn() -> list[tuple[str, str, str]]:
    """Give what the panels draw: title, expression, legend."""
    return [(each["title"], target["expr"], target["legendFormat"]) for each in panels() for target in each["targets"]]


def rules() -> list[dict[str, Any]]:
    """Read the alert rules."""
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def texts(rule: dict[str, Any]) -> str:
    """Give all that a rule says."""
    return " ".join(rule["annotations"].values())


def resolved(expression: str) -> str:
    """Put in what Grafana does."""
    return re.sub(r"\$__\w+", "5m", re.sub(r"\$(?!__)\w+", ".*", expression))


def queries() -> list[str]:
    """Give the expressions of the page on metrics."""
    return [block.strip() for block in PROMQL.findall(METRICS.read_text(encoding="utf-8"))]


def labels_of(expression: str) -> set[str]:
    """Give the labels that the metrics of an expression have."""
    return set(TARGET).union(*(shown.labels for name, shown in KNOWN.items() if name in expression))


# -- the page on metrics -----------------------------------------------------------------------------------------------


def test_the_page_lists_exactly_the_metrics_that_exist_with_their_types_and_labels() -> None:
    listed = {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in ROW.findall(METRICS.read_text(encoding="utf-8"))
    }
    assert listed == {name: (shown.type, shown.labels) for name, shown in KNOWN.items()}


def test_the_page_names_every_value_that_a_label_may_have() -> None:
    text = METRICS.read_text(encoding="utf-8")
    for shown in KNOWN.values():
        for values in shown.values.values():
            assert not [value for value in values if f"`{value}`" not in text]


def test_names_and_texts_of_metrics_are_as_prometheus_wants_them() -> None:
    for name, shown in KNOWN.items():
        assert name.endswith("_total") == (shown.type == "counter"), name
        assert shown.text, name


def test_the_equation_of_the_page_is_the_one_that_is_drawn_and_watched() -> None:
    (equation,) = queries()
    plain = " ".join(equation.split())
    assert list(mistakes(equation, KNOWN)) == []
    (watched,) = (rule["expr"] for rule in rules() if rule["alert"] == "MqttbridgeUnaccounted")
    assert " ".join(watched.split()).startswith(plain + " != 0")
    # A selection may stand before what the page has.
    drawn_there = [re.sub(r'(?:\w+=~"\$\w+"(?:, )?)+', "", expression) for _, expression, _ in drawn()]
    assert plain in [expression.replace("{}", "") for expression in drawn_there]


# -- the dashboard -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("title", "expression", "legend"), drawn(), ids=[f"{a}: {b[:40]}" for a, b, _ in drawn()])
def test_what_a_panel_draws_exists(title: str, expression: str, legend: str) -> None:
    assert title
    assert list(mistakes(resolved(expression), KNOWN)) == []
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels_of(expression)


def test_each_metric_of_ours_is_drawn() -> None:
    everything = " ".join(expression for _, expression, _ in drawn())
    missing = {name for name in KNOWN if not re.search(rf"\b{name}\b", everything)}
    assert missing == {"process_virtual_memory_bytes"}


def test_the_dashboard_can_be_imported_anywhere() -> None:
    board = dashboard()
    assert (board["id"], board["uid"]) == (None, None), "they would belong to one Grafana"
    assert 36 <= board["schemaVersion"] <= 39, "Grafana 10 and 11 read it"
    variables = [variable["name"] for variable in board["templating"]["list"]]
    assert variables == ["datasource", "job", "instance", "source", "connection"]
    asking = [*panels(), *(target for panel in panels() for target in panel["targets"])]
    asking += [*board["templating"]["list"][1:], *board["annotations"]["list"]]
    assert all(each["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for each in asking)
    assert set(VARIABLE.findall(DASHBOARD.read_text(encoding="utf-8"))) == {*variables, *BUILT_IN}


def test_what_the_variables_and_annotations_ask_for_exists() -> None:
    board = dashboard()
    for variable in board["templating"]["list"][1:]:
        asked = re.fullmatch(r"label_values\((\w+(?:\{.*\})?), (\w+)\)", variable["query"]["query"])
        assert asked, variable
        assert list(mistakes(resolved(asked[1]), KNOWN)) == []
        assert asked[2] in labels_of(asked[1])
    for annotation in board["annotations"]["list"]:
        assert list(mistakes(resolved(annotation["expr"]), KNOWN)) == []


def test_panels_lie_side_by_side_and_have_numbers_and_titles_of_their_own() -> None:
    everything = dashboard()["panels"]
    for key in ("id", "title"):
        values = [panel[key] for panel in everything]
        assert len(values) == len(set(values))
    cells: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        cells |= own


def test_tables_hide_and_rename_columns_that_they_have() -> None:
    for panel in panels():
        for transformation in panel.get("transformations", []):
            columns = {"Time", "Value", "__name__"} | labels_of(panel["targets"][0]["expr"])
            options = transformation["options"]
            assert {*options["excludeByName"], *options["renameByName"]} <= columns


# -- the alert rules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_what_a_rule_watches_exists(rule: dict[str, Any]) -> None:
    assert list(mistakes(rule["expr"], KNOWN)) == []
    assert set(TEMPLATE.findall(texts(rule))) <= labels_of(rule["expr"])


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_tells_what_happened_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Mqttbridge[A-Z]\w+", rule["alert"])
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(rule["annotations"]) == {"summary", "description"}
    assert len(rule["annotations"]["summary"]) < 120
    assert re.search(r"`(?:mqttbridge|systemctl|journalctl) ", rule["annotations"]["description"])


@pytest.mark.parametrize("command", sorted({each for rule in rules() for each in COMMAND.findall(texts(rule))}))
def test_the_commands_that_a_rule_advises_are_taken(command: str) -> None:
    _, *words = TEMPLATE.sub("acme", command).split()
    level: click.Command = cli
    context = click.Context(level)
    while isinstance(level, click.Group):
        found = level.get_command(context, words.pop(0))
        assert found is not None, command
        level, context = found, click.Context(found, parent=context)
    if not words:
        return
    level.parse_args(context, [word.replace("DEVEUI", "0018B20000000B20") for word in words])
    name = context.params.get("name")
    assert not name or any(fnmatch.fnmatchcase(event, name) for event in EVENTS), command


def test_no_two_rules_have_one_name_and_each_has_a_scenario() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    assert {name for scenario in SCENARIOS for name in scenario.firing} == set(names)


# -- what is said to be wrong, is ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("mqttbridge_nothing", "unknown metric mqttbridge_nothing"),
        ("rat(mqttbridge_journal_healthy[5m])", "unknown function rat"),
        ('mqttbridge_journal_healthy{source="lrc"}', "mqttbridge_journal_healthy has no label source"),
        ("sum by (device) (mqttbridge_journal_healthy)", "no metric has the label device"),
        ('mqttbridge_connection_state{state="OPEN"}', "mqttbridge_connection_state has no state 'OPEN'"),
        ("sum(mqttbridge_journal_healthy", "( is not closed"),
        ("mqttbridge_journal_healthy }", "} closes nothing"),
        ("mqttbridge_journal_healthy % 2", "cannot be read at '% 2'"),
        ("vector(1)", "names no metric"),
    ],
)
def test_a_wrong_expression_is_found(expression: str, complaint: str) -> None:
    assert complaint in list(mistakes(expression, KNOWN))


def test_the_page_that_all_this_is_held_against_is_whole() -> None:
    assert len(KNOWN) > 25
    assert all(isinstance(shown, Shown) for shown in KNOWN.values())


# -- promtool ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def promtool() -> str:
    """Give promtool, of Debian's package `prometheus`."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (apt-get install prometheus): expressions were checked by our own means")
    return found


def told(*command: str | Path) -> str:
    """Run a command that must be content."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50, check=False, encoding="utf-8",
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_prometheus_takes_the_rules(promtool: str) -> None:
    assert f"{len(rules())} rules found" in told(promtool, "check", "rules", ALERTS)


def test_prometheus_takes_every_expression_of_the_dashboard_and_of_the_page(promtool: str, tmp_path: Path) -> None:
    expressions = [resolved(expression) for _, expression, _ in drawn()] + queries()
    recorded = [{"record": f"test:expression:{number}", "expr": each} for number, each in enumerate(expressions)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": recorded}]}), encoding="utf-8")
    assert f"{len(expressions)} rules found" in told(promtool, "check", "rules", file)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_alerts_fire_when_they_should_and_not_else(promtool: str, tmp_path: Path, scenario: Scenario) -> None:
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in scenario.firing]
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in scenario.series.items()],
        "promql_expr_test": [
            {
                "expr": 'max by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": scenario.at,
                "exp_samples": expected,
            }
        ],
    }
    file = tmp_path / "test.yaml"
    whole = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [case]}
    file.write_text(yaml.safe_dump(whole), encoding="utf-8")
    assert "SUCCESS" in told(promtool, "test", "rules", file)
