"""Causes by reason text: the operator's rules (``--reason REGEX=CAUSE``, first match wins) and libraries' own texts.

Reason texts come from peers, so they are matched by an engine that takes linear time whatever the pattern (RE2):
catastrophic backtracking cannot happen, and patterns that would need it (back-references, look-around) are refused at
the start. RE2 is loaded only if there is a rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.protocol.enums import Cause

#: Rules that one sidecar may have, and characters that a pattern may have: a typing mistake must not cost a core.
MAX_RULES = 32
MAX_PATTERN = 256


@dataclass(frozen=True, slots=True)
class ReasonText:
    """A reason text of a library that gives its close code another cause than the registry.

    :ivar pattern: matches the whole text.
    """

    pattern: re.Pattern[str]
    cause: Cause


def reason_text(pattern: str, cause: Cause) -> ReasonText:
    """Return the rule for texts that match a regular expression as a whole."""
    return ReasonText(re.compile(pattern), cause)


#: Close code -> texts that mean the same whatever the application is.
LIBRARY_TEXTS: Mapping[int, tuple[ReasonText, ...]] = {
    # Tomcat, WsHttpUpgradeHandler: an exception of the endpoint arrives there as an IOException.
    1002: (reason_text("An unrecoverable IOException occurred so the connection was closed", Cause.INTERNAL_ERROR),),
    # nhooyr.io/websocket up to 1.7: its documented deferred Close, which a handler that just returns sends as well.
    1011: (reason_text("the sky is falling", Cause.APPLICATION),),
    # em-websocket, connection.rb: "There is no code defined for application errors, so use 3000".
    3000: (reason_text("Application error", Cause.INTERNAL_ERROR),),
    # Litestar, ExceptionHandlerMiddleware.handle_websocket_exception; graphql-ws, CloseCode.InternalServerError.
    4500: (reason_text("(?i:Internal Server Error)", Cause.INTERNAL_ERROR),),
}


class Rule:
    """One rule. Raises ValueError for a pattern that RE2 does not take."""

    __slots__ = ("_compiled", "cause", "pattern")

    def __init__(self, pattern: str, cause: Cause) -> None:
        if not pattern or len(pattern) > MAX_PATTERN:
            raise ValueError(f"a pattern has 1 to {MAX_PATTERN} characters")
        self.pattern = pattern
        self.cause = cause
        self._compiled = _compile(pattern)

    def __reduce__(self) -> tuple[type[Rule], tuple[str, Cause]]:
        return Rule, (self.pattern, self.cause)

    def matches(self, reason: str) -> bool:
        """Return whether the pattern is found anywhere in ``reason``."""
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
    """All rules, in order. Calling it returns the cause of the first one that matches a reason text, or None."""

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
