"""From samples to tables: medians over the rounds, and what the sidecar costs against each peer in the same round.

Everything here is computed from what :func:`benchmarks.__main__.run` wrote to the JSON file, and from nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cases import CASES, Case, Shows

#: The peer that all others are compared with.
SUBJECT = "sidecar"
BASELINE = "direct"

Results = dict[str, Any]
Sample = dict[str, Any]

#: A proxy that ran, or was ready to run, for less than this share of the window was not what limited the throughput.
_SATURATED = 0.9


def samples(results: Results, case: str, peer: str) -> list[Sample]:
    """All rounds of one case on one peer, in order."""
    return [sample for sample in results["samples"] if sample["case"] == case and sample["peer"] == peer]


def middle(found: Iterable[Sample], value: str) -> float | None:
    """The median of one value; None if there is no sample."""
    values = [sample[value] for sample in found]
    return median(values) if values else None


def ratio(results: Results, case: str, peer: str, value: str, subject: str = SUBJECT) -> float | None:
    """The median over the rounds of ``subject`` divided by ``peer`` in the same round; None if it cannot be told."""
    theirs = {sample["round"]: sample[value] for sample in samples(results, case, peer)}
    ours = {sample["round"]: sample[value] for sample in samples(results, case, subject)}
    ratios = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
    return median(ratios) if ratios else None


def added(results: Results, case: str, peer: str, value: str) -> float | None:
    """The median over the rounds of what ``peer`` adds to the direct connection in the same round."""
    base_case = case if samples(results, case, BASELINE) else "paced"
    base = {sample["round"]: sample[value] for sample in samples(results, base_case, BASELINE)}
    extra = [
        sample[value] - base[sample["round"]] for sample in samples(results, case, peer) if sample["round"] in base
    ]
    return median(extra) if extra else None


def markdown(results: Results) -> str:
    """All tables."""
    parts = [_head(results), _summary(results), _starts(results)]
    parts += [_case(results, case) for case in CASES if any(s["case"] == case.key for s in results["samples"])]
    parts += [_failures(results)] if results["failures"] else []
    return "\n\n".join(parts) + "\n"


def publish(results: Results, tables: str, to: Path, name: str) -> None:
    """Write the results as JSON and their tables as Markdown into the folder ``to``, and print the tables."""
    to.mkdir(parents=True, exist_ok=True)
    (to / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (to / f"{name}.md").write_text(tables)
    print(tables)


def _failures(results: Results) -> str:
    rows = [[str(f["round"] + 1), f["case"], _title(results, f["peer"]), f["why"]] for f in results["failures"]]
    return "## Could not be measured\n\n" + table(["round", "case", "peer", "why"], rows)


def _head(results: Results) -> str:
    machine, settings = results["machine"], results["settings"]
    counted = settings["counter_missing"] or "counted by the hardware"
    return "\n".join(
        [
            "# Benchmark results",
            "",
            f"- {results['when']}; {machine['cores']} cores, {machine['cpu']}; Linux {machine['kernel']}; "
            f"Python {machine['python']}, uvloop {machine['uvloop']}",
            f"- load average {machine['load_before']:.1f} before and {machine['load_after']:.1f} after; the run itself "
            "makes about 2, whatever is more was other work on the same cores",
            f"- {settings['rounds']} rounds, each peer in turn; windows of {settings['seconds']:g} s and more; "
            "medians of the rounds",
            "- ratios are taken within a round, then their median",
            f"- instructions: {counted}",
            "- CPU time: user and kernel, by the kernel's account; relay: the processes that forward; all: every one",
            "- memory: PSS of all processes",
            "- a rate marked >= was not limited by the proxy, which was idle for over a tenth of the time",
        ]
    )


def _title(results: Results, peer: str) -> str:
    title: str = results["peers"][peer]["title"]
    return title


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table as Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _rows(
    results: Results, present: Callable[[str], bool], cells: Callable[[str], list[str]], width: int
) -> list[list[str]]:
    rows = []
    for peer, about in results["peers"].items():
        if about["absent"]:
            rows.append([_title(results, peer), f"skipped: {about['absent']}", *[""] * (width - 1)])
        elif present(peer):
            rows.append([_title(results, peer), *cells(peer)])
    return rows


def _number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "-"
    if digits and abs(value) >= 1000:
        digits = 0
    return f"{value:,.{digits}f}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _summary(results: Results) -> str:
    cases = [case for case in CASES if case.shows is not Shows.MEMORY and not case.only]
    cases = [case for case in cases if samples(results, case.key, SUBJECT)]

    def cells(peer: str) -> list[str]:
        return [_times(ratio(results, case.key, peer, "cpu_us")) for case in cases]

    rows = _rows(results, lambda peer: peer not in (BASELINE, SUBJECT), cells, len(cases))
    head = ["the sidecar's CPU time, divided by that of", *[case.key for case in cases]]
    return "## CPU time of the sidecar against each peer (below 1: the sidecar is cheaper)\n\n" + table(head, rows)


def _starts(results: Results) -> str:
    def of(peer: str) -> list[Sample]:
        return [start for start in results["starts"] if start["peer"] == peer]

    def cells(peer: str) -> list[str]:
        return [_number(middle(of(peer), "seconds"), 2), _number((middle(of(peer), "pss_kb") or 0) / 1024)]

    rows = _rows(results, lambda peer: bool(of(peer)), cells, 2)
    return "## Start\n\n" + table(["", "first handshake after, s", "PSS then, MB"], rows)


def _case(results: Results, case: Case) -> str:
    def present(peer: str) -> bool:
        return bool(samples(results, case.key, peer))

    columns = {Shows.COST: _cost, Shows.LATENCY: _latency, Shows.MEMORY: _memory}[case.shows](results, case)

    def cells(peer: str) -> list[str]:
        return [column(peer) for column in columns.values()]

    rows = _rows(results, present, cells, len(columns))
    if case.only:
        rows = [row for row in rows if not row[1].startswith("skipped")]
    return f"## {case.title} (`{case.key}`)\n\n" + table(["", *columns], rows) + _headroom(results, case)


Columns = dict[str, Callable[[str], str]]


def _value(results: Results, case: Case, name: str, digits: int = 1) -> Callable[[str], str]:
    return lambda peer: _number(middle(samples(results, case.key, peer), name), digits)


def _expense(results: Results, case: Case) -> Columns:
    def versus(name: str) -> Callable[[str], str]:
        def cell(peer: str) -> str:
            return "-" if peer == BASELINE else _times(ratio(results, case.key, peer, name))

        return cell

    def cpu(name: str) -> Callable[[str], str]:
        return lambda peer: "-" if peer == BASELINE else _value(results, case, name, 2)(peer)

    columns: Columns = {
        f"CPU µs a {case.unit}, relay": cpu("relay_cpu_us"),
        "all": cpu("cpu_us"),
        "sidecar ÷ this": versus("cpu_us"),
    }
    if not results["settings"]["counter_missing"]:
        columns[f"instructions a {case.unit}, relay"] = _value(results, case, "relay_instructions", 0)
        columns["instructions, all"] = _value(results, case, "instructions", 0)
        columns["sidecar ÷ this, instructions"] = versus("instructions")
    return columns


def _delays(results: Results, case: Case) -> Columns:
    def extra(name: str) -> Callable[[str], str]:
        def cell(peer: str) -> str:
            if peer == BASELINE:
                return f"({_number(middle(samples(results, case.key, peer), name), 0)})"
            return _number(added(results, case.key, peer, name), 0)

        return cell

    return {f"added {name} µs": extra(f"{name.replace('.', '')}_us") for name in ("p50", "p99", "p99.9")}


def _cost(results: Results, case: Case) -> Columns:
    def throughput(peer: str) -> str:
        found = samples(results, case.key, peer)
        held_back = peer != BASELINE and (middle(found, "busy") or 0) < _SATURATED
        return (">= " if held_back else "") + _number(middle(found, "per_second"), 0)

    delays = _delays(results, case) if case.key != "stream" else {}
    memory: Columns = {"PSS MB": lambda peer: "-" if peer == BASELINE else _pss(results, case, peer)}
    return {**_expense(results, case), "a second": throughput, **delays, **memory}


def _pss(results: Results, case: Case, peer: str) -> str:
    return _number((middle(samples(results, case.key, peer), "pss_kb") or 0) / 1024)


def _latency(results: Results, case: Case) -> Columns:
    return {**_expense(results, case), "a second": _value(results, case, "per_second", 0),
            **_delays(results, case)}  # fmt: skip


def _memory(results: Results, case: Case) -> Columns:
    return {
        "sessions": _value(results, case, "units", 0),
        "PSS MB": lambda peer: _pss(results, case, peer),
        "KB a session": _value(results, case, "pss_kb_per_unit"),
        "sidecar ÷ this": lambda peer: _times(ratio(results, case.key, peer, "pss_kb_per_unit")),
    }


def _headroom(results: Results, case: Case) -> str:
    """How far the load generator and the server were from being the limit."""
    direct = middle(samples(results, case.key, BASELINE), "per_second")
    if case.shows is not Shows.COST or direct is None:
        return ""
    proxies = [peer for peer in results["peers"] if peer != BASELINE and samples(results, case.key, peer)]
    speeds = {peer: middle(samples(results, case.key, peer), "per_second") or 0 for peer in proxies}
    if not speeds:
        return ""
    fastest = max(speeds, key=lambda peer: speeds[peer])
    ours = f", {direct / speeds[SUBJECT]:.1f} times the sidecar" if speeds.get(SUBJECT) else ""
    return (
        f"\n\nLoad generator and server alone reach {direct / speeds[fastest]:.1f} times the fastest proxy "
        f"({_title(results, fastest)}){ours}; direct latencies are in brackets."
    )
