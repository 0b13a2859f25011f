"""Builds the package as pyproject.toml describes it; with WEBSOCKET_EXPORTER_COMPILE=1 its busiest modules compiled.

mypyc translates the same Python source to C; uncompiled it works as well. docs/performance.md has the gain. It needs a
C compiler, mypy and all that the sidecar runs on (requirements/build.txt and run.txt), and so no build isolation.
"""

from __future__ import annotations

import os
from typing import Any

from setuptools import setup

#: Modules that carry traffic or work for each session. The others run rarely, or derive from other libraries' classes,
#: which mypyc cannot compile.
COMPILED = {
    "protocol": ("causes", "classify", "client_identity", "close_codes", "counters", "direction", "enums", "evidence",
                 "flight_recorder", "frame_header", "frame_runs", "frames", "http1", "http1_parser", "idle_timeouts",
                 "labels", "messages", "payload_sample", "presets", "reason_rules", "record", "record_format",
                 "session", "usual_heads"),
    "relay": ("client_connection", "context", "kernel", "legs", "listener", "poller", "reporter", "server",
              "tcp", "tcp_writer", "timeouts", "tls", "transport", "tunnel", "tunnel_leg", "upstream"),
    "observe": ("intake", "metrics", "receiver", "recent_closes", "reconnects"),
}  # fmt: skip


def modules() -> list[Any]:
    """The extension modules to build."""
    if os.environ.get("WEBSOCKET_EXPORTER_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    paths = [f"exporter/{package}/{name}.py" for package, names in COMPILED.items() for name in names]
    built: list[Any] = mypycify(paths, opt_level="2", debug_level="0", group_name="websocket_exporter")
    for module in built:  # calls between functions that no other library can replace are direct
        module.extra_compile_args.append("-fvisibility=hidden")
    return built


setup(ext_modules=modules())
