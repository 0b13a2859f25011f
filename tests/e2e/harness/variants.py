"""The server stacks whose closes are classified: libraries of several languages, each in the ways it is run.

Those of requirements/e2e.txt and package.json run in every test run. The others need `make interop`, which fills
build/ with their packages and programs; without it their tests are skipped, with the reason.
"""

from __future__ import annotations

import shutil
import signal
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
RELOAD, SIGSTOP = "reload", "SIGSTOP"
ACTIONS = (RAISES, RETURNS, SIGTERM, SIGKILL, WORKER, RELOAD, SIGSTOP, NO_PONG, TOO_BIG, BAD_UTF8)
CORE = (RAISES, SIGTERM, SIGKILL)
BASIC = (*CORE, BAD_UTF8)


@dataclass(frozen=True)
class Variant:
    """A server program and what can be done to it; ``{port}`` in its command line is the port that it listens on.

    Every one that echoes can be stopped with SIGSTOP.

    :ivar needs: what must be there: a Python module, ``node``, a file, or a program by name.
    :ivar dies: a failed handler takes the process with it.
    :ivar mute: a failed handler leaves the session open.
    :ivar path: the request's path; with ``EIO=`` in it the server talks Engine.IO and echoes nothing.
    :ivar reload: the signal that makes it reload in place, or the file that it watches.
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
    reload: signal.Signals | str = ""

    def can(self, action: str) -> bool:
        """Return whether an action ends a session of it."""
        if action == SIGSTOP:
            return "EIO=" not in self.path
        return action in self.actions and not (self.mute and action == RAISES)

    def __str__(self) -> str:
        """Return the name: the test's id."""
        return self.name

    def start(self, port: int) -> Process:
        """Start it and wait until it listens; skip the test if it cannot run here."""
        skip_if_missing(self.needs, self.language)
        process = Process(self.name, [part.format(port=port) for part in self.argv], cwd=STACKS)
        try:
            process.wait_listening(port)
        except BaseException:
            process.stop()
            raise
        return process


def skip_if_missing(needs: str, language: str) -> None:
    """Skip the running test, with the reason, if a file, program or module is missing."""
    if "/" in needs:
        if not Path(needs).exists():
            pytest.skip(f"needs {Path(needs).relative_to(ROOT)} (make interop)")
    elif language == "Python" or needs == "node":
        skip_without(needs)
    elif not shutil.which(needs):
        pytest.skip(f"needs {needs} (make interop)")


def _main(name: str, library: str, script: str, *flags: str, actions: tuple[str, ...] = BASIC) -> Variant:
    """A Python script, run by the tests' own interpreter."""
    return Variant(name, library, "Python", (sys.executable, script, "{port}", *flags), library, actions)


def _asgi(
    name: str,
    library: str,
    module: str,
    *flags: str,
    needs: str = "",
    actions: tuple[str, ...],
    reload: signal.Signals | str = "",
) -> Variant:
    """An application under the tests' own uvicorn."""
    argv = (sys.executable, "-m", "uvicorn", f"{module}:app", "--port", "{port}", *flags)
    return Variant(name, library, "Python", argv, needs or library, actions, reload=reload)


def _interop(
    name: str,
    library: str,
    *argv: str,
    actions: tuple[str, ...] = BASIC,
    dies: bool = False,
    mute: bool = False,
    reload: signal.Signals | str = "",
) -> Variant:
    """A Python command, run by the interpreter of build/interop."""
    return Variant(name, library, "Python", (str(PYTHON), *argv), str(PYTHON), actions, dies, mute, reload=reload)


def _program(name: str, library: str, language: str, *argv: str, needs: str, **values: object) -> Variant:
    return Variant(name, library, language, argv, needs, **values)  # type: ignore[arg-type]


def _npm(
    name: str, library: str, runtime: str, script: str, *, path: str = "/", actions: tuple[str, ...], mute: bool = False
) -> Variant:
    """A script that `make interop` puts beside the npm packages; its failed handler ends the process if not mute."""
    script = str(NPM.parent / script)
    language = "JavaScript" if runtime == "node" else "JavaScript (Bun)"
    return Variant(name, library, language, (runtime, script, "{port}"), script, actions, not mute, mute, path)


ENGINE_IO = "/socket.io/?EIO=4&transport=websocket"
PINGS = ("--ws-ping-interval", "1.5", "--ws-ping-timeout", "1.5", "--ws-max-size", "65536")
WITH_PINGS = (*BASIC, RETURNS, NO_PONG, TOO_BIG)

#: The stacks on which the rules of the classification were tuned.
TUNED: tuple[Variant, ...] = (
    _main("websockets, closes on SIGTERM", "websockets", "websockets_asyncio.py", "--close-on-sigterm",
          "--keepalive", "1.5", actions=WITH_PINGS),
    _main("websockets, no signal handler", "websockets", "websockets_asyncio.py", actions=(*BASIC, RETURNS)),
    _main("websockets, threads", "websockets", "websockets_sync.py", "--keepalive", "1.5", actions=WITH_PINGS),
    _asgi("uvicorn (websockets)", "uvicorn", "asgi_raw", "--ws", "websockets", *PINGS, actions=WITH_PINGS),
    _asgi("uvicorn (websockets-sansio)", "uvicorn", "asgi_raw", "--ws", "websockets-sansio", *PINGS,
          actions=WITH_PINGS),
    _asgi("uvicorn (wsproto)", "uvicorn", "asgi_raw", "--ws", "wsproto", *PINGS, needs="wsproto", actions=WITH_PINGS),
    _asgi("uvicorn, 2 workers", "uvicorn", "asgi_raw", "--workers", "2", actions=(*BASIC, WORKER, RELOAD),
          reload=signal.SIGHUP),
    _asgi("uvicorn --reload", "uvicorn", "asgi_raw", "--reload", actions=(RELOAD,), reload="asgi_raw.py"),
    _asgi("uvicorn, Starlette", "starlette", "asgi_starlette", *PINGS, actions=WITH_PINGS),
    _asgi("uvicorn, FastAPI", "fastapi", "asgi_fastapi", *PINGS, actions=WITH_PINGS),
    _asgi("uvicorn, Django Channels", "channels", "asgi_channels", *PINGS, actions=(*BASIC, NO_PONG, TOO_BIG)),
    Variant("granian", "granian", "Python", (sys.executable, "-m", "granian", "--interface", "asgi", "--port", "{port}",
            "asgi_raw:app"), "granian", (*BASIC, RETURNS)),
    Variant("granian, 2 workers", "granian", "Python", (sys.executable, "-m", "granian", "--interface", "asgi",
            "--workers", "2", "--respawn-failed-workers", "--port", "{port}", "asgi_raw:app"),
            "granian", (*BASIC, WORKER, RELOAD), reload=signal.SIGHUP),
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
    Variant("Node ws, cluster", "ws", "JavaScript", ("node", "node_cluster.mjs", "{port}"), "node",
            (WORKER, SIGKILL, RELOAD), reload=signal.SIGUSR2),
    # On a fast machine it would listen again before the app's port is probed.
    Variant("node --watch", "ws", "JavaScript", ("node", "--watch", "node_ws.mjs", "{port}", "--listen-after", "1"),
            "node", (RELOAD,), reload="node_ws.mjs"),
    Variant("socket.io", "socket.io", "JavaScript", ("node", "socketio_node.mjs", "{port}", "--keepalive"), "node",
            (SIGTERM, SIGKILL, NO_PONG), path=ENGINE_IO),
    Variant("python-socketio", "python-socketio", "Python", (sys.executable, "socketio_aiohttp.py", "{port}",
            "--keepalive"), "socketio", (SIGTERM, SIGKILL, NO_PONG), path=ENGINE_IO),
    _interop("hypercorn", "hypercorn", "-m", "hypercorn", "asgi_raw:app", "--bind", "127.0.0.1:{port}",
             "--websocket-ping-interval", "1", actions=(*BASIC, RETURNS)),
    _interop("hypercorn --reload", "hypercorn", "-m", "hypercorn", "--reload", "asgi_raw:app", "--bind",
             "127.0.0.1:{port}", actions=(RELOAD,), reload="asgi_raw.py"),
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
             "--graceful-timeout", "1", "--timeout", "3", "-b", "127.0.0.1:{port}", "flask_sock_server:app",
             actions=(WORKER, SIGKILL, RELOAD), reload=signal.SIGHUP),
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
             "ruby/faye.ru", needs="puma", actions=(*CORE, RELOAD), reload=signal.SIGUSR2),
    _program("faye-websocket on puma, 2 workers", "faye-websocket", "Ruby", "puma", "-w", "2", "-b",
             "tcp://127.0.0.1:{port}", "ruby/faye.ru", needs="puma", actions=(WORKER, SIGKILL, RELOAD),
             reload=signal.SIGUSR1),
    _program("em-websocket", "em-websocket", "Ruby", "ruby", "ruby/em_websocket.rb", "{port}", needs="ruby"),
    _program("Mojolicious", "mojolicious", "Perl", "perl", "perl/mojolicious.pl", "daemon", "-l",
             "http://127.0.0.1:{port}", needs="perl", actions=(*CORE, RETURNS), mute=True),
    _program("Tomcat 10", "tomcat", "Java", "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp",
             f"{PROGRAMS / 'java'}:{PROGRAMS / 'tomcat'}/*", "Echo", "{port}", needs=str(PROGRAMS / "java/Echo.class")),
    _program("libwebsockets", "libwebsockets", "C", str(PROGRAMS / "libwebsockets"), "{port}",
             needs=str(PROGRAMS / "libwebsockets"), actions=(*CORE, NO_PONG)),
    _program("POCO", "poco", "C++", str(PROGRAMS / "poco"), "{port}", needs=str(PROGRAMS / "poco"),
             actions=(*CORE, RETURNS, TOO_BIG)),
)  # fmt: skip

#: Stacks that were played for the first time when the rules were fixed.
UNTUNED: tuple[Variant, ...] = (
    _interop("hypercorn on trio", "hypercorn", "-m", "hypercorn", "-k", "trio", "asgi_raw:app", "--bind",
             "127.0.0.1:{port}", actions=(*BASIC, RETURNS)),
    _interop("trio-websocket", "trio-websocket", "trio_websocket_server.py", "{port}",
             actions=(*BASIC, RETURNS, TOO_BIG), dies=True),
    _interop("Robyn", "robyn", "robyn_server.py", "{port}", actions=(SIGKILL,), mute=True),
    _interop("socketify", "socketify", "socketify_server.py", "{port}",
             actions=(SIGTERM, SIGKILL, BAD_UTF8, TOO_BIG, NO_PONG), mute=True),
    _interop("websocket-server", "websocket-server", "threaded_websocket_server.py", "{port}"),
    _npm("websocket (npm)", "websocket", "node", "websocket.mjs", actions=(*BASIC, RETURNS, TOO_BIG, NO_PONG)),
    _npm("faye-websocket (npm)", "faye-websocket (npm)", "node", "faye.mjs", actions=(*BASIC, RETURNS, TOO_BIG)),
    _npm("Fastify", "@fastify/websocket", "node", "fastify.mjs", actions=(*BASIC, RETURNS, TOO_BIG)),
    _npm("Hono", "@hono/node-ws", "node", "hono.mjs", actions=(SIGTERM, SIGKILL, BAD_UTF8, RETURNS), mute=True),
    _npm("Elysia on Bun", "elysia", str(NPM / ".bin/bun"), "elysia.mjs",
         actions=(SIGTERM, SIGKILL, BAD_UTF8, RETURNS), mute=True),
    _npm("SockJS, raw WebSocket", "sockjs", "node", "sockjs.mjs", path="/echo/websocket", actions=(*BASIC, RETURNS)),
    _npm("crossws", "crossws", "node", "crossws.mjs", actions=(*BASIC, RETURNS)),
    _interop("uvicorn under gunicorn, 2 workers", "uvicorn-worker", "-m", "gunicorn", "-k",
             "uvicorn_worker.UvicornWorker", "--workers", "2", "-b", "127.0.0.1:{port}", "asgi_raw:app",
             actions=(*BASIC, RETURNS, WORKER, RELOAD), reload=signal.SIGHUP),
    _main("tornado, 2 processes", "tornado", "tornado_server.py", "--processes", "2",
          actions=(SIGKILL, WORKER)),
    _interop("Sanic, 2 workers", "sanic", "sanic_server.py", "{port}", "2", actions=(*CORE, RETURNS, WORKER)),
    _interop("ws4py", "ws4py", "ws4py_server.py", "{port}"),
    _program("Netty", "netty", "Java", "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp",
             f"{PROGRAMS / 'java'}:{PROGRAMS / 'netty'}/*", "Netty", "{port}",
             needs=str(PROGRAMS / "java/Netty.class"), actions=(*BASIC, RETURNS, TOO_BIG)),
    _program("httpuv", "httpuv", "R", "Rscript", "r/httpuv.R", "{port}", needs="Rscript", actions=(*CORE, RETURNS)),
    _program("Qt WebSockets", "qtwebsockets", "C++", str(PROGRAMS / "qt"), "{port}", needs=str(PROGRAMS / "qt"),
             actions=(*BASIC, RETURNS, TOO_BIG), dies=True),
    _program("Jetty 9", "jetty", "Java", "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp",
             f"{PROGRAMS / 'java'}:{PROGRAMS / 'jetty'}/*", "Jetty", "{port}", needs=str(PROGRAMS / "java/Jetty.class"),
             actions=(*BASIC, RETURNS, TOO_BIG)),
    _program("websockets (Haskell)", "websockets (Haskell)", "Haskell", str(PROGRAMS / "haskell/echo"), "{port}",
             needs=str(PROGRAMS / "haskell/echo"), actions=(*BASIC, RETURNS, TOO_BIG)),
    _program("Yaws", "yaws", "Erlang", "erl", "-noshell", "-pa", str(PROGRAMS / "erlang"), "/usr/lib/yaws/ebin",
             "-eval", "echo:start({port}).", needs=str(PROGRAMS / "erlang/echo.beam"),
             actions=(*BASIC, RETURNS, TOO_BIG, NO_PONG)),
    _program("lua-http", "lua-http", "Lua", "lua5.1", "lua/echo.lua", "{port}", needs="lua5.1",
             actions=(*BASIC, RETURNS), dies=True),
    _program("CivetWeb", "civetweb", "C", str(PROGRAMS / "civetweb"), "{port}", needs=str(PROGRAMS / "civetweb"),
             actions=(*CORE, NO_PONG)),
    _program("libsoup", "libsoup", "C", str(PROGRAMS / "libsoup"), "{port}", needs=str(PROGRAMS / "libsoup"),
             actions=(*BASIC, RETURNS, TOO_BIG), dies=True),
    _program("Boost.Beast", "beast", "C++", str(PROGRAMS / "beast"), "{port}", needs=str(PROGRAMS / "beast"),
             actions=(*BASIC, RETURNS, TOO_BIG)),
    _program("WebSocket++", "websocketpp", "C++", str(PROGRAMS / "websocketpp"), "{port}",
             needs=str(PROGRAMS / "websocketpp"), actions=(*BASIC, RETURNS, TOO_BIG), dies=True),
    _program("RESTinio", "restinio", "C++", str(PROGRAMS / "restinio"), "{port}", needs=str(PROGRAMS / "restinio"),
             actions=(SIGTERM, SIGKILL, BAD_UTF8, RETURNS), mute=True),
    _program("Pike", "pike", "Pike", "pike", "pike/echo.pike", "{port}", needs="pike",
             actions=(SIGTERM, SIGKILL, RETURNS), mute=True),
    _program("tcllib", "tcllib", "Tcl", "tclsh", "tcl/echo.tcl", "{port}", needs="tclsh",
             actions=(SIGTERM, SIGKILL, RETURNS), mute=True),
)  # fmt: skip

VARIANTS = TUNED + UNTUNED
