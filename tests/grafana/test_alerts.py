"""Every alert fires when it should, stays silent when it should not, and resolves: in sentences, asked of promtool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from grafana.source.alerts import alerts
from grafana.source.config import Config
from grafana.source.rule_files import prometheus, prometheus_rule
from tests.grafana.alert_cases import CASES
from tests.grafana.promtool import Case, run


@pytest.fixture(scope="module")
def objections(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """promtool's verdict on all the cases that are to be run, asked once."""
    assert shutil.which("promtool"), "promtool is missing: apt-get install prometheus"
    callspecs = (item.callspec for item in request.session.items if hasattr(item, "callspec"))
    chosen = {one.sentence for callspec in callspecs if isinstance(one := callspec.params.get("one"), Case)}
    return run([one for one in CASES if one.sentence in chosen], tmp_path_factory.mktemp("promtool"))


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.sentence)
def test_case(one: Case, objections: dict[str, str]) -> None:
    """What the sentence says is so."""
    assert objections.get(one.sentence, "") == ""


@pytest.mark.parametrize("path", prometheus(Config()))
def test_promtool_finds_no_fault(path: str, tmp_path: Path) -> None:
    """Syntax, names, duplicates: Debian's promtool (2.42, the oldest Prometheus that will do) has nothing to say."""
    (tmp_path / "rules.yaml").write_text(prometheus(Config())[path])
    command = ["promtool", "check", "rules", "--lint-fatal", "rules.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("interval", [15, 30, 60])
def test_every_group_names_its_interval(interval: float) -> None:
    """The error budget's counts are sums times the interval, whatever Prometheus' own evaluation_interval is."""
    config = Config(interval=interval)
    made = prometheus(config) | prometheus_rule(config)
    read = {path: YAML(typ="safe").load(text) for path, text in made.items()}
    groups = [group for one in read.values() for group in one.get("spec", one)["groups"]]
    assert {group["interval"] for group in groups} == {"2m", "1m" if interval == 60 else f"{interval}s"}
    every = [rule for group in groups for rule in group["rules"]]
    burning = [rule["expr"] for rule in every if rule.get("alert") == "WebSocketErrorBudgetBurn"]
    assert len(burning) == 2 * (len(config.burn) + 1)
    assert all(f"]) * {interval} >= " in expr for expr in burning)


def test_rule_files_say_which_prometheus_they_need() -> None:
    """keep_firing_for is an unknown key, and so a refused file, before 2.42."""
    for text in (prometheus(Config()) | prometheus_rule(Config())).values():
        assert "Prometheus 2.42" in "".join(line for line in text.splitlines() if line.startswith("#"))


def test_sentences_differ() -> None:
    """No case hides another."""
    assert len({one.sentence for one in CASES}) == len(CASES)


def test_every_alert_has_cases_of_all_three_kinds() -> None:
    """Each rule is seen firing; each alert is seen silent, and silent again after it fired."""
    says = [say for one in CASES for say in one.says]
    for alert in alerts(Config()):
        named = [say for say in says if f'"{alert.name}"' in say.expr]
        assert any(say.samples for say in named), f"{alert.name} never fires"
        assert any(not say.samples for say in named), f"{alert.name} is never silent"
        resolves = [
            one
            for one in CASES
            for fired in one.says
            for later in one.says
            if fired.samples
            and fired.expr == later.expr
            and later.at > fired.at
            and not later.samples
            and f'"{alert.name}"' in fired.expr
        ]
        assert resolves, f"{alert.name} never resolves"
