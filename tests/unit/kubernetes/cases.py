"""The golden cases: a manifest before, the flags, the manifest after, the warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Case:
    """One pair of files in golden/. warnings: pieces of text, one for each warning that must be said, in
    order.
    """

    name: str
    flags: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def before(self) -> Path:
        return next(GOLDEN.glob(f"{self.name}.before.*"))

    @property
    def after(self) -> Path:
        return self.before.with_name(self.before.name.replace(".before.", ".after."))

    def __str__(self) -> str:
        return self.name


UNSEEN = "no Service in the input selects its pods"

CASES = [
    Case("named-port"),
    Case("numeric-service"),
    Case("list", ["--kubernetes", "1.33", "--route", "/chat/*"]),
    Case("statefulset-headless", warnings=["is headless"]),
    Case("daemonset-hostport", warnings=[UNSEEN]),
    Case("cronjob-classic", ["--classic"], ["keeps the CronJob from completing", UNSEEN]),
    Case("annotated", warnings=[UNSEEN]),
    Case("own-hooks", warnings=["prometheus.io/ annotations of their own", UNSEEN]),
    Case("podmonitor", ["--scrape", "podmonitor", "--listen-port", "15010"], [UNSEEN]),
    Case("pass-through", warnings=[UNSEEN]),
    Case("job-crlf", warnings=[UNSEEN]),
]
