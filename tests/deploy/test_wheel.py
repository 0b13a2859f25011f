"""The wheel, in an environment that has nothing but what requirements/run.txt pins, outside the checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from signal import SIGTERM

import click
import pytest
import trustme
import yaml

from exporter import __version__
from exporter.cli import cli
from tests.certificates import issue
from tests.deploy.tools import KUSTOMIZE, ROOT
from tests.e2e.harness.process import Process
from tests.ports import free_port

TIMEOUT = 120


class Installed:
    """A clean environment with the wheel in it, and an empty directory to work in."""

    def __init__(self, folder: Path) -> None:
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self.wheel = self._build(folder)
        self.root = folder / "environment"
        venv.create(self.root, symlinks=True)
        self.site = next(self.root.glob("lib/python*/site-packages"))
        for name in re.findall(r"(?m)^([\w.-]+)==", (ROOT / "requirements" / "run.txt").read_text()):
            self._copy(name)
        done = self.pip("install", "--quiet", "--no-index", "--no-deps", str(self.wheel))
        assert done.returncode == 0, done.stderr
        self.work = folder / "work"
        self.work.mkdir()

    def _build(self, folder: Path) -> Path:
        """Build the pure wheel from a copy, so that the checkout stays as it is."""
        source = folder / "source"
        skipped = shutil.ignore_patterns("__pycache__", "*.so")
        for name in ("exporter", "grafana"):
            shutil.copytree(ROOT / name, source / name, ignore=skipped)
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        flags = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
        pip = [sys.executable, "-m", "pip", "wheel", *flags, str(source)]
        subprocess.run(pip, check=True, cwd=folder, env=self.environment)
        return next(folder.glob("*.whl"))

    def _copy(self, name: str) -> None:
        """Copy an installed package, as it is here, without its scripts."""
        package = distribution(name)
        for file in package.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                target = self.site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(package.locate_file(file)), target)

    def pip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run pip on the environment, without the checkout's path."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.root / "bin" / "python"), *arguments]
        return subprocess.run(pip, env=self.environment, cwd=self.root, capture_output=True, text=True)

    def argv(self, *arguments: str) -> list[str]:
        """Return the installed command with arguments."""
        return [str(self.root / "bin" / "websocket-exporter"), *arguments]

    def run(self, *arguments: str) -> str:
        """Run a command to its end; its output. It must succeed."""
        done = subprocess.run(
            self.argv(*arguments), cwd=self.work, env=self.environment, capture_output=True, text=True, timeout=TIMEOUT
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def serve(self, *arguments: str, port: int) -> Process:
        """Start a command that serves a port."""
        argv = ["env", "--unset=PYTHONPATH", *self.argv(*arguments)]
        process = Process(arguments[0], argv, cwd=self.work)
        process.wait_listening(port)
        return process


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


def check_dashboards(installed: Installed) -> None:
    installed.run("dashboards", "boards")
    boards = list((installed.work / "boards").rglob("*.json"))
    assert len(boards) >= 3
    assert all(json.loads(path.read_text())["panels"] for path in boards)


def check_demo(installed: Installed) -> None:
    listen, admin = free_port(), free_port()
    ports = [f"--listen=127.0.0.1:{listen}", f"--admin=127.0.0.1:{admin}"]
    assert f":{admin}" in installed.run("demo", "--for", "3s", "--clients", "5", *ports)


def check_explain(installed: Installed) -> None:
    assert "1011" in installed.run("explain", "1011")


def check_inject(installed: Installed) -> None:
    manifest = KUSTOMIZE / "example" / "base" / "deployment.yaml"
    injected = yaml.safe_load(installed.run("inject", "--image", "registry.example/w:1", "-f", str(manifest)))
    (sidecar,) = injected["spec"]["template"]["spec"]["initContainers"]
    assert sidecar["image"] == "registry.example/w:1"


def check_rules(installed: Installed) -> None:
    assert yaml.safe_load(installed.run("rules"))["groups"]


def check_run_and_drain(installed: Installed) -> None:
    app, listen, admin = free_port(), free_port(), free_port()
    flags = [f"--upstream=127.0.0.1:{app}", f"--listen=127.0.0.1:{listen}", f"--admin=127.0.0.1:{admin}"]
    assert "valid" in installed.run("run", "--check", *flags)
    process = installed.serve("run", *flags, "--drain-linger=0s", port=admin)
    try:
        installed.run("drain", f"--admin=127.0.0.1:{admin}")
        process.signal(SIGTERM)
        assert process.wait(TIMEOUT) == 0, process.tail()
        assert "Traceback" not in process.output()
    finally:
        process.stop()


def check_webhook(installed: Installed) -> None:
    certificate, key = issue(trustme.CA(), installed.work / "tls")
    port = free_port()
    flags = [
        f"--bind=127.0.0.1:{port}",
        f"--tls-cert={certificate}",
        f"--tls-key={key}",
        "--image=registry.example/w:1",
    ]
    process = installed.serve("webhook", *flags, port=port)
    try:
        process.signal(SIGTERM)
        assert process.wait(TIMEOUT) == 0, process.tail()
    finally:
        process.stop()


CHECKS: dict[str, Callable[[Installed], None]] = {
    "dashboards": check_dashboards,
    "demo": check_demo,
    "drain": check_run_and_drain,
    "explain": check_explain,
    "inject": check_inject,
    "rules": check_rules,
    "run": check_run_and_drain,
    "webhook": check_webhook,
}


def test_wheel_has_every_module_its_data_and_no_tests(installed: Installed) -> None:
    """The wheel holds each module of the packages, static files, dashboards, py.typed and the licence."""
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    wanted = {str(path.relative_to(ROOT)) for name in ("exporter", "grafana") for path in (ROOT / name).rglob("*.py")}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "exporter" / "admin" / "static").iterdir()}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "grafana" / "dashboards").glob("*.json")}
    wanted |= {"exporter/py.typed", "grafana/py.typed"}
    assert wanted - names == set()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"exporter", "grafana"}


def test_wheel_in_clean_environment_is_complete(installed: Installed) -> None:
    """pip finds each requirement of the wheel among the pins, and the command prints its version."""
    done = installed.pip("check")
    assert done.returncode == 0, done.stdout
    assert installed.run("--version").split()[-1] == __version__


def test_wheel_has_a_check_for_every_command() -> None:
    """Each command of the command line is tried below."""
    assert CHECKS.keys() == set(cli.list_commands(click.Context(cli)))


@pytest.mark.parametrize("command", CHECKS)
def test_command_of_wheel_outside_the_checkout_works(installed: Installed, command: str) -> None:
    """The installed command does its work, with nothing of the checkout on its path."""
    CHECKS[command](installed)


def test_types_of_wheel_are_seen_by_mypy(installed: Installed) -> None:
    """A program that uses the package is checked against its annotations."""
    program = installed.work / "program.py"
    program.write_text("from exporter.units import parse_duration\n\nreveal_type(parse_duration('1s'))\n")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir=/dev/null"]
    python = f"--python-executable={installed.root / 'bin' / 'python'}"
    done = subprocess.run(
        [*mypy, python, str(program)],
        cwd=installed.work,
        env=installed.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert 'Revealed type is "' in done.stdout
    assert '"Any"' not in done.stdout
