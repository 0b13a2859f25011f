"""From a bug in the app to a page on somebody's phone, and to every panel of every dashboard, with nothing made up.

The real Prometheus scrapes the real sidecars in front of the demo's apps and visitors, and the real Alertmanager tells
a webhook. What is not as in production is time: rules with windows of minutes and hours are generated with
``timescale=30``, so ten minutes are twenty seconds here, and Prometheus scrapes and evaluates each second. Counts and
ratios are those of production, so this shows that the parts fit together and that the rules find this bug; that windows
are right in their real length is shown by promtool in test_alerts.py.

The plot: a calm start; a deploy of one of two pods, of which nobody must be paged; a bug in both; its end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from exporter.observe.catalogue import CLOSED, DRAINING, LIFETIME, STALL_DURATION
from exporter.protocol.enums import Cause
from grafana.source.config import MINUTE, Config
from tests.e2e.harness.process import Process
from tests.grafana.harness import JOB, NAMESPACE, SCRAPE, Stage
from tests.waiting import eventually

from .variables import PLANNED, Asked, load, queries

pytestmark = [
    pytest.mark.e2e_alerts,
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("prometheus-alertmanager")),
        reason="prometheus or prometheus-alertmanager is not installed (Debian packages of these names)",
    ),
]

CONFIG = Config(timescale=30)

VISITORS = 15
"""Of each pod; each says something every second."""

BUG = 0.08
"""Share of messages that fail: about two sessions a second of both pods."""

CALM, AFTER_DEPLOY, FAULTY = 20.0, 15.0, 25.0
"""Seconds of the plot's scenes."""

SLACK = 15.0
"""Seconds for Alertmanager's group_wait, for a notification's way, and for a busy machine."""

PAGED_WITHIN = CONFIG.seconds(5 * MINUTE) + SLACK
"""A burst is paged within five minutes."""

RESOLVED_WITHIN = CONFIG.seconds(CONFIG.window + CONFIG.settle + CONFIG.keep_firing) + SLACK
"""When the last error has left the window, and the alert is no longer kept firing."""

ALERT = "WebSocketInternalErrorSpike"

RATE_INTERVAL = f"{8 * SCRAPE}s"
"""What Grafana would take for a graph of two seconds a point: at least four scrapes."""

SAVE = "DASHBOARD_DATA"
"""Environment variable: where to keep what the panels' queries returned, for ``make dashboard-preview``."""


@dataclass(frozen=True)
class Run:
    """What happened, and when; Prometheus is still there to be asked."""

    stage: Stage
    started: float
    bug_on: float
    paged: tuple[float, dict[str, Any]]
    bug_off: float
    resolved: tuple[float, dict[str, Any]]
    ended: float


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The whole plot, once. What fails in it says so with the output of the processes."""
    with ExitStack() as stack:
        stage = Stage(tmp_path_factory.mktemp("stage"), CONFIG, stack)
        try:
            yield play(stage)
        except BaseException:
            print(*(f"--- {process.name}\n{process.tail()}" for process in Process.live), sep="\n")
            raise


def play(stage: Stage) -> Run:
    """Calm, deploy, bug, alert, no bug, resolved."""
    stage.open_doors(VISITORS)
    time.sleep(CALM)
    deployed = stage.pods[1]
    deployed.redeploy(meanwhile=lambda: say(deployed.port, UPGRADE))
    for words in (UPGRADE, CLIENT_HELLO):
        say(deployed.port, words)
    time.sleep(AFTER_DEPLOY)
    on = stage.bug(BUG)
    page = {"alertname": ALERT, "severity": "critical"}
    paged = eventually(lambda: stage.webhook.alerts("firing", on, **page), f"{ALERT} is paged", PAGED_WITHIN)
    time.sleep(max(0.0, on + FAULTY - time.time()))
    off = stage.bug(0)
    resolved = eventually(lambda: stage.webhook.alerts("resolved", off, **page), f"{ALERT} ends", RESOLVED_WITHIN)
    return Run(stage, stage.started, on, paged[0], off, resolved[0], time.time())


UPGRADE = (
    b"GET /nowhere HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
"""A visitor who takes the wrong door: 404, or 502 while the app is away."""

CLIENT_HELLO = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"
"""One who speaks TLS to a port that does not: unobserved."""


def say(port: int, words: bytes) -> None:
    """Connect, say this, and stay until the other side has ended."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as visitor:
        visitor.sendall(words)
        visitor.shutdown(socket.SHUT_WR)
        while visitor.recv(1000):
            pass


def test_the_alert_arrives_in_time_and_names_the_cause(run: Run) -> None:
    """Minutes after the bug a person is paged, and reads what it is, where, how much, and what to do."""
    at, alert = run.paged
    assert at - run.bug_on <= PAGED_WITHIN
    labels = {
        "cause": Cause.INTERNAL_ERROR,
        "severity": "critical",
        "namespace": NAMESPACE,
        "job": JOB,
        "route": "/chat",
    }
    assert labels.items() <= alert["labels"].items()
    texts = alert["annotations"]
    words = r"demo/chat, route /chat: (\d+) sessions ended with 1011 \(internal error\) in 10 min; normal is (\d+)"
    counted = re.fullmatch(words, texts["summary"])
    assert counted, texts["summary"]
    assert int(counted[1]) >= CONFIG.least > int(counted[2])
    assert re.match(r"Since \d\d:\d\d UTC\. Pods: chat-\d \(\d+\)", texts["description"]), texts["description"]
    assert "kubectl -n demo logs" in texts["description"]
    assert texts["dashboard_url"].endswith("&var-namespace=demo&var-job=chat&var-route=%2Fchat")
    assert alert["annotations"]["runbook_url"].endswith(f"/{ALERT}.md")
    assert {one["labels"]["cause"] for _, one in run.stage.webhook.alerts("firing", alertname=ALERT)} == {
        Cause.INTERNAL_ERROR
    }


def test_the_deploy_paged_nobody(run: Run) -> None:
    """Before the bug a pod was restarted: its sessions ended with 1001, it drained, and no critical alert came."""
    assert run.stage.prometheus.value(f'sum(increase({CLOSED.name}{{code="1001", initiator="server"}}[5m]))') > 0
    assert run.stage.prometheus.value(f"max(max_over_time({DRAINING.name}[5m]))") == 1
    early = [alert["labels"] for at, alert in run.stage.webhook.received if at < run.bug_on]
    assert [labels for labels in early if labels["severity"] == "critical"] == []


def test_the_alert_resolves(run: Run) -> None:
    """When the bug is gone, the same alert is resolved, and not before."""
    (paged_at, paged), (at, resolved) = run.paged, run.resolved
    assert paged_at < run.bug_off < at <= run.bug_off + RESOLVED_WITHIN
    assert resolved["labels"] == paged["labels"]


def test_every_query_of_every_panel_returns_data(run: Run) -> None:
    """Prometheus accepts every query and returns data, except for metrics that the sidecar does not expose yet."""
    results = {asked: ask(run, asked) for asked in all_queries(run)}
    empty = [
        asked for asked, found in results.items() if not any(map(has_numbers, found)) and not (found and rare(asked))
    ]
    if path := os.environ.get(SAVE):
        save(Path(path), run, results)
    planned = [metric.name for metric in PLANNED]
    assert [str(asked) for asked in empty if not any(name in asked.expr for name in planned)] == []


def test_exemplars_come_with_the_panels_queries(run: Run) -> None:
    """The queries that ask for exemplars get trace ids."""
    asking = [asked for asked in all_queries(run) if asked.exemplar]
    window = {"start": run.started, "end": run.ended}
    without = [
        str(asked)
        for asked in asking
        if not any("trace_id" in exemplar["labels"] for exemplar in exemplars(run, asked.expr, **window))
    ]
    assert asking
    assert without == []
    assert any(LIFETIME.name in asked.expr for asked in asking)


def test_the_variables_find_the_pods(run: Run) -> None:
    """Namespace, workload, route and instance can be chosen from what is there."""
    expected = {
        "namespace": {NAMESPACE},
        "job": {JOB},
        "pod": {pod.name for pod in run.stage.pods},
        "route": {"/chat", "other"},
        "instance": {pod.instance for pod in run.stage.pods},
    }
    for variable in load()["websocket-close-codes"]["templating"]["list"][1:]:
        selector, label = variable["query"]["query"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
        for name in expected:
            selector = selector.replace(f"${name}", ".*")
        found = run.stage.prometheus.ask(f"label/{label}/values", **{"match[]": selector})
        assert set(found) == expected[variable["name"]]


def all_queries(run: Run) -> list[Asked]:
    """Of all dashboards, the variables as somebody would choose them; One pod shows the one that was redeployed."""
    values = {
        "__rate_interval": RATE_INTERVAL,
        "__range": f"{round(run.ended - run.started)}s",
        "namespace": ".*",
        "job": ".+",
        "pod": ".+",
        "instance": ".+",
        "route": ".+",
    }
    one = values | {"namespace": NAMESPACE, "job": JOB, "instance": run.stage.pods[1].instance}
    found: list[Asked] = []
    for uid, dashboard in load().items():
        found += queries(dashboard, one if uid == "websocket-one-pod" else values)
    return found


def ask(run: Run, asked: Asked) -> list[dict[str, Any]]:
    """The series of one query, over the run or at its end."""
    if asked.instant:
        return run.stage.prometheus.instant(asked.expr, run.ended)
    return run.stage.prometheus.over(asked.expr, run.started, run.ended, SCRAPE)


def exemplars(run: Run, expr: str, **window: float) -> list[dict[str, Any]]:
    """Every exemplar of a query's series."""
    return [
        one
        for series in run.stage.prometheus.ask("query_exemplars", query=expr, **window)
        for one in series["exemplars"]
    ]


def rare(asked: Asked) -> bool:
    """Whether a query reads a histogram of events that this run does not have: its quantile is NaN."""
    return STALL_DURATION.name in asked.expr


def has_numbers(series: dict[str, Any]) -> bool:
    """Whether a series says anything: a quantile of nothing is NaN."""
    return any(value != "NaN" for _, value in series["values"])


def save(path: Path, run: Run, results: dict[Asked, list[dict[str, Any]]]) -> None:
    """Keep the answers of the first dashboard for the preview."""
    answers = [
        {"panel": asked.panel, "ref": asked.ref, "result": found}
        for asked, found in results.items()
        if asked.dashboard == "websocket-close-codes"
    ]
    traces = [
        {"panel": asked.panel, "exemplars": exemplars(run, asked.expr, start=run.started, end=run.ended)}
        for asked in all_queries(run)
        if asked.exemplar and asked.dashboard == "websocket-close-codes"
    ]
    kept = {"start": run.started, "end": run.ended, "step": SCRAPE, "answers": answers, "exemplars": traces}
    path.write_text(json.dumps(kept), encoding="utf-8")
