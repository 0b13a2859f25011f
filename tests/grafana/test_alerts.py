"""Every alert fires when it should, stays silent when it should not, and resolves: in sentences, asked of promtool."""

from __future__ import annotations

import shutil

import pytest

from grafana.source.alerts import alerts
from grafana.source.config import Config
from tests.grafana.cases import CASES
from tests.grafana.world import Case, run


@pytest.fixture(scope="module")
def objections(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """promtool's verdict on all the cases that are to be run, asked once."""
    assert shutil.which("promtool"), "promtool is missing: apt-get install prometheus"
    chosen = {
        item.callspec.params["one"].sentence
        for item in request.session.items
        if hasattr(item, "callspec") and "one" in item.callspec.params
    }
    return run([one for one in CASES if one.sentence in chosen], tmp_path_factory.mktemp("promtool"))


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.sentence)
def test_case(one: Case, objections: dict[str, str]) -> None:
    """What the sentence says is so."""
    assert objections.get(one.sentence, "") == ""


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
