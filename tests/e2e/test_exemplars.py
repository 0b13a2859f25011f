"""Trace ids, from a client's handshake to the exemplar API of a real Prometheus."""

from __future__ import annotations

import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Any

import pytest

from tests.ports import free_port
from tests.waiting import eventually

from .harness.process import Process
from .harness.sidecar import Sidecar
from .harness.wire import RawApp, close_frame
from .test_endings import session

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLOSED = 'websocket_connections_closed_total{code="1011",initiator="server"}'
LIFETIME = 'websocket_connection_duration_seconds_bucket{initiator="server"}'


class Prometheus:
    """A real Prometheus that scrapes one target once a second."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port = free_port()
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            f"- job_name: sidecar\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
        )
        flags = {
            "config.file": config,
            "storage.tsdb.path": folder / "data",
            "web.listen-address": f"127.0.0.1:{self.port}",
            "enable-feature": "exemplar-storage",
        }
        self.process = Process("Prometheus", ["prometheus", *(f"--{flag}={value}" for flag, value in flags.items())])
        self.process.wait_listening(self.port)

    def exemplars(self, query: str) -> list[dict[str, Any]]:
        """What /api/v1/query_exemplars has of the last minute."""
        window = {"query": query, "start": time() - 60, "end": time() + 60}
        url = f"http://127.0.0.1:{self.port}/api/v1/query_exemplars?{urllib.parse.urlencode(window)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            series = json.load(answer)["data"]
        return [{"series": one["seriesLabels"], **exemplar} for one in series for exemplar in one["exemplars"]]


@pytest.fixture
def prometheus(tmp_path: Path, raw_sidecar: Sidecar) -> Iterator[Prometheus]:
    """One that scrapes the sidecar; skipped where it is not installed."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    running = Prometheus(tmp_path, raw_sidecar.admin_port)
    try:
        yield running
    finally:
        running.process.stop()


def test_a_trace_is_the_exemplar_of_its_ending(prometheus: Prometheus, raw_sidecar: Sidecar, raw_app: RawApp) -> None:
    """The trace id of a handshake comes out of Prometheus on the close counter and on the lifetime histogram."""
    before = raw_sidecar.scrape()
    with session(raw_sidecar, raw_app, "/", f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n") as (client, server):
        server.send(close_frame(1011, "bug", masked=False))
        client.until(b"bug")
    raw_sidecar.settled(before)
    for query in (CLOSED, LIFETIME):
        found = eventually(lambda query=query: prometheus.exemplars(query), f"an exemplar of {query}")
        assert {exemplar["labels"]["trace_id"] for exemplar in found} == {TRACE}
    assert prometheus.exemplars('websocket_connections_closed_total{code="1000"}') == []
