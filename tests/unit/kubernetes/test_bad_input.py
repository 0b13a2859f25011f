"""Bad input: one line on stderr that names the document and the field, exit status 2, nothing on stdout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from exporter.kubernetes.command import inject
from tests.unit.kubernetes.manifests import deployment, service


def changed(path: str, value: Any, **container: Any) -> str:
    """A Deployment with the value at a path (dots, numbers for list items) replaced, as JSON."""
    obj = deployment(**container)
    target: Any = obj
    *keys, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    for key in keys:
        target = target.setdefault(key, {}) if isinstance(target, dict) else target[key]
    target[last] = value
    return json.dumps(obj)


POD = "spec/template/spec"
CONTAINERS = "spec.template.spec.containers"
ANNOTATIONS = "spec/template/metadata/annotations"

BAD: list[tuple[str, str, list[str], str]] = [
    (
        "no port",
        json.dumps(deployment(ports=[])),
        ["--strict"],
        f"{CONTAINERS}: no container declares a TCP port; choose with",
    ),
    (
        "several ports",
        json.dumps(deployment(extra_ports=[{"name": "metrics", "containerPort": 9090}])),
        [],
        f"{CONTAINERS}: there are several ports (chat http 8080, chat metrics 9090); choose with --port",
    ),
    (
        "unknown port name",
        json.dumps(deployment()),
        ["--port", "ws"],
        "no container declares a TCP port named 'ws'",
    ),
    ("unknown container", json.dumps(deployment()), ["--container", "web"], "no container is named 'web'"),
    ("no containers", changed(f"{POD}/containers", []), [], f"{CONTAINERS}: there is no container"),
    (
        "containers of a wrong type",
        changed(f"{POD}/containers", "chat"),
        [],
        f"{CONTAINERS}: must be a list, is a string",
    ),
    (
        "a container of a wrong type",
        changed(f"{POD}/containers", ["chat"]),
        [],
        f"{CONTAINERS}[0]: must be a mapping",
    ),
    (
        "a port of a wrong type",
        json.dumps(deployment(ports=[{"containerPort": "x"}])),
        [],
        "ports[0].containerPort: must be",
    ),
    ("a port out of range", json.dumps(deployment(ports=[{"containerPort": 70000}])), [], "is 70000"),
    ("no template", changed("spec/template", None), [], "spec.template: must be a mapping, is nothing"),
    ("no pod spec", changed(POD, None), [], "spec.template.spec: must be a mapping, is nothing"),
    (
        "labels of a wrong type",
        changed("spec/template/metadata/labels", {"v": 1}),
        [],
        "labels.v: must be a string, is a number (1)",
    ),
    (
        "a grace period of a wrong type",
        changed(f"{POD}/terminationGracePeriodSeconds", "30s"),
        [],
        "terminationGracePeriodSeconds: must be",
    ),
    (
        "Windows",
        changed(f"{POD}/os", {"name": "windows"}),
        [],
        "spec.template.spec.os: the sidecar runs on Linux",
    ),
    (
        "our port in use",
        json.dumps(deployment(ports=[{"containerPort": 10011}])),
        [],
        "port 10011 is the sidecar's; choose another with --admin-port",
    ),
    (
        "unknown annotation",
        changed(ANNOTATIONS, {"websocket-exporter/prot": "1"}),
        [],
        "annotations.websocket-exporter/prot: unknown annotation",
    ),
    (
        "bad annotation",
        changed(ANNOTATIONS, {"websocket-exporter/drain-spread": "soon"}),
        [],
        "drain-spread: 'soon': expected seconds",
    ),
    (
        "bad boolean",
        changed(ANNOTATIONS, {"websocket-exporter/native": "yes"}),
        [],
        "native: 'yes': expected one of true, false",
    ),
    (
        "annotation on the workload",
        changed("metadata/annotations", {"websocket-exporter/port": "http!"}),
        [],
        "metadata.annotations.websocket-exporter/port: 'http!'",
    ),
    (
        "contradiction",
        changed(ANNOTATIONS, {"websocket-exporter/drain-timeout": "1s"}),
        [],
        "drain-timeout 1s is shorter than",
    ),
    (
        "spoilt note",
        changed(ANNOTATIONS, {"websocket-exporter/original": "{"}),
        [],
        "is damaged",
    ),
    (
        "annotation of a Service",
        json.dumps(deployment()) + json.dumps(service(annotations={"websocket-exporter/port": "1"})),
        [],
        "document 2, Service chat: metadata.annotations.websocket-exporter/port",
    ),
    (
        "ports of a Service",
        json.dumps(deployment()) + json.dumps({**service(), "spec": {"selector": {"app": "chat"}, "ports": 5}}),
        [],
        "Service chat: spec.ports: must be a list",
    ),
    (
        "in a List",
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [service(), deployment(ports=[])]}),
        ["--strict"],
        "document 1, items[1], Deployment chat",
    ),
    ("a scalar", "just text", ["--strict"], "document 1: must be a Kubernetes object, is a string"),
    ("a list", "- a\n- b\n", ["--strict"], "document 1: must be a Kubernetes object, is a list"),
    ("no kind", "apiVersion: v1\n", ["--strict"], "document 1: kind: must be a string, is nothing"),
    ("not YAML", "kind: Pod\n---\n\nkind: [\n", [], "document 2: line 5, column 1:"),
    ("a template of Helm", "kind: Pod\nmetadata:\n  name: {{ .Name }}\n", [], "document 1: line 3"),
    ("keys twice", "kind: Pod\nkind: Job\n", [], "line 2, column 1: found duplicate key"),
    ("JSON cut short", '{"kind": "Pod", ', [], "document 1: line 1"),
    (
        "holds itself",
        "kind: Pod\nspec: &a\n  x: *a\n",
        [],
        "document 1: is nested deeper than 100 levels",
    ),
    ("a control character", "kind: \x07\n", [], "document 1: cannot be read"),
]


@pytest.mark.parametrize(("text", "flags", "expected"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_one_line_names_document_and_field(text: str, flags: list[str], expected: str) -> None:
    """Nothing on stdout, one line on stderr with the place and the fault, no traceback, exit status 2."""
    result = CliRunner().invoke(inject, ["--image=x:1", *flags], input=text)
    assert result.exit_code == 2, (result.stdout, result.stderr)
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("websocket-exporter inject: stdin: document ")
    assert expected in result.stderr


def test_a_good_document_before_a_bad_one_is_not_written() -> None:
    """All or nothing: the first document would be fine, and is not written."""
    text = json.dumps(deployment()) + "\n" + json.dumps(deployment(name="bad", ports=[]))
    result = CliRunner().invoke(inject, ["--image=x:1", "--strict"], input=text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "document 2, Deployment bad" in result.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The file is named."""
    result = CliRunner().invoke(inject, ["--image=x:1", "-f", str(tmp_path / "none.yaml")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"websocket-exporter inject: {tmp_path}/none.yaml: No such file or directory\n"


def test_bytes_that_are_not_text() -> None:
    """Not UTF-8: the first bad byte is named."""
    result = CliRunner().invoke(inject, ["--image=x:1"], input=b"kind: \xff\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "websocket-exporter inject: stdin: byte 6 is not UTF-8\n"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--drain-timeout", "soon"], "'--drain-timeout': 'soon': expected seconds (5, 0.5) or numbers with units"),
        (["--listen-port", "0"], "'--listen-port': '0': expected a port number"),
        (["--listen-port", "10011"], "listen-port and admin-port are both 10011"),
        (["--route", "chat"], "'--route': 'chat': expected a pattern for paths"),
        (["--drain-grace", ".5"], "'--drain-grace': '.5': expected seconds"),
        (["--scrape", "push"], "'--scrape': 'push': expected one of annotations, podmonitor, none"),
        (["--memory-limit", "much"], "'--memory-limit': 'much': expected a memory quantity"),
        (["--kubernetes", "latest"], "'--kubernetes': 'latest': expected a Kubernetes version"),
        (["--image", ""], "'--image': '': expected an image reference"),
        (["--nonsense"], "No such option"),
    ],
)
def test_bad_flags(flags: list[str], expected: str) -> None:
    """A flag that does not fit is named with its value and what is accepted; exit status 2."""
    result = CliRunner().invoke(inject, ["--image=x:1", *flags], input=json.dumps(deployment()))
    assert (result.exit_code, result.stdout) == (2, "")
    assert expected in result.stderr


def test_empty_input_passes_with_a_warning() -> None:
    """Nothing in, nothing out, and it is said."""
    result = CliRunner().invoke(inject, ["--image=x:1"], input="")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no workload in the input" in result.stderr
