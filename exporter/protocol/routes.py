"""Routes: bounded label values for the paths that clients choose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate

ALL = "all"
OTHER = "other"


class Router:
    """Find the first pattern that matches a path.

    :param patterns: shell-style patterns such as ``/chat/*``; a pattern's own text is its label value.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._patterns = [(pattern, re.compile(translate(pattern)).match) for pattern in patterns]

    @property
    def names(self) -> list[str]:
        """Every value that :meth:`route` can return."""
        return [*(pattern for pattern, _ in self._patterns), OTHER] if self._patterns else [ALL]

    def index(self, path: str) -> int:
        """Return the position in :attr:`names` of the first pattern that matches ``path`` without its query."""
        if not self._patterns:
            return 0
        if "?" in path:
            path = path.partition("?")[0]
        for index, (_, matches) in enumerate(self._patterns):
            if matches(path):
                return index
        return len(self._patterns)
