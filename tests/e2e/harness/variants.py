"""The server stacks whose closes are classified: libraries of several languages, each in the ways it is run.

Those of requirements/e2e.txt and package.json run in every test run. The others need `make interop`, which fills
build/ with their packages and programs; without it their tests are skipped, with the reason.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .process import Process
from .stack import STACKS, skip_without

ROOT = Path(__file__).resolve().parents[3]
#: Filled by `make interop`.
PYTHON = ROOT / "build/interop/bin/python"
NPM = ROOT / "build/interop-npm/node_modules"
PROGRAMS = ROOT / "build/interop-bin"

RAISES, RETURNS, SIGTERM, SIGKILL = "handler raises", "handler returns", "SIGTERM", "SIGKILL"
NO_PONG, TOO_BIG, BAD_UTF8, WORKER = "ping unanswered", "message too big", "invalid UTF-8", "worker killed"
ACTIONS = (RAISES, RETURNS, SIGTERM, SIGKILL, WORKER, NO_PONG, TOO_BIG, BAD_UTF8)
CORE = (RAISES, SIGTERM, SIGKILL)
BASIC = (*CORE, BAD_UTF8)


@dataclass(frozen=True)
class Variant:
    """A server program and what can be done to it; ``{port}`` in its command line is the port that it listens on.

    :ivar needs: what must be there: a Python module, ``node``, a file, or a program by name.
    :ivar dies: a failed handler takes the process with it.
    :ivar mute: a failed handler leaves the session open.
    :ivar path: the request's path; with ``EIO=`` in it the server talks Engine.IO and echoes nothing.
    """

    name: str
    library: str
    language: str
    argv: tuple[str, ...]
    needs: str
    actions: tuple[str, ...] = BASIC
    dies: bool = False
    mute: bool = False
    path: str = "/"

    def __str__(self) -> str:
        """Return the name: the test's id."""
        return self.name

    def start(self, port: int) -> Process:
        """Start it and wait until it listens; skip the test if it cannot run here."""
        skip_if_missing(self.needs)
        process = Process(self.name, [part.format(port=port) for part in self.argv], cwd=STACKS)
        try:
            process.wait_listening(port)
        except BaseException:
            process.stop()
            raise
        return process


def skip_if_missing(needs: str) -> None:
    """Skip the running test, with the reason, if a file, program or module is missing."""
    if "/" in needs:
        if not Path(needs).exists():
            pytest.skip(f"needs {Path(needs).relative_to(ROOT)} (make interop)")
    elif needs == "node" or not shutil.which(needs):
        skip_without(needs)


def _main(name: str, library: str, script: str, *flags: str, actions: tuple[str, ...] = BASIC) -> Variant:
    """A Python script, run by the tests' own interpreter."""
    return Variant(name, library, "Python", (sys.executable, script, "{port}", *flags), library, actions)


def _asgi(name: str, library: str, module: str, *flags: str, needs: str = "", actions: tuple[str, ...]) -> Variant:
    """An application under the tests' own uvicorn."""
    argv = (sys.executable, "-m", "uvicorn", f"{module}:app", "--port", "{port}", *flags)
    return Variant(name, library, "Python", argv, needs or library, actions)


def _interop(
    name: str, library: str, *argv: str, actions: tuple[str, ...] = BASIC, dies: bool = False, mute: bool = False
) -> Variant:
    """A Python command, run by the interpreter of build/interop."""
    return Variant(name, library, "Python", (str(PYTHON), *argv), str(PYTHON), actions, dies, mute)


def _program(name: str, library: str, language: str, *argv: str, needs: str, **values: object) -> Variant:
    return Variant(name, library, language, argv, needs, **values)  # type: ignore[arg-type]


ENGINE_IO = "/socket.io/?EIO=4&transport=websocket"
PINGS = ("--ws-ping-interval", "1.5", "--ws-ping-timeout", "1.5", "--ws-max-size", "65536")
WITH_PINGS = (*BASIC, RETURNS, NO_PONG, TOO_BIG)

VARIANTS: tuple[Variant, ...] = (
    _main("websockets, closes on SIGTERM", "websockets", "websockets_asyncio.py", "--close-on-sigterm",
          "--keepalive", "1.5", actions=WITH_PINGS),
    _main("websockets, no signal handler", "websockets", "websockets_asyncio.py", actions=(*BASIC, RETURNS)),
    _main("websockets, threads", "websockets", "websockets_sync.py", "--keepalive", "1.5", actions=WITH_PINGS),
    _asgi("uvicorn (websockets)", "uvicorn", "asgi_raw", "--ws", "websockets", *PINGS, actions=WITH_PINGS),
    _asgi("uvicorn (websockets-sansio)", "uvicorn", "asgi_raw", "--ws", "websockets-sansio", *PINGS,
          actions=WITH_PINGS),
    _asgi("uvicorn (wsproto)", "uvicorn", "asgi_raw", "--ws", "wsproto", *PINGS, needs="wsproto", actions=WITH_PINGS),
    _asgi("uvicorn, 2 workers", "uvicorn", "asgi_raw", "--workers", "2", actions=(*BASIC, WORKER)),
    _asgi("uvicorn, Starlette", "starlette", "asgi_starlette", *PINGS, actions=WITH_PINGS),
    _asgi("uvicorn, FastAPI", "fastapi", "asgi_fastapi", *PINGS, actions=WITH_PINGS),
    _asgi("uvicorn, Django Channels", "channels", "asgi_channels", *PINGS, actions=(*BASIC, NO_PONG, TOO_BIG)),
    Variant("granian", "granian", "Python", (sys.executable, "-m", "granian", "--interface", "asgi", "--port", "{port}",
            "asgi_raw:app"), "granian", (*BASIC, RETURNS)),
    Variant("granian, 2 workers", "granian", "Python", (sys.executable, "-m", "granian", "--interface", "asgi",
            "--workers", "2", "--respawn-failed-workers", "--port", "{port}", "asgi_raw:app"),
            "granian", (*BASIC, WORKER)),
    Variant("daphne, Django Channels", "daphne", "Python", (sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p",
            "{port}", "--ping-interval", "1", "--ping-timeout", "3", "asgi_channels:app"), "daphne", (*BASIC, NO_PONG)),
    _main("aiohttp", "aiohttp", "aiohttp_server.py", "--keepalive", "2.4", actions=(*BASIC, RETURNS, NO_PONG)),
    _main("aiohttp, closes on shutdown", "aiohttp", "aiohttp_server.py", "--close-on-shutdown", actions=BASIC),
    _main("tornado", "tornado", "tornado_server.py", "--keepalive", "1.5", actions=(*BASIC, NO_PONG)),
    _main("autobahn, asyncio", "autobahn", "autobahn_asyncio.py", "--keepalive", "2", actions=(*BASIC, NO_PONG)),
    _main("autobahn, Twisted", "autobahn", "autobahn_twisted.py", "--keepalive", "2", actions=(*BASIC, NO_PONG)),
    Variant("Node ws", "ws", "JavaScript", ("node", "node_ws.mjs", "{port}", "--keepalive", "1.2"), "node",
            (*BASIC, NO_PONG), dies=True),
    Variant("Node ws, handles errors", "ws", "JavaScript", ("node", "node_ws.mjs", "{port}", "--handle-errors"), "node",
            (SIGTERM, SIGKILL), mute=True),
    Variant("Node ws, cluster", "ws", "JavaScript", ("node", "node_cluster.mjs", "{port}"), "node", (WORKER, SIGKILL)),
    Variant("socket.io", "socket.io", "JavaScript", ("node", "socketio_node.mjs", "{port}", "--keepalive"), "node",
            (SIGTERM, SIGKILL, NO_PONG), path=ENGINE_IO),
    Variant("python-socketio", "python-socketio", "Python", (sys.executable, "socketio_aiohttp.py", "{port}",
            "--keepalive"), "socketio", (SIGTERM, SIGKILL, NO_PONG), path=ENGINE_IO),
    _interop("hypercorn", "hypercorn", "-m", "hypercorn", "asgi_raw:app", "--bind", "127.0.0.1:{port}",
             "--websocket-ping-interval", "1", actions=(*BASIC, RETURNS)),
    _interop("Quart on hypercorn", "quart", "-m", "hypercorn", "quart_server:app", "--bind", "127.0.0.1:{port}",
             actions=(*BASIC, RETURNS)),
    _interop("Sanic", "sanic", "sanic_server.py", "{port}",
             actions=(RAISES, RETURNS, SIGTERM, SIGKILL, NO_PONG, TOO_BIG)),
    _interop("Litestar on uvicorn", "litestar", "-m", "uvicorn", "litestar_server:app", "--port", "{port}", *PINGS,
             actions=WITH_PINGS),
    _interop("Falcon on uvicorn", "falcon", "-m", "uvicorn", "falcon_server:app", "--port", "{port}", *PINGS,
             actions=WITH_PINGS),
    _interop("BlackSheep on uvicorn", "blacksheep", "-m", "uvicorn", "blacksheep_server:app", "--port", "{port}",
             *PINGS, actions=WITH_PINGS),
    _interop("picows", "picows", "picows_server.py", "{port}", actions=(*CORE, NO_PONG, TOO_BIG)),
    _interop("Flask-Sock on werkzeug", "flask-sock", "flask_sock_server.py", "{port}",
             actions=(*BASIC, RETURNS, TOO_BIG)),
    _interop("Flask-Sock on gunicorn", "flask-sock", "-m", "gunicorn", "--threads", "20",
             "--graceful-timeout", "1", "-b", "127.0.0.1:{port}",
             "flask_sock_server:app", actions=(*BASIC, RETURNS, TOO_BIG)),
    _interop("Flask-Sock on gunicorn, 2 workers", "flask-sock", "-m", "gunicorn", "--workers", "2", "--threads", "20",
             "--graceful-timeout", "1", "-b", "127.0.0.1:{port}", "flask_sock_server:app", actions=(WORKER, SIGKILL)),
    _interop("eventlet", "eventlet", "eventlet_server.py", "{port}", actions=(*BASIC, RETURNS)),
    _interop("gevent-websocket", "gevent-websocket", "gevent_server.py", "{port}", actions=(*BASIC, RETURNS)),
    _interop("microdot", "microdot", "microdot_server.py", "{port}", actions=(*BASIC, RETURNS)),
    _program("Bun", "bun", "JavaScript (Bun)", str(NPM / ".bin/bun"), "bun_server.js", "{port}",
             needs=str(NPM / ".bin/bun"), actions=(*BASIC, TOO_BIG), dies=True),
    _program("Deno", "deno", "JavaScript (Deno)", str(NPM / ".bin/deno"), "run", "--allow-net", "deno_server.js",
             "{port}", needs=str(NPM / ".bin/deno"), actions=(*BASIC, NO_PONG), dies=True),
    _program("gorilla/websocket", "gorilla", "Go", str(PROGRAMS / "gorilla"), "{port}",
             needs=str(PROGRAMS / "gorilla"), actions=(*CORE, RETURNS, NO_PONG, TOO_BIG)),
    _program("golang.org/x/net/websocket", "x/net", "Go", str(PROGRAMS / "xnet"), "{port}",
             needs=str(PROGRAMS / "xnet"), actions=(*CORE, RETURNS, TOO_BIG)),
    _program("nhooyr.io/websocket", "nhooyr", "Go", str(PROGRAMS / "nhooyr"), "{port}",
             needs=str(PROGRAMS / "nhooyr"), actions=(*CORE, RETURNS, TOO_BIG)),
    _program("faye-websocket on puma", "faye-websocket", "Ruby", "puma", "-b", "tcp://127.0.0.1:{port}",
             "ruby/faye.ru", needs="puma", actions=CORE),
    _program("em-websocket", "em-websocket", "Ruby", "ruby", "ruby/em_websocket.rb", "{port}", needs="ruby"),
    _program("Mojolicious", "mojolicious", "Perl", "perl", "perl/mojolicious.pl", "daemon", "-l",
             "http://127.0.0.1:{port}", needs="perl", actions=(*CORE, RETURNS), mute=True),
    _program("Tomcat 10", "tomcat", "Java", "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp",
             f"{PROGRAMS / 'java'}:/usr/share/java/*", "Echo", "{port}", needs=str(PROGRAMS / "java/Echo.class")),
    _program("libwebsockets", "libwebsockets", "C", str(PROGRAMS / "libwebsockets"), "{port}",
             needs=str(PROGRAMS / "libwebsockets"), actions=(*CORE, NO_PONG)),
    _program("POCO", "poco", "C++", str(PROGRAMS / "poco"), "{port}", needs=str(PROGRAMS / "poco"),
             actions=(*CORE, RETURNS, TOO_BIG)),
)  # fmt: skip
