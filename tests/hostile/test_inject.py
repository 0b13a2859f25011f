"""Manifests and admission reviews made to exhaust `inject` and `webhook`: depth, size, number of things."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from click.testing import CliRunner

from exporter.address import Address
from exporter.connections import PROTECTED_TIME, Connections
from exporter.kubernetes import webhook
from exporter.kubernetes.command import inject
from exporter.kubernetes.settings import TENANT_SETTINGS
from exporter.kubernetes.webhook import MAX_BODY, MAX_LARGE, SMALL_BODY, BadReview, Decision, application, decide
from exporter.listening import open_listeners
from tests.unit.kubernetes.manifests import deployment, make_settings
from tests.unit.kubernetes.test_review import WANTED, pod, review

WAIT_LIMIT = 30.0
SETTINGS = make_settings()


def nested(depth: int) -> Any:
    """A mapping with `depth` mappings in each other."""
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def flow(depth: int) -> str:
    """The same as YAML in flow style, which is JSON as well."""
    return '{"a": ' * depth + "{}" + "}" * depth


def block(depth: int) -> str:
    """The same as YAML in block style, below a key."""
    return "\n".join(f"{' ' * level}a:" for level in range(1, depth + 1)) + "\n"


MANIFESTS = {
    "JSON": '{"apiVersion": "v1", "kind": "Pod", "spec": ' + flow(900) + "}",
    "YAML, flow style": "apiVersion: v1\nkind: Pod\nspec: " + flow(900) + "\n",
    "YAML, block style": "apiVersion: v1\nkind: Pod\nspec:\n" + block(900),
    "YAML, list": "apiVersion: v1\nkind: Pod\nspec: " + "[" * 900 + "]" * 900 + "\n",
    "JSON, far deeper": '{"apiVersion": "v1", "kind": "Pod", "spec": ' + flow(100_000) + "}",
    "custom kind": '{"apiVersion": "example.com/v1", "kind": "App", "spec": ' + flow(900) + "}",
    "beside a good one": json.dumps(deployment()) + "\n" + '{"kind": "Pod", "spec": ' + flow(900) + "}",
}


@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_inject_manifest_nested_deeply_is_one_line(text: str) -> None:
    """An object nested 900 deep is refused in one line that names the document, with status 2."""
    result = CliRunner().invoke(inject, ["--image=x:1"], input=text)
    assert (result.exit_code, result.stdout) == (2, ""), result.exception
    (line,) = result.stderr.splitlines()
    assert "document" in line
    assert "nested deeper than 100 levels" in line


@pytest.mark.parametrize("depth", [900, 100_000])
def test_webhook_review_nested_deeply_is_refused(depth: int) -> None:
    """A review nested 900 deep is a bad request with a reason, not an error of the server."""
    body = json.dumps(review(pod(WANTED))).replace('"status": {}', f'"status": {flow(depth)}')
    with pytest.raises(BadReview, match="nested deeper than 100 levels"):
        decide(body.encode(), SETTINGS)


def calls_during(work: Callable[[], object]) -> int:
    """How many Python functions are called while `work` runs: a measure of work that no machine changes."""
    count = 0

    def called(_code: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def with_environment(number: int) -> bytes:
    env = [{"name": f"N{index}", "value": "v"} for index in range(number)]
    return json.dumps(review(pod(WANTED, env=env))).encode()


def with_ports(number: int) -> bytes:
    ports = [{"name": f"p{index}", "containerPort": 20_000 + index} for index in range(number)]
    annotations = {**WANTED, "websocket-exporter/port": "p7"}
    return json.dumps(review(pod(annotations, ports=ports))).encode()


def with_taken_names(number: int) -> bytes:
    ports = [{"name": "http", "containerPort": 8080}]
    ports += [
        {"name": "app-http" if index == 1 else f"app-http-{index}", "containerPort": 20_000 + index}
        for index in range(1, number)
    ]
    return json.dumps(review(pod({**WANTED, "websocket-exporter/port": "http"}, ports=ports))).encode()


def with_containers(number: int) -> bytes:
    body = review(pod({**WANTED, "websocket-exporter/port": "8080"}))
    body["request"]["object"]["spec"]["containers"] += [{"name": f"c{index}"} for index in range(number)]
    return json.dumps(body).encode()


MANY = {
    "variables": (with_environment, 60_000),
    "ports": (with_ports, 30_000),
    "containers": (with_containers, 30_000),
    "taken names": (with_taken_names, 900),
}


@pytest.mark.parametrize(("make", "number"), MANY.values(), ids=MANY.keys())
def test_webhook_work_is_linear(make: Callable[[int], bytes], number: int) -> None:
    """Ten times the things take at most about ten times the calls, a handful for each."""
    small, large = make(number // 10), make(number)
    few = calls_during(lambda: decide(small, SETTINGS))
    many = calls_during(lambda: decide(large, SETTINGS))
    assert decide(large, SETTINGS).outcome == "injected"
    assert many <= 11 * few
    assert many <= 30 * number + 2_000


def test_webhook_ambiguous_pod_gets_a_short_reason() -> None:
    """A pod with 30,000 candidates for the app's port is not listed in full in warning, annotation and log."""
    body = json.loads(with_ports(30_000))
    del body["request"]["object"]["metadata"]["annotations"]["websocket-exporter/port"]
    decision = decide(json.dumps(body).encode(), SETTINGS)
    assert decision.outcome == "refused"
    assert "there are several ports" in decision.warnings[0]
    assert len(decision.warnings[0]) < 500


def test_inject_stream_of_many_documents_is_linear() -> None:
    """A stream of ten times the documents takes at most about ten times the calls."""
    one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n"

    def run(number: int) -> int:
        return calls_during(lambda: CliRunner().invoke(inject, ["--image=x:1"], input=one * number))

    few, many = run(40), run(400)
    assert many <= 11 * few


class Held:
    """`decide` that holds reviews over SMALL_BODY until they are released, and counts those that have begun."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.begun = 0

    def __call__(self, body: bytes, *rest: Any) -> Decision:
        if len(body) > SMALL_BODY:
            self.begun += 1
            assert self.release.wait(WAIT_LIMIT)
        return decide(body, *rest)


def served(play: Callable[[ClientSession, str], Awaitable[None]]) -> None:
    """Play against a running application of the webhook, without TLS."""

    async def run() -> None:
        async with (
            TestServer(application(SETTINGS, TENANT_SETTINGS, Connections(1, lambda: None))) as server,
            ClientSession() as session,
        ):
            await asyncio.wait_for(play(session, str(server.make_url("/inject"))), WAIT_LIMIT)

    asyncio.run(run())


async def post(session: ClientSession, url: str, body: bytes) -> int:
    async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
        return response.status


def test_webhook_large_reviews_do_not_hold_up_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """While reviews of 60,000 variables are in work, one at a time, others are answered."""
    held = Held()
    monkeypatch.setattr(webhook, "decide", held)
    large, small = with_environment(60_000), with_environment(3)

    async def play(session: ClientSession, url: str) -> None:
        waiting = [asyncio.create_task(post(session, url, large)) for _ in range(MAX_LARGE + 2)]
        try:
            while not held.begun:
                await asyncio.sleep(0.01)
            for _ in range(10):
                assert await post(session, url, small) == 200
            assert held.begun == 1
            assert not [task for task in waiting if task.done()]
        finally:
            held.release.set()
        assert await asyncio.gather(*waiting) == [200] * (MAX_LARGE + 2)

    served(play)


def test_webhook_review_without_a_length_counts_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunked body, whose size is not known before, is worked on in a thread too."""
    threads: list[str] = []

    def noting(body: bytes, *rest: Any) -> Decision:
        threads.append(threading.current_thread().name)
        return decide(body, *rest)

    monkeypatch.setattr(webhook, "decide", noting)

    async def chunks() -> Any:
        yield with_environment(60_000)

    async def play(session: ClientSession, url: str) -> None:
        headers = {"Content-Type": "application/json"}
        async with session.post(url, data=chunks(), headers=headers) as response:
            assert response.status == 200

    served(play)
    assert threads
    assert threading.main_thread().name not in threads


class NoCertificate:
    """In place of a certificate: plain HTTP."""

    context = None

    async def watch(self, *arguments: object, **names: object) -> None:
        await asyncio.Event().wait()


async def stays_open(reader: asyncio.StreamReader) -> bool:
    try:
        return bool(await asyncio.wait_for(reader.read(), 2 * PROTECTED_TIME))  # refused clients wait for a while
    except TimeoutError:
        return True
    except ConnectionError:
        return False


def test_webhook_with_many_idle_connections_holds_its_limit_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections over the limit are closed, and a review from another address is answered beside them."""
    limit = 8
    monkeypatch.setattr(webhook, "MAX_CONNECTIONS", limit)

    async def run() -> None:
        (listeners,) = open_listeners("--bind", Address("127.0.0.1"))
        port, stop = listeners[0].getsockname()[1], asyncio.Event()
        serving = asyncio.create_task(
            webhook.serve(listeners, SETTINGS, TENANT_SETTINGS, NoCertificate(), 60.0, stop)  # type: ignore[arg-type]
        )
        idle = [await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.7", 0)) for _ in range(5 * limit)]
        async with ClientSession() as session:
            assert await post(session, f"http://127.0.0.1:{port}/inject", with_environment(3)) == 200
        assert sum(await asyncio.gather(*(stays_open(reader) for reader, _ in idle))) <= limit
        for _, writer in idle:
            writer.close()
        stop.set()
        await serving

    asyncio.run(asyncio.wait_for(run(), WAIT_LIMIT))


MEASURE = """
import sys
from exporter.kubernetes.settings import Settings
from exporter.kubernetes.webhook import BadReview, decide

def kilobytes(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":"))

body, settings = sys.stdin.buffer.read(), Settings(image="x:1")
before = kilobytes("VmRSS")
try:
    decide(body, settings)
except BadReview as error:
    print(error, file=sys.stderr)
print(kilobytes("VmHWM") - before)
"""


def with_status(text: str) -> bytes:
    return json.dumps(review(pod(WANTED))).replace('"status": {}', f'"status": [{text}0]').encode()


HEAVY = {
    "variables": with_environment(60_000),
    "empty lists": with_status("[]," * 99_000),
    "mappings": with_status('{"":1},' * 99_000),
    "mappings in mappings": with_status(('{"":' * 90 + "1" + "}" * 90 + ",") * 2_000),
    "more values than allowed": with_status("{}," * 900_000),
    "nothing but depth": b"[" * MAX_BODY,
}


@pytest.mark.parametrize("body", HEAVY.values(), ids=HEAVY.keys())
def test_webhook_memory_for_one_review_is_bounded(body: bytes) -> None:
    """The heaviest bodies take at most 80 MiB on top, so that the webhook lives in the chart's 128 MiB."""
    done = subprocess.run([sys.executable, "-c", MEASURE], input=body, capture_output=True, timeout=60, check=True)
    assert int(done.stdout) < 80 * 1024, done.stderr


def test_webhook_body_over_the_limit_is_refused() -> None:
    """More than MAX_BODY is not read."""

    async def play(session: ClientSession, url: str) -> None:
        assert await post(session, url, b" " * (MAX_BODY + 1)) == 413
        assert await post(session, url, with_environment(3)) == 200

    served(play)


def test_webhook_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends half a body frees its place after READ_TIMEOUT."""
    monkeypatch.setattr(webhook, "READ_TIMEOUT", 0.2)
    monkeypatch.setattr(webhook, "MAX_LARGE", 1)

    async def endless() -> Any:
        yield b"{"
        await asyncio.sleep(WAIT_LIMIT)

    async def play(session: ClientSession, url: str) -> None:
        headers = {"Content-Type": "application/json"}
        stuck = asyncio.create_task(session.post(url, data=endless(), headers=headers).__aenter__())
        await asyncio.sleep(0.05)
        assert await post(session, url, with_environment(60_000)) == 200
        response = await stuck
        assert response.status == 408
        response.close()

    served(play)
