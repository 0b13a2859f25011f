"""All 517 cases, every server and client: ``python -m tests.conformance [PEER...]``, a peer being ``server tornado``.

Exit status 1 if any verdict differs.
"""

from __future__ import annotations

import asyncio
import sys
import time

from tests.conformance.clients import CLIENTS
from tests.conformance.suite import ALL_CASES, STACKS, compare_client, compare_server


def main() -> int:
    """Play everything, one line a peer."""
    status = 0
    runs = [*((compare_server, stack) for stack in STACKS), *((compare_client, client) for client in CLIENTS)]
    wanted = sys.argv[1:]
    for compare, peer in runs:
        role = "server" if compare is compare_server else "client"
        if wanted and f"{role} {peer}" not in wanted:
            continue
        began = time.monotonic()
        comparison = asyncio.run(compare(peer, ()))
        print(f"{comparison} in {time.monotonic() - began:.0f} s", flush=True)
        for case, (direct, through) in comparison.different.items():
            print(f"  {case} direct  {direct}\n  {case} through {through}")
        status |= bool(comparison.different) or len(comparison.direct) != ALL_CASES
    return status


if __name__ == "__main__":
    sys.exit(main())
