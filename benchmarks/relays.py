"""``python -m benchmarks.relays``: what each further relay takes and brings.

Start is from exec to the first answer of /readyz with 200; CPU is that of all processes until then. Memory is PSS, so
that pages which processes share count once. Sessions of a relay are the sockets that it holds, two a session.

python -m benchmarks.relays [--workers 1,2,4] [--sessions N] [--seconds S] [--interpreted]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import COMPILED, PACKAGE_ROOT, Absent, Place, sidecar
from benchmarks.sampling import family, pss_kb, usage
from benchmarks.stage import compile_programs, free_port, running

#: Echoes a second that CPU time is counted for, over so many connections.
PACE, CONNECTIONS = 2000, 64
#: Processes of a sidecar that are no relay; they start first.
OTHERS = 2
#: Seconds that a fresh sidecar gets to settle before its memory is read, and for which sessions may be opened.
SETTLE, OPENING = 1.5, 60.0
#: Seconds between looks whether it is ready.
POLL = 0.002


@dataclass(frozen=True, slots=True)
class Measured:
    """One sidecar.

    :ivar shares: sessions of each relay.
    :ivar cpu_us: CPU time of the relays for one round trip.
    """

    workers: int
    start: float
    start_cpu: float
    pss_kb: int
    shares: list[int]
    cpu_us: float

    @property
    def spread(self) -> float:
        """How far the busiest relay is above an even share, as a part of it."""
        return max(self.shares) * len(self.shares) / sum(self.shares) - 1

    def row(self, first: Measured) -> str:
        """Return its line of the table; ``first`` is the sidecar with the fewest relays."""
        further = self.workers - first.workers
        added = f"{(self.pss_kb - first.pss_kb) / further * 1024 / 1e6:.1f}" if further else ""
        return (
            f"| {self.workers} | {self.start:.2f} | {self.start_cpu:.2f} | {self.pss_kb * 1024 / 1e6:.1f} | {added} "
            f"| {', '.join(f'{share:,}' for share in self.shares)} | {self.spread:.1%} | {self.cpu_us:.1f} |"
        )


def _is_ready(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
        return True
    return False


def _sockets(pid: int) -> int:
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            count += descriptor.readlink().name.startswith("socket:")
    return count


def _run_load(programs: Path, port: int, *arguments: str) -> subprocess.Popen[str]:
    command = [str(programs / "load"), "--port", str(port), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _read_line(load: subprocess.Popen[str]) -> str:
    assert load.stdout is not None
    return load.stdout.readline().strip()


def measure(workers: int, tree: Path, programs: Path, upstream: int, sessions: int, seconds: float) -> Measured:
    """Start a sidecar, have it hold sessions and forward echoes beside them, and stop it. Raises Absent."""
    place = Place(free_port(), free_port(), upstream, programs, programs)
    command = [*sidecar(place, "abnormal", tree), "--workers", str(workers)]
    began = time.monotonic()
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        stack.callback(process.terminate)
        while not _is_ready(place.spare):
            if process.poll() is not None or time.monotonic() - began > OPENING:
                raise Absent("the sidecar did not start")
            time.sleep(POLL)
        start, pids = time.monotonic() - began, family(process.pid)
        start_cpu = usage(pids).cpu_seconds
        time.sleep(SETTLE)
        memory, relays = pss_kb(pids), pids[OTHERS:]
        before = [_sockets(pid) for pid in relays]
        idle = _run_load(programs, place.port, "--mode", "idle", "--connections", str(sessions), "--seconds", "3600")
        stack.enter_context(idle)
        stack.callback(idle.kill)
        if _read_line(idle) != "begin":
            raise Absent(f"{sessions} sessions could not be opened")
        shares = [(_sockets(pid) - held) // 2 for pid, held in zip(relays, before, strict=True)]
        paced = ("--mode", "echo", "--rate", str(PACE), "--connections", str(CONNECTIONS), "--seconds", str(seconds))
        echo = stack.enter_context(_run_load(programs, place.port, *paced))
        stack.callback(echo.kill)
        _read_line(echo)
        used = usage(relays)
        assert echo.stdin is not None
        echo.stdin.write("\n")
        echo.stdin.flush()
        _read_line(echo)
        used = usage(relays) - used
        said = json.loads(echo.communicate("\n")[0].splitlines()[-1])
        return Measured(workers, start, start_cpu, memory, shares, used.cpu_seconds * 1e6 / said["units"])


HEAD = """\
| relays | start, s | CPU until then, s | PSS of all, MB | each further relay, MB | sessions by relay | over an even share | relay CPU, µs a round trip |
|---|---|---|---|---|---|---|---|"""  # noqa: E501


def main() -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relays", description=__doc__)
    parser.add_argument("--workers", default="1,2,4", help="numbers of relays, default %(default)s")
    parser.add_argument("--sessions", type=int, default=5000, help="idle sessions, default %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of echoes, default %(default)s")
    parser.add_argument("--interpreted", action="store_true", help="the source instead of build/compiled")
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    tree = PACKAGE_ROOT if arguments.interpreted else COMPILED
    print(
        f"Sidecar ({'source' if arguments.interpreted else 'compiled'}) on {os.cpu_count()} cores; {PACE:,} round "
        f"trips a second beside the idle sessions; load average before: {os.getloadavg()[0]:.1f}.\n\n{HEAD}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="relays") as scratch:
        try:
            programs = compile_programs(Path(scratch))
            port = free_port()
            server = [str(programs / "server"), "--port", str(port)]
            with running(server, port, os.sched_getaffinity(0), programs / "server.output"):
                first: Measured | None = None
                for workers in map(int, arguments.workers.split(",")):
                    found = measure(workers, tree, programs, port, arguments.sessions, arguments.seconds)
                    first = first or found
                    print(found.row(first), flush=True)
        except Absent as absent:
            print(f"benchmark: {absent}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
