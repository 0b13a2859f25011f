"""The runbooks: one per alert, with commands and queries that can be copied."""

from __future__ import annotations

import re
from typing import Any

import promql_parser
import pytest
import yaml

from exporter.config import options
from exporter.observe import catalogue
from grafana.source.alerts import alerts
from grafana.source.config import Config
from grafana.source.generate import HERE
from grafana.source.recording_rules import rules

FOLDER = HERE / "docs" / "runbooks"
PAGES = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.md"))}
BOOKS = {name: text for name, text in PAGES.items() if name != "README"}
ALERTS = sorted({alert.name for alert in alerts(Config())})
CHAPTERS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]

#: Metrics of others that pages name; the last is cAdvisor's.
FOREIGN = {
    "up", "process_cpu_seconds_total", "process_open_fds", "process_max_fds", "process_start_time_seconds",
    "container_memory_working_set_bytes",
}  # fmt: skip

each_book = pytest.mark.parametrize("name", BOOKS)


def blocks(text: str, kind: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return [
        re.sub(rf"^{indent}", "", block, flags=re.MULTILINE)
        for indent, block in re.findall(rf"^( *)```{kind}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    ]


def selectors(node: Any) -> list[Any]:
    """Return every vector selector of a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        return [node]
    if isinstance(node, promql_parser.MatrixSelector):
        return [node.vector_selector]
    children = [getattr(node, part, None) for part in ("lhs", "rhs", "expr", "param")] + list(getattr(node, "args", []))
    return [found for child in children if child is not None for found in selectors(child)]


def test_runbooks_and_alerts_correspond_one_to_one() -> None:
    """Each alert has a page, and each page an alert and a row in the table."""
    assert sorted(BOOKS) == ALERTS
    assert sorted(re.findall(r"^\| \[(\w+)\]\(\1\.md\)", PAGES["README"], re.MULTILINE)) == ALERTS


def alerting_rules(path: str) -> list[dict[str, Any]]:
    """Return the rules of one of the files that the alerts are written to."""
    document = yaml.safe_load((HERE / path).read_text())
    return [rule for group in document.get("spec", document)["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("grafana/alerts/rules.yaml", "alert"),
        ("grafana/alerts/prometheusrule.yaml", "alert"),
        ("grafana/provisioning/alerting/rules.yaml", "title"),
    ],
)
def test_alerts_link_to_their_runbooks(path: str, key: str) -> None:
    """In each format, ``runbook_url`` of every alert ends with the page's path."""
    found = [
        (rule[key].partition(" ")[0], rule["annotations"]["runbook_url"])
        for rule in alerting_rules(path)
        if key in rule
    ]
    assert sorted({name for name, _ in found}) == ALERTS
    assert [url for name, url in found if not url.endswith(f"/docs/runbooks/{name}.md")] == []


@each_book
def test_runbook_begins_with_the_first_thing_to_do(name: str) -> None:
    """Below the title stands one thing to do, with a kubectl command, before any explanation."""
    head = BOOKS[name].partition("\n## ")[0]
    assert re.match(rf"# {name}\n\n\*\*Do this first\.\*\* ", head)
    assert any("kubectl -n NAMESPACE " in block for block in blocks(head, "sh"))


#: Subcommands of kubectl that change something.
CHANGES = re.compile(r"kubectl[^#\n]* (rollout undo|scale|delete|rollout restart|apply|patch|edit)\b")


@each_book
def test_command_that_changes_something_stands_in_a_block_of_its_own(name: str) -> None:
    """The first block only reads: pasted whole, it rolls nothing back."""
    found = blocks(BOOKS[name], "sh")
    assert not CHANGES.search(found[0])
    assert all(block.count("\n") == 1 for block in found if CHANGES.search(block))


@each_book
def test_runbook_has_its_chapters(name: str) -> None:
    """Meaning, Impact, Diagnosis and Mitigation, in this order, none empty."""
    assert re.findall(r"^## (.*)$", BOOKS[name], re.MULTILINE) == CHAPTERS
    chapters = re.split(r"^## .*$", BOOKS[name], flags=re.MULTILINE)[1:]
    assert all(len(chapter.strip()) > 30 for chapter in chapters)
    assert len(blocks(chapters[2], "promql")) >= 2


@each_book
def test_runbook_queries_parse_and_are_scoped(name: str) -> None:
    """Each query is PromQL about existing series, and every selector matches namespace and job."""
    own = {metric.name for metric in vars(catalogue).values() if isinstance(metric, catalogue.Metric)}
    recorded = {rule.record for rule in rules(Config())}
    for query in blocks(BOOKS[name], "promql"):
        for selector in selectors(promql_parser.parse(query)):
            matchers = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
            assert matchers["namespace"] == "NAMESPACE", query
            if selector.name != "container_memory_working_set_bytes":
                assert matchers["job"] == "JOB", query
            base = re.sub(r"_(bucket|count|sum)$", "", selector.name)
            assert selector.name in own | recorded | FOREIGN or base in own, selector.name


def test_runbook_selectors_are_found_in_every_query() -> None:
    """The walk over parsed queries reaches selectors: as many names as the text has matchers for the namespace."""
    queries = [query for text in BOOKS.values() for query in blocks(text, "promql")]
    assert len(queries) > 40
    for query in queries:
        assert len(selectors(promql_parser.parse(query))) == query.count('namespace="NAMESPACE"')


@each_book
def test_runbook_commands_are_scoped(name: str) -> None:
    """Each kubectl command names a namespace, and all placeholders are those that the table of runbooks explains."""
    commands = [line for block in blocks(BOOKS[name], "sh") for line in block.splitlines() if "kubectl" in line]
    assert commands
    for command in commands:
        assert command.startswith("kubectl -n NAMESPACE "), command
        words = set(re.findall(r"\b[A-Z]{3,}\b", command.partition(" # ")[0]))
        assert words <= {"NAMESPACE", "JOB", "WORKLOAD", "POD", "CONTAINER"}, command


def test_runbook_options_exist() -> None:
    """Each flag of the sidecar that a page names is one of ``run``, or of ``rules``."""
    named = {flag for text in BOOKS.values() for flag in re.findall(r"`(--[a-z-]+)`", text)}
    assert len(named) >= 5
    assert named <= {option.flag for option in options()}


def test_runbook_links_lead_somewhere() -> None:
    """Every relative link of every page is a file, and its anchor a heading there."""
    links = [
        (path, *link.partition("#")[::2])
        for path in FOLDER.glob("*.md")
        for link in re.findall(r"\]\(([^)]+)\)", path.read_text())
        if "://" not in link
    ]
    assert len(links) >= len(ALERTS)
    for path, file, anchor in links:
        target = path.parent / file
        assert target.is_file(), f"{path.name}: {file}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
