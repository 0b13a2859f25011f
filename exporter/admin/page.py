"""The landing page: what this is, how it is, and how connections ended since it started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from exporter.protocol.closecodes import REGISTRY

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --calm: #2f7d5b; --bad: #b3261e; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0; } h1 small { font-weight: normal; opacity: .7; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .6rem; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.fault td:first-child { border-left: 4px solid var(--bad); }
tr.calm td:first-child { border-left: 4px solid var(--calm); }
"""

#: The page shows text only: nothing may be loaded, run or framed.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

_CALM = ("normal", "going-away", "no-status", "service-restart", "drain")


@dataclass(frozen=True, slots=True)
class State:
    """What the page shows. ``endings`` counts by (route, code, cause, initiator)."""

    version: str
    upstream: str
    ready: bool
    draining: bool
    active: int
    uptime: float
    endings: Mapping[tuple[str, str, str, str], int]


def render(state: State) -> str:
    """The page as HTML. Whatever is shown is escaped."""
    status = "draining" if state.draining else "ready" if state.ready else "not ready: the app takes no connections"
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>websocket-exporter</title><style>{_STYLE}</style></head>
<body>
<h1>websocket-exporter <small>{escape(state.version)}</small></h1>
<p>In front of <code>{escape(state.upstream)}</code>, {escape(status)}, up for {_duration(state.uptime)}.
{state.active} WebSocket {"connection is" if state.active == 1 else "connections are"} open.
<a href="/metrics">/metrics</a> · <a href="/livez">/livez</a> · <a href="/readyz">/readyz</a> ·
<a href="/drain">/drain</a></p>
<h2>Why connections ended</h2>
{_table(state.endings)}
</body>
</html>
"""


def _table(endings: Mapping[tuple[str, str, str, str], int]) -> str:
    totals: dict[tuple[str, str, str], int] = {}
    for (_, code, cause, initiator), count in endings.items():
        key = (code, cause, initiator)
        totals[key] = totals.get(key, 0) + count
    if not totals:
        return "<p>None has ended since the start.</p>"
    rows = "".join(_row(*key, count) for key, count in sorted(totals.items(), key=lambda item: (-item[1], item[0])))
    return (
        '<table><thead><tr><th scope="col">Code</th><th scope="col">Cause</th><th scope="col">Ended by</th>'
        '<th scope="col" class="number">Count</th><th scope="col">Meaning</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _row(code: str, cause: str, initiator: str, count: int) -> str:
    info = REGISTRY.get(int(code)) if code.isdecimal() else None
    name = f" {info.name}" if info is not None else ""
    meaning = info.meaning if info is not None else ""
    kind = "calm" if cause in _CALM else "fault"
    cells = f"<td>{escape(code + name)}</td><td>{escape(cause)}</td><td>{escape(initiator)}</td>"
    return f'<tr class="{kind}">{cells}<td class="number">{count}</td><td>{escape(meaning)}</td></tr>'


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
