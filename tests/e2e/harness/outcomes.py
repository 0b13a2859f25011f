"""The recorded outcomes of each server stack, and whether the cause that each gets leads to the right conclusion.

An outcome is the close that the client saw and the ending that was counted: [wire, code, cause, initiator].
outcomes.json has them by stack and action. first_outcomes.json has those of the stacks that were played for the first
time when the rules of the classification were fixed, as they were then.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from .variants import (
    BAD_UTF8,
    NO_PONG,
    RAISES,
    RELOAD,
    RETURNS,
    SIGKILL,
    SIGSTOP,
    SIGTERM,
    TOO_BIG,
    VARIANTS,
    WORKER,
)

Outcomes = dict[str, dict[str, list[str]]]

OUTCOMES = Path(__file__).resolve().parents[1] / "outcomes.json"
FIRST_OUTCOMES = OUTCOMES.with_name("first_outcomes.json")

#: Causes that lead to the right conclusion, by action.
RIGHT: dict[str, set[str]] = {
    RAISES: {"internal-error", "dropped-on-message"},
    RETURNS: {"normal", "no-status", "going-away", "dropped-on-message"},
    SIGTERM: {"going-away", "service-restart", "app-down", "shutdown"},
    SIGKILL: {"app-down"},
    WORKER: {"worker-lost"},
    RELOAD: {"going-away", "service-restart", "app-down", "app-restarted", "shutdown", "worker-lost"},
    SIGSTOP: {"ping-timeout"},
    NO_PONG: {"ping-timeout", "idle-timeout"},
    TOO_BIG: {"message-too-big"},
    BAD_UTF8: {"protocol-error", "dropped-on-message"},  # the report shows the message
}
#: Causes that claim nothing wrong, beside those.
NEUTRAL: dict[str, set[str]] = {
    RAISES: {"normal", "no-status", "connection-lost", "connection-reset", "application"},
    RETURNS: {"connection-lost", "connection-reset", "application"},
    SIGTERM: {"normal", "no-status", "connection-lost", "connection-reset"},
    SIGKILL: {"connection-lost", "connection-reset"},
    WORKER: {"connection-lost", "connection-reset"},
    RELOAD: {"normal", "no-status", "connection-lost", "connection-reset"},
    SIGSTOP: {"connection-lost", "connection-reset", "idle-timeout"},
    NO_PONG: {"normal", "no-status", "connection-lost", "connection-reset"},
    TOO_BIG: {"normal", "no-status", "connection-lost", "connection-reset", "dropped-on-message"},
    BAD_UTF8: {"normal", "no-status", "connection-lost", "connection-reset", "internal-error"},
}
#: Actions for which a suspect close, counted in websocket_suspect_closes_total and kept as a report, is right.
SUSPECT = {RAISES, TOO_BIG, BAD_UTF8}
SUSPECTED = ", suspect"
#: A handler whose failure takes the process with it.
DIES = {"app-down", "app-restarted"}


def read_outcomes(path: Path = OUTCOMES) -> Outcomes:
    """Return the outcomes in a file; none if there is no file."""
    outcomes: Outcomes = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return outcomes


def verdicts(outcomes: Outcomes) -> Counter[str]:
    """Return how many outcomes lead to the right conclusion, to none, or to a wrong one."""
    dying = {variant.name for variant in VARIANTS if variant.dies}
    return Counter(
        verdict(action, wire, cause, name in dying)
        for name, actions in outcomes.items()
        for action, (wire, _, cause, _) in actions.items()
    )


def verdict(action: str, wire: str, cause: str, dies: bool) -> str:
    """Return right, neutral or wrong."""
    suspected = action in SUSPECT and wire.endswith(SUSPECTED)
    if cause in RIGHT[action] or suspected or (action == RAISES and dies and cause in DIES):
        return "right"
    return "neutral" if cause in NEUTRAL[action] else "wrong"
