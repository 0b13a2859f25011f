"""The demo starts its processes, restarts the app, and leaves nothing behind, however it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import InvalidHandshake

from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

from .helpers import ROOT, Running, command_line, how_it_ends, running, visit

HERE = Path(__file__).parent
FAKE = str(HERE / "fake_sidecar.py")

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for child processes in /proc")


class Demo:
    """A demo that runs: its addresses, its process, its child processes by what they are."""

    def __init__(self, process: Running, listen: int, admin: int) -> None:
        self.run = process
        self.listen = listen
        self.admin = admin

    def children(self) -> dict[str, int]:
        """Process ids by name: app, sidecar, traffic."""
        names = {"demo.app": "app", "sidecar": "sidecar", "demo.traffic": "traffic"}
        return {name: pid for pid, line in self.run.children().items() for part, name in names.items() if part in line}


@contextmanager
def demo(tmp_path: Path, *options: str, sidecar: str = FAKE) -> Iterator[Demo]:
    """A demo with the fake sidecar on free ports."""
    listen, admin = free_port(), free_port()
    addresses = ("--listen", f"127.0.0.1:{listen}", "--admin", f"127.0.0.1:{admin}")
    command = ("-m", "tests.unit.demo.run_demo", sidecar, "--clients", "3", *addresses, *options)
    with running(tmp_path / "out", *command) as process:
        yield Demo(process, listen, admin)


def has_ended_well(run: Running, status: int = 0) -> None:
    assert run.status() == status
    assert "Traceback" not in run.output, run.output


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_of_it(tmp_path: Path, sign: signal.Signals) -> None:
    """It says where to look, runs three processes, sums up on a signal and leaves none of them; status 0."""
    with demo(tmp_path) as it:
        it.run.says(" 3 open")
        children = it.children()
        assert set(children) == {"app", "sidecar", "traffic"}
        for place in (f"http://127.0.0.1:{it.admin}/\n", "/metrics\n", f"http://127.0.0.1:{it.listen}/bug"):
            assert place in it.run.output
        logs = re.search(r"logs +(\S+)", it.run.output)
        assert logs
        assert {path.name for path in Path(logs[1]).iterdir()} == {"app.log", "sidecar.log", "traffic.log"}
        it.run.send(sign)
        has_ended_well(it.run)
        assert "connections have ended" in it.run.output
        assert not any(command_line(pid) for pid in children.values())
        assert not Path(logs[1]).exists()


def test_it_ends_by_itself_after_its_time(tmp_path: Path) -> None:
    """--for ends it like a signal does."""
    with demo(tmp_path, "--for", "500ms") as it:
        has_ended_well(it.run)
        assert "look here" in it.run.output


def test_the_app_is_restarted_and_keeps_its_bug(tmp_path: Path) -> None:
    """Every so often the app says 1001 to everybody and is started anew; its bug stays as it was set."""
    with demo(tmp_path, "--restart-every", "3s", "--bug-rate", "0") as it:
        it.run.says("open")
        first = it.children()
        base = f"http://127.0.0.1:{it.listen}/bug"
        with urllib.request.urlopen(f"{base}?rate=0.125&kind=drops") as answer:
            assert answer.status == 200

        async def stay() -> int:
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        return await how_it_ends(await visit(it.listen))
                    except (OSError, InvalidHandshake):  # we came just when it restarted
                        await asyncio.sleep(0.1)

        assert asyncio.run(stay()) == 1001
        eventually(lambda: it.children().get("app", first["app"]) != first["app"], "another app")
        eventually(lambda: accepts(it.listen), "the app answers")
        with urllib.request.urlopen(base) as answer:
            assert answer.read() == b'{"rate": 0.125, "kind": "drops"}\n'
        assert "the app restarts" in it.run.output
        assert {name: pid for name, pid in it.children().items() if name != "app"} == {
            name: pid for name, pid in first.items() if name != "app"
        }
        it.run.send(signal.SIGINT)
        has_ended_well(it.run)


def accepts(listen: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{listen}/") as answer:
            return answer.status == 200
    except OSError:
        return False


def test_an_app_that_dies_is_revived(tmp_path: Path) -> None:
    """After a SIGKILL the app is started anew, and the demo says so."""
    with demo(tmp_path) as it:
        it.run.says("open")
        victim = it.children()["app"]
        os.kill(victim, signal.SIGKILL)
        it.run.says("the app died (status -9); it is started anew")
        eventually(lambda: it.children().get("app", victim) != victim, "another app")
        it.run.send(signal.SIGINT)
        has_ended_well(it.run)


@pytest.mark.parametrize(("who", "status"), [("sidecar", -9), ("traffic", -9)])
def test_it_does_not_go_on_without_the_others(tmp_path: Path, who: str, status: int) -> None:
    """When the sidecar or the traffic dies, the demo says so in one line and ends, and the rest with it."""
    with demo(tmp_path) as it:
        it.run.says("open")
        children = it.children()
        os.kill(children[who], signal.SIGKILL)
        has_ended_well(it.run, 1)
        assert f"Error: the {who} ended by itself, status {status}: " in it.run.output
        assert not any(command_line(pid) for pid in children.values())


@pytest.mark.parametrize("option", ["--listen", "--admin", "--app-port"])
def test_a_taken_port_is_one_clear_line(tmp_path: Path, option: str) -> None:
    """A port that somebody has: one line that names it and the option that chooses another; status 1."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        value = str(port) if option == "--app-port" else f"127.0.0.1:{port}"
        with demo(tmp_path, option, value) as it:
            assert it.run.status() == 1
            expected = f"Error: 127.0.0.1:{port}: Address already in use; choose another with {option}\n"
            assert it.run.output == expected


def test_a_sidecar_that_does_not_start_is_one_clear_line(tmp_path: Path) -> None:
    """The line repeats the sidecar's last words; status 1, nothing else is left running."""
    broken = tmp_path / "broken.py"
    broken.write_text("print('Error: no luck today')\n")
    with demo(tmp_path, sidecar=str(broken)) as it:
        assert it.run.status() == 1
        assert it.run.output == "Error: the sidecar did not start: no luck today\n"


def test_a_reader_that_goes_away_ends_it(tmp_path: Path) -> None:
    """`demo | head -1` ends quietly when head has had enough, and leaves no process behind."""
    addresses = ["--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}"]
    command = [sys.executable, "-m", "tests.unit.demo.run_demo", FAKE, *addresses]
    errors = tmp_path / "errors"
    with errors.open("wb") as sink:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=sink)
    assert process.stdout
    try:
        assert b"chat clients" in process.stdout.readline()
        children = Running(process, errors).children()
        assert len(children) == 3
    finally:
        process.stdout.close()
    assert process.wait(PATIENCE) == 1
    assert errors.read_text() == ""
    assert not any(command_line(pid) for pid in children)


def test_a_demo_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    """Even SIGKILL leaves no process behind."""
    with demo(tmp_path) as it:
        it.run.says("open")
        children = it.children()
        assert len(children) == 3
        it.run.send(signal.SIGKILL)
        assert it.run.status() == -9
        eventually(lambda: not any(command_line(pid) for pid in children.values()), "all have ended")
