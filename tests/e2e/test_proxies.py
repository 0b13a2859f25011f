"""A proxy in front of the sidecar, or between it and the app, is stopped or reloaded: which cause its sessions get."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_port

from .harness.process import Process, running
from .harness.scrape import Ending
from .harness.sidecar import audited
from .harness.stack import python
from .harness.variants import PYTHON
from .test_causes import Client

#: Sessions of a test, each idle for another time.
SESSIONS = 6

PROXY_LOST: Ending = ("1006", "proxy-lost", "client")
GOING_AWAY: Ending = ("1001", "going-away", "client")

NGINX = """
daemon off; pid {directory}/nginx.pid; error_log stderr; worker_processes 1; worker_shutdown_timeout 1s;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    }}
  }}
}}
"""
HAPROXY = """
global
  hard-stop-after 1s
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 60s
frontend front
  bind 127.0.0.1:{port}
  default_backend sidecar
backend sidecar
  server sidecar 127.0.0.1:{upstream}
"""
CADDY = """
{{
  admin unix/{directory}/caddy.sock
  auto_https off
  grace_period 1s
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{upstream}
}}
"""
ENVOY = """
node: {{id: envoy, cluster: envoy}}
dynamic_resources:
  lds_config: {{path_config_source: {{path: {directory}/listeners.yaml}}}}
static_resources:
  clusters:
  - name: sidecar
    load_assignment:
      cluster_name: sidecar
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
"""
#: Envoy's listeners, in a file of their own: replacing it is a change of the listener.
LISTENERS = """
resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: front
  address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: {prefix}
        use_remote_address: true
        upgrade_configs: [{{upgrade_type: websocket}}]
        http_filters:
        - name: envoy.filters.http.router
          typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
        route_config:
          virtual_hosts:
          - name: all
            domains: ["*"]
            routes: [{{match: {{prefix: "/"}}, route: {{cluster: sidecar, timeout: 0s}}}}]
"""


@dataclass(frozen=True)
class Proxy:
    """A proxy: its program, its configuration, and its command line."""

    name: str
    program: str
    config: str
    argv: tuple[str, ...]

    def start(self, directory: Path, port: int, upstream: int) -> Process:
        """Start it and wait until it listens; skip the test if it is not installed or only `make interop` plays it."""
        if self.name != "nginx" and not os.environ.get("INTEROP"):
            pytest.skip("one of those that `make interop` plays")
        file = directory / f"{self.name}.yaml"
        file.write_text(self.config.format(directory=directory, port=port, upstream=upstream))
        write_listeners(directory, port, "before")
        process = Process(
            self.name, [find(self.program), *(part.format(config=file) for part in self.argv)], cwd=directory
        )
        process.wait_listening(port)
        return process


def find(program: str) -> str:
    """Return a program's path; skip the test if it is not installed."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:{PYTHON.parent}")
    if path is None:
        pytest.skip(f"needs {program} (make interop)")
    return path


def write_listeners(directory: Path, port: int, prefix: str) -> None:
    """Replace the file of Envoy's listeners."""
    new = directory / "listeners.new"
    new.write_text(LISTENERS.format(port=port, prefix=prefix))
    new.replace(directory / "listeners.yaml")


PROXIES = {
    "nginx": Proxy("nginx", "nginx", NGINX, ("-c", "{config}")),
    "haproxy": Proxy("haproxy", "haproxy", HAPROXY, ("-W", "-f", "{config}")),
    "caddy": Proxy("caddy", "caddy", CADDY, ("run", "--adapter", "caddyfile", "--config", "{config}")),
    "envoy": Proxy("envoy", "envoy", ENVOY, ("-c", "{config}", "--concurrency", "1", "--disable-hot-restart",
                                             "--drain-time-s", "1", "--drain-strategy", "immediate")),
}  # fmt: skip


def stop(process: Process, directory: Path, port: int) -> None:
    """Stop it as a container runtime does."""
    process.signal(signal.SIGTERM)


def kill(process: Process, directory: Path, port: int) -> None:
    """Kill it and its workers."""
    process.kill_group()


def reload(process: Process, directory: Path, port: int) -> None:
    """Reload it in its own way; old workers and listeners get a second (worker_shutdown_timeout, hard-stop-after)."""
    match process.name:
        case "nginx":
            process.signal(signal.SIGHUP)
        case "haproxy":
            process.signal(signal.SIGUSR2)
        case "caddy":
            socket = f"unix/{directory}/caddy.sock"
            argv = (find("caddy"), "reload", "--force", "--adapter", "caddyfile", "--address", socket)
            subprocess.run(
                (*argv, "--config", str(directory / "caddy.yaml")), check=True, capture_output=True, timeout=20
            )
        case "envoy":
            write_listeners(directory, port, "after")


Action = Callable[[Process, Path, int], None]
CASES: list[tuple[str, Action, Ending]] = [
    ("nginx", stop, PROXY_LOST),
    ("nginx", kill, PROXY_LOST),
    ("nginx", reload, PROXY_LOST),
    ("haproxy", stop, PROXY_LOST),
    ("haproxy", kill, PROXY_LOST),
    ("haproxy", reload, PROXY_LOST),
    ("caddy", stop, GOING_AWAY),
    ("caddy", kill, PROXY_LOST),
    ("caddy", reload, GOING_AWAY),
    ("envoy", stop, PROXY_LOST),
    ("envoy", kill, PROXY_LOST),
    ("envoy", reload, PROXY_LOST),
]


def _id(value: object) -> str:
    return getattr(value, "__name__", str(value))


def sessions(port: int) -> list[Client]:
    """Open sessions of one client, each idle for a little less than the one before."""
    clients = []
    for _ in range(SESSIONS):
        clients.append(Client(port))
        assert clients[-1].echo("hello") == "hello"
        time.sleep(0.1)
    return clients


@pytest.mark.parametrize(("name", "action", "ending"), CASES, ids=_id)
def test_proxy_in_front_takes_its_sessions_along(name: str, action: Action, ending: Ending, tmp_path: Path) -> None:
    """All sessions of a proxy in front that stops or is reloaded are named so, not as lost by their clients."""
    app_port, port = free_port(), free_port()
    app = python("app", "websockets_asyncio.py", needs="websockets").start(app_port)
    with (
        running(app),
        audited(app_port) as sidecar,
        running(PROXIES[name].start(tmp_path, port, sidecar.port)) as proxy,
    ):
        before = sidecar.scrape()
        clients = sessions(port)
        action(proxy, tmp_path, port)
        added = sidecar.settled(before, SESSIONS)
        for client in clients:
            client.close()
        assert added.endings() == {ending: SESSIONS}


Between = Callable[[Process, Process, Path, int], None]


def kill_proxy(app: Process, proxy: Process, directory: Path, port: int) -> None:
    """Kill the proxy between: its port, the sidecar's app, refuses connections then."""
    kill(proxy, directory, port)


def stop_proxy(app: Process, proxy: Process, directory: Path, port: int) -> None:
    """Stop the proxy between as a container runtime does."""
    stop(proxy, directory, port)


def kill_app(app: Process, proxy: Process, directory: Path, port: int) -> None:
    """Kill the app behind the proxy: the proxy's port goes on accepting, and its sessions end together."""
    app.kill_group()


def reload_proxy(app: Process, proxy: Process, directory: Path, port: int) -> None:
    """Reload the proxy between: the app lives on, its sessions end with the old worker or listener."""
    time.sleep(1.2)  # the sidecar looks at the listening socket when a session has opened
    reload(proxy, directory, port)


APP_DOWN: Ending = ("1006", "app-down", "server")
WORKER_LOST: Ending = ("1006", "worker-lost", "server")
CLOSED: Ending = ("1001", "going-away", "server")
#: A reload of the proxy between: its listening socket stays, also in HAProxy, whose new worker takes it over.
RELOADED: dict[str, Ending] = {
    "nginx": WORKER_LOST,
    "haproxy": WORKER_LOST,
    "caddy": CLOSED,
    "envoy": WORKER_LOST,
}
BETWEEN: list[tuple[str, Between, Ending]] = [
    case
    for name in PROXIES
    for case in (
        (name, kill_proxy, APP_DOWN),
        (name, stop_proxy, CLOSED if name == "caddy" else APP_DOWN),
        (name, kill_app, WORKER_LOST),
        (name, reload_proxy, RELOADED[name]),
    )
]


@pytest.mark.parametrize(("name", "action", "ending"), BETWEEN, ids=_id)
def test_proxy_between_ends_its_sessions_with_a_cause(
    name: str, action: Between, ending: Ending, tmp_path: Path
) -> None:
    """All sessions through a proxy between sidecar and app have the cause of how they were ended."""
    app_port, port = free_port(), free_port()
    app = python("app", "websockets_asyncio.py", needs="websockets").start(app_port)
    with running(app), running(PROXIES[name].start(tmp_path, port, app_port)) as proxy, audited(port) as sidecar:
        before = sidecar.scrape()
        clients = sessions(sidecar.port)
        action(app, proxy, tmp_path, port)
        added = sidecar.settled(before, SESSIONS)
        for client in clients:
            client.close()
        assert added.endings() == {ending: SESSIONS}


def test_sessions_that_clients_drop_one_by_one_are_no_lost_proxy(tmp_path: Path) -> None:
    """Six clients behind one nginx that vanish one after another are connections lost by clients."""
    app_port, port = free_port(), free_port()
    app = python("app", "websockets_asyncio.py", needs="websockets").start(app_port)
    with running(app), audited(app_port) as sidecar, running(PROXIES["nginx"].start(tmp_path, port, sidecar.port)):
        before = sidecar.scrape()
        for client in sessions(port):
            client.close()
            time.sleep(0.1)
        added = sidecar.settled(before, SESSIONS)
        assert added.endings() == {("1006", "connection-lost", "client"): SESSIONS}
