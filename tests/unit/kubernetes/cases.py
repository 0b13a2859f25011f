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
    def kinds(self) -> list[str]:
        """The flags that remove needs as well."""
        return self.flags if "--only" in self.flags else []

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
    Case(
        "rollout",
        warnings=[
            "its own preStop sleeps 5 s, but a drain may take 30 s: remove it, or let it sleep 32 s",
            'add annotation traffic.sidecar.istio.io/excludeInboundPorts: "10011"',
            "spec.ports[1].appProtocol is kubernetes.io/h2c: the sidecar forwards HTTP/2 without observing it",
        ],
    ),
    Case(
        "chart",
        ["--kubernetes", "1.33"],
        [
            "document 5: kind: must be a string, is nothing (passed through)",
            "GameServer arena: spec.template: unknown kind; "
            "to inject it, pass --pod-template-path GameServer.agones.dev=spec.template (passed through)",
            "Deployment worker: spec.template.spec.containers: no container declares a TCP port",
            "Pod chat-test: is a Helm hook (test) (passed through)",
        ],
    ),
    Case("networkpolicy", warnings=["does not allow the sidecar's admin port 10011"]),
    Case(
        "custom-kind",
        ["--pod-template-path", "GameServer.agones.dev=spec.template", "--only", "gameserver/arena"],
        [
            "annotation config.linkerd.io/opaque-ports names the app's port 7000: add the sidecar's port 10010",
            'add annotation config.linkerd.io/skip-inbound-ports: "10011"',
            UNSEEN,
        ],
    ),
]
