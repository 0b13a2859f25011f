"""``python -m benchmarks.isolation``: what strangers cost the traffic of others, and the health check.

Windows without and with a disturbance take turns; a paced echo probe measures each. In a third one, the control, the
same strangers disturb another sidecar, which shares nothing but the machine: what they add there is not the fault of
the probed one. Hostile clients run under SCHED_IDLE: any other process preempts them at once, so that they take no core
from the sidecar or the probe.

python -m benchmarks.isolation [--rounds N] [--seconds S] [--cases a,b] [--interpreted] [--one-core]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from benchmarks.peers import COMPILED, PACKAGE_ROOT, Absent, Peer, Place, sidecar
from benchmarks.stage import Cores, Pollable, compile_programs, free_port, in_thread, running, stage

#: Echoes a second of the probe, over so many connections.
PACE, CONNECTIONS = 1000, 16
#: Seconds between two health checks.
LIVEZ_INTERVAL = 0.05
#: Seconds that a disturbance is under way before a window begins, and that the sidecar rests after it.
LEAD, REST = 0.7, 0.3
#: Milliseconds that a disturbance may add to the probe's p99, and that a health check may take.
ADMIN_AIM, DENSE_AIM, LIVEZ_AIM = 1.0, 5.0, 100.0

PASSWORD = "secret"
_UPGRADE = (
    b"GET /sink HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_MASKED = b"\x80\x01\x02\x03\x04"


@dataclass(frozen=True, slots=True)
class Case:
    """One disturbance.

    :ivar connections: of the hostile clients.
    :ivar opening: bytes that each sends once; ``repeat`` without end.
    :ivar admin: they connect to the admin port.
    :ivar logins: the admin port asks for a login.
    :ivar stopped: the observer is stopped meanwhile, which answers no health check then.
    :ivar churn: sessions that are opened and closed a second, in windows of both kinds.
    """

    key: str
    title: str
    connections: int = 0
    opening: bytes = b""
    repeat: bytes = b""
    admin: bool = True
    logins: bool = False
    stopped: bool = False
    churn: int = 0

    @property
    def controlled(self) -> bool:
        """Whether the same can be done to another sidecar."""
        return self.admin and not self.stopped

    @property
    def aim(self) -> float:
        """Milliseconds that the probe's p99 may grow by."""
        return ADMIN_AIM if self.admin else DENSE_AIM


def _get(path: str, password: str = "") -> bytes:
    login = b64encode(f"prometheus:{password}".encode()).decode()
    header = f"Authorization: Basic {login}\r\n" if password else ""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode()


def _dense(key: str, title: str, frames: bytes) -> Case:
    return Case(key, f"4 clients flood with {title}", 4, _UPGRADE, frames, admin=False)


CASES = (
    Case("scrapers", "300 scrapers pipeline requests for /metrics", 300, repeat=_get("/metrics")),
    Case("passwords", "64 clients pipeline wrong passwords", 64, repeat=_get("/metrics", "wrong"), logins=True),
    Case("listeners", "16 pages listen to /events; 50 new sessions a second in both", 16, _get("/events"), churn=50),
    Case("pages", "16 clients pipeline requests for the page", 16, repeat=_get("/")),
    Case("stopped", "the observer is stopped by SIGSTOP", stopped=True),
    _dense("pings", "empty pings", b"\x89" + _MASKED),
    _dense("pongs", "empty pongs", b"\x8a" + _MASKED),
    _dense("texts", "empty texts", b"\x81" + _MASKED),
    _dense("reserved", "reserved opcodes", b"\x83\x00"),
    _dense("mixed", "texts and pings", b"\x81" + _MASKED + b"\x89" + _MASKED),
    _dense("fragments", "empty fragments", b"\x01" + _MASKED + b"\x80" + _MASKED),
)


@dataclass(slots=True)
class Window:
    """The probe's latencies in milliseconds, and those of the health checks."""

    p50: float
    p99: float
    livez: list[float]


@dataclass(slots=True)
class Outcome:
    """All windows of one case: pairs without and with the disturbance, and the controls of the pairs."""

    case: Case
    pairs: list[tuple[Window, Window]] = field(default_factory=list)
    controls: list[Window] = field(default_factory=list)

    def added(self) -> float:
        """Return the milliseconds that the disturbance adds to p99: the median of the pairs."""
        return median(disturbed.p99 - idle.p99 for idle, disturbed in self.pairs)

    def added_by_control(self) -> float | None:
        """Return the same of the controls; None without any."""
        if not self.controls:
            return None
        return median(control.p99 - idle.p99 for (idle, _), control in zip(self.pairs, self.controls, strict=True))

    def row(self) -> str:
        """Return the case's line of the table."""
        windows = [[pair[index] for pair in self.pairs] for index in (0, 1)]
        p50, p99 = ([median(getattr(w, name) for w in side) for side in windows] for name in ("p50", "p99"))
        checks = [seconds for window in windows[1] for seconds in window.livez]
        livez = "none asked"
        if len(checks) > 1:
            livez = f"{quantiles(checks, n=100, method='inclusive')[98]:.1f}, {max(checks):.1f}"
        control = "" if (added := self.added_by_control()) is None else f"{added:+.2f}"
        missed = self.added() > self.case.aim or max(checks, default=0.0) > LIVEZ_AIM
        return (
            f"| {self.case.title} | {p50[0]:.2f}, {p50[1]:.2f} | {p99[0]:.2f}, {p99[1]:.2f} | {self.added():+.2f} "
            f"| {control} | {self.case.aim:g} | {livez} | {'missed' if missed else 'met'} |"
        )


def _health_checks(port: int, found: list[float], cores: set[int]) -> AbstractContextManager[None]:
    """Meanwhile ask /livez over new connections; milliseconds go to ``found``, a failure as infinity."""

    def ask(stop: threading.Event) -> None:
        os.sched_setaffinity(0, cores)
        while not stop.wait(LIVEZ_INTERVAL):
            began = time.monotonic()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5).close()
            except OSError:
                found.append(float("inf"))
            else:
                found.append((time.monotonic() - began) * 1000)

    return in_thread(ask)


class Bench:
    """The programs, and the length of a window in seconds."""

    def __init__(self, programs: Path, cores: Cores, seconds: float, scratch: Path) -> None:
        self.programs = programs
        self.cores = cores
        self.seconds = seconds
        self.scratch = scratch

    def window(self, target: Pollable, check: bool) -> Window:
        """Run the probe once, with health checks if ``check``."""
        livez: list[float] = []
        with _health_checks(target.spare, livez, self.cores.load) if check else nullcontext():
            said = subprocess.run(
                [str(self.programs / "load"), "--port", str(target.port), "--mode", "echo", "--rate", str(PACE),
                 "--connections", str(CONNECTIONS), "--seconds", str(self.seconds), "--warm", "0.2"],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60 + self.seconds,
                preexec_fn=partial(os.sched_setaffinity, 0, self.cores.load),
            ).stdout.splitlines()[-1]  # fmt: skip
        result = json.loads(said)
        if result["errors"] or result["units"] < PACE * self.seconds / 2:
            raise Absent(f"the probe got {result['units']} echoes and {result['errors']} errors")
        return Window(result["p50_us"] / 1000, result["p99_us"] / 1000, livez)

    @contextmanager
    def disturbance(self, case: Case, target: Pollable) -> Iterator[None]:
        """Disturb ``target`` until the block ends."""
        if case.stopped:
            observer = target.pids[1]
            os.kill(observer, signal.SIGSTOP)
            try:
                yield
            finally:
                os.kill(observer, signal.SIGCONT)
            return
        files = {name: self.scratch / f"{case.key}.{name}" for name in ("opening", "repeat")}
        files["opening"].write_bytes(case.opening)
        files["repeat"].write_bytes(case.repeat)
        port = target.spare if case.admin else target.port
        command = [str(self.programs / "flood"), "--port", str(port), "--connections", str(case.connections)]
        flags = [part for name, path in files.items() for part in (f"--{name}", str(path))]

        def hostile() -> None:
            os.sched_setaffinity(0, self.cores.load)
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

        with subprocess.Popen([*command, *flags], preexec_fn=hostile) as flood:
            try:
                yield
                if flood.poll() is not None:
                    raise Absent(f"the flood ended with status {flood.returncode}")
            finally:
                flood.kill()

    def run(self, case: Case, rounds: int, target: Pollable, other: Pollable) -> Outcome:
        """Measure one case; ``other`` is the sidecar of the controls."""
        outcome = Outcome(case)
        for _ in range(rounds):
            with self.churn(case, target):
                idle = self.window(target, check=True)
                with self.disturbance(case, target):
                    time.sleep(LEAD)
                    disturbed = self.window(target, check=not case.stopped)
                time.sleep(REST)
                if case.controlled:
                    with self.disturbance(case, other):
                        time.sleep(LEAD)
                        outcome.controls.append(self.window(target, check=True))
            outcome.pairs.append((idle, disturbed))
            time.sleep(REST)
        return outcome

    @contextmanager
    def churn(self, case: Case, target: Pollable) -> Iterator[None]:
        """Open and close the case's sessions until the block ends."""
        if not case.churn:
            yield
            return
        with subprocess.Popen(
            [str(self.programs / "load"), "--port", str(target.port), "--mode", "churn", "--rate", str(case.churn),
             "--connections", "64", "--seconds", "600"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            preexec_fn=partial(os.sched_setaffinity, 0, self.cores.load),
        ) as load:  # fmt: skip
            try:
                yield
            finally:
                load.kill()


def _cores(one: bool) -> Cores:
    everywhere = os.sched_getaffinity(0)
    return Cores.share_out() if one else Cores(everywhere, everywhere, everywhere)


def _peer(tree: Path, web_config: Path | None) -> Peer:
    def command(place: Place) -> list[str]:
        flags = ["--web-config-file", str(web_config)] if web_config is not None else []
        return [*sidecar(place, "abnormal", tree), *flags]

    return Peer("sidecar", lambda: "sidecar", command, others=2)


def _web_config(folder: Path) -> Path:
    import bcrypt

    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    path = folder / "web.yml"
    path.write_text(f"basic_auth_users: {{prometheus: {hashed}}}\n")
    return path


def measure(arguments: argparse.Namespace, scratch: Path, say: Callable[[str], None]) -> list[Outcome]:
    """Measure the cases that the arguments name; ``say`` gets each row when it is measured. Raises Absent."""
    cores = _cores(arguments.one_core)
    programs = compile_programs(scratch)
    tree = PACKAGE_ROOT if arguments.interpreted else COMPILED
    port = free_port()
    outcomes = []
    with ExitStack() as stack:
        server = [str(programs / "server"), "--port", str(port)]
        stack.enter_context(running(server, port, cores.server, scratch / "server.output"))
        bench = Bench(programs, cores, arguments.seconds, scratch)
        for logins in (False, True):
            cases = [case for case in CASES if case.logins is logins and case.key in arguments.cases.split(",")]
            if not cases:
                continue
            peer = _peer(tree, _web_config(scratch) if logins else None)
            with (
                stage(peer, port, programs, scratch / f"sidecar-{logins}", cores) as target,
                stage(peer, port, programs, scratch / f"control-{logins}", cores) as other,
            ):
                for case in cases:
                    outcomes.append(bench.run(case, arguments.rounds, target, other))
                    say(outcomes[-1].row())
    return outcomes


HEAD = """\
| disturbance | p50, ms: without, with | p99, ms: without, with | added | control | aim | /livez, ms: p99, worst | |
|---|---|---|---|---|---|---|---|"""


def main() -> int:
    """Print one table; the exit status is 1 if an aim was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.isolation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of windows of each case, default %(default)s")
    parser.add_argument("--seconds", type=float, default=2.5, help="of a window, default %(default)s")
    parser.add_argument("--cases", default=",".join(case.key for case in CASES), help="default %(default)s")
    parser.add_argument("--interpreted", action="store_true", help="the source instead of build/compiled")
    parser.add_argument(
        "--one-core", action="store_true", help="all of the sidecar on the last core, the others on the first"
    )
    arguments = parser.parse_args()
    where = "its processes share the last core" if arguments.one_core else "nothing is bound to a core"
    print(
        f"Sidecar ({'source' if arguments.interpreted else 'compiled'}) on {os.cpu_count()} cores: {where}. Probe: "
        f"{PACE:,} echoes a second over {CONNECTIONS} connections. {arguments.rounds} pairs of windows of "
        f"{arguments.seconds:g} s; load average before: {os.getloadavg()[0]:.1f}.\n\n{HEAD}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="isolation") as scratch:
        try:
            outcomes = measure(arguments, Path(scratch), partial(print, flush=True))
        except Absent as absent:
            print(f"benchmark: {absent}", file=sys.stderr)
            return 1
    return int(any(outcome.row().endswith("missed |") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
