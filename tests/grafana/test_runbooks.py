"""The runbooks: whoever is paged finds one, and what it says to paste works."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.config import options
from exporter.protocol.close_codes import REGISTRY
from grafana.source.alerts import alerts
from grafana.source.config import Config
from grafana.source.generate import HERE
from grafana.source.runbook import Runbook
from grafana.source.runbooks import runbooks

FOLDER = HERE / "docs" / "runbooks"
BOOKS = runbooks(Config())
ALERTS = sorted({alert.name for alert in alerts(Config())})
#: A chapter each, in this order.
CHAPTERS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]

each_book = pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.alert)


def text(book: Runbook) -> str:
    return (FOLDER / f"{book.alert}.md").read_text()


def test_each_alert_has_its_runbook_and_no_runbook_is_without_its_alert() -> None:
    """One to one, in the source and on the disk."""
    assert sorted(book.alert for book in BOOKS) == ALERTS
    assert sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "README") == ALERTS


def rules(path: str) -> list[dict[str, Any]]:
    """The rules of one of the files that the alerts are written to, whatever its kind."""
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
def test_each_alert_links_to_its_runbook(path: str, key: str) -> None:
    """In each of the forms that alerts come in, ``runbook_url`` of every rule ends with the page's path."""
    found = [(rule[key].partition(" ")[0], rule["annotations"]["runbook_url"]) for rule in rules(path) if key in rule]
    assert sorted({name for name, _ in found}) == ALERTS
    assert [url for name, url in found if not url.endswith(f"/docs/runbooks/{name}.md")] == []


def test_options_that_pages_name_exist() -> None:
    """What a page says to set is a flag of ``run``."""
    named = {flag for book in BOOKS for flag in re.findall(r"`(--[a-z-]+)`", text(book))}
    assert len(named) >= 5
    assert named <= {option.flag for option in options()}


@each_book
def test_the_chapters_are_where_they_are_looked_for(book: Runbook) -> None:
    """Meaning, Impact, Diagnosis, Mitigation, none empty; a query under each step of the diagnosis."""
    assert re.findall(r"^## (.*)$", text(book), re.MULTILINE) == CHAPTERS
    chapters = re.split(r"^## .*$", text(book), flags=re.MULTILINE)[1:]
    assert all(len(chapter.strip()) > 30 for chapter in chapters)
    assert text(book).count("```promql") == len(book.steps) >= 2
    assert len(book.mitigation) >= 2


def test_promtool_takes_every_query(tmp_path: Path) -> None:
    """Each query of each page, as it stands there, is PromQL."""
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install prometheus"
    queries = [query for book in BOOKS for query in re.findall(r"```promql\n(.*?)```", text(book), re.DOTALL)]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout


def test_what_codes_mean_is_what_the_registry_says() -> None:
    """1011 with its remedy, 1001 and 1012, 1006: the sentences of ``explain``, not others."""
    pages = {book.alert: text(book) for book in BOOKS}
    bug = pages["WebSocketInternalErrorSpike"]
    assert REGISTRY[1011].meaning in bug
    assert REGISTRY[1011].remedy in bug
    assert "back off exponentially" in pages["WebSocketReconnectStorm"]
    assert f"1006, {REGISTRY[1006].name}. {REGISTRY[1006].meaning}" in pages["WebSocketAppDropsConnections"]
    for code in (1001, 1012):
        assert f"{code}, {REGISTRY[code].name}. {REGISTRY[code].meaning}" in pages["WebSocketUnexpectedGoingAway"]
    assert REGISTRY[1001].remedy in pages["WebSocketUnexpectedGoingAway"]


def test_links_between_the_pages_lead_somewhere() -> None:
    """Every relative link of every page is a file."""
    links = [
        (path, link)
        for path in FOLDER.glob("*.md")
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text())
        if "://" not in link
    ]
    assert len(links) >= len(ALERTS)
    assert [link for path, link in links if not (path.parent / link).is_file()] == []
