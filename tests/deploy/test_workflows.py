""".github/workflows, linted, and the builds of a release as far as they can be tried without its runners."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.tools import ROOT, call

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
IDS = [path.stem for path in WORKFLOWS]
PINNED = re.compile(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def program(name: str) -> str:
    """Return the path of a program beside the interpreter, or on the path. Skip the test if it is not there."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (requirements/release.txt)")
    return found


def jobs(path: Path) -> dict[str, Any]:
    """Return the jobs of a workflow."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())["jobs"]
    return found


def scripts(path: Path) -> list[str]:
    """Return the commands of all steps of a workflow."""
    return [step["run"] for job in jobs(path).values() for step in job["steps"] if "run" in step]


def test_workflows_with_actionlint_have_no_problem() -> None:
    """actionlint finds no error in syntax, expressions, contexts, permissions or scripts."""
    done = call(program("actionlint"), "-no-color", *map(str, WORKFLOWS))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert IDS == ["release", "tests"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=IDS)
def test_actions_of_workflow_are_pinned_by_commit(path: Path) -> None:
    """Each action is named by a full commit, with its version beside it, the same version everywhere."""
    uses = re.findall(r"uses: (.*)", path.read_text())
    assert uses
    assert [action for action in uses if not PINNED.fullmatch(action)] == []
    everywhere = {action for other in WORKFLOWS for action in re.findall(r"uses: (.*)", other.read_text())}
    assert len(everywhere) == len({action.partition("@")[0] for action in everywhere})


@pytest.mark.parametrize("path", WORKFLOWS, ids=IDS)
def test_jobs_of_workflow_have_few_permissions_and_a_timeout(path: Path) -> None:
    """By default a job may at most read the repository; each ends after a time; no checkout keeps the token."""
    assert yaml.safe_load(path.read_text())["permissions"] in ({}, {"contents": "read"})
    for name, job in jobs(path).items():
        assert job["timeout-minutes"] <= 90, name
        for step in job["steps"]:
            if "actions/checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False, name


@pytest.mark.parametrize("path", WORKFLOWS, ids=IDS)
def test_commands_of_workflow_name_targets_and_files_that_exist(path: Path) -> None:
    """Each target of make, script and requirements file that a step names is in the repository."""
    text = "\n".join(scripts(path))
    targets = set(re.findall(r"(?m)^make ([a-z-]+)", text))
    for job in jobs(path).values():
        targets |= set(job.get("strategy", {}).get("matrix", {}).get("target", ()))
    assert targets <= set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    files = re.findall(r"\b(?:scripts|requirements|deploy)/[\w./-]+", text)
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert targets or files


def test_release_publishes_nothing_before_all_is_built() -> None:
    """Jobs with a token to sign or publish need, directly or not, the job that compares the versions."""
    release = jobs(ROOT / ".github" / "workflows" / "release.yml")

    def needed(name: str) -> set[str]:
        direct = release[name].get("needs", [])
        names = {direct} if isinstance(direct, str) else set(direct)
        return names.union(*(needed(other) for other in names))

    for name, job in release.items():
        publishes = "id-token" in job["permissions"] or job["permissions"].get("contents") == "write"
        assert publishes == name.startswith("publish-"), name
        assert name == "version" or "version" in needed(name)
    assert needed("publish-notes") == release.keys() - {"publish-notes"}


def test_cibuildwheel_builds_each_supported_python_for_both_architectures() -> None:
    """The identifiers that cibuildwheel would build are those of the classifiers, on x86_64 and aarch64."""
    done = call(program("cibuildwheel"), "--print-build-identifiers", "--platform", "linux", str(ROOT))
    assert done.returncode == 0, done.stderr
    versions = re.findall(r"Python :: 3\.(\d+)", (ROOT / "pyproject.toml").read_text())
    assert len(versions) >= 3
    wanted = {f"cp3{version}-manylinux_{arch}" for version in versions for arch in ("x86_64", "aarch64")}
    assert set(done.stdout.split()) == wanted


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.stem)
def test_requirements_are_pinned_with_hashes(path: Path) -> None:
    """Each line of a requirements file is one version with the hashes of its files."""
    lines = [line for line in path.read_text().replace("\\\n", " ").splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"\S+==\S+(\s+--hash=sha256:[0-9a-f]{64})+", line)] == []
