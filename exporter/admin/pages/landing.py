"""The landing page: how this one pod is, and why its connections ended, live.

The page stands without a script: everything but the charts is in the HTML. Places that change carry the name of what
they show (``data-text``, ``data-attr``, ``data-list``, ``data-spark``), and the script fills them from each snapshot; a
new row is a clone of the ``template`` beside the rows, which is made here by the function that makes the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from exporter.admin.pages.layout import chip_list, ending, frame, glossary, text
from exporter.admin.pages.meanings import meaning_of, name_of
from exporter.admin.pages.wording import iso
from exporter.admin.state import VERSUS, State, chip
from exporter.protocol.close_codes import ABNORMAL, Nature

Data = Mapping[str, Any]

_ADVICE = {"1001": "Somebody leaves: a deploy, a closed tab.", "1011": "Somebody has a bug to fix."}
_NATURES = {
    Nature.FAULT: "fault: somebody has something to fix",
    Nature.WEATHER: "weather: expected from time to time",
    Nature.ORDINARY: "ordinary: it was over",
}
_FOOTER = """<footer>
<nav aria-label="More of this port"><a href="/closes">/closes</a> <a href="/metrics">/metrics</a>
<a href="/livez">/livez</a> <a href="/readyz">/readyz</a> <a href="/drain">/drain</a></nav>
<p>One pod, since its start. For all pods and longer times there are the dashboards.</p>
</footer>
<p id="announcer" class="unseen" role="status" aria-live="polite"></p>"""
_BLANK_CAUSE: Data = {"key": "", "nature": "", "codes": [], "by": "", "hour": "", "ever": ""}
_BLANK_STORY: Data = dict.fromkeys(("key", "nature", "cause", "by", "link", "when", "headline", "more", "path"), "") | {
    "code": [],
    "ended_at": 0,
}


def render(state: State, shown: Data, listed: bool = True) -> str:
    """Return the page as HTML. ``shown`` is the snapshot that it begins with."""
    first = json.dumps(shown, separators=(",", ":")).replace("<", "\\u003c")
    return "".join(
        [
            frame("websocket-exporter: why connections end"),
            _header(state, shown),
            '\n<main id="main">\n',
            _versus(shown["versus"]),
            "\n",
            _facts(shown),
            "\n",
            *_hour(shown["natures"]),
            "\n",
            *_causes(shown["causes"]),
            "\n",
            *_stories(shown["stories"]),
            f"\n{glossary()}\n</main>\n{_FOOTER}\n",
            f'<script type="application/json" id="first">{first}</script>{ending()}',
        ]
    )


def _header(state: State, shown: Data) -> str:
    return f"""<a class="skip" href="#main">To the numbers</a>
<header>
<h1>websocket-exporter <small>{text(state.version)}</small></h1>
<p><span class="standing" data-attr="data-standing:standing" data-standing="{text(shown["standing"])}">
<span data-text="status">{text(shown["status"])}</span></span>,
in front of <code>{text(state.upstream)}</code>, up for <span data-text="up">{text(shown["up"])}</span>.
<span id="live" class="live" hidden></span><noscript>Without JavaScript this page stands still and shows no charts:
reload it to see more.</noscript></p>
</header>"""


def _versus(pair: Sequence[Data]) -> str:
    tiles = "".join(_tile(place, code, row) for place, ((code, _), row) in enumerate(zip(VERSUS, pair, strict=True)))
    return f"""<section aria-labelledby="versus-title">
<h2 id="versus-title" class="unseen">Going away against internal error</h2>
<div class="versus">{tiles}</div>
</section>"""


def _tile(place: int, code: str, row: Data) -> str:
    at = f"versus.{place}"
    nature = meaning_of(row["key"]).nature
    name = name_of(code).removeprefix(code).strip()
    link = chip(code)
    return f"""<article class="tile" data-nature="{nature}" data-any="{json.dumps(row["any"])}"
 data-attr="data-any:{at}.any" aria-labelledby="tile-{code}">
<h3 id="tile-{code}"><a class="code" href="{link["href"]}" aria-describedby="{link["says"]}">{code}</a> {text(name)}
<span class="tag" data-nature="{nature}">{nature}</span></h3>
<div class="big"><p><b data-text="{at}.hour">{text(row["hour"])}</b> <span>in the last hour</span></p>
<svg class="spark" data-spark="{at}.minutes" aria-hidden="true"></svg></div>
<p><b data-text="{at}.ever">{text(row["ever"])}</b> since the start: <span data-text="{at}.by">{text(row["by"])}</span>.
<span data-text="{at}.more">{text(row["more"])}</span></p>
<p class="soft">{_ADVICE[code]}</p>
</article>"""


def _facts(shown: Data) -> str:
    total = _fact("All endings", "hour", shown["hour"], _since("ever", shown["ever"]))
    return f"""<section aria-labelledby="facts-title">
<h2 id="facts-title" class="unseen">Now</h2>
<dl class="facts">
{_fact("Open connections", "active", shown["active"], "at this moment")}
{total}
{_dropped("server", shown["dropped"]["server"])}
{_dropped("client", shown["dropped"]["client"])}
</dl>
</section>"""


def _dropped(peer: str, row: Data) -> str:
    at = f"dropped.{peer}"
    code = chip(ABNORMAL)
    link = f'<a class="code" href="{code["href"]}" aria-describedby="{code["says"]}">{ABNORMAL}</a>'
    said = _fact(f"{link} dropped by the {peer}", f"{at}.hour", row["hour"], _since(f"{at}.ever", row["ever"]))
    return said.replace("<div", f'<div data-any="{json.dumps(row["any"])}" data-attr="data-any:{at}.any"', 1)


def _fact(title: str, name: str, value: str, rest: str) -> str:
    return f'<div><dt>{title}</dt><dd><b data-text="{name}">{text(value)}</b> <span>{rest}</span></dd></div>'


def _since(name: str, value: str) -> str:
    return f'last hour, <span data-text="{name}">{text(value)}</span> since start'


def _hour(natures: Data) -> Iterator[str]:
    legend = "".join(f'<li data-nature="{nature}">{text(words)}</li>' for nature, words in _NATURES.items())
    blank = _minute({"key": "", **dict.fromkeys(Nature, "")})
    heads = "".join(f'<th scope="col" class="number">{nature}</th>' for nature in _NATURES)
    yield f"""<section aria-labelledby="hour-title">
<h2 id="hour-title">Endings by the minute, last hour</h2>
<ul class="legend">{legend}</ul>
<svg id="chart" role="img" aria-label="A chart of endings by the minute"></svg>
<details id="minutes"><summary>These numbers as a table</summary>
<table><caption class="unseen">Endings in each minute of the last hour in which there were any, newest first</caption>
<thead><tr><th scope="col">Minutes ago</th>{heads}</tr></thead>
<tbody data-list="table"><template>{blank}</template>"""
    newest_first = reversed(list(zip(*(natures[nature] for nature in _NATURES), strict=True)))
    for ago, counts in enumerate(newest_first):
        if any(counts):
            yield _minute({"key": str(ago), **dict(zip(_NATURES, map(str, counts), strict=True))})
    yield """</tbody></table>
</details>
</section>"""


def _minute(row: Mapping[str, str]) -> str:
    cells = "".join(f'<td class="number" data-text="{nature}">{text(row[nature])}</td>' for nature in _NATURES)
    return f'<tr data-key="{text(row["key"])}"><th scope="row" data-text="key">{text(row["key"])}</th>{cells}</tr>'


def _causes(rows: Sequence[Data]) -> Iterator[str]:
    yield f"""<section aria-labelledby="causes-title">
<h2 id="causes-title">Why connections ended</h2>
<table class="causes"><caption class="unseen">Endings by cause, faults first</caption>
<thead><tr><th scope="col">Cause</th><th scope="col" class="trend">Last hour, by the minute</th>
<th scope="col" class="number">Last hour</th><th scope="col" class="number">Since start</th></tr></thead>
<tbody data-list="causes"><template>{_cause(_BLANK_CAUSE)}</template>"""
    yield from map(_cause, rows)
    yield f"""</tbody></table>
<p class="none" data-empty="causes"{" hidden" if rows else ""}>None has ended since the start.</p>
</section>"""


def _cause(row: Data) -> str:
    nature = text(row["nature"])
    return f"""<tr data-key="{text(row["key"])}">
<th scope="row"><b data-text="key">{text(row["key"])}</b>
<span class="tag" data-text="nature" data-nature="{nature}" data-attr="data-nature:nature">{nature}</span>
<span class="under">{chip_list("codes", row["codes"])} <span data-text="by">{text(row["by"])}</span></span></th>
<td class="trend"><svg class="spark" data-spark="minutes" data-nature="{nature}" data-attr="data-nature:nature"
 aria-hidden="true"></svg></td>
<td class="number" data-text="hour">{text(row["hour"])}</td>
<td class="number" data-text="ever">{text(row["ever"])}</td></tr>"""


def _stories(rows: Sequence[Data]) -> Iterator[str]:
    yield f"""<section aria-labelledby="stories-title">
<h2 id="stories-title">Last abnormal endings</h2>
<ol class="stories" data-list="stories"><template>{_story(_BLANK_STORY)}</template>"""
    yield from map(_story, rows)
    yield f"""</ol>
<p class="none" data-empty="stories"{" hidden" if rows else ""}>None so far.</p>
<p><a href="/closes">All that are kept, with filters</a></p>
</section>"""


def _story(row: Data) -> str:
    nature = text(row["nature"])
    return f"""<li data-key="{text(row["key"])}" data-nature="{nature}" data-attr="data-nature:nature">
<p class="over"><span>{chip_list("code", row["code"])}
<a class="story" href="{text(row["link"])}" data-attr="href:link"><span data-text="cause">{text(row["cause"])}</span>
<span data-text="by">{text(row["by"])}</span></a></span>
<time data-at="ended_at" datetime="{iso(row["ended_at"])}">{text(row["when"])}</time>
<code class="path" data-text="path">{text(row["path"])}</code></p>
<p><span data-text="headline">{text(row["headline"])}</span> <span data-text="more">{text(row["more"])}</span></p>
</li>"""
