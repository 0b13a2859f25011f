"""The landing page: how this one sidecar is, and why its connections closed, live.

The page stands without a script: everything but the charts is in the HTML. Places that change carry the name of a value
of the state (``data-text``, ``data-attr``, ``data-list``, ``data-spark``), and the script fills them from each state; a
new row is a clone of the ``template`` beside the rows, which is made here by the function that makes the rows.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape as text
from typing import Any

from exporter.admin.pages.layout import DOCS, PAGE_END, chip_list, glossary, page_head
from exporter.admin.pages.wording import TONES, iso
from exporter.admin.state import State

Data = Mapping[str, Any]

_FOOTER = f"""<footer>
<nav aria-label="More of this port"><a href="/closes">/closes</a> <a href="/metrics">/metrics</a>
<a href="/livez">/livez</a> <a href="/readyz">/readyz</a> <a href="/drain">/drain</a></nav>
<p>This sidecar since its start. All pods and longer times: <a href="{DOCS}/operating.md">Grafana dashboards</a>.
How a cause is decided: <a href="{DOCS}/diagnosis.md">diagnosis</a>.
Questions: <a href="{DOCS}/troubleshooting.md">troubleshooting</a>.</p>
</footer>
<p id="announcer" class="unseen" role="status" aria-live="polite"></p>"""
#: A row of which every value is empty: the template of new ones.
_BLANK: Data = defaultdict(str, codes=[], code=[], ended_at=0)


def render(state: State, shown: Data, listed: bool = True) -> str:
    """Return the page as HTML.

    :param shown: the snapshot that it begins with.
    :param listed: whether the reader may see reports.
    """
    first = json.dumps(shown, separators=(",", ":")).replace("<", "\\u003c")
    return f"""{page_head("websocket-exporter: why connections end")}{_header(state, shown)}
<main id="main">
{_cards(shown)}
{_tiles(shown)}
{_chart(shown)}
{_causes(shown["causes"])}
{_groups(shown["groups"]) if listed else _not_listed()}
{glossary()}
</main>
{_FOOTER}
<script type="application/json" id="first" data-listed="{json.dumps(listed)}">{first}</script>{PAGE_END}"""


def _header(state: State, shown: Data) -> str:
    return f"""<a class="skip" href="#main">To the numbers</a>
<header>
<h1>websocket-exporter <small>{text(state.version)}</small></h1>
<p><span class="standing" data-attr="data-standing:standing" data-standing="{text(shown["standing"])}">
<span data-text="status">{text(shown["status"])}</span></span>,
in front of <code>{text(state.upstream)}</code>, up for <span data-text="up">{text(shown["up"])}</span>.
<span id="live" class="live" hidden></span><noscript>Charts and live updates need JavaScript.</noscript></p>
</header>"""


_CARDS = (
    ("faults", "Server faults", "Closes by the server that point at a bug, a crash or an app that is down."),
    ("away", "Going away", "Closes that a rollout, a restart, a drain or a leaving browser explains."),
)


def _cards(shown: Data) -> str:
    return f"""<section aria-labelledby="cards-title">
<h2 id="cards-title" class="unseen">Server faults and going away</h2>
<div class="cards">{"".join(_card(*card, shown[card[0]]) for card in _CARDS)}</div>
</section>"""


def _card(name: str, heading: str, about: str, row: Data) -> str:
    parts = "".join(map(_part, row["parts"]))
    return f"""<article class="tile" id="{name}" data-any="{json.dumps(row["any"])}"
 data-attr="data-any:{name}.any" aria-labelledby="{name}-title">
<h3 id="{name}-title">{heading}</h3>
<div class="big"><p><b data-text="{name}.hour">{text(row["hour"])}</b> <span>in the last hour</span></p>
<svg class="spark" data-spark="{name}.minutes" aria-hidden="true" hidden></svg></div>
<ul class="parts" data-list="{name}.parts"><template>{_part(_BLANK)}</template>{parts}</ul>
<p class="soft"><span data-text="{name}.ever">{text(row["ever"])}</span> since the start. {about}</p>
</article>"""


def _part(row: Data) -> str:
    return f"""<li data-key="{text(row["key"])}"><span data-text="key">{text(row["key"])}</span>
<b data-text="hour">{text(row["hour"])}</b></li>"""


def _tiles(shown: Data) -> str:
    closed = f'last hour, <span data-text="ever">{text(shown["ever"])}</span> since the start'
    stalled = ("is_stalled", shown["is_stalled"])
    return f"""<section aria-labelledby="facts-title">
<h2 id="facts-title" class="unseen">Connections</h2>
<dl class="facts">
{_fact("Open", "active", shown["active"], "at this moment")}
{_fact("Closed", "hour", shown["hour"], closed)}
{_fact("Refused handshakes", "refused", shown["refused"], "since the start")}
{_fact("Stalled", "stalled", shown["stalled"], "peers that do not read their data", *stalled)}
</dl>
</section>"""


def _fact(heading: str, name: str, value: str, rest: str, alarm: str = "", alarming: bool = False) -> str:
    attributes = f' data-any="{json.dumps(alarming)}" data-attr="data-any:{alarm}"' if alarm else ""
    return (
        f'<div{attributes}><dt>{heading}</dt><dd><b data-text="{name}">{text(value)}</b> <span>{rest}</span></dd></div>'
    )


def _chart(shown: Data) -> str:
    tones = shown["tones"]
    legend = "".join(f'<li data-tone="{name}">{text(words)}</li>' for name, words in TONES.items())
    heads = "".join(f'<th scope="col" class="number">{name}</th>' for name in TONES)
    newest_first = enumerate(reversed(list(zip(*(tones[name] for name in TONES), strict=True))))
    rows = "".join(
        _minute({"key": str(ago), **dict(zip(TONES, map(str, counts), strict=True))})
        for ago, counts in newest_first
        if any(counts)
    )
    return f"""<section aria-labelledby="chart-title">
<h2 id="chart-title">Closes by the minute, <span data-text="period">{text(shown["period"])}</span></h2>
<ul class="legend" hidden>{legend}</ul>
<svg id="chart" role="img" aria-label="A chart of closes by the minute" hidden></svg>
<details id="minutes"><summary>Closes by the minute as a table</summary>
<table><caption class="unseen">Closes in each minute in which there were any, newest first</caption>
<thead><tr><th scope="col">Minutes ago</th>{heads}</tr></thead>
<tbody data-list="table"><template>{_minute(_BLANK)}</template>{rows}</tbody></table>
</details>
</section>"""


def _minute(row: Data) -> str:
    cells = "".join(f'<td class="number" data-text="{name}">{text(row[name])}</td>' for name in TONES)
    return f'<tr data-key="{text(row["key"])}"><th scope="row" data-text="key">{text(row["key"])}</th>{cells}</tr>'


def _causes(rows: Sequence[Data]) -> str:
    return f"""<section aria-labelledby="causes-title">
<h2 id="causes-title">Why connections closed</h2>
<table class="causes"><caption class="unseen">Closes by cause and initiator, server faults first</caption>
<thead><tr><th scope="col">Cause</th><th scope="col" class="trend"><span class="unseen">By the minute</span></th>
<th scope="col" class="number">Last hour</th><th scope="col" class="number">Since start</th></tr></thead>
<tbody data-list="causes"><template>{_cause(_BLANK)}</template>{"".join(map(_cause, rows))}</tbody></table>
<p class="none" data-empty="causes"{" hidden" if rows else ""}>No connection has closed since the start.</p>
</section>"""


def _cause(row: Data) -> str:
    return f"""<tr data-key="{text(row["key"])}" data-tone="{text(row["tone"])}" data-attr="data-tone:tone">
<th scope="row"><b data-text="cause">{text(row["cause"])}</b> <span data-text="by">{text(row["by"])}</span>
<span class="under">{chip_list("codes", row["codes"])}</span></th>
<td class="trend"><svg class="spark" data-spark="minutes" aria-hidden="true" hidden></svg></td>
<td class="number" data-text="hour">{text(row["hour"])}</td>
<td class="number" data-text="ever">{text(row["ever"])}</td></tr>"""


def _groups(rows: Sequence[Data]) -> str:
    return f"""<section aria-labelledby="groups-title">
<h2 id="groups-title">Recent abnormal closes</h2>
<ol class="reports" data-list="groups"><template>{_group(_BLANK)}</template>{"".join(map(_group, rows))}</ol>
<p class="none" data-empty="groups"{" hidden" if rows else ""}>None so far.</p>
<p><a href="/closes">All reports, with filters</a></p>
</section>"""


def _group(row: Data) -> str:
    return f"""<li data-key="{text(row["key"])}" data-tone="{text(row["tone"])}" data-attr="data-tone:tone">
<p class="over"><span>{chip_list("code", row["code"])}
<a class="report" href="{text(row["link"])}" data-attr="href:link" data-text="title">{text(row["title"])}</a>
on <code class="path" data-text="path">{text(row["path"])}</code></span>
<span><a class="times" href="{text(row["all"])}" data-attr="href:all" data-text="times">{text(row["times"])}</a>
<time data-at="ended_at" datetime="{iso(row["ended_at"])}">{text(row["when"])}</time></span></p>
<p data-text="conclusion">{text(row["conclusion"])}</p>
<p class="soft" data-text="evidence">{text(row["evidence"])}</p>
</li>"""


def _not_listed() -> str:
    return """<section aria-labelledby="groups-title">
<h2 id="groups-title">Recent abnormal closes</h2>
<p class="none">Reports show addresses and paths of sessions. They are for loopback (<code>kubectl port-forward</code>)
and logged-in users; <code>--closes-from-anywhere</code> opens them to everyone.</p>
</section>"""
