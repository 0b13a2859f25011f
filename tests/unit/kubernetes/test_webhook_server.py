"""The webhook as it runs: the command in a process of its own, over real HTTPS."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from exporter.kubernetes.webhook import MAX_BODY
from tests.certificates import issue, trusting
from tests.unit.kubernetes.test_review import WANTED, patched, pod, review
from tests.waiting import WAIT_LIMIT

PROGRAM = "from exporter.kubernetes.command import webhook; webhook(prog_name='websocket-exporter webhook')"


class Webhook:
    """A running webhook with its files; new certificates can be laid over the old ones."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.directory = directory
        self.authority = self.issue()
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(*flags),
                stderr=log,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        self.port = self.wait_for("webhook.started")["listening"][0][1]

    def command(self, *flags: str) -> list[str]:
        files = ["--image=x:1", f"--tls-cert={self.certificate}", f"--tls-key={self.key}"]
        return [sys.executable, "-c", PROGRAM, "--bind=127.0.0.1:0", "--tls-check=50ms", *files, *flags]

    def issue(self) -> trustme.CA:
        """Write a certificate for localhost by a new authority, which is returned."""
        authority = trustme.CA()
        self.certificate, self.key = issue(authority, self.directory)
        return authority

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        """The count-th log line of an event, once it is there."""
        ends = time.monotonic() + WAIT_LIMIT
        while time.monotonic() < ends:
            found = [event for event in self.events() if event["event"] == name]
            if len(found) >= count:
                return found[count - 1]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"no {name} in {self.log.read_text()}")

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        kind: str = "application/json",
        by: trustme.CA | None = None,
    ) -> tuple[int, bytes]:
        """Status and body of one HTTPS request on a new connection, the server's certificate checked."""
        context = trusting(by or self.authority)
        connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=WAIT_LIMIT)
        try:
            connection.request(method, path, body, {"Content-Type": kind})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(WAIT_LIMIT)
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    webhook = Webhook(tmp_path_factory.mktemp("webhook"), "--drain-timeout", "42s")
    yield webhook
    assert webhook.stop() == 0, webhook.log.read_text()
    assert "Traceback" not in webhook.log.read_text()


def test_a_pod_gets_its_sidecar_over_https(running: Webhook) -> None:
    """POST /inject with an AdmissionReview answers with the patch that adds the sidecar, as the flags say."""
    obj = pod(WANTED)
    status, body = running.ask("POST", "/inject", json.dumps(review(obj)).encode())
    assert status == 200
    after = patched(obj, json.loads(body)["response"])
    assert "--drain-timeout=42s" in after["spec"]["initContainers"][0]["args"]
    assert running.wait_for("pod.injected")["pod"] == "shop/chat-5d4f-"


def test_tenant_settings_flag_allows_the_named_annotations(tmp_path: Path) -> None:
    """--tenant-settings image lets a pod choose the image, and nothing else."""
    webhook = Webhook(tmp_path, "--tenant-settings", "image")
    try:
        obj = pod({**WANTED, "websocket-exporter/image": "mine:1", "websocket-exporter/memory-limit": "8Gi"})
        _, body = webhook.ask("POST", "/inject", json.dumps(review(obj)).encode())
        response = json.loads(body)["response"]
        (sidecar,) = patched(obj, response)["spec"]["initContainers"]
        assert (sidecar["image"], sidecar["resources"]["limits"]) == ("mine:1", {"memory": "256Mi"})
        assert len(response["warnings"]) == 1
    finally:
        assert webhook.stop() == 0


def test_query_parameters_of_the_api_server_do_no_harm(running: Webhook) -> None:
    """The API server adds ?timeout=10s to the path."""
    status, _ = running.ask("POST", "/inject?timeout=10s", json.dumps(review(pod())).encode())
    assert status == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "expected", "reason"),
    [
        ("POST", "/inject", b"nonsense", "application/json", 400, b"the body is not JSON"),
        ("POST", "/inject", b"{}", "application/json", 400, b"must be an AdmissionReview"),
        ("POST", "/inject", b"{}", "text/plain", 400, b"Content-Type must be application/json"),
        ("POST", "/inject", b" " * (MAX_BODY + 1), "application/json", 413, b""),
        ("GET", "/inject", b"", "application/json", 405, b""),
        ("POST", "/nowhere", b"", "application/json", 404, b""),
    ],
    ids=["not JSON", "not a review", "content type", "too large", "method", "path"],
)
def test_bad_requests_are_refused(
    running: Webhook, method: str, path: str, body: bytes, kind: str, expected: int, reason: bytes
) -> None:
    """A bad request gets a 4xx with one line of reason, and the webhook goes on serving."""
    status, answer = running.ask(method, path, body, kind)
    assert status == expected
    assert reason in answer
    assert running.ask("GET", "/readyz")[0] == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_are_answered(running: Webhook, path: str) -> None:
    """Kubernetes can ask whether it is there."""
    assert running.ask("GET", path) == (200, b"ok\n")


def test_a_new_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    """New files are picked up; a pair that does not fit is reported and the old one stays; the next good one
    serves.
    """
    webhook = Webhook(tmp_path)
    try:
        first = webhook.authority
        assert webhook.ask("GET", "/livez")[0] == 200

        good = webhook.key.read_bytes()
        webhook.key.write_bytes(b"not a key")
        webhook.wait_for("certificate.unusable")
        assert webhook.ask("GET", "/livez", by=first)[0] == 200
        webhook.key.write_bytes(good)

        second = webhook.issue()
        webhook.wait_for("certificate.reloaded")
        ends = time.monotonic() + WAIT_LIMIT
        while True:  # the two files may have been seen one by one
            try:
                assert webhook.ask("GET", "/livez", by=second)[0] == 200
                break
            except ssl.SSLCertVerificationError:
                assert time.monotonic() < ends
        with pytest.raises(ssl.SSLCertVerificationError):
            webhook.ask("GET", "/livez", by=first)
    finally:
        assert webhook.stop() == 0


def test_a_plain_http_client_gets_no_answer(running: Webhook) -> None:
    """There is no way around TLS."""
    connection = http.client.HTTPConnection("localhost", running.port, timeout=WAIT_LIMIT)
    with pytest.raises((http.client.HTTPException, ConnectionError)):  # noqa: PT012
        connection.request("GET", "/livez")
        connection.getresponse()
    connection.close()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--tls-cert", "/nowhere/tls.crt"], "--tls-cert /nowhere/tls.crt"),
        (["--tls-key", os.devnull], "--tls-key /dev/null"),
        (["--bind", "443"], "'443': expected [HOST]:PORT"),
        (["--bind", "192.0.2.1:8443"], "--bind 192.0.2.1:8443"),
        (["--tls-check", "0"], "'0': expected a duration above 0"),
        (["--drain-timeout", "1s"], "drain-timeout 1s is shorter than"),
        (["--tenant-settings", "image,memory"], "'memory' is no setting; expected all, or some of image,"),
    ],
)
def test_bad_flags_stop_the_start_with_one_line(tmp_path: Path, flags: list[str], expected: str) -> None:
    """What is wrong is named, the exit status is 2, and there is no traceback."""
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    base = [
        "--bind",
        "127.0.0.1:0",
        "--tls-cert",
        str(tmp_path / "both.pem"),
        "--tls-key",
        str(tmp_path / "both.pem"),
        "--image=x:1",
    ]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *base, *flags],
        capture_output=True,
        text=True,
        timeout=WAIT_LIMIT,
        check=False,
    )
    assert ended.returncode == 2
    assert expected in ended.stderr
    assert "Traceback" not in ended.stderr
