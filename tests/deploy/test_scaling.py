"""deploy/scaling: the objects fit their schemas, and the queries give the right numbers on a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from exporter.observe.catalogue import CATALOGUE
from exporter.protocol.causes import CAUSES, SERVER_FAULTS
from exporter.protocol.enums import Peer
from tests.deploy.tools import ROOT, operator_problems
from tests.e2e.harness.process import Process
from tests.ports import free_port
from tests.waiting import eventually

FOLDER = ROOT / "deploy" / "scaling"
CANARY, STABLE, PRIMARY = "chat-5c9f8b7d4-q8w7z", "chat-7d4b9c5f6-x2x4z", "chat-primary-6b8d7c5f9-h4j5k"
CLOSED, ACTIVE = "websocket_connections_closed_total", "websocket_connections_active"


def example(name: str) -> dict[str, Any]:
    """Return the object of an example."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return found


def keda() -> str:
    """Return KEDA's query."""
    query: str = example("keda")["spec"]["triggers"][0]["metadata"]["query"]
    return query


def argo() -> str:
    """Return the query of the AnalysisTemplate, with its arguments."""
    spec = example("argo-rollouts")["spec"]
    values = {"namespace": "shop", "rollout": "chat", "hash": "5c9f8b7d4"}
    assert [argument["name"] for argument in spec["args"]] == list(values)
    query: str = spec["metrics"][0]["provider"]["prometheus"]["query"]
    return re.sub(r"\{\{args\.(\w+)\}\}", lambda match: values[match[1]], query)


def flagger() -> str:
    """Return the query of the MetricTemplate, with Flagger's variables."""
    values = {"namespace": "shop", "target": "chat", "interval": "2m"}
    query: str = example("flagger")["spec"]["query"]
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: values[match[1]], query)


class Sidecars:
    """The expositions of three pods: open connections, and closes by cause and initiator. All closes begin at 0."""

    def __init__(self) -> None:
        rows = [(cause, peer) for cause, info in CAUSES.items() for peer in info.initiators]
        self.closed = {pod: dict.fromkeys(rows, 0) for pod in (CANARY, STABLE, PRIMARY)}
        self.active = {CANARY: 300, STABLE: 700, PRIMARY: 500}

    def exposition(self, pod: str) -> str:
        """Return a pod's metrics as text."""
        lines = [f'{ACTIVE}{{route="all"}} {self.active[pod]}']
        lines += [
            f'{CLOSED}{{route="all",code="1006",cause="{cause}",initiator="{peer}"}} {count}'
            for (cause, peer), count in self.closed[pod].items()
        ]
        return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def sidecars() -> Sidecars:
    return Sidecars()


@pytest.fixture(scope="module")
def prometheus(sidecars: Sidecars, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that scrapes the three pods every second; its address."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(sidecars.exposition(self.path.strip("/")).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    folder = tmp_path_factory.mktemp("prometheus")
    with ExitStack() as stack:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        jobs = [
            {
                "job_name": pod,
                "metrics_path": f"/{pod}",
                "static_configs": [
                    {
                        "targets": [f"127.0.0.1:{server.server_port}"],
                        "labels": {"namespace": "shop", "job": "chat", "pod": pod},
                    }
                ],
            }
            for pod in sidecars.closed
        ]
        config = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
        (folder / "prometheus.yml").write_text(json.dumps(config))
        port = free_port()
        flags = {
            "config.file": folder / "prometheus.yml",
            "storage.tsdb.path": folder / "tsdb",
            "web.listen-address": f"127.0.0.1:{port}",
            "web.external-url": f"http://127.0.0.1:{port}",
        }
        process = Process("prometheus", [program, *(f"--{flag}={value}" for flag, value in flags.items())])
        stack.callback(process.stop)
        process.wait_listening(port)
        eventually(lambda: values(f"http://127.0.0.1:{port}", f"min(count_over_time({CLOSED}[1m])) > 2"), "scrapes")
        yield f"http://127.0.0.1:{port}"


def values(url: str, query: str) -> list[float]:
    """Return the values of an instant query; none while Prometheus starts."""
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}") as answer:
            return [float(one["value"][1]) for one in json.load(answer)["data"]["result"]]
    except urllib.error.HTTPError as refused:
        if refused.code != 503:
            raise AssertionError(refused.read().decode()) from None
        return []


@pytest.mark.parametrize("query", [keda(), argo(), flagger()], ids=["keda", "argo", "flagger"])
def test_queries_name_metrics_and_labels_of_the_catalogue(query: str) -> None:
    """Each metric of a query is in the catalogue, with the labels by which the query selects."""
    labels = {metric.name: set(metric.labels) for metric in CATALOGUE}
    selectors = re.findall(r"(websocket_\w+)\{([^}]*)\}", query)
    assert selectors
    for name, matchers in selectors:
        used = set(re.findall(r"(\w+)=", matchers)) - {"namespace", "job", "pod"}
        assert used <= labels[name]


def test_objects_fit_their_schemas() -> None:
    """The ScaledObject and the AnalysisTemplate fit the schemas of KEDA and Argo Rollouts."""
    assert operator_problems([example("keda"), example("argo-rollouts")]) == ""


def test_keda_query_counts_connections_of_the_service(prometheus: str) -> None:
    """The query gives one number: the open connections of all pods."""
    assert values(prometheus, keda()) == [1500]


def test_analysis_queries_of_unscraped_canary_give_no_number(prometheus: str) -> None:
    """Without series of the canary there is no result, which is inconclusive, not 0."""
    assert values(prometheus, argo().replace("5c9f8b7d4", "absent")) == []
    assert values(prometheus, flagger().replace("chat-", "absent-")) == []


def test_analysis_queries_count_faults_of_the_canary_alone(prometheus: str, sidecars: Sidecars) -> None:
    """0 without closes; then the percentage of the canary's closes that are server faults, each cause once; closes of
    rollouts, of clients and of other pods are no faults. Flagger's canary is every pod that is not the primary's."""
    assert values(prometheus, argo()) == [0]
    assert values(prometheus, flagger()) == [0]
    sidecars.closed[PRIMARY] = dict.fromkeys(sidecars.closed[PRIMARY], 50)
    canary = sidecars.closed[CANARY]
    for cause in SERVER_FAULTS:
        canary[cause, Peer.SERVER] = 10
    others = [row for row in canary if not (row[0] in SERVER_FAULTS and row[1] is Peer.SERVER)]
    for row in others:
        canary[row] = 10
    wanted = 100 * len(SERVER_FAULTS) / (len(SERVER_FAULTS) + len(others))
    for query in (argo(), flagger()):
        eventually(lambda query=query: values(prometheus, query) == [pytest.approx(wanted)], f"{wanted} % by {query}")
