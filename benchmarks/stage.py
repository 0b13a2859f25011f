"""Processes: compiles the C programs, starts server and proxies on cores of their own, runs the load, ends all.

Who runs where: the proxy has the last core to itself, the server and the load generator share the rest (each has one
of its own where there are three). The direct row uses the same cores in the same way: it shows what the two can do.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import Case, Read
from benchmarks.peers import Absent, Peer, Place, environment
from benchmarks.sampling import Counter, Usage, family, pss_kb, usage

_SOURCES = Path(__file__).parent / "load"
#: Seconds that a process may take until a handshake through it succeeds.
_START = 20.0
#: Seconds between looks at whether it does.
_POLL = 0.005
#: Seconds beyond its own that a load may take: opening thousands of connections through a slow proxy.
_SETUP = 90.0

#: Seconds that a load beside the measured one outlasts its window by: it is started first, and warms up as well.
_BESIDE = 5.0

#: A proxy that buffers without bound may still be at work on messages whose clients have gone: seconds that it is
#: waited for, seconds between looks, and the share of a core below which it counts as done.
_BACKLOG, _LOOK, _IDLE = 10.0, 0.05, 0.1

#: Messages, connections or sessions that a measured window must hold to mean anything.
_LEAST = 10

_HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def compile_programs(to: Path) -> Path:
    """Compile the C programs into ``to``. Raises Absent if there is no C compiler, CalledProcessError."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Absent("there is no C compiler (cc or gcc)")
    for name in ("load", "server", "relay", "flood"):
        source = _SOURCES / f"{name}.c"
        subprocess.run([compiler, "-O3", "-Wall", "-Wextra", "-o", str(to / name), str(source)], check=True)
    return to


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores the proxy, the server and the load generator run on."""

    proxy: set[int]
    server: set[int]
    load: set[int]

    @classmethod
    def share_out(cls) -> Cores:
        """Of the cores that this process may use."""
        cores = sorted(os.sched_getaffinity(0))
        return cls({cores[-1]}, {cores[1 if len(cores) > 2 else 0]}, {cores[0]})


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    """Whether an opening handshake on ``port`` gets its 101."""
    try:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=1)) as probe:
            probe.sendall(_HANDSHAKE)
            return probe.recv(4096).startswith(b"HTTP/1.1 101")
    except OSError:
        return False


@contextmanager
def running(command: list[str], port: int, cores: set[int], output: Path) -> Iterator[tuple[int, float]]:
    """Run ``command`` until the block ends; yields its pid and the seconds until a handshake on ``port`` succeeded."""
    began = time.monotonic()
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment(),
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    try:
        while not _answers(port):
            if process.poll() is not None or time.monotonic() - began > _START:
                raise Absent(f"{Path(command[0]).name} did not start: {output.read_text(errors='replace')[-300:]}")
            time.sleep(_POLL)
        yield process.pid, time.monotonic() - began
    finally:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True, slots=True)
class Pollable:
    """A proxy that runs, or the server itself.

    :ivar pids: all its processes.
    :ivar relays: those that forward.
    """

    port: int
    spare: int
    pids: list[int]
    relays: list[int]
    started: float  # seconds until the first handshake succeeded


@contextmanager
def stage(peer: Peer, upstream: int, programs: Path, folder: Path, cores: Cores) -> Iterator[Pollable]:
    """Have ``peer`` stand before the server on port ``upstream``. Raises Absent."""
    if peer.command is None:
        yield Pollable(upstream, 0, [], [], 0.0)
        return
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(free_port(), free_port(), upstream, folder, programs)
    with running(peer.command(place), place.port, cores.proxy, folder / "output") as (pid, seconds):
        pids = family(pid)
        yield Pollable(place.port, place.spare, pids, pids[peer.others :], seconds)


class LoadFailed(Exception):
    """The load could not be made; says why."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One case on one peer, once. Latencies in microseconds; CPU time and instructions per unit of the case.

    CPU time, instructions and memory are those of all processes; ``relay_`` marks those of the ones that forward.
    """

    units: float
    seconds: float
    per_second: float
    errors: int
    cpu_us: float
    relay_cpu_us: float
    busy: float  # share of the window in which a relay ran, or was ready to and had to wait for its core
    instructions: float
    relay_instructions: float
    p50_us: float
    p99_us: float
    p999_us: float
    pss_kb: int  # at the end of the window
    pss_kb_per_unit: float  # what each open session added


def measure(case: Case, target: Pollable, programs: Path, cores: Cores, seconds: float, count: bool) -> Measured:
    """Run one case. ``count`` says whether the hardware counts instructions. Raises LoadFailed."""
    length = case.stretch * seconds
    generator = [str(programs / "load"), "--port", str(target.port)]
    _wait_quiet(target.pids)
    unloaded_kb = pss_kb(target.pids)
    groups = (target.pids, target.relays)
    with ExitStack() as stack:
        if case.beside:
            beside = stack.enter_context(
                _load([*generator, *case.beside, "--seconds", f"{length + _BESIDE}"], cores.load)
            )
            _say(beside, "\n\n")  # which begins and ends unasked
        command = [*generator, *case.load, "--seconds", f"{length}", "--warm", f"{min(0.5, length / 3)}"]
        load = stack.enter_context(_load(command, cores.load))
        watchdog = threading.Timer(length + _SETUP, load.kill)
        watchdog.start()
        stack.callback(watchdog.cancel)
        if case.read:
            port = target.spare
            if case.read is Read.STAND_INS:
                port = stack.enter_context(standing_in(port, cores.proxy))
            stack.enter_context(reading(port, case.every, cores.load))
        _expect(load, "begin")
        counters = [stack.enter_context(closing(Counter(pids))) for pids in groups] if count else []
        before = [usage(pids) for pids in groups]
        _say(load, "\n")
        _expect(load, "end")
        used = [usage(pids) - start for pids, start in zip(groups, before, strict=True)]
        instructions = [counter.read() for counter in counters] or [0, 0]
        loaded_kb = pss_kb(target.pids)
        _say(load, "\n")
        said = json.loads(_hear(load))
    return _judge(case, said, used, instructions, loaded_kb, loaded_kb - unloaded_kb)


def _wait_quiet(pids: list[int]) -> None:
    """Wait until the processes have done with what came before, or :data:`_BACKLOG` seconds have passed."""
    deadline = time.monotonic() + _BACKLOG
    before = usage(pids)
    while True:
        time.sleep(_LOOK)
        now = usage(pids)
        if (now - before).cpu_seconds / _LOOK < _IDLE or time.monotonic() > deadline:
            return
        before = now


@contextmanager
def _load(command: list[str], cores: set[int]) -> Iterator[subprocess.Popen[str]]:
    """Run a load generator until the block ends."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    ) as load:
        try:
            yield load
        finally:
            load.kill()


def _say(load: subprocess.Popen[str], words: str) -> None:
    assert load.stdin is not None
    load.stdin.write(words)
    load.stdin.flush()


def _hear(load: subprocess.Popen[str]) -> str:
    assert load.stdout is not None
    return load.stdout.readline().strip()


def _expect(load: subprocess.Popen[str], word: str) -> None:
    if (said := _hear(load)) != word:
        raise LoadFailed(f"the load said {said!r} instead of {word!r}")


def _judge(
    case: Case, said: dict[str, float], used: list[Usage], instructions: list[int], loaded_kb: int, added_kb: int
) -> Measured:
    counted = said["units"] or said["open"]
    units = counted / case.scale
    if counted < _LEAST or units < 1:
        raise LoadFailed(f"only {counted} messages came back, {said['errors']} errors")
    everything, relays = used
    return Measured(
        units=units,
        seconds=said["seconds"],
        per_second=units / said["seconds"],
        errors=int(said["errors"]),
        cpu_us=everything.cpu_seconds * 1e6 / units,
        relay_cpu_us=relays.cpu_seconds * 1e6 / units,
        busy=(relays.cpu_seconds + relays.waited_seconds) / said["seconds"],
        instructions=instructions[0] / units,
        relay_instructions=instructions[1] / units,
        p50_us=said["p50_us"],
        p99_us=said["p99_us"],
        p999_us=said["p999_us"],
        pss_kb=loaded_kb,
        pss_kb_per_unit=added_kb / units,
    )


#: What is read.
_PAGES = ("/metrics", "/")


def _page(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        body: bytes = answer.read()
    return body


@contextmanager
def in_thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Meanwhile run ``work`` in a thread; it returns when the event is set."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def reading(port: int, every: float, cores: set[int]) -> AbstractContextManager[None]:
    """Meanwhile read /metrics and the landing page in turn, each every so many seconds, on ``cores``."""

    def read(stop: threading.Event) -> None:
        os.sched_setaffinity(0, cores)  # of this thread alone: a reader beside the proxy would take its time
        while True:
            for path in _PAGES:
                with suppress(OSError):
                    _page(port, path)
                if stop.wait(every / 2):
                    return

    return in_thread(read)


@contextmanager
def standing_in(port: int, cores: set[int]) -> Iterator[int]:
    """Have somebody on ``cores`` answer with what is answered on ``port`` now, and do nothing else for it.

    Yields its port.
    """
    answers = {}
    for path in _PAGES:
        body = _page(port, path)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        answers[f"GET {path} ".encode()] = head.encode() + body

    def answer_all() -> None:
        os.sched_setaffinity(0, cores)
        while True:
            asker, _ = listening.accept()
            with asker:
                asked = asker.recv(4096)
                if not asked:  # enough, says the end of this block
                    return
                asker.sendall(next(answer for request, answer in answers.items() if asked.startswith(request)))

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        own_port: int = listening.getsockname()[1]
        answerer = threading.Thread(target=answer_all)
        answerer.start()
        try:
            yield own_port
        finally:
            socket.create_connection(("127.0.0.1", own_port)).close()
            answerer.join()
