"""Builds the package as pyproject.toml describes it; with WEBSOCKET_EXPORTER_COMPILE=1 its busiest modules compiled.

mypyc makes C of the very same Python source, which stays beside it and works as well; docs/performance.md says what it
brings. It needs a C compiler, mypy and all that the sidecar runs on (requirements/build.txt and run.txt), and so no
build isolation.
"""

from __future__ import annotations

import os
from typing import Any

from setuptools import setup

#: What carries traffic, and what each session touches. What is not here is asked seldom, or made of other libraries'
#: classes, which cannot be compiled along.
COMPILED = {
    "protocol": ("client_identity", "close_codes", "enums", "flight_recorder", "frames",
                 "http1", "http1_parser", "messages", "payload_sample", "record", "routes", "session"),
    "relay": ("client_connection", "context", "handshake", "legs", "listener", "poller", "reporter", "server", "tcp",
              "timeouts", "tls", "transport", "tunnel", "tunnel_leg", "upstream"),
    "observe": ("sanitize",),
}  # fmt: skip


def modules() -> list[Any]:
    """The extension modules to build."""
    if os.environ.get("WEBSOCKET_EXPORTER_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    paths = [f"exporter/{package}/{name}.py" for package, names in COMPILED.items() for name in names]
    built: list[Any] = mypycify(paths, opt_level="3", debug_level="0", group_name="websocket_exporter")
    return built


setup(ext_modules=modules())
