"""The C programs of the benchmark, compiled once, and its server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.peers import Absent
from benchmarks.stage import compile_programs, running
from tests.ports import free_port


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return compile_programs(tmp_path_factory.mktemp("programs"))
    except Absent as absent:
        pytest.skip(str(absent))


@pytest.fixture(scope="session")
def server(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a running server."""
    port = free_port()
    output = tmp_path_factory.mktemp("server") / "output"
    with running([str(programs / "server"), "--port", str(port)], port, os.sched_getaffinity(0), output):
        yield port
