"""The operator's own judgement of reason texts: ``--reason REGEX=CAUSE``, first match wins.

Reason texts come from peers, so they are matched by an engine that takes linear time whatever the pattern (RE2):
catastrophic backtracking cannot happen, and patterns that would need it (back-references, look-around) are refused at
the start. RE2 is loaded only if there is a rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporter.protocol.enums import Cause

#: Rules that one sidecar may have, and characters that a pattern may have: a typing mistake must not cost a core.
MAX_RULES = 32
MAX_PATTERN = 256


class Rule:
    """One rule. Raises ValueError for a pattern that RE2 does not take."""

    __slots__ = ("_compiled", "cause", "pattern")

    def __init__(self, pattern: str, cause: Cause) -> None:
        if not pattern or len(pattern) > MAX_PATTERN:
            raise ValueError(f"a pattern has 1 to {MAX_PATTERN} characters")
        self.pattern = pattern
        self.cause = cause
        self._compiled = _compile(pattern)

    def matches(self, reason: str) -> bool:
        """Whether the pattern is found anywhere in ``reason``."""
        return self._compiled.search(reason) is not None


def _compile(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        detail = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(detail) from error


class Reasons:
    """All rules, in order. Calling it judges a reason text; None is no opinion."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        if len(rules) > MAX_RULES:
            raise ValueError(f"at most {MAX_RULES} rules")
        self._rules = tuple(rules)

    @property
    def causes(self) -> frozenset[Cause]:
        """Every cause that a rule can give."""
        return frozenset(rule.cause for rule in self._rules)

    def __call__(self, reason: str) -> Cause | None:
        return next((rule.cause for rule in self._rules if rule.matches(reason)), None)
