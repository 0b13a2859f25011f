"""Plays the Autobahn cases against a server or a client, direct and through a sidecar, and compares the verdicts.

How it works
============
The verdicts of a peer are its own affair: no stack passes every case. What is promised is that the sidecar changes
none of them. So every case is played twice, once on a direct connection and once through the sidecar, and everything
that kosoku observed of it must be equal (:class:`Classification`), not only whether it passed.

Some cases race within one peer: a message and a broken frame arrive together, and whether the message is answered
before the connection is failed depends on how the peer's tasks get to run. Such a case gives OK and NON-STRICT in turn
on direct connections, too. Where the two ways differ, the case is therefore played again both ways, up to
:data:`ROUNDS` times. It races, and is reported so, if every verdict seen through the sidecar has been seen without it,
or if both ways agree in a later round and nothing but that answer ever differed. All else is a difference.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import kosoku

from tests.conformance.clients import CLIENTS, count_cases, play_all
from tests.e2e.harness.process import Process
from tests.e2e.harness.scrape import CLOSED, HANDSHAKES
from tests.e2e.harness.sidecar import Sidecar
from tests.ports import free_port
from tests.waiting import eventually

#: Cases that take long: big messages and compression of thousands of them. The rest, 247, take some three seconds.
SLOW = ("9.*", "12.*", "13.*")
FAST_CASES = 247
ALL_CASES = 517
#: How often a case is played again both ways when its verdicts differ.
ROUNDS = 30
#: Cases played at a time.
PARALLEL = 4

SERVERS = Path(__file__).parent / "servers"
STACKS: Mapping[str, str] = {script.stem.removesuffix("_echo"): str(script) for script in sorted(SERVERS.glob("*.py"))}


@dataclass(frozen=True, slots=True)
class Classification:
    """What was observed of one case: the verdicts, who ended what with which code, every message received."""

    behavior: str
    behavior_close: str
    code: int | None
    reason: str | None
    clean: bool
    dropped_by_suite: bool
    failed_by_suite: bool
    received: str

    @classmethod
    def of(cls, result: kosoku.CaseResult) -> Classification:
        """The verdict in kosoku's result."""
        return cls(
            result.behavior.value,
            result.behavior_close.value,
            result.remote_close_code,
            result.remote_close_reason,
            result.was_clean,
            result.dropped_by_me,
            result.failed_by_me,
            repr(result.received),
        )

    @property
    def ending(self) -> Classification:
        """All but whether a message was still answered; passing verdicts that share it may come of a race."""
        behavior = "passed" if self.behavior in ("OK", "NON-STRICT") else self.behavior
        return dataclasses.replace(self, behavior=behavior, received="")


Verdicts = dict[str, Classification]
Play = Callable[[Sequence[str], Sequence[str]], Awaitable[Verdicts]]


@dataclass(slots=True)
class Comparison:
    """What came of one peer: every case's verdict, those that race within the peer, and those that differ."""

    peer: str
    direct: Verdicts
    racing: dict[str, int] = field(default_factory=dict)  # case -> rounds until both ways agreed
    different: dict[str, tuple[set[Classification], set[Classification]]] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line."""
        kinds = [verdict.behavior for verdict in self.direct.values()]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
        racing = f"; raced within the peer, then agreed: {', '.join(self.racing)}" if self.racing else ""
        differing = f"; DIFFERENT: {', '.join(self.different)}" if self.different else ""
        return f"{self.peer}: {len(self.direct)} cases direct and through the sidecar ({counts}){racing}{differing}"


async def compare(peer: str, direct: Play, through: Play, exclude: Sequence[str]) -> Comparison:
    """Play all cases but those excluded both ways."""
    one, other = await direct((), exclude), await through((), exclude)
    assert one.keys() == other.keys(), "the same cases were played"
    comparison = Comparison(peer, one)
    for case in [case for case in one if one[case] != other[case]]:
        seen, seen_through = [one[case]], [other[case]]
        for round_number in range(1, ROUNDS + 1):
            seen.append((await direct((case,), ()))[case])
            seen_through.append((await through((case,), ()))[case])
            agreed = seen[-1] == seen_through[-1] and len({verdict.ending for verdict in (*seen, *seen_through)}) == 1
            if agreed or set(seen_through) <= set(seen):
                comparison.racing[case] = round_number
                break
        else:
            comparison.different[case] = (set(seen), set(seen_through))
    return comparison


async def _verdicts(results: Awaitable[list[kosoku.CaseResult]]) -> Verdicts:
    try:
        played = await results
    except kosoku.FailureError as failure:  # a case that fails both ways is no difference
        played = failure.results
    return {result.case_id: Classification.of(result) for result in played}


def play_server(port: int) -> Play:
    """kosoku as client of the server behind ``port``."""

    async def play(only: Sequence[str], exclude: Sequence[str]) -> Verdicts:
        url = f"ws://127.0.0.1:{port}"
        return await _verdicts(kosoku.run_fuzzingclient(url, only or None, exclude, concurrency=PARALLEL))

    return play


def play_client(client: str, listen: int, connect: int) -> Play:
    """kosoku as server on port ``listen``, ``client`` connecting to port ``connect``."""

    async def play(only: Sequence[str], exclude: Sequence[str]) -> Verdicts:
        async with kosoku.run_fuzzingserver(only or None, exclude, host="127.0.0.1", port=listen) as server:
            base = f"ws://127.0.0.1:{connect}"
            results = asyncio.ensure_future(_verdicts(server.get_result()))
            await play_all(client, base, await count_cases(base), PARALLEL)
            return await results

    return play


async def compare_server(stack: str, exclude: Sequence[str]) -> Comparison:
    """Play the cases against one of :data:`STACKS`."""
    port = free_port()
    app = Process(f"{stack} echo", [sys.executable, STACKS[stack], str(port)])
    async with AsyncExitStack() as cleanup:
        cleanup.callback(app.stop)
        app.wait_listening(port)
        sidecar = _sidecar(cleanup, port)
        comparison = await compare(f"server {stack}", play_server(port), play_server(sidecar.port), exclude)
        check_books(sidecar, len(comparison.direct))
    return comparison


async def compare_client(client: str, exclude: Sequence[str]) -> Comparison:
    """Play the cases with one of :data:`CLIENTS`."""
    assert client in CLIENTS
    port = free_port()
    async with AsyncExitStack() as cleanup:
        sidecar = _sidecar(cleanup, port)
        direct, through = play_client(client, port, port), play_client(client, port, sidecar.port)
        comparison = await compare(f"client {client}", direct, through, exclude)
        check_books(sidecar, len(comparison.direct))
    return comparison


def _sidecar(cleanup: AsyncExitStack, upstream: int) -> Sidecar:
    sidecar = Sidecar(upstream)
    cleanup.callback(sidecar.stop)
    return sidecar


def check_books(sidecar: Sidecar, least: int) -> None:
    """Every session that went through has one ending, and there were at least as many as cases."""

    def all_over() -> bool:
        now = sidecar.scrape()
        return now.value(HANDSHAKES, status="101") == now.value(CLOSED) >= least

    eventually(all_over, f"{least} sessions and more, each with its ending")
