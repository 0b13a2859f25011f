"""A proxy in front of the sidecar, or between it and the app, is stopped or reloaded: which cause its sessions get."""

from __future__ import annotations

import os
import shutil
import signal
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
  admin off
  auto_https off
  grace_period 1s
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{upstream}
}}
"""
ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          upgrade_configs: [{{upgrade_type: websocket}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: sidecar, timeout: 0s}}}}]
  clusters:
  - name: sidecar
    load_assignment:
      cluster_name: sidecar
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}
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
        program = shutil.which(self.program, path=f"{os.environ['PATH']}:/usr/sbin:{PYTHON.parent}")
        if program is None:
            pytest.skip(f"needs {self.program} (make interop)")
        file = directory / f"{self.name}.yaml"
        file.write_text(self.config.format(directory=directory, port=port, upstream=upstream))
        process = Process(self.name, [program, *(part.format(config=file) for part in self.argv)], cwd=directory)
        process.wait_listening(port)
        return process


PROXIES = {
    "nginx": Proxy("nginx", "nginx", NGINX, ("-c", "{config}")),
    "haproxy": Proxy("haproxy", "haproxy", HAPROXY, ("-W", "-f", "{config}")),
    "caddy": Proxy("caddy", "caddy", CADDY, ("run", "--adapter", "caddyfile", "--config", "{config}")),
    "envoy": Proxy("envoy", "envoy", ENVOY, ("-c", "{config}", "--concurrency", "1", "--disable-hot-restart")),
}


def stop(process: Process) -> None:
    """Stop it as a container runtime does."""
    process.signal(signal.SIGTERM)


def kill(process: Process) -> None:
    """Kill it and its workers."""
    process.kill_group()


def reload_nginx(process: Process) -> None:
    """Reload: old workers get worker_shutdown_timeout."""
    process.signal(signal.SIGHUP)


def reload_haproxy(process: Process) -> None:
    """Reload: old workers get hard-stop-after."""
    process.signal(signal.SIGUSR2)


CASES: list[tuple[str, Callable[[Process], None], Ending]] = [
    ("nginx", stop, PROXY_LOST),
    ("nginx", kill, PROXY_LOST),
    ("nginx", reload_nginx, PROXY_LOST),
    ("haproxy", stop, PROXY_LOST),
    ("haproxy", reload_haproxy, PROXY_LOST),
    ("caddy", stop, GOING_AWAY),
    ("caddy", kill, PROXY_LOST),
    ("envoy", stop, PROXY_LOST),
    ("envoy", kill, PROXY_LOST),
]


def sessions(port: int) -> list[Client]:
    """Open sessions, each idle for a little less than the one before."""
    clients = []
    for _ in range(SESSIONS):
        clients.append(Client(port))
        assert clients[-1].echo("hello") == "hello"
        time.sleep(0.1)
    return clients


@pytest.mark.parametrize(("name", "action", "ending"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_proxy_in_front_takes_its_sessions_along(
    name: str, action: Callable[[Process], None], ending: Ending, tmp_path: Path
) -> None:
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
        action(proxy)
        added = sidecar.settled(before, SESSIONS)
        for client in clients:
            client.close()
        assert added.endings() == {ending: SESSIONS}


@pytest.mark.parametrize("name", PROXIES)
def test_proxy_between_that_is_killed_is_app_down(name: str, tmp_path: Path) -> None:
    """The sidecar's app is then the proxy: its port refuses connections."""
    app_port, port = free_port(), free_port()
    app = python("app", "websockets_asyncio.py", needs="websockets").start(app_port)
    with running(app), running(PROXIES[name].start(tmp_path, port, app_port)) as proxy, audited(port) as sidecar:
        before = sidecar.scrape()
        clients = sessions(sidecar.port)
        kill(proxy)
        added = sidecar.settled(before, SESSIONS)
        for client in clients:
            client.close()
        assert added.endings() == {("1006", "app-down", "server"): SESSIONS}


@pytest.mark.parametrize("name", PROXIES)
def test_app_killed_behind_a_proxy_between_is_a_lost_worker(name: str, tmp_path: Path) -> None:
    """The proxy's port goes on accepting, and its sessions end together."""
    app_port, port = free_port(), free_port()
    app = python("app", "websockets_asyncio.py", needs="websockets").start(app_port)
    with running(app), running(PROXIES[name].start(tmp_path, port, app_port)), audited(port) as sidecar:
        before = sidecar.scrape()
        clients = sessions(sidecar.port)
        kill(app)
        added = sidecar.settled(before, SESSIONS)
        for client in clients:
            client.close()
        assert added.endings() == {("1006", "worker-lost", "server"): SESSIONS}


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
