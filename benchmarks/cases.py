"""What is measured: the shapes of traffic, and what one unit of each is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Shows(StrEnum):
    """What a case is there to show, which decides the columns of its table."""

    COST = "cost"
    LATENCY = "latency"
    MEMORY = "memory"


class Read(StrEnum):
    """Whose /metrics and landing page are read while a case is measured."""

    NOBODYS = ""
    STAND_INS = "stand-in"  # has the sidecar's answers ready: shows what the reading itself costs the others
    SIDECARS = "sidecar"


@dataclass(frozen=True, slots=True)
class Case:
    """One shape of traffic.

    :ivar key: its short name.
    :ivar title: what it is, for a person.
    :ivar unit: what CPU time and instructions are told per.
    :ivar load: the load generator's arguments.
    :ivar scale: how many of what the load generator counts make one unit.
    :ivar stretch: length of the measured window, as a multiple of the run's usual one.
    :ivar read: whose /metrics and landing page are read meanwhile.
    :ivar every: seconds from one reading of a page to the next; the other one is read half-way between.
    :ivar only: the peers it is for; empty is all.
    :ivar beside: another load generator's arguments, which runs meanwhile and is not measured.
    """

    key: str
    title: str
    unit: str
    load: tuple[str, ...]
    shows: Shows = Shows.COST
    scale: int = 1
    stretch: float = 1.0
    read: Read = Read.NOBODYS
    every: float = 1.0
    only: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


#: Sessions that stand idle while memory is measured.
IDLE_SESSIONS = 5000
#: Messages a second in the open loop that latency is measured with: every peer can carry it on half a core.
PACE = 4000
#: New connections a second beside them, in the case that has any: a busy day's, not a storm's.
NEWCOMERS = 200


_PACED = Case(
    "paced",
    f"Latency at {PACE:,} messages a second, 64 connections",
    "round trip",
    ("--mode", "echo", "--connections", "64", "--rate", str(PACE)),
    Shows.LATENCY,
    stretch=2,
)
_UNREAD = replace(
    _PACED,
    key="unread",
    title="The same for longer: what the next three are to be compared with",
    stretch=4,
    only=("sidecar",),
)

#: In the order of a round. Memory comes first, while the processes are fresh; the stream comes last, because a proxy
#: that is slower than the server still has full buffers to read when its clients are gone.
CASES = (
    Case(
        "idle",
        f"Memory of idle sessions: {IDLE_SESSIONS:,}, after one echo each",
        "session",
        ("--mode", "idle", "--connections", str(IDLE_SESSIONS)),
        Shows.MEMORY,
        stretch=0.3,
    ),
    Case("pp1", "Ping-pong, 1 connection, 128 bytes", "round trip", ("--mode", "echo")),
    Case("pp64", "Ping-pong, 64 connections, 128 bytes", "round trip", ("--mode", "echo", "--connections", "64")),
    Case(
        "pipe",
        "Pipelined: 16 connections, 64 messages of 128 bytes under way on each",
        "round trip",
        ("--mode", "echo", "--connections", "16", "--window", "64"),
    ),
    Case(
        "b64k",
        "Echo of 64 KiB, 8 connections",
        "round trip",
        ("--mode", "echo", "--connections", "8", "--size", "65536"),
    ),
    Case(
        "b1m",
        "Echo of 1 MiB, 4 connections",
        "round trip",
        ("--mode", "echo", "--connections", "4", "--size", "1048576"),
    ),
    Case("churn", "Churn, closed loop, 32 at a time", "connection", ("--mode", "churn", "--connections", "32")),
    Case(
        "churn1000",
        "Churn, 1,000 new connections a second",
        "connection",
        ("--mode", "churn", "--connections", "512", "--rate", "1000"),
        Shows.LATENCY,
    ),
    _PACED,
    _UNREAD,
    replace(
        _UNREAD,
        key="standin",
        title="The same while a stand-in's /metrics and landing page are read once a second each: what reading costs",
        read=Read.STAND_INS,
    ),
    replace(
        _UNREAD,
        key="scraped",
        title="The same while the sidecar's /metrics and landing page are read once a second each",
        read=Read.SIDECARS,
    ),
    replace(
        _UNREAD,
        key="scraped15",
        title="The same while they are read every 15 seconds, as a Prometheus would",
        read=Read.SIDECARS,
        every=15.0,
        stretch=17,
    ),
    replace(
        _UNREAD,
        key="newcomers",
        title=f"The same beside {NEWCOMERS} new connections a second: what logging their endings costs the others",
        only=("direct", "sidecar", "default"),
        beside=("--mode", "churn", "--connections", "128", "--rate", str(NEWCOMERS)),
    ),
    Case(
        "stream",
        "Server stream: 8 connections, frames of 32 bytes, 256 to a segment",
        "1,000 frames",
        ("--mode", "stream", "--connections", "8", "--path", "/stream/32/256"),
        scale=1000,
    ),
)
