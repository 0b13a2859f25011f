"""The texts of alerts, as Prometheus renders them with real values, compare with golden ones.

``python -m tests.grafana.test_texts`` writes the golden file anew; read the difference before you commit it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from exporter.protocol.counters import LIFETIME_BUCKETS
from grafana.source.alerts import alerts
from grafana.source.config import KNOWN_AGES, Config
from grafana.source.generate import HERE
from grafana.source.rule_files import labels, prometheus
from grafana.source.texts import span
from tests.grafana.alert_cases import CASES, DOWN, GOING, IDLE, SHAKES, SIDECAR, SPIKE, STORM, T
from tests.grafana.promtool import RULES, Case

GOLDEN = Path(__file__).parent / "golden" / "alert_texts.yaml"

#: Beginning of a case's sentence, the minute at which it is read, the alert: worlds in which alerts fire.
READ: list[tuple[str, float, str]] = [
    ("A burst pages within five minutes", T + 4, SPIKE),
    ("One pod of fifty that fails", T + 9, SPIKE),
    ("Outside Kubernetes", T + 4, SPIKE),
    ("Two routes with a handful", T + 9, SPIKE),
    ("Ping timeouts warn", T + 9, SPIKE),
    ("An app that begins to drop", T + 9, "WebSocketAppDropsConnections"),
    ("An app that dies once in one pod", T + 4, DOWN),
    ("An app that dies under its sessions in two", T + 4, DOWN),
    ("A wave of 1001 from a pod that stays, with no deploy", T + 4, GOING),
    ("Two per cent of the endings", T + 59, "WebSocketErrorBudgetBurn"),
    ("A service of three closes an hour", 600, "WebSocketErrorBudgetBurn"),
    ("Clients that come back at once", T + 2, STORM),
    ("A fifth of the handshakes fail", T + 9, SHAKES),
    ("Most handshakes refused", T + 9, SHAKES),
    ("Connections that are not understood", T + 12, "WebSocketUnobservedTraffic"),
    ("A pod that is discovered and does not answer", T + 9, SIDECAR),
    ("All pods of a job that do not answer", T + 9, SIDECAR),
    ("A sidecar that starts again and again", T + 9, SIDECAR),
    ("A sidecar that uses up its core", T + 11, "WebSocketSidecarSaturated"),
    ("A sidecar that runs out of descriptors", T + 6, "WebSocketSidecarSaturated"),
    ("A sidecar that cannot connect", T + 9, "WebSocketSidecarSaturated"),
    ("Sessions cut after a minute", T + 40, IDLE),
    ("Cuts at a cut-off of the operator's own", T + 40, IDLE),
    ("Sessions that a load balancer cuts", T + 40, "WebSocketFixedAgeCutoff"),
    ("Sessions that end at an hour", T + 45, "WebSocketFixedAgeCutoff"),
]


def world(beginning: str) -> Case:
    """Return the one case whose sentence begins so."""
    (found,) = [one for one in CASES if one.sentence.startswith(beginning)]
    return found


def rendered(beginning: str, minute: float, name: str, folder: Path) -> list[dict[str, Any]]:
    """Return labels and annotations of the alerts of a name that fire, as promtool prints them."""
    one = world(beginning)
    (folder / "rules.yaml").write_text(prometheus(one.config)[RULES])
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": f"{one.config.interval:g}s",
        "tests": [
            {
                "interval": "1m",
                "input_series": [line for pod in one.pods for line in pod.lines(one.length)],
                "alert_rule_test": [{"eval_time": f"{minute:g}m", "alertname": name, "exp_alerts": []}],
            }
        ],
    }
    (folder / "test.yaml").write_text(json.dumps(test))
    command = ["promtool", "test", "rules", "test.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    found = re.findall(r"Labels:\{(.*)\}\n +Annotations:\{(.*)\}", done.stdout + done.stderr)
    assert found, f"{beginning}: no {name} after {minute:g} minutes: {done.stdout + done.stderr}"
    return [{"labels": pairs(labels_), "annotations": pairs(annotations)} for labels_, annotations in found]


def pairs(text: str) -> dict[str, str]:
    """Return ``a="b", c="d"`` as a mapping. Pods are sorted: those with equal numbers come in any order."""
    found = {name: json.loads(value) for name, value in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*")', text)}
    return {name: re.sub(r"(?<=Pods: )[^.]+(?=\.\n)", in_order, value) for name, value in found.items()}


def in_order(listed: re.Match[str]) -> str:
    """Return the names of a list in alphabetical order."""
    return ", ".join(sorted(listed[0].split(", ")))


def golden() -> dict[str, list[dict[str, Any]]]:
    """Return the golden texts by the case's sentence and the alert."""
    found: dict[str, list[dict[str, Any]]] = YAML(typ="safe").load(GOLDEN.read_text())
    return found


def key(beginning: str, name: str) -> str:
    """Return the name of an entry of the golden file."""
    return f"{name}: {world(beginning).sentence}"


@pytest.mark.parametrize(("beginning", "minute", "name"), READ, ids=lambda value: str(value).replace(" ", "-"))
def test_alert_texts_equal_the_golden_ones(beginning: str, minute: float, name: str, tmp_path: Path) -> None:
    """Every annotation, rendered by Prometheus' own templates, is word for word as it was read and approved."""
    assert shutil.which("promtool"), "promtool is missing: apt-get install prometheus"
    assert rendered(beginning, minute, name, tmp_path) == golden()[key(beginning, name)]


def test_golden_texts_cover_every_alert() -> None:
    """Each rule is read at least once; rows of the error budget, cut-offs and ages share their words."""
    config = Config()
    seen = [one["labels"] for entry in golden().values() for one in entry]
    alike = {"window", "cutoff", "culprit", "age"}
    for alert in alerts(config):
        wanted = {"alertname": alert.name, **{k: v for k, v in labels(alert, config).items() if k not in alike}}
        if alert.name == "WebSocketErrorBudgetBurn" and alert.severity == "warning" and alert.variant != "quiet":
            continue  # the same words as the rows that page
        assert any(wanted.items() <= labels_.items() for labels_ in seen), wanted


def test_golden_texts_are_ready_for_people() -> None:
    """Whole numbers, plurals that are right at 1, a time, one first thing to do, and both links."""
    for name, entry in golden().items():
        for one in entry:
            texts = one["annotations"]
            assert re.match(r"(prod/)?[a-z]+(, (all routes|route \S+))?: ", texts["summary"]), name
            assert not re.search(r"\b1 (sessions|sidecars|connections|handshakes)\b", texts["summary"]), name
            assert not re.search(r"\b([02-9]|\d\d+) (session|sidecar|connection|handshake)\b", texts["summary"]), name
            assert not re.search(r"\d\.\d\d", texts["summary"] + texts["description"]), name
            assert re.match(r"Since \d\d:\d\d UTC\.", texts["description"]), name
            assert texts["description"].count("\nDo this first: ") == 1, name
            assert "/d/websocket-" in texts["dashboard_url"], name
            assert "from=now-1h&to=now" in texts["dashboard_url"], name
            assert texts["runbook_url"].endswith(f"/{one['labels']['alertname']}.md"), name
            assert not re.search("<no value>|<error|none|unknown", str(texts)), name
            assert "error" not in texts["summary"].split("(")[0], name


def test_dashboard_links_fill_in_variables_that_exist() -> None:
    """Each link names a dashboard of ours and sets variables of it."""
    for name, entry in golden().items():
        for one in entry:
            address = urlsplit(one["annotations"]["dashboard_url"])
            dashboard = json.loads((HERE / "grafana" / "dashboards" / f"{Path(address.path).name}.json").read_text())
            known = {f"var-{variable['name']}" for variable in dashboard["templating"]["list"]}
            given = {key for key, _ in parse_qsl(address.query) if key.startswith("var-")}
            assert "var-job" in given <= known, name


@pytest.mark.parametrize(
    ("seconds", "text"), [(600, "10 min"), (3600, "1 h"), (86400, "1 day"), (259200, "3 days"), (90, "90 s")]
)
def test_span_with_a_duration_reads_as_people_write_it(seconds: float, text: str) -> None:
    """Durations in texts have the largest unit that fits."""
    assert span(seconds) == text


def test_known_ages_lie_between_two_bounds_of_the_histogram() -> None:
    """Each age has a narrow bucket of its own, so that a pile at it can be seen."""
    for age in KNOWN_AGES:
        upper = min(edge for edge in LIFETIME_BUCKETS if edge > age)
        lower = max(edge for edge in LIFETIME_BUCKETS if edge < age)
        assert upper - lower <= max(10, age / 15)


def write() -> None:
    """Write the golden file."""
    found = {}
    for beginning, minute, name in READ:
        with tempfile.TemporaryDirectory() as folder:
            entry = rendered(beginning, minute, name, Path(folder))
        for one in entry:
            one["annotations"]["description"] = LiteralScalarString(one["annotations"]["description"])
        found[key(beginning, name)] = entry
    yaml = YAML()
    yaml.width = 4096
    GOLDEN.parent.mkdir(exist_ok=True)
    with GOLDEN.open("w") as file:
        yaml.dump(found, file)


if __name__ == "__main__":
    write()
