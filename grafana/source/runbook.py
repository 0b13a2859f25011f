"""The form of a runbook: its parts, what several of them share, and how it becomes a page."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.observe import catalogue
from exporter.protocol.enums import Peer
from grafana.source import recording_rules as recording
from grafana.source.config import Config
from grafana.source.promql import SERVICE, increase, metric, sum_by

HEAD = "<!-- Made by `python -m grafana.source`; change grafana/source/runbooks*.py, not this file. -->\n"

PER_POD = (*SERVICE, "pod", "instance")


@dataclass(frozen=True, slots=True)
class Step:
    """One look at the numbers: a sentence that says what to look for, and the query."""

    look: str
    query: str


@dataclass(frozen=True, slots=True)
class Runbook:
    """The page of one alert. ``meaning`` and ``impact`` are paragraphs; ``mitigation`` is a list of things to do."""

    alert: str
    meaning: tuple[str, ...]
    impact: str
    steps: tuple[Step, ...]
    mitigation: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()


def page(book: Runbook) -> str:
    """One runbook as Markdown."""
    parts = [HEAD + f"# {book.alert}", "## Meaning", *book.meaning, "## Impact", book.impact, "## Diagnosis"]
    for number, step in enumerate(book.steps, 1):
        parts.append(f"{number}. {step.look}\n\n" + _indented(f"```promql\n{step.query}\n```"))
    parts.extend(book.elsewhere)
    parts.append("## Mitigation")
    parts.append("\n".join(f"- {what}" for what in book.mitigation))
    return "\n\n".join(parts) + "\n"


def _indented(text: str) -> str:
    return "\n".join("   " + line for line in text.split("\n"))


def closes(*by: str, window: float = 600, **labels: str) -> str:
    """Endings by the server in the last ten minutes."""
    return f"{sum_by(by, increase(metric(catalogue.CLOSED, initiator=Peer.SERVER, **labels), window))} > 0"


def changes(config: Config) -> Step:
    return Step("Is a deploy going on? Empty means that no pod drained, went or came.", recording.pods_changing(config))


LOGS = (
    "The sidecar's log has a line `session.closed` for every abnormal ending, with the path, the reason text, the last "
    "frames and the trace id; the admin port shows the last 500 at `/closes`, with filters for code, cause and route."
)
