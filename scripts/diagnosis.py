"""Write the table of stacks in docs/diagnosis.md from the tests' outcomes; --check reports whether it is up to date."""

from __future__ import annotations

import json
import sys

from markers import ROOT, write_tables

OUTCOMES = ROOT / "tests/e2e/outcomes.json"

#: Action of the tests -> heading.
COLUMNS = {
    "handler raises": "handler raises",
    "handler returns": "handler returns",
    "SIGTERM": "SIGTERM",
    "SIGKILL": "SIGKILL",
    "worker killed": "one worker killed",
    "ping unanswered": "ping unanswered",
    "message too big": "message too big",
    "invalid UTF-8": "invalid UTF-8",
}
NOT_TRIED = ""


def cell(outcome: list[str] | None) -> str:
    """Return one outcome: the code label and the cause."""
    if outcome is None:
        return NOT_TRIED
    wire, code, cause, _ = outcome
    return f"{code} {cause}" + (", suspect" if wire.endswith("suspect") else "")


def table() -> str:
    """Return the table."""
    outcomes: dict[str, dict[str, list[str]]] = json.loads(OUTCOMES.read_text(encoding="utf-8"))
    lines = [f"| stack | {' | '.join(COLUMNS.values())} |", "| --- " * (len(COLUMNS) + 1) + "|"]
    for name, actions in outcomes.items():
        lines.append(f"| {name} | {' | '.join(cell(actions.get(action)) for action in COLUMNS)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(write_tables("docs/diagnosis.md", "scripts/diagnosis.py", {"stacks": table}))
