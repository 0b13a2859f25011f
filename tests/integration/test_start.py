"""What the start of a sidecar takes: modules, certificate authorities, memory. Nothing here looks at a clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness.process import Process
from tests.e2e.harness.wire import RawApp
from tests.ports import free_port
from tests.waiting import WAIT_LIMIT, eventually

ROOT = Path(__file__).resolve().parents[2]

#: What ``run`` imports, with no flag that asks for more.
START = "import exporter.__main__, exporter.supervisor"

#: Packages that only a flag or another command needs, and who that is.
NOT_NEEDED = {
    "click": "the child process that reads the command line",
    "bcrypt": "--web-config-file with users",
    "concurrent.futures.process": "nobody",
    "exporter.admin.drain_client": "the command drain",
    "exporter.demo": "the command demo",
    "exporter.explain": "the command explain",
    "exporter.kubernetes": "the commands inject and webhook",
    "importlib.metadata": "nobody: it reads the file system for versions",
    "multiprocessing": "nobody",
    "re2": "--reason",
    "ruamel.yaml": "--web-config-file",
    "websockets": "the command demo",
    "xml": "nobody",
    "zipfile": "nobody",
}

#: Bytes of memory of the three processes after the start, with the packages that the sidecar runs on.
MOST_MEMORY = 54_000_000
#: Bytes that each further relay adds.
MOST_MEMORY_OF_A_RELAY = 4_000_000

#: Runs the sidecar as if the packages named by its first argument were not installed.
WITHOUT = """
import sys
for name in sys.argv.pop(1).split():
    sys.modules.setdefault(name, None)
from exporter.__main__ import main
main()
"""


def not_pinned() -> str:
    """The packages here that a sidecar's environment does not have, such as those that structlog imports if it can."""
    lines = (ROOT / "requirements" / "run.txt").read_text().splitlines()
    pinned = {_plain(line.partition("==")[0]) for line in lines if "==" in line}
    found = packages_distributions().items()
    return " ".join(name for name, whose in found if name != "exporter" and pinned.isdisjoint(map(_plain, whose)))


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def fresh(script: str, **environment: str) -> Any:
    """What a fresh interpreter prints as JSON."""
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def imported(script: str) -> set[str]:
    """The modules that a fresh interpreter has imported after ``script``."""
    found = fresh(
        f"import json, sys; before = set(sys.modules)\n{script}\nprint(json.dumps([*set(sys.modules) - before]))"
    )
    assert isinstance(found, list)
    return set(found)


def test_the_start_imports_what_it_needs() -> None:
    """What only a flag or another command needs is imported when that is used, not before."""
    modules = imported(START)
    assert {"exporter.relay.server", "exporter.observe.metrics", "exporter.admin.server"} <= modules
    assert modules.isdisjoint(NOT_NEEDED)


@pytest.mark.parametrize(
    "command", ["exporter.cli", "exporter.cli, exporter.explain", "exporter.cli, exporter.admin.drain_client"]
)
def test_short_commands_import_no_server(command: str) -> None:
    """``--help``, ``explain`` and ``drain``, which runs in a preStop hook, need no aiohttp, metrics or logs."""
    modules = imported(f"import {command}")
    assert modules.isdisjoint({"aiohttp", "prometheus_client", "structlog", "websockets"})


AUTHORITIES = """
import gc, json, os, ssl
before = dict(os.environ)
{start}
contexts = [thing for thing in gc.get_objects() if isinstance(thing, ssl.SSLContext)]
authorities = sum(context.cert_store_stats()["x509"] for context in contexts)
print(json.dumps([len(contexts), authorities, before == dict(os.environ)]))
"""


def test_the_start_reads_no_certificate_authorities() -> None:
    """aiohttp reads the machine's, for a client that is not used here, wherever nobody tells it not to."""
    _, there, _ = fresh(AUTHORITIES.format(start="import aiohttp"))
    if not there:
        pytest.skip("this machine has no certificate authorities")
    contexts, authorities, _ = fresh(AUTHORITIES.format(start=START))
    assert contexts
    assert authorities == 0


@pytest.mark.parametrize("given", ["", "/nowhere/authorities.pem"])
def test_the_start_leaves_the_environment_alone(given: str) -> None:
    """Where OpenSSL is to look for authorities stays as it was found, set or not."""
    _, _, same = fresh(AUTHORITIES.format(start=START), **({"SSL_CERT_FILE": given} if given else {}))
    assert same


SPARED = """
import gc, json
import exporter.supervisor
from exporter.relay.process import COLLECTIONS
gc.collect()
gc.freeze()
gc.set_threshold(*COLLECTIONS)
frozen, left, before = gc.get_freeze_count(), len(gc.get_objects()), [was["collections"] for was in gc.get_stats()]
for _ in range(50_000):
    cycle = []
    cycle.append(cycle)
print(json.dumps([frozen, left, [is_["collections"] - was for is_, was in zip(gc.get_stats(), before)]]))
"""


def test_collections_of_a_relay_leave_the_start_alone() -> None:
    """No collection walks over what the start made; young garbage is collected, all sessions are walked over seldom."""
    frozen, left, (young, middle, full) = fresh(SPARED)
    assert frozen > 20 * left
    assert young > middle > 0
    assert full == 0


@contextmanager
def started(*prefix: str, workers: int = 1) -> Iterator[tuple[Process, int]]:
    """A sidecar, started by ``prefix`` and its command line, and its admin port."""
    app, port, admin = RawApp(free_port()), free_port(), free_port()
    flags = ("--upstream", f"127.0.0.1:{app.port}", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}")
    process = Process("the sidecar", [*prefix, "run", *flags, "--workers", str(workers)], cwd=ROOT)
    try:
        process.wait_listening(port)
        yield process, admin
    finally:
        process.stop()
        app.close()


def test_start_without_standard_output_ends_no_process() -> None:
    """Where standard output is closed, the first observer serves and nothing is printed."""
    with started("sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "exporter") as (process, admin):
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/livez", timeout=WAIT_LIMIT) as answer:
            assert answer.status == 200
        assert process.output() == ""


def memory_after_start(workers: int) -> int:
    """Start a sidecar and return the memory of its processes in bytes, shared pages counted once."""
    with started(sys.executable, "-c", WITHOUT, not_pinned(), workers=workers) as (process, _):
        eventually(lambda: "exporter.started" in process.output(), "the start is logged")
        return process.pss_kib() * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_after_start_is_within_the_documented_bounds() -> None:
    """A sidecar that waits for its first client, and each further relay, hold no more than docs/performance.md says."""
    one, three = memory_after_start(1), memory_after_start(3)
    print(f"{one / 1e6:.1f} MB, {(three - one) / 2e6:.1f} MB for each further relay")
    assert one <= MOST_MEMORY
    assert three - one <= 2 * MOST_MEMORY_OF_A_RELAY
