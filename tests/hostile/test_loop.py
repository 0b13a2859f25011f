"""A sidecar whose app is itself: refused at the start, and at each connection that a name leads back."""

from __future__ import annotations

import socket
import subprocess

import pytest

from tests.e2e.harness.process import Process, running
from tests.e2e.harness.sidecar import ROOT, command
from tests.e2e.harness.wire import Peer, upgrade_request
from tests.ports import free_port
from tests.waiting import WAIT_LIMIT


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_upstream_is_the_sidecar_itself_is_refused_at_the_start(host: str) -> None:
    """One line says so, and the exit status is 2."""
    port = free_port()
    argv = command("run", "--upstream", f"{host}:{port}", "--listen", f":{port}", "--admin", "127.0.0.1:0")
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_LIMIT, check=False)
    assert done.returncode == 2
    assert "is the sidecar's own --listen" in done.stderr


def test_upstream_name_leads_back_gets_502_and_no_loop() -> None:
    """A name that turns out to be the sidecar's own address is answered with 502, and leads nowhere else."""
    name = socket.gethostname()
    try:
        own = socket.gethostbyname(name)
    except OSError:
        pytest.skip("this machine's name has no address")
    port, admin = free_port(), free_port()
    argv = command("run", "--upstream", f"{name}:{port}", "--listen", f":{port}", "--admin", f"127.0.0.1:{admin}")
    with running(Process("the sidecar", argv, cwd=ROOT)) as process:
        process.wait_listening(admin)
        client = Peer(socket.create_connection((own, port), timeout=WAIT_LIMIT))
        client.send(upgrade_request())
        assert client.rest().startswith(b"HTTP/1.1 502 ")
        client.close()
