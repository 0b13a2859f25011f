"""``python -m benchmarks``: measure, in turn and repeatedly, and write the tables.

python -m benchmarks [--quick] [--rounds N] [--seconds S] [--peers a,b] [--cases a,b] [--programs FOLDER] [--to FOLDER]
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.cases import CASES, Case, Shows
from benchmarks.peers import PEERS, Absent, Peer
from benchmarks.report import Results, markdown, publish
from benchmarks.sampling import counter_missing, pss_kb
from benchmarks.stage import Cores, LoadFailed, Pollable, compile_programs, free_port, measure, running, stage

_ROUNDS, _SECONDS = 5, 0.9
_QUICK_ROUNDS, _QUICK_SECONDS, _QUICK_SESSIONS = 1, 0.6, 1000
#: Minutes after which no further round is begun if it would end later than this: a busy machine gets fewer rounds.
_BUDGET = 11.0
#: Seconds that a fresh process gets to settle before its memory is read.
_SETTLE = 0.3


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    keys = {"peers": [peer.key for peer in PEERS], "cases": [case.key for case in CASES]}
    parser.add_argument("--quick", action="store_true", help="one short round, fewer idle sessions: under two minutes")
    parser.add_argument("--rounds", type=int, help=f"default {_ROUNDS}")
    parser.add_argument("--seconds", type=float, help=f"of a measured window, default {_SECONDS}")
    for name, known in keys.items():
        parser.add_argument(f"--{name}", default=",".join(known), help="comma-separated, default all: %(default)s")
    parser.add_argument("--programs", type=Path, help="where load, server and relay are; compiled if not given")
    parser.add_argument("--to", type=Path, default=Path(__file__).parent / "results", help="default %(default)s")
    arguments = parser.parse_args()
    for name, known in keys.items():
        if unknown := set(getattr(arguments, name).split(",")) - set(known):
            parser.error(f"--{name}: {', '.join(sorted(unknown))}: expected some of {', '.join(known)}")
    return arguments


def _machine() -> dict[str, object]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": f"{platform.python_version()} ({platform.python_compiler()})",
        "uvloop": version("uvloop"),
        "load_before": os.getloadavg()[0],
        "load_after": 0.0,
    }


class Run:
    """One run: what is to be measured, and what was."""

    def __init__(self, arguments: argparse.Namespace, scratch: Path) -> None:
        quick = arguments.quick
        self.rounds: int = arguments.rounds or (_QUICK_ROUNDS if quick else _ROUNDS)
        self.seconds: float = arguments.seconds or (_QUICK_SECONDS if quick else _SECONDS)
        self.peers = [peer for peer in PEERS if peer.key in arguments.peers.split(",")]
        self.cases = [_shortened(case) if quick else case for case in CASES if case.key in arguments.cases.split(",")]
        self.cores = Cores.share_out()
        self.scratch = scratch
        self.programs = arguments.programs or compile_programs(scratch)
        missing = counter_missing()
        self.counts = not missing
        self.results: Results = {
            "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": _machine(),
            "settings": {
                "rounds": self.rounds,
                "seconds": self.seconds,
                "counter_missing": missing,
                "cores": {name: sorted(cores) for name, cores in asdict(self.cores).items()},
            },
            "peers": {peer.key: {"title": peer.key, "absent": ""} for peer in self.peers},
            "starts": [],
            "samples": [],
            "failures": [],
        }

    def go(self) -> None:
        """Measure everything."""
        port = free_port()
        server = [str(self.programs / "server"), "--port", str(port)]
        with running(server, port, self.cores.server, self.scratch / "server.output"):
            began = time.monotonic()
            for number in range(self.rounds):
                self._round(number, port)
                self.results["settings"]["rounds"] = number + 1
                elapsed = time.monotonic() - began
                if elapsed * (number + 2) / (number + 1) > _BUDGET * 60:
                    break
        self.results["machine"]["load_after"] = os.getloadavg()[0]

    def _round(self, number: int, port: int) -> None:
        """Start everybody anew, then each case on each peer in turn."""
        with ExitStack() as stack:
            targets: list[tuple[Peer, Pollable]] = []
            for peer in self.peers:
                about = self.results["peers"][peer.key]
                if about["absent"]:
                    continue
                try:
                    about["title"] = peer.title()
                    targets.append((peer, stack.enter_context(self._stage(peer, port))))
                except Absent as absent:
                    about["absent"] = str(absent)
                    print(f"{peer.key}: skipped: {absent}", file=sys.stderr)
            time.sleep(_SETTLE)
            for peer, target in targets:
                if not target.pids:
                    continue
                start = {"seconds": target.started, "pss_kb": pss_kb(target.pids)}
                self.results["starts"].append({"round": number, "peer": peer.key, **start})
            for case in self.cases:
                for peer, target in targets:
                    if peer.takes_part(case) and (target.pids or case.shows is not Shows.MEMORY):
                        self._measure(number, case, peer.key, target)

    def _stage(self, peer: Peer, port: int) -> AbstractContextManager[Pollable]:
        folder = Path(tempfile.mkdtemp(dir=self.scratch, prefix=peer.key))
        return stage(peer, port, self.programs, folder, self.cores)

    def _measure(self, number: int, case: Case, peer: str, target: Pollable) -> None:
        where = {"round": number, "case": case.key, "peer": peer}
        try:
            measured = measure(case, target, self.programs, self.cores, self.seconds, self.counts)
        except LoadFailed as failed:
            self.results["failures"].append({**where, "why": str(failed)})
            print(f"{number + 1}/{self.rounds} {case.key:10} {peer:11} failed: {failed}", file=sys.stderr)
            return
        self.results["samples"].append({**where, **asdict(measured)})
        print(
            f"{number + 1}/{self.rounds} {case.key:10} {peer:11} {measured.per_second:12,.0f}/s "
            f"{measured.relay_cpu_us:10,.2f} us relay {measured.cpu_us:10,.2f} us all  busy {measured.busy:4.0%}  "
            f"errors {measured.errors}",
            file=sys.stderr,
        )


def _shortened(case: Case) -> Case:
    if case.shows is not Shows.MEMORY:
        return case
    at = case.load.index("--connections") + 1
    return replace(case, load=(*case.load[:at], str(_QUICK_SESSIONS), *case.load[at + 1 :]))


def main() -> int:
    """Run, and write ``latest.json`` and ``latest.md``; ``quick.*`` for a quick one."""
    arguments = _arguments()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="benchmark") as scratch:
        try:
            run = Run(arguments, Path(scratch))
        except Absent as absent:
            print(f"benchmark: {absent}", file=sys.stderr)
            return 1
        run.go()
    name = "quick" if arguments.quick else "latest"
    publish(run.results, markdown(run.results), arguments.to, name)
    print(f"benchmark: {time.monotonic() - began:.0f} s; wrote {arguments.to / name}.md and .json", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
