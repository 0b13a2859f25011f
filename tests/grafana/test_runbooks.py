"""The runbooks: whoever is paged finds one, and what it says to paste works."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from exporter.protocol.closecodes import REGISTRY
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


def test_each_alert_links_to_its_runbook() -> None:
    """In all three forms that alerts come in, ``runbook_url`` ends with the page's path in the repository."""
    found = 0
    for path in (HERE / "grafana").rglob("*.yaml"):
        for name, url in re.findall(
            r"alert(?:name)?: (WebSocket\w+).*?runbook_url: (\S+)", path.read_text(), re.DOTALL
        ):
            assert url.strip("'\"").endswith(f"/docs/runbooks/{name}.md"), path
            found += 1
    assert found >= 2 * len(ALERTS)


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
        assert f"{code} ({REGISTRY[code].name})" in pages["WebSocketUnexpectedGoingAway"]


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
