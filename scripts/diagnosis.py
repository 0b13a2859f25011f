"""Write the table of stacks in docs/diagnosis.md from the tests' outcomes; --check reports whether it is up to date."""

from __future__ import annotations

import sys

from markers import ROOT, write_tables

sys.path.insert(0, str(ROOT))

from tests.e2e.harness.outcomes import FIRST_OUTCOMES, Outcomes, read_outcomes, verdicts
from tests.e2e.harness.variants import VARIANTS

#: Action of the tests -> heading.
COLUMNS = {
    "handler raises": "handler raises",
    "handler returns": "handler returns",
    "SIGTERM": "SIGTERM",
    "SIGKILL": "SIGKILL",
    "worker killed": "one worker killed",
    "reload": "reload in place",
    "SIGSTOP": "SIGSTOP",
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
    """Return the table and how many of its causes lead to the right conclusion."""
    outcomes = read_outcomes()
    lines = [f"| stack | {' | '.join(COLUMNS.values())} |", "| --- " * (len(COLUMNS) + 1) + "|"]
    for name, actions in outcomes.items():
        lines.append(f"| {name} | {' | '.join(cell(actions.get(action)) for action in COLUMNS)} |")
    first = read_outcomes(FIRST_OUTCOMES)
    languages = {variant.language.partition(" ")[0] for variant in VARIANTS}
    return "\n".join(
        [
            *lines,
            "",
            f"Together {len(outcomes)} stacks of {len({variant.library for variant in VARIANTS})} libraries in "
            f"{len(languages)} languages: {count(outcomes)}.",
            f"Stacks tried after the rules were fixed, as they were classified then: {len(first)} "
            f"({'; '.join(first)}): {count(first)}.",
        ]
    )


def count(outcomes: Outcomes) -> str:
    """Return how many causes lead to which conclusion."""
    counted = verdicts(outcomes)
    return (
        f"{counted.total()} outcomes, of which {counted['right']} lead to the right conclusion, "
        f"{counted['neutral']} to none, {counted['wrong']} to a wrong one"
    )


if __name__ == "__main__":
    sys.exit(write_tables("docs/diagnosis.md", "scripts/diagnosis.py", {"stacks": table}))
