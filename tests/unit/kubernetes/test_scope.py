"""Which objects inject changes: --only, --strict, --pod-template-path, --diff, and what passes through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from exporter.kubernetes.command import inject
from exporter.kubernetes.workloads import TEMPLATES
from tests.unit.kubernetes.manifests import IMAGE, deployment, documents, pod_template, service


def run(*flags: str, text: str) -> Result:
    return CliRunner().invoke(inject, [f"--image={IMAGE}", *flags], input=text)


def stream(*objects: Any) -> str:
    return "\n".join(json.dumps(one) for one in objects)


def has_sidecar(obj: Any) -> bool:
    return "websocket-exporter/original" in json.dumps(obj)


def test_only_changes_the_named_workload() -> None:
    """Other workloads keep their bytes, also those that could not be injected, and the kind's case does not count."""
    several = deployment(name="other", extra_ports=[{"containerPort": 9090}])
    text = stream(several, deployment())
    result = run("--only", "deployment/chat", text=text)
    assert result.exit_code == 0, result.stderr
    other, chat = documents(result.stdout)
    assert [has_sidecar(other), has_sidecar(chat)] == [False, True]
    assert result.stdout.startswith(json.dumps(several))


def test_only_of_a_workload_that_is_not_there_fails() -> None:
    """A misspelt name is an error, not a run that changes nothing."""
    result = run("--only", "Deployment/caht", text=stream(deployment()))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--only Deployment/caht: there is no such workload in the input" in result.stderr


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("Deployment/chat", json.dumps(deployment(ports=[])), "no container declares a TCP port"),
        (
            "App/chat",
            json.dumps({"kind": "App", "metadata": {"name": "chat"}, "spec": {"template": pod_template()}}),
            "pass --pod-template-path App=spec.template",
        ),
    ],
    ids=["no port", "unknown kind"],
)
def test_only_of_a_workload_that_takes_no_sidecar_is_an_error(name: str, text: str, expected: str) -> None:
    """A workload that is asked for by name is not passed through in silence."""
    result = run("--only", name, text=text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert expected in result.stderr


def test_only_of_a_helm_hook_injects_it() -> None:
    """A hook that is asked for by name gets its sidecar."""
    result = run("--only", "Pod/test", text=stream(HOOK))
    assert result.exit_code == 0, result.stderr
    assert has_sidecar(documents(result.stdout)[0])


def test_only_keeps_the_service_of_a_workload_of_an_earlier_run() -> None:
    """A Service over a workload that an earlier run injected still sends clients to its sidecar."""
    other = deployment(name="other")
    other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    first = run(text=stream(deployment(), service(), other)).stdout
    again = run("--only", "Deployment/other", "--drain-timeout", "40s", text=first)
    assert again.exit_code == 0, again.stderr
    assert documents(again.stdout)[:2] == documents(first)[:2]
    assert documents(again.stdout)[2] != documents(first)[2]


def test_only_of_one_of_two_workloads_behind_a_number_is_refused() -> None:
    """A Service by number cannot reach one workload's sidecar and the other's app."""
    result = run("--only", "Deployment/chat", text=stream(deployment(), deployment(name="old"), service()))
    assert result.exit_code == 2
    assert "name that port alike in both" in result.stderr


def test_remove_with_only_leaves_the_others_injected() -> None:
    """--remove --only restores one workload and its Service."""
    other = deployment(name="other")
    other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    injected = run(text=stream(deployment(), service(), other)).stdout
    result = run("--remove", "--only", "Deployment/chat", text=injected)
    chat, front, kept = documents(result.stdout)
    assert [chat, front] == [deployment(), service()]
    assert has_sidecar(kept)


def test_remove_needs_no_image() -> None:
    """--remove works without --image."""
    injected = run(text=stream(deployment())).stdout
    result = CliRunner().invoke(inject, ["--remove"], input=injected, env={"WEBSOCKET_EXPORTER_IMAGE": None})
    assert (result.exit_code, documents(result.stdout)) == (0, [deployment()])


HOOK = {"apiVersion": "v1", "kind": "Pod", **pod_template()}
HOOK["metadata"] = {"name": "test", "annotations": {"helm.sh/hook": "test-success"}}
REFERRING = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {"workloadRef": {"name": "chat"}}}
UNKNOWN = {"apiVersion": "example.com/v1", "kind": "App", "spec": {"pods": {"template": pod_template()}}}

PASSED_THROUGH: dict[str, tuple[Any, str]] = {
    "no TCP port": (deployment(ports=[]), "no container declares a TCP port"),
    "Helm hook": (HOOK, "is a Helm hook (test-success)"),
    "workloadRef": (REFERRING, "is elsewhere (workloadRef)"),
    "unknown kind": (UNKNOWN, "pass --pod-template-path App.example.com=spec.pods.template"),
    "no kind": ({"replicas": 1}, "kind: must be a string, is nothing"),
    "a list": ([1], "must be a Kubernetes object, is a list"),
}


@pytest.mark.parametrize(("obj", "reason"), PASSED_THROUGH.values(), ids=PASSED_THROUGH.keys())
def test_inject_passes_through_what_takes_no_sidecar(obj: Any, reason: str) -> None:
    """Its bytes stay, one warning names it, and the workload beside it is injected."""
    text = f"{json.dumps(obj)}\n---\n{json.dumps(deployment())}\n"
    result = run(text=text)
    assert result.exit_code == 0, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "(passed through)" in line]
    assert "stdin: document 1" in line
    assert reason in line
    assert result.stdout.startswith(f"{json.dumps(obj)}\n---\n")
    assert has_sidecar(documents(result.stdout)[1])


@pytest.mark.parametrize(("obj", "reason"), PASSED_THROUGH.values(), ids=PASSED_THROUGH.keys())
def test_strict_makes_it_an_error(obj: Any, reason: str) -> None:
    """With --strict the same is an error in one line, and nothing is written."""
    result = run("--strict", text=f"{json.dumps(obj)}\n---\n{json.dumps(deployment())}\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_inject_true_on_a_workload_without_port_is_an_error() -> None:
    """A workload that asks for a sidecar is not passed through in silence."""
    obj = deployment(ports=[])
    obj["metadata"]["annotations"] = {"websocket-exporter/inject": "true"}
    result = run(text=stream(obj))
    assert result.exit_code == 2
    assert "no container declares a TCP port" in result.stderr


def test_pod_template_path_injects_a_custom_kind() -> None:
    """A kind given by flag is injected where its template is, and --remove with the flag restores it."""
    flag = "--pod-template-path=App.example.com=spec.pods.template"
    result = run(flag, text=stream(UNKNOWN))
    assert result.exit_code == 0, result.stderr
    (after,) = documents(result.stdout)
    assert has_sidecar(after["spec"]["pods"]["template"])
    assert documents(run(flag, "--remove", text=result.stdout).stdout) == [UNKNOWN]


@pytest.mark.parametrize("text", ["App", "=spec", "App.example.com=", "App=spec..template"])
def test_pod_template_path_invalid_is_refused(text: str) -> None:
    """A value without kind or path is named, with an example."""
    result = run(f"--pod-template-path={text}", text=stream(UNKNOWN))
    assert result.exit_code == 2
    assert "expected KIND.GROUP=PATH" in result.stderr


@pytest.mark.parametrize("resource", sorted(key for key, path in TEMPLATES.items() if path))
def test_known_kinds_are_injected(resource: str) -> None:
    """Every built-in kind gets one sidecar at its path, without a flag."""
    inner: Any = pod_template()
    kind, _, group = resource.partition(".")
    for key in reversed(TEMPLATES[resource].split(".")):
        inner = {key: inner}
    obj = {"apiVersion": f"{group}/v1" if group else "v1", "kind": kind, "metadata": {"name": "chat"}, **inner}
    result = run(text=stream(obj))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("readOnlyRootFilesystem") == 1


def test_diff_prints_the_changes_of_each_file(tmp_path: Path) -> None:
    """--diff names every file that changes, applies to it, and prints no manifest."""
    chat, settings = tmp_path / "chat.json", tmp_path / "settings.json"
    chat.write_text(json.dumps(deployment(), indent=2) + "\n")
    settings.write_text('{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}\n')
    result = run("--diff", "-f", str(settings), "-f", str(chat), text="")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:2] == [f"--- {chat}", f"+++ {chat} (after)"]
    assert str(settings) not in result.stdout
    removed = [line[1:] for line in lines[2:] if line.startswith("-")]
    assert set(removed) <= set(chat.read_text().splitlines())
    assert any('"websocket-exporter/sidecar": "true"' in line for line in lines if line.startswith("+"))
