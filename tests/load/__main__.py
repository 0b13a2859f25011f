"""The long runs: ``python -m tests.load [--held N --seconds S] [--short N] ...``; exit status 1 on any problem."""

from __future__ import annotations

import argparse
import sys

from tests.load.memory import measure
from tests.load.run import run
from tests.load.scrapes import measure as measure_scrapes
from tests.load.soak import soak


def main() -> int:
    """Run what is asked for; everything by default."""
    parser = argparse.ArgumentParser(prog="python -m tests.load")
    parser.add_argument("--held", type=int, default=9000, help="sessions at once (two descriptors each)")
    parser.add_argument("--seconds", type=float, default=600, help="for how long")
    parser.add_argument("--interval", type=float, default=10, help="seconds between a session's messages")
    parser.add_argument("--short", type=int, default=200_000, help="short sessions in a row")
    parser.add_argument("--odd", type=int, default=10_000, help="clients that all differ in what they may choose")
    parser.add_argument("--soak", type=float, default=600, help="seconds of hostile clients beside 200 innocent ones")
    parser.add_argument("--memory", type=int, default=200, help="connections of each kind whose memory is measured")
    parser.add_argument(
        "--scrapes",
        type=int,
        default=15,
        help="pairs of 10 s without scrapes and 10 s with, under --held sessions (0: 9000)",
    )
    options = parser.parse_args()
    status = 0
    for how, numbers in (
        ("hold", (options.held, options.seconds, options.interval)),
        ("short", (options.short, 50)),
        ("odd", (options.odd, 50)),
    ):
        if numbers[0]:
            result = run(how, *numbers)
            print(f"{how} {numbers}:\n{result}\n  problems           {result.problems or 'none'}", flush=True)
            status |= bool(result.problems)
    if options.soak:
        soaked = soak(200, min(60.0, options.soak / 10), options.soak)
        print(f"soak ({options.soak:g} s):\n{soaked}\n  problems: {soaked.problems or 'none'}", flush=True)
        status |= bool(soaked.problems)
    if options.memory:
        print(f"memory per connection, of {options.memory} of each kind:")
        for kind, kib in measure(options.memory).items():
            print(f"  {kind:52} {kib:7.1f} KiB", flush=True)
    if options.scrapes:
        print(f"scrapes, {options.scrapes} pairs of intervals:", flush=True)
        scrapes = measure_scrapes(options.held or 9000, options.scrapes, options.interval)
        print(scrapes, flush=True)
        status |= bool(scrapes.broken)
    return status


if __name__ == "__main__":
    sys.exit(main())
