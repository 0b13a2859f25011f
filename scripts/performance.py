"""Write the headline table of docs/performance.md and its chart from benchmarks/results; --check compares the table."""

from __future__ import annotations

import json
import statistics
import sys

from markers import ROOT, write_tables

CHART = ROOT / "docs/performance.svg"
RESULTS = ROOT / "benchmarks/results/instructions.json"

PEERS = {
    "relay": "bare relay in C (the limit)",
    "default": "**websocket-exporter**, as in the image",
    "interpreted": "websocket-exporter, not compiled",
    "nginx": "nginx",
    "haproxy": "HAProxy",
    "envoy": "Envoy",
    "aiohttp": "terminating proxy on aiohttp",
    "websockets": "terminating proxy on websockets",
}
CASES = {
    "pp64": "round trip, 128 B",
    "pipe": "round trip, pipelined",
    "b64k": "round trip, 64 KiB",
    "b1m": "round trip, 1 MiB",
    "churn": "new connection",
    "churn1000": "one of 1,000 a second",
    "stream": "1,000 small frames",
}
CHARTED = ("pp64", "b64k", "churn")


def read() -> dict[str, dict[str, float]]:
    """Return thousands of instructions a unit: peer -> case -> median of the rounds.

    The emulated machine's clock advances a nanosecond with each instruction, so a microsecond of CPU is a thousand.
    """
    samples = json.loads(RESULTS.read_text(encoding="utf-8"))["samples"]
    found: dict[str, dict[str, float]] = {}
    for peer in PEERS:
        for case in CASES:
            # Only new connections differ between the default and a line for every close.
            for name in (peer, "sidecar") if peer == "default" else (peer,):
                values = [s["cpu_us"] for s in samples if s["peer"] == name and s["case"] == case]
                if values:
                    found.setdefault(peer, {})[case] = statistics.median(values)
                    break
    return found


def rounded(value: float | None) -> str:
    """Return a number for people, with two or three digits that count."""
    if value is None:
        return ""
    if value < 10:
        return f"{value:.1f}"
    return f"{round(value, 0 if value < 1000 else -1 if value < 10000 else -2):,.0f}"


def table(values: dict[str, dict[str, float]]) -> str:
    """Return the headline table."""
    header = " | ".join(["thousands of instructions for a", *CASES.values()])
    lines = [f"| {header} |", "|---" * (len(CASES) + 1) + "|"]
    for peer, title in PEERS.items():
        cells = (rounded(values.get(peer, {}).get(case)) for case in CASES)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(values: dict[str, dict[str, float]]) -> None:
    """Write the chart: one group of bars a case, one bar a peer, as multiples of the bare relay."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "performance", "font.family": "sans-serif", "font.size": 9})
    from matplotlib import pyplot as plt

    colours = ["#0969da", "#8ab8ee", "#8c959f", "#6e7781", "#57606a", "#d4a72c", "#bf8700"]
    figure, axes = plt.subplots(1, len(CHARTED), figsize=(9, 2.9), sharey=True)
    peers = [peer for peer in PEERS if peer != "relay"]
    for axis, case in zip(axes, CHARTED, strict=True):
        base = values["relay"][case]
        multiples = [values[peer].get(case, 0.0) / base for peer in peers]
        bars = axis.barh([PEERS[peer].replace("**", "") for peer in peers], multiples, color=colours)
        axis.bar_label(bars, fmt="%.1f", padding=3)
        axis.axvline(1, color="#1f2328", linewidth=0.8, linestyle=":")
        axis.set_title(CASES[case], fontsize=10)
        axis.set_xlim(0, max(multiples) * 1.2)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlabel("times the bare relay in C")
    figure.tight_layout()
    figure.savefig(CHART, metadata={"Date": None})


def main() -> int:
    """Return 1 if --check found the table out of date."""
    values = read()
    status = write_tables("docs/performance.md", "scripts/performance.py", {"instructions": lambda: table(values)})
    if "--check" not in sys.argv[1:]:
        draw(values)
    return status


if __name__ == "__main__":
    sys.exit(main())
