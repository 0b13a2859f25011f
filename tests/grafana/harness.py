"""Start the whole on loopback: two pods of a chat service with clients, Prometheus, Alertmanager, a webhook.

Real programs throughout: the demo's app and visitors, the sidecar, Debian's Prometheus and Alertmanager. A pod is an
app and its sidecar; both keep their ports when a deploy restarts them.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from signal import SIGTERM
from typing import Any

from grafana.source.config import Config
from grafana.source.rule_files import prometheus as rule_files
from tests.e2e.harness.process import Process
from tests.e2e.harness.sidecar import ROOT, command
from tests.ports import free_port
from tests.waiting import eventually

NAMESPACE, JOB = "demo", "chat"

#: Seconds; Prometheus scrapes and evaluates at this pace here.
SCRAPE = 1

HTTP_TIMEOUT = 10


def get(url: str) -> str:
    """The body of a page; urllib.error.HTTPError for a status that is not 2xx."""
    with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT) as answer:
        text: str = answer.read().decode()
    return text


class Pod:
    """One app with the sidecar in front of it."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name = name
        self._stack = stack
        self._app_port, self.port, self.admin = free_port(), free_port(), free_port()
        self.start_sidecar()
        self.start_app()

    def _start(self, name: str, argv: list[str], *ports: int) -> Process:
        process = Process(f"{name} of {self.name}", argv, cwd=ROOT)
        self._stack.callback(process.stop)
        for port in ports:
            process.wait_listening(port)
        return process

    def start_app(self) -> None:
        """Start the app, without a bug."""
        argv = [sys.executable, "-m", "exporter.demo.chat_server", "--port", str(self._app_port)]
        self.app = self._start("app", argv, self._app_port)

    def start_sidecar(self) -> None:
        """Start the sidecar."""
        flags = ["--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin}", "--route", "/chat"]
        flags += ["--drain-linger", "3s", "--log-endings", "none"]
        argv = command("run", "--upstream", f"127.0.0.1:{self._app_port}", *flags)
        self.sidecar = self._start("sidecar", argv, self.port, self.admin)

    def visitors(self, count: int) -> None:
        """Let clients come."""
        url = f"ws://127.0.0.1:{self.port}/chat"
        habits = ["--clients", str(count), "--rate", "1", "--stay", "15", "--seed", self.name.rpartition("-")[2]]
        argv = [sys.executable, "-m", "exporter.demo.clients", "--url", url, *habits]
        self._start("visitors", argv)

    def bug(self, rate: float) -> None:
        """Let this share of messages fail from now on."""
        assert json.loads(get(f"http://127.0.0.1:{self.port}/bug?rate={rate}"))["rate"] == rate

    def redeploy(self, meanwhile: Callable[[], None]) -> None:
        """Stop both at once, as Kubernetes does, and start the next pod in their place.

        Its sidecar is there first; ``meanwhile`` is done before its app is. Visitors who come then are told 502.
        """
        for process in (self.sidecar, self.app):
            process.signal(SIGTERM)
        for process in (self.app, self.sidecar):
            process.wait(30)
            process.stop()
        self.start_sidecar()
        meanwhile()
        self.start_app()

    @property
    def instance(self) -> str:
        """The label value."""
        return f"127.0.0.1:{self.admin}"


class Webhook:
    """A receiver of Alertmanager's notifications: keeps every alert with the time at which it came."""

    def __init__(self, stack: ExitStack) -> None:
        self.received: list[tuple[float, dict[str, Any]]] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.extend((time.time(), alert) for alert in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(self._server.server_close)
        stack.callback(self._server.shutdown)

    def alerts(self, status: str, since: float = 0, **labels: str) -> list[tuple[float, dict[str, Any]]]:
        """Those in this status with these labels that came after ``since``."""
        wanted = labels.items()
        return [
            (at, alert)
            for at, alert in list(self.received)
            if at > since and alert["status"] == status and wanted <= alert["labels"].items()
        ]


class Prometheus:
    """A real one, with an Alertmanager that tells the webhook."""

    def __init__(self, folder: Path, pods: list[Pod], webhook: Webhook, config: Config, stack: ExitStack) -> None:
        alertmanager = self._alertmanager(folder, webhook, stack)
        (folder / "rules.yaml").write_text(rule_files(config)["grafana/alerts/rules.yaml"])
        targets = [{"targets": [pod.instance], "labels": {"namespace": NAMESPACE, "pod": pod.name}} for pod in pods]
        (folder / "prometheus.yml").write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": f"{SCRAPE}s", "evaluation_interval": f"{SCRAPE}s"},
                    "rule_files": ["rules.yaml"],
                    "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
                    "scrape_configs": [{"job_name": JOB, "static_configs": targets}],
                }
            )
        )  # YAML reads JSON
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        flags = {
            "config.file": folder / "prometheus.yml",
            "storage.tsdb.path": folder / "tsdb",
            "web.listen-address": f"127.0.0.1:{port}",
            "web.external-url": self.url,
            "enable-feature": "exemplar-storage",
        }
        _start("prometheus", flags, port, stack)

    @staticmethod
    def _alertmanager(folder: Path, webhook: Webhook, stack: ExitStack) -> str:
        receiver = {"name": "test", "webhook_configs": [{"url": webhook.url, "send_resolved": True}]}
        route = {
            "receiver": "test",
            "group_by": ["alertname", "namespace", "job", "route", "cause"],
            "group_wait": "1s",
            "group_interval": "1s",
        }
        (folder / "alertmanager.yml").write_text(json.dumps({"route": route, "receivers": [receiver]}))
        port = free_port()
        flags = {
            "config.file": folder / "alertmanager.yml",
            "storage.path": folder / "alertmanager",
            "web.listen-address": f"127.0.0.1:{port}",
            "cluster.listen-address": "",
        }
        _start("prometheus-alertmanager", flags, port, stack)
        return f"127.0.0.1:{port}"

    def ask(self, path: str, **parameters: str | float) -> Any:
        """The data of an answer of the HTTP API. AssertionError with Prometheus' words for what it refuses."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            return json.loads(get(url))["data"]
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{parameters}: {refused.read().decode()}") from None

    def instant(self, expr: str, at: float) -> list[dict[str, Any]]:
        """An instant query, as a series each with one value."""
        found: list[dict[str, Any]] = self.ask("query", query=expr, time=at)["result"]
        return [{"metric": one["metric"], "values": [one["value"]]} for one in found]

    def over(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """A range query."""
        found: list[dict[str, Any]] = self.ask("query_range", query=expr, start=start, end=end, step=step)["result"]
        return found

    def value(self, expr: str) -> float:
        """The one number that an expression has now; 0 if it has none."""
        found = self.ask("query", query=expr)["result"]
        return float(found[0]["value"][1]) if found else 0.0


def _start(program: str, flags: dict[str, object], port: int, stack: ExitStack) -> None:
    process = Process(program, [program, *(f"--{flag}={value}" for flag, value in flags.items())])
    stack.callback(process.stop)
    process.wait_listening(port)
    eventually(lambda: _ready(f"http://127.0.0.1:{port}/-/ready"), f"{program} is ready")


def _ready(url: str) -> bool:
    """Whether it takes requests: it listens before it does."""
    try:
        return bool(get(url))
    except urllib.error.HTTPError:
        return False


class Stage:
    """Everything, started. ``stack`` ends it."""

    def __init__(self, folder: Path, config: Config, stack: ExitStack) -> None:
        self.pods = [Pod(f"chat-{n}", stack) for n in range(2)]
        self.webhook = Webhook(stack)
        self.prometheus = Prometheus(folder, self.pods, self.webhook, config, stack)
        self.started = time.time()

    def open_doors(self, visitors: int) -> None:
        """Let ``visitors`` come to each pod, and wait until Prometheus has seen each pod at work."""
        for pod in self.pods:
            pod.visitors(visitors)
        working = "count(websocket_connections_active > 0)"
        eventually(lambda: self.prometheus.value(working) == len(self.pods), "every pod has visitors")

    def bug(self, rate: float) -> float:
        """A bug in every pod, or its end (0). Returns the time."""
        for pod in self.pods:
            pod.bug(rate)
        return time.time()
