"""Plays inputs against a target: ``python -m tests.fuzz TARGET [--runs N] [--seconds S] [--hypothesis]``.

Without an engine's help nothing is found: atheris (libFuzzer) steers by coverage where it is installed; hypothesis
makes inputs from the corpus and from nothing where it is not. Both begin with the whole corpus. The last line says how
many inputs ran. Exit status 0: none broke a promise. An input that does is written to a file that the output names.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
#: Bytes of an input. Repetition (see :mod:`tests.fuzz.script`) makes long streams of short ones.
MAX_LENGTH = 2048
#: Memory that a fuzzing process may take: several times what all targets need, so that growth is a failure.
MAX_RSS_MIB = 512


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target")
    parser.add_argument("--runs", type=int, default=10_000, help="inputs after the corpus")
    parser.add_argument("--seconds", type=int, default=0, help="stop after so long, whatever --runs says")
    parser.add_argument("--seed", type=int, default=0, help="0 is a new one each time")
    parser.add_argument("--grow", type=Path, help="a directory for inputs that reach something new")
    parser.add_argument("--hypothesis", action="store_true", help="use hypothesis though atheris is there")
    options = parser.parse_args()
    if options.target == "inject" and find_spec("exporter.kubernetes") is None:
        print("inject: not played, exporter.kubernetes is not in this tree")
        return 0
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None or options.hypothesis:
        return _with_hypothesis(options)
    if "--libfuzzer" in os.environ.get("FUZZ_CHILD", ""):
        _fuzz_here(atheris, options)
    return _with_atheris(options)


def _with_atheris(options: argparse.Namespace) -> int:
    """libFuzzer ends its process itself: run it in a child, and read from its output how many inputs ran."""
    began = time.monotonic()
    child = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *sys.argv[1:]],
        env={**os.environ, "FUZZ_CHILD": "--libfuzzer"},
        capture_output=True,
        text=True,
    )
    done = re.search(r"Done (\d+) runs", child.stderr)
    if child.returncode or not done:
        progress = re.compile(r"^(?:#\d+|INFO|MS: )\b.*\n?", re.MULTILINE)
        print(child.stdout[-3000:], progress.sub("", child.stderr)[-3000:], sep="\n", file=sys.stderr)
        return child.returncode or 1
    _report(options.target, "atheris", int(done[1]), began)
    return 0


def _fuzz_here(atheris: object, options: argparse.Namespace) -> None:
    """Never returns."""
    with atheris.instrument_imports(include=["exporter"]):  # type: ignore[attr-defined]
        from tests.fuzz.targets import TARGETS

    target = TARGETS[options.target]
    corpus = _corpus(options.target)
    argv = [
        "fuzz",
        f"-runs={len(list(corpus.iterdir())) + options.runs}",
        f"-max_total_time={options.seconds}",
        f"-seed={options.seed}",
        f"-max_len={MAX_LENGTH}",
        f"-rss_limit_mb={MAX_RSS_MIB}",
        "-timeout=60",
        "-print_final_stats=0",
        *([str(options.grow)] if options.grow else []),
        str(corpus),
    ]
    if options.grow:
        options.grow.mkdir(parents=True, exist_ok=True)
    else:  # libFuzzer adds what it finds to its first directory; the committed corpus is not to change
        import tempfile

        argv.insert(-1, tempfile.mkdtemp(prefix="fuzz-"))
    atheris.Setup(argv, target)  # type: ignore[attr-defined]
    atheris.Fuzz()  # type: ignore[attr-defined]


def _with_hypothesis(options: argparse.Namespace) -> int:
    """The corpus, then mixtures of it and of noise."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    from tests.fuzz.targets import TARGETS

    target = TARGETS[options.target]
    known = [path.read_bytes() for path in sorted(_corpus(options.target).iterdir())]
    began = time.monotonic()
    ran = 0
    for data in known:
        target(data)
        ran += 1
    pieces = st.one_of(st.sampled_from(known), st.binary(max_size=64))
    cut = st.tuples(pieces, st.integers(0, MAX_LENGTH), st.integers(0, MAX_LENGTH)).map(lambda t: t[0][t[1] : t[2]])

    @seeded(options.seed or random.randrange(1 << 30))
    @settings(
        max_examples=options.runs,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.one_of(pieces, cut), max_size=4).map(b"".join))
    def play(data: bytes) -> None:
        nonlocal ran
        ran += 1
        if not options.seconds or time.monotonic() - began < options.seconds:
            target(data)

    play()
    _report(options.target, "hypothesis", ran, began)
    return 0


def _corpus(target: str) -> Path:
    folder = CORPUS / target
    if not folder.is_dir():
        sys.exit(f"no corpus for {target}: known are {', '.join(sorted(path.name for path in CORPUS.iterdir()))}")
    return folder


def _report(target: str, engine: str, ran: int, began: float) -> None:
    print(f"{target}: {ran} inputs by {engine} in {time.monotonic() - began:.0f} s, none broke a promise")


if __name__ == "__main__":
    sys.exit(main())
