"""``python -m benchmarks.emulated``: instructions of each proxy, counted in an emulated machine, for want of a counter.

python -m benchmarks.emulated [--seconds S] [--peers a,b] [--cases a,b] [--to FOLDER]

The same cases on the same peers as ``python -m benchmarks``, one round; what is counted: :mod:`benchmarks.guest`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import guest
from benchmarks.cases import CASES
from benchmarks.peers import Absent
from benchmarks.report import BASELINE, SUBJECT, Results, publish, samples, table
from benchmarks.stage import compile_programs

_TREE = Path(__file__).parent.parent
_KERNELS = _TREE / "build" / "kernel"
_PEERS = "direct,relay,sidecar,default,interpreted,nginx,haproxy,envoy,aiohttp,websockets"
_CASES = "pp64,pipe,b64k,b1m,churn,churn1000,stream"


def main() -> int:
    """Count, and write ``instructions.json`` and ``instructions.md``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.emulated", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.9, help="of a measured window, in the guest: %(default)s")
    parser.add_argument("--peers", default=_PEERS, help="comma-separated, default %(default)s")
    parser.add_argument("--cases", default=_CASES, help="comma-separated, default %(default)s")
    parser.add_argument("--to", type=Path, default=Path(__file__).parent / "results", help="default %(default)s")
    arguments = parser.parse_args()
    try:
        results = count(arguments.seconds, arguments.peers, arguments.cases)
    except Absent as absent:
        print(f"benchmark: {absent}", file=sys.stderr)
        return 1
    except (subprocess.SubprocessError, json.JSONDecodeError) as failed:
        print(f"benchmark: the emulated machine gave no answer: {failed}", file=sys.stderr)
        return 1
    publish(results, markdown(results), arguments.to, "instructions")
    return 0


def count(seconds: float, peers: str, cases: str) -> Results:
    """Run the benchmark in the guest. CPU microseconds in what it returns are thousands of instructions.

    Raises Absent if something is missing here, SubprocessError, JSONDecodeError if the guest fails.
    """
    image = guest.kernel(_KERNELS)
    with tempfile.TemporaryDirectory(prefix="guest", dir=_KERNELS) as scratch:
        programs, disk, answer = Path(scratch, "programs"), Path(scratch, "disk"), Path(scratch, "answer")
        programs.mkdir()
        compile_programs(programs)
        command = [
            sys.executable, "-m", "benchmarks", "--rounds", "1", "--seconds", str(seconds), "--peers", peers,
            "--cases", cases, "--programs", str(programs), "--to", "/results", "> /dev/null",
        ]  # fmt: skip
        entries = guest.closure(guest.contents(_TREE, programs))
        guest.archive(disk, entries, command, _TREE, Path("/results/latest.json"))
        print("the emulated machine starts; its microsecond is a thousand instructions", file=sys.stderr)
        guest.run(image, disk, answer)
        results: Results = json.loads(answer.read_text())
    return results


def markdown(results: Results) -> str:
    """Two tables: thousands of instructions a unit, and the sidecar's against each peer's."""
    machine = results["machine"]
    cases = [case for case in CASES if samples(results, case.key, SUBJECT)]
    about = {peer: found["title"] for peer, found in results["peers"].items() if peer != BASELINE}

    def cost(case: str, peer: str, name: str = "cpu_us") -> float | None:
        found = samples(results, case, peer)
        return found[0][name] if found else None

    def cell(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:,.{digits}f}"

    def counts(name: str) -> str:
        rows = [[title, *[cell(cost(case.key, peer, name), 1) for case in cases]] for peer, title in about.items()]
        return table(["", *[f"{case.key}, {case.unit}" for case in cases]], rows)

    ratios = [
        [title, *[cell(_ratio(cost(case.key, SUBJECT), cost(case.key, peer)), 2) for case in cases]]
        for peer, title in about.items()
        if peer != SUBJECT
    ]
    absent = [
        f"- {found['title']}: skipped: {found['absent']}" for found in results["peers"].values() if found["absent"]
    ]
    return "\n".join(
        [
            "# Instructions, counted in an emulated machine",
            "",
            f"- {results['when']}; one core, Linux {machine['kernel']}, Python {machine['python']}, uvloop "
            f"{machine['uvloop']}; see benchmarks/guest.py for how",
            "- user and kernel; relay: the processes that forward; all: every process of the proxy",
            "- one round: another differs by a percent, by several in bulk",
            "- a `rep` instruction, which copies memory, counts once a step: bulk counts for more than by hardware",
            *absent,
            "",
            "## Thousands of instructions, relay",
            "",
            counts("relay_cpu_us"),
            "",
            "## Thousands of instructions, all",
            "",
            counts("cpu_us"),
            "",
            "## All of the sidecar's, divided by all of",
            "",
            table(["", *[case.key for case in cases]], ratios),
            "",
        ]
    )


def _ratio(ours: Any, theirs: Any) -> float | None:
    return ours / theirs if ours and theirs else None


if __name__ == "__main__":
    sys.exit(main())
