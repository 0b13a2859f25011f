"""What the hot path costs, counted, against figures that are committed: a change that makes it dearer is seen.

Two counts of the scripts in :mod:`benchmarks.hotpath`, both free of the machine's speed and noise:

- bytecode instructions, which Python itself can count anywhere, exactly;
- user-space instructions, by the hardware's counter or, where there is none, by valgrind's callgrind. They see what
  bytecode hides, a slow call for one. Builds of one Python version differ by about 5 %.

    python -m benchmarks.gate           count, and show next to the figures
    python -m benchmarks.gate --write   count, and make that the figures
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from benchmarks.hotpath import SCRIPTS, bytecodes, drive
from benchmarks.sampling import Counter, Event

FIGURES = Path(__file__).parent / "figures.json"
#: By how much a count may exceed its figure.
BYTECODE_TOLERANCE = 0.03
INSTRUCTION_TOLERANCE = 0.12

#: How often a script runs while instructions are counted: enough that CPython has specialised its code.
_TIMES = {"pp64": 2000, "pipe": 100, "stream": 60, "b64k": 500, "b1m": 300}
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


class CannotCount(Exception):
    """Why instructions cannot be counted on this machine."""


def count_bytecodes() -> dict[str, float]:
    """Bytecode instructions per unit of each script."""
    return {name: round(bytecodes(script), 1) for name, script in SCRIPTS.items()}


def count_instructions(names: tuple[str, ...] = tuple(SCRIPTS)) -> dict[str, float]:
    """User-space instructions per unit of each script. Raises CannotCount."""
    try:
        with closing(Counter([os.getpid()], Event.USER_INSTRUCTIONS)):
            pass
    except OSError as error:
        return _by_valgrind(names, error.strerror or str(error))
    return {name: round(_by_hardware(name)) for name in names}


def _by_hardware(name: str) -> float:
    script, times = SCRIPTS[name], _TIMES[name]
    drive(script, times)
    with closing(Counter([os.getpid()], Event.USER_INSTRUCTIONS)) as counter:
        drive(script, times)
        return counter.read() / times / script.units


def _by_valgrind(names: tuple[str, ...], why_not_hardware: str) -> dict[str, float]:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise CannotCount(f"no hardware instruction counter ({why_not_hardware}) and no valgrind")
    start = _callgrind(valgrind, "pp64", 0)
    return {
        name: round((_callgrind(valgrind, name, _TIMES[name]) - start) / _TIMES[name] / SCRIPTS[name].units)
        for name in names
    }


def _callgrind(valgrind: str, name: str, times: int) -> int:
    command = [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    command += ["-m", "benchmarks.hotpath", name, str(times)]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(Path(__file__).parent.parent)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stderr
    collected = re.search(r"Collected : (\d+)", said)
    if collected is None:
        raise CannotCount(f"valgrind failed: {said[-200:]}")
    return int(collected[1])


def figures(kind: str) -> dict[str, float]:
    """The committed figures, ``bytecodes`` or ``instructions``, for this Python; empty if there are none."""
    committed: dict[str, float] = json.loads(FIGURES.read_text()).get(VERSION, {}).get(kind, {})
    return committed


def main() -> None:
    """Count, and show or write."""
    counts = {"bytecodes": count_bytecodes()}
    try:
        counts["instructions"] = count_instructions()
    except CannotCount as reason:
        print(f"instructions: {reason}")
    for kind, found in counts.items():
        for name, value in found.items():
            print(f"{kind:13} {name:8} {value:12,.1f}   figure {figures(kind).get(name, 0):12,.1f}")
    if "--write" in sys.argv:
        FIGURES.write_text(json.dumps({**json.loads(FIGURES.read_text()), VERSION: counts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
