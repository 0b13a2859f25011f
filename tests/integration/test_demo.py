"""The command `demo` with the real sidecar: no process is left behind, and its texts hold."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter.demo.summary import Counts, read_counts
from tests.ports import free_port
from tests.unit.demo.harness import ROOT, Running, is_alive, running
from tests.waiting import WAIT_LIMIT, eventually

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for child processes in /proc")

#: Labels of the sidecar that clients count by another name.
CLIENT_NAMES = {"4xxx client": "4001 client"}
#: Sessions that both peers may have ended at the same moment.
CROSSINGS = 2
#: `demo` whose tour gives no time to read.
FAST_TOUR = "from exporter.demo import runner; runner.TOUR_INTERVAL = 0.1; from exporter.cli import main; main()"


@contextmanager
def demo(tmp_path: Path, *options: str, start: tuple[str, ...] = ("-m", "exporter")) -> Iterator[Running]:
    """Run the demo on free ports."""
    addresses = ("--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}")
    with running(tmp_path / "out", *start, "demo", *addresses, *options) as process:
        yield process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_demo_that_gets_a_signal_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """No process is left after any signal; after all but SIGKILL the status is 0 and the logs are removed."""
    with demo(tmp_path, "--clients", "3") as process:
        process.prints(" 3 open")
        descendants = process.descendants()
        assert descendants
        logs = re.search(r"logs +(\S+)", process.output)
        assert logs
        assert {path.name for path in Path(logs[1]).iterdir()} == {"app.log", "sidecar.log"}
        process.send(number)
        if number is signal.SIGKILL:
            process.status()
        else:
            assert process.status() == 0
            assert not Path(logs[1]).exists()
            assert "Traceback" not in process.output
        eventually(lambda: not any(map(is_alive, descendants)), "all have ended")


def test_demo_with_a_dead_sidecar_ends(tmp_path: Path) -> None:
    """If the sidecar dies, the demo prints one line and exits with status 1, and no process is left."""
    with demo(tmp_path, "--clients", "3") as process:
        process.prints(" 3 open")
        sidecar, *others = process.descendants()
        subprocess.run(["kill", "-KILL", str(sidecar)], check=True)
        assert process.status() == 1
        assert "error: the sidecar ended with status -9: " in process.output.splitlines()[-1]
        eventually(lambda: not any(map(is_alive, others)), "all have ended")


@pytest.mark.parametrize("option", ["--listen", "--admin", "--app-port"])
def test_demo_with_a_port_in_use_is_one_line(tmp_path: Path, option: str) -> None:
    """A port in use: one line that names it and the option that changes it; status 1."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        value = str(port) if option == "--app-port" else f"127.0.0.1:{port}"
        with demo(tmp_path, option, value) as process:
            assert process.status() == 1
            message = f"{option} 127.0.0.1:{port}: port {port} is in use\n"
            assert process.output == f"websocket-exporter: error: {message}"


def test_demo_whose_reader_ends_leaves_no_process(tmp_path: Path) -> None:
    """`demo | head -1` ends without a word, and no process is left."""
    addresses = ["--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}"]
    command = [sys.executable, "-m", "exporter", "demo", *addresses]
    errors = tmp_path / "errors"
    with errors.open("wb") as sink:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=sink)
    assert process.stdout
    try:
        assert b"chat clients" in process.stdout.readline()
        descendants = Running(process, errors).descendants()
        assert descendants
    finally:
        process.stdout.close()
    assert process.wait(WAIT_LIMIT) == 1
    assert errors.read_text() == ""
    eventually(lambda: not any(map(is_alive, descendants)), "all have ended")


def test_demo_summary_excludes_its_own_teardown(tmp_path: Path) -> None:
    """The sessions that the demo itself closes at its end are "still open" in its summary, and no closes."""
    options = ("--clients", "40", "--for", "5s", "--bug-rate", "0", "--restart-every", "0")
    with demo(tmp_path, *options) as process:
        assert process.status() == 0
        found = re.search(r"(\d+) sessions? closed, (\d+) still open; 0 server faults", process.output)
        assert found, process.output
        closed, still_open = map(int, found.groups())
        assert still_open > 20 > closed


def test_demo_with_restarts_shows_1001_by_the_server(tmp_path: Path) -> None:
    """The app restarts as often as asked for, and its clients connect again."""
    with demo(tmp_path, "--restart-every", "3s", "--for", "10s") as process:
        assert process.status() == 0
        assert process.output.count("the app restarts: it closes all sessions with 1001") >= 2
        rows = [line.split()[:3] for line in process.output.splitlines()]
        assert ["1001", "going-away", "server"] in rows
        assert "Traceback" not in process.output


def status_of(url: str) -> int:
    """Return the status of an answer: the app's restarts make it 502 for a moment."""
    try:
        with urllib.request.urlopen(url) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as answer:
        return answer.code


def test_tour_prints_only_what_works(tmp_path: Path) -> None:
    """The tour reaches its end; every URL that it prints answers 200, and every explain command succeeds."""
    options = ("--tour", "--bug-rate", "0.05", "--restart-every", "4s")
    with demo(tmp_path, *options, start=("-c", FAST_TOUR)) as process:
        process.prints("Step 7 of 7")
        urls = set(re.findall(r"http://[^\s']+", process.output))
        assert {"/closes", "/metrics", "/bug?rate=0.2"} <= {re.sub(r"http://[^/]+", "", url) for url in urls}
        assert sum("/closes/" in url for url in urls) == 2
        for url in urls:
            eventually(lambda url=url: status_of(url) == 200, f"{url} answers 200")
        commands = re.findall(r"\S+ -m exporter explain .*", process.output)
        assert len(commands) == 3
        for command in commands:
            assert subprocess.run(shlex.split(command), cwd=ROOT, capture_output=True).returncode == 0, command
        log = re.search(r"stack trace +(\S+)", process.output)
        assert log
        assert "LookupError" in Path(log[1]).read_text()


def test_clients_and_sidecar_count_the_same(tmp_path: Path) -> None:
    """Each session is counted once, with the code and the initiator that the client counted.

    Two peers that end at the same moment may each count their own end.
    """
    app_port, listen, admin = free_port(), free_port(), free_port()
    app = ("-m", "exporter.demo.chat_server", "--port", str(app_port), "--bug-rate", "0.05", "--bug-kind", "both")
    addresses = ("--listen", f"127.0.0.1:{listen}", "--admin", f"127.0.0.1:{admin}")
    sidecar = ("-m", "exporter", "run", "--upstream", f"127.0.0.1:{app_port}", *addresses, "--drain-linger", "0")
    url = f"ws://127.0.0.1:{listen}/chat"
    traffic = ("-m", "exporter.demo.clients", "--url", url, "--clients", "10", "--rate", "5", "--stay", "1")
    with running(tmp_path / "app", *app), running(tmp_path / "sidecar", *sidecar):
        eventually(lambda: answers(f"http://127.0.0.1:{admin}/readyz"), "the sidecar is ready")
        with running(tmp_path / "clients", *traffic) as clients:
            eventually(lambda: by_code(scrape(admin))["1011 server"], "a handler that raises")
            eventually(lambda: by_code(scrape(admin))["1006 server"], "a handler that drops")
            clients.send(signal.SIGTERM)
            assert clients.status() == 0
            seen = json.loads(clients.output)
        eventually(lambda: scrape(admin).closed.total() >= seen["sessions"], "all sessions are counted")
        counted = scrape(admin)
    assert counted.closed.total() == seen["sessions"]
    assert counted.active == 0
    crossed = by_code(counted) - Counter(seen["closes"])
    assert crossed.total() <= CROSSINGS, (crossed, seen["closes"])
    assert seen["failures"] == {}
    assert not counted.refused.total()


def scrape(admin: int) -> Counts:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as answer:
        return read_counts(answer.read().decode())


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def by_code(counted: Counts) -> Counter[str]:
    """Return the closes by code and initiator, as clients name them."""
    found: Counter[str] = Counter()
    for close, count in counted.closed.items():
        name = f"{close.code} {close.initiator}"
        found[CLIENT_NAMES.get(name, name)] += count
    return +found
