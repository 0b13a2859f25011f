"""The image, built and run: small, locked down, and still forwarding, counting and stopping as it should."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from exporter import __version__
from tests.image.containers import IMAGE, NAME, PODMAN, ROOT, build, call, missing, owned, remove, run
from tests.waiting import WAIT_LIMIT

pytestmark = pytest.mark.image

REVISION = "0123456789abcdef0123456789abcdef01234567"
MAX_MEGABYTES = 100


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with owned():
        yield build(__version__, REVISION)


@pytest.fixture(scope="module")
def about(image: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(call([*PODMAN, "image", "inspect", image]))
    return found[0]


@contextmanager
def echo_app() -> Iterator[int]:
    """An app on loopback that sends back what it gets. Yields its port."""
    ready: list[int] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def handle(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def main() -> None:
        async with serve(handle, "127.0.0.1", 0) as server:
            ready.append(next(iter(server.sockets)).getsockname()[1])
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[main()])
    thread.start()
    try:
        wait_until(lambda: bool(ready), "the app listens")
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(WAIT_LIMIT)
        loop.close()


def wait_until(condition: Callable[[], bool], what: str | Callable[[], str]) -> None:
    """Wait for a condition; `what` it is, or a function that says so afterwards, with what is known by then."""
    ends = time.monotonic() + WAIT_LIMIT
    while not condition():
        if time.monotonic() > ends:
            pytest.fail(f"never: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


def fetch(port: int, path: str) -> tuple[int, str]:
    """Status and text of a GET on the admin port; 0 if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


class Sidecar:
    """The image at work before an app, logs in a file. `ready_after`: seconds from the start of podman to
    /readyz.
    """

    def __init__(self, app: int, log: Any) -> None:
        began = time.monotonic()
        arguments = ["run", f"--upstream=127.0.0.1:{app}", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"]
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                run("--rm", "--name", NAME, IMAGE, *arguments, "--drain-linger=0"), stdout=out, stderr=out
            )
        wait_until(lambda: "exporter.started" in self.log.read_text() or self.process.poll() is not None, self.told)
        assert self.process.poll() is None, f"never: {self.told()}"
        started = next(line for line in self.log.read_text().splitlines() if "exporter.started" in line)
        event = json.loads(started)
        self.listen, self.admin = (int(event[key].rpartition(":")[2]) for key in ("listen", "admin"))
        wait_until(lambda: fetch(self.admin, "/readyz")[0] == 200, self.told)
        self.ready_after = time.monotonic() - began

    def told(self) -> str:
        """What podman and the sidecar have said."""
        said = self.log.read_text()
        return f"the sidecar is ready; podman (status {self.process.poll()}) and the sidecar said:\n{said}"

    def value(self, sample: str) -> float:
        """The value of one line of /metrics, given all but the value."""
        found = re.search("^" + re.escape(sample) + r" (\S+)$", fetch(self.admin, "/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else -1.0


@pytest.fixture(scope="module")
def sidecar(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with echo_app() as app:
        try:
            running = Sidecar(app, tmp_path_factory.mktemp("image") / "log")
            yield running
        finally:
            remove()
        running.process.wait(WAIT_LIMIT)


def test_the_image_says_what_it_is(about: dict[str, Any]) -> None:
    """Version and revision are labels; the user is a number; the entry point needs no shell."""
    labels = about["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.revision"] == REVISION
    assert about["Config"]["User"] == "65532:65532"
    assert about["Config"]["Entrypoint"] == ["/opt/websocket-exporter/bin/websocket-exporter"]


def test_the_image_is_small(about: dict[str, Any], record_testsuite_property: Any) -> None:
    """It holds an interpreter and packages, not an operating system."""
    megabytes = about["Size"] / 1e6
    record_testsuite_property("image_megabytes", round(megabytes, 1))
    print(f"image: {megabytes:.1f} MB")
    assert megabytes < MAX_MEGABYTES


def test_the_version_of_the_program_is_that_of_the_label(image: str) -> None:
    """`--version` of the image says what its label says."""
    assert __version__ in call(run("--rm", image, "--version"))


def test_the_bill_of_materials_is_in_it(image: str) -> None:
    """Every pinned package with its version, in CycloneDX; nothing of the tools that wrote it."""
    read = "print(open('/usr/share/sbom/websocket-exporter.cdx.json').read())"
    python = "/opt/websocket-exporter/bin/python"
    listed = json.loads(call([*run("--rm", "--entrypoint", python), image, "-c", read]))
    found = {(re.sub(r"[-_.]+", "-", part["name"]).lower(), part["version"]) for part in listed["components"]}
    pins = re.findall(r"(?m)^(\S+)==(\S+)", (ROOT / "requirements" / "run.txt").read_text())
    pinned = {(name.lower(), version) for name, version in pins}
    assert pinned <= found
    assert not any("cyclonedx" in name for name, _ in found)


def test_there_is_no_shell_and_no_package_manager(sidecar: Sidecar) -> None:
    """What an intruder would reach for is not there."""
    for tool in ("sh", "bash", "pip", "apt", "busybox"):
        done = subprocess.run([*PODMAN, "exec", NAME, tool, "-c", ":"], capture_output=True, text=True, check=False)
        assert done.returncode == 127, (tool, done.stdout, done.stderr)


def test_nothing_can_be_written_and_nothing_is_allowed(sidecar: Sidecar) -> None:
    """The process is user 65532 without a capability on a read-only root; what is true of it is read from
    inside.
    """
    program = (
        "import json, os\n"
        "lines = open('/proc/1/status').read().splitlines()\n"
        "status = dict(line.split(':\\t', 1) for line in lines if ':\\t' in line)\n"
        "try:\n    open('/x', 'w'); wrote = True\n"
        "except OSError as error:\n    wrote = error.strerror\n"
        "print(json.dumps([os.getuid(), status['CapEff'], status['NoNewPrivs'], wrote]))\n"
    )
    uid, effective, no_new, wrote = json.loads(call([*PODMAN, "exec", NAME, "python", "-c", program]))
    assert uid == 65532
    assert int(effective, 16) == 0
    assert no_new == "1"
    assert wrote == "Read-only file system"


def test_it_forwards_and_counts(sidecar: Sidecar) -> None:
    """Messages come back unchanged through the container, and the ending is on /metrics."""
    ended = 'websocket_connections_closed_total{cause="normal",code="1000",initiator="client",route="all"}'
    wait_until(lambda: sidecar.value(ended) >= 0, "the series is there from the start")
    before = sidecar.value(ended)
    with connect(f"ws://127.0.0.1:{sidecar.listen}/chat") as client:
        for message in ("hello", b"\x00\xff" * 5000):
            client.send(message)
            assert client.recv(timeout=WAIT_LIMIT) == message
    wait_until(lambda: sidecar.value(ended) == before + 1, "the ending is counted")


def test_what_carries_traffic_is_compiled(sidecar: Sidecar) -> None:
    """The engine in the image is the compiled one, and says so."""
    assert re.search(
        r'^websocket_exporter_build_info\{engine="compiled",', fetch(sidecar.admin, "/metrics")[1], re.MULTILINE
    )


def test_byte_code_is_used(sidecar: Sidecar) -> None:
    """Modules come from compiled files, so that a read-only start does not compile them each time."""
    program = (
        "import importlib, json, os\n"
        "names = ['asyncio', 'exporter.cli', 'aiohttp.web']\n"
        "cached = [importlib.import_module(name).__cached__ for name in names]\n"
        "print(json.dumps([os.path.exists(path) for path in cached]))\n"
    )
    assert json.loads(call([*PODMAN, "exec", NAME, "python", "-c", program])) == [True, True, True]


def children() -> dict[int, str]:
    """Return the state of each process whose parent is PID 1, by its id, as seen from inside; not those of exec."""
    program = (
        "import glob, json\n"
        "found = {}\n"
        "for path in glob.glob('/proc/[0-9]*/stat'):\n"
        "    try:\n        fields = open(path).read().rpartition(')')[2].split()\n"
        "    except OSError:\n        continue\n"
        "    if fields[1] == '1':\n        found[path.split('/')[2]] = fields[0]\n"
        "print(json.dumps(found))\n"
    )
    found = json.loads(call([*PODMAN, "exec", NAME, "python", "-c", program]))
    return {int(number): state for number, state in found.items()}


def test_supervisor_with_killed_child_reaps_and_restarts_it(sidecar: Sidecar) -> None:
    """PID 1 has a relay and an observer; each that is killed is reaped, started anew, and traffic goes on."""
    before = children()
    assert len(before) >= 2
    restarts = sidecar.value("websocket_exporter_relay_restarts_total")
    for victim in before:
        present = children()
        call([*PODMAN, "exec", NAME, "python", "-c", f"import os; os.kill({victim}, 9)"])
        wait_until(
            lambda present=present, victim=victim: len(now := children()) == len(present) and victim not in now,
            "a new child is there",
        )
        assert "Z" not in children().values()
        wait_until(lambda: fetch(sidecar.admin, "/readyz")[0] == 200, sidecar.told)
        with connect(f"ws://127.0.0.1:{sidecar.listen}/chat") as client:
            client.send("again")
            assert client.recv(timeout=WAIT_LIMIT) == "again"
    wait_until(
        lambda: sidecar.value("websocket_exporter_relay_restarts_total") == restarts + len(before) - 1,
        "the relays' restarts are counted, the observer's is none",
    )


def test_the_pre_stop_hook_drains_and_sigterm_ends_it(sidecar: Sidecar, record_testsuite_property: Any) -> None:
    """The drain command runs by exec, without a shell: sessions get 1001; SIGTERM to PID 1 then ends with
    status 0.
    """
    record_testsuite_property("seconds_to_ready", round(sidecar.ready_after, 2))
    print(f"start of podman to ready: {sidecar.ready_after:.2f} s")
    with connect(f"ws://127.0.0.1:{sidecar.listen}/chat") as client:
        client.send("still here")
        assert client.recv(timeout=WAIT_LIMIT) == "still here"
        hook = ["websocket-exporter", "drain", f"--admin=127.0.0.1:{sidecar.admin}", "--wait"]
        draining = subprocess.Popen([*PODMAN, "exec", NAME, *hook], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=WAIT_LIMIT)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    out, err = draining.communicate(timeout=WAIT_LIMIT)
    assert draining.returncode == 0, (out, err)
    assert fetch(sidecar.admin, "/readyz")[0] == 503
    assert fetch(sidecar.admin, "/livez")[0] == 200
    call([*PODMAN, "kill", "--signal", "TERM", NAME])
    assert sidecar.process.wait(WAIT_LIMIT) == 0, sidecar.log.read_text()
    assert "Traceback" not in sidecar.log.read_text()
