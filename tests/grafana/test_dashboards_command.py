"""`websocket-exporter dashboards DIR`, from the wheel as it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from grafana.source.config import RUNBOOKS

from .variables import FOLDER, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, in a folder of its own."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("exporter", "grafana"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    done = subprocess.run([*command, str(built), str(source)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(built / "site")
    return built / "site"


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with the wheel's modules only."""
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from exporter.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-I", "-c", code, "dashboards", *arguments], capture_output=True, text=True, timeout=60
    )


def test_dashboards_from_the_wheel_are_the_committed_ones(site: Path, tmp_path: Path) -> None:
    """The command creates DIR and writes each committed dashboard unchanged."""
    done = run(site, str(tmp_path / "new" / "dashboards"))
    assert done.returncode == 0, done.stderr
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new" / "dashboards").iterdir()}
    assert written == {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert len(done.stdout.splitlines()) == len(load())


def test_dashboards_with_a_runbook_prefix_link_to_it(site: Path, tmp_path: Path) -> None:
    """--runbooks replaces the prefix of every runbook link, and the result is JSON whatever the URL contains."""
    done = run(site, str(tmp_path), "--runbooks", 'https://wiki.example/"a"/')
    assert done.returncode == 0, done.stderr
    for path in tmp_path.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert RUNBOOKS not in text
        urls = [link["url"] for panel in json.loads(text)["panels"] for link in panel.get("links", ())]
        assert any(url.startswith('https://wiki.example/"a"/WebSocket') for url in urls)


def test_dashboards_into_a_file_is_one_line(site: Path, tmp_path: Path) -> None:
    """A DIR that is a file is refused in one line."""
    (tmp_path / "file").write_text("")
    done = run(site, str(tmp_path / "file"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
