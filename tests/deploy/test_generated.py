"""Generated files below deploy/ are as their sources say."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter import __version__
from scripts import deploy_files
from tests.deploy.tools import CHART, KUSTOMIZE, objects


def test_nothing_has_drifted(capsys: pytest.CaptureFixture[str]) -> None:
    """scripts/deploy_files.py would write what is there."""
    assert deploy_files.main(check=True) == 0, capsys.readouterr().err


def test_drift_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that differs is named, and the check fails."""
    changed = KUSTOMIZE / "component" / "sidecar.yaml"
    monkeypatch.setattr(deploy_files, "files", lambda: iter([(changed, "something else\n")]))
    monkeypatch.setattr(deploy_files, "present", lambda: iter(list[Path]()))
    assert deploy_files.main(check=True) == 1
    assert "deploy/kubernetes/component/sidecar.yaml is not as generated" in capsys.readouterr().err


def test_versions_are_one() -> None:
    """Chart, component and package speak of the same version."""
    chart = objects((CHART / "Chart.yaml").read_text().replace("apiVersion: v2\n", "kind: Chart\n"))[0]
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    component = objects((KUSTOMIZE / "component" / "kustomization.yaml").read_text())[0]
    (image,) = component["images"]
    assert f"{image['newName']}:{image['newTag']}" == f"websocket-exporter:{__version__}"
