"""The documents agree with the code, with each other and with the files of the repository."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from prometheus_client import CollectorRegistry

from exporter.admin.server import Admin, AdminBackend
from exporter.cli import cli
from exporter.config import options
from exporter.observe.catalogue import CATALOGUE
from exporter.protocol.enums import Cause

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "tests/load/*.md", "deploy/**/*.md")
    for path in ROOT.glob(pattern)
)
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
#: Documents that speak of the present alone; the changelog names flags and files of the past as well.
PRESENT = [name for name in NAMES if name != "CHANGELOG.md"]
LINES_AT_MOST = {"README.md": 70, "docs/performance.md": 80, "docs/reliability.md": 150, "docs/quickstart.md": 120}
#: Words that stand for a noun of the glossary; the limit is for all documents together.
VAGUE = re.compile(r"\b(what|told|tell|whoever)\b", re.I)
VAGUE_AT_MOST = 10

#: Flags of other tools, in code spans of their own.
FOREIGN = {"--set", "--network", "--forwarded-allow-ips"}

FENCE = re.compile(r"^```.*?^```", re.S | re.M)
INDENTED = re.compile(r"(?:^(?: {4}|\t).*\n?)+", re.M)
SPAN = re.compile(r"`([^`\n]+)`")


def text_of(name: str) -> str:
    """Return a document's text without generated tables."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"<!-- .*?generated.*?-->.*?<!-- end -->", "", text, flags=re.S)


def blocks(name: str) -> str:
    """Return the lines of all code blocks of a document."""
    text = text_of(name)
    fenced = [block.partition("\n")[2].rpartition("\n")[0] for block in FENCE.findall(text)]
    indented = [match[0] for match in INDENTED.finditer(FENCE.sub("", text))]
    return "\n".join(re.sub(r"^(?: {4}|\t)", "", line) for part in fenced + indented for line in part.splitlines())


def spans(name: str) -> list[str]:
    """Return the code spans of a document's prose."""
    return SPAN.findall(FENCE.sub("", text_of(name)))


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.M)
    words = [re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.strip())) for heading in headings]
    return {word.lower().replace(" ", "-") for word in words}


def commands(group: click.Command = cli) -> dict[str, click.Command]:
    """Return every command by its name."""
    assert isinstance(group, click.Group)
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def flags_of(command: click.Command) -> set[str]:
    """Return the flags that a command accepts."""
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


OUR_FLAGS = {"--help", "--version"}.union(*(flags_of(command) for command in commands().values()))


def command_lines(name: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of the command line in a document's code blocks."""
    for line in blocks(name).replace("\\\n", " ").splitlines():
        line = re.sub(r"^[$#] ", "", line)
        for part in re.split(r"\||&&|;|(?<=\s)&(?=\s)", re.sub(r"\s#\s.*$", "", line)):
            words = re.sub(r"[<>]\s*\S+", "", part)
            if match := re.search(r"(?:^|\s)(?:\S*/)?websocket-exporter\s+([a-z]+(?:\s.*)?)$", words.strip()):
                arguments = shlex.split(match[1])
                if arguments[0] in commands():
                    yield arguments


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings_that_exist(name):
    """Each relative link of a document resolves, its anchor included."""
    path = ROOT / name
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("name", PRESENT)
def test_flags_and_variables_in_documents_exist(name):
    """Each flag in a code span, and each WEBSOCKET_EXPORTER_ variable, is one that a command accepts."""
    ours = [span for span in spans(name) if re.match(r"--[a-z]|(\S*/)?websocket-exporter\s", span)]
    unknown = {flag for span in ours for flag in re.findall(r"--[a-z][a-z0-9-]+", span)} - OUR_FLAGS - FOREIGN
    variables = set(re.findall(r"\bWEBSOCKET_EXPORTER_[A-Z_]+\b", text_of(name)))
    known = {option.variable for option in options()}
    known |= {"WEBSOCKET_EXPORTER_" + flag[2:].upper().replace("-", "_") for flag in OUR_FLAGS}
    known |= {"WEBSOCKET_EXPORTER_COMPILE"}
    assert (unknown, variables - known) == (set(), set())


@pytest.mark.parametrize("name", PRESENT)
def test_metrics_in_documents_exist(name):
    """Each metric that a document names is in the catalogue."""
    known = {metric.name for metric in CATALOGUE}
    series = known | {metric + suffix for metric in known for suffix in ("_bucket", "_sum", "_count", "_created")}
    named = re.findall(r"(?<![\w:/-])websocket_[a-z_]+(?![\w:*])", text_of(name))
    assert {metric for metric in named if metric not in series} == set()


@pytest.mark.parametrize("name", PRESENT)
def test_files_in_documents_exist(name):
    """Each path of the repository in a code span leads to a file or folder."""
    folders = "exporter|tests|docs|deploy|grafana|scripts|benchmarks|requirements|\\.github"
    missing = []
    for span in spans(name):
        for path in re.findall(rf"(?<![\w./-])(?:{folders})/[\w./*-]*[\w*/]", span):
            if not list(ROOT.glob(path.rstrip("/"))):
                missing.append(path)
    assert missing == []


def test_reference_lists_the_commands():
    """The commands in docs/reference.md are those of the command line."""
    text = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `websocket-exporter ([a-z]+)", text, re.M)) == set(commands())


def test_reference_lists_the_endpoints():
    """The endpoints in docs/reference.md are those that the admin port serves."""
    backend = AdminBackend(*(lambda: None for _ in range(7)))  # type: ignore[arg-type]  # not called
    router = Admin(CollectorRegistry(), backend).application().router
    served = {(route.method, route.resource.canonical) for route in router.routes() if route.resource is not None}
    text = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(GET|POST) (/[^`]*)`", text, re.M)
    assert {(method, re.sub("<.*>", "{}", path)) for method, path in listed} == {
        (method, re.sub("{.*}", "{}", path)) for method, path in served if method != "HEAD"
    }


@pytest.mark.parametrize("name", PRESENT)
def test_make_targets_in_documents_exist(name):
    """Each `make` target that a document names is in the Makefile."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = {m for text in (*spans(name), *blocks(name).splitlines()) for m in re.findall(r"^make ([a-z-]+)", text)}
    assert named - targets == set()


@pytest.mark.parametrize("name", PRESENT)
def test_commands_in_documents_parse(name, tmp_path, monkeypatch):
    """Each command line in a code block is one that the command's own parser accepts."""
    monkeypatch.chdir(tmp_path)
    for arguments in command_lines(name):
        for word in arguments:
            if re.fullmatch(r"[\w./-]+\.(ya?ml|pem|crt|key|json)", word):
                (tmp_path / word).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / word).touch()
        command = commands()[arguments[0]]
        if not {"--help", "-h"} & set(arguments):
            command.make_context(arguments[0], arguments[1:])


@pytest.mark.parametrize("script", ["scripts/reference.py", "scripts/performance.py", "scripts/diagnosis.py"])
def test_generated_tables_are_up_to_date(script):
    """Tables in documents are those that the code and the benchmarks' results make."""
    check = subprocess.run(
        [sys.executable, script, "--check"],
        cwd=ROOT,
        env={"PYTHONPATH": "."},
        capture_output=True,
        text=True,
    )
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize("name", ["docs/reference.md", "docs/diagnosis.md"])
def test_causes_are_all_documented(name):
    """Every cause that a close can have is in the reference and in the diagnosis."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert {cause.value for cause in Cause if f"`{cause.value}`" not in text} == set()


def test_design_names_every_module():
    """docs/design.md lists each module of the package, and none that does not exist."""
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    layout = re.search(r"^    exporter/\n(?:(?:    .*)?\n)+", text, re.M)
    assert layout is not None
    listed: set[str] = set()
    folder = ""
    for line in layout[0].splitlines()[1:]:
        indent = len(line) - len(line.lstrip())
        head = re.match(r" +([a-z0-9_]+)/", line)
        if indent == 6:
            folder = f"{head[1]}/" if head else ""
        inner = f"{folder}{head[1]}/" if head and indent > 6 else folder
        listed.update(inner + module for module in re.findall(r"(?<![\w/])[a-z0-9_]+\.py", line))
    package = ROOT / "exporter"
    there = {str(path.relative_to(package)) for path in package.rglob("*.py") if not path.name.startswith("__")}
    assert (there - listed, listed - there) == (set(), set())


@pytest.mark.parametrize(("name", "limit"), LINES_AT_MOST.items())
def test_documents_stay_short(name, limit):
    """Documents that are read from top to bottom keep to their length."""
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= limit


def test_documents_name_things():
    """Documents say the noun instead of a free relative clause."""
    text = "\n".join(FENCE.sub("", text_of(name)) for name in PRESENT)
    assert len(VAGUE.findall(INDENTED.sub("", text))) <= VAGUE_AT_MOST
