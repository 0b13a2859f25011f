"""The pages of reports: the list with its filters, and one report in full.

A list is made report by report, as fast as its reader takes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape as text
from itertools import islice
from typing import TYPE_CHECKING, Any

from exporter.admin.pages import wording
from exporter.admin.pages.layout import PAGE_END, chips, code_entry, glossary, page_head
from exporter.observe.recent_closes import CloseReport, RecentCloses
from exporter.protocol.close_codes import ABNORMAL

if TYPE_CHECKING:
    from exporter.admin.closes_api import Query

Fields = Mapping[str, Any]

#: Fields by which a list may be filtered, and their headings.
FILTERS = {"code": "Code", "cause": "Cause", "route": "Route"}
_TITLE = "Abnormal closes"
_OTHER = {"client": "server", "server": "client"}


def list_page(reports: RecentCloses, query: Query, found: Iterator[CloseReport]) -> Iterator[str]:
    """Yield the list, report by report, as many as the query wants."""
    yield page_head(f"{_TITLE}: websocket-exporter")
    yield _list_head(reports, query)
    last = ""
    for report in islice(found, query.limit):
        yield _article(report.as_dict())
        last = report.fields["session_id"]
    if not last:
        yield f'<p class="none">{_nothing(reports, query)}</p>'
    if next(found, None) is not None:
        older = text(query.link(limit=str(query.limit), before=last))
        yield f'<p><a class="more" rel="next" href="{older}">Older reports</a></p>'
    yield f"{glossary()}</main>{PAGE_END}"


def report_page(report: Fields) -> str:
    """Return one report in full."""
    name = text(report["session_id"])
    ended = report["ended_at"]
    body = f"""<header><p class="crumbs"><a href="/">This sidecar</a> / <a href="/closes">{_TITLE}</a></p>
<h1>{text(wording.code_of(report))} {text(wording.title(report))}</h1>
<p class="over"><time data-exact datetime="{wording.iso(ended)}">{wording.when(ended)}</time>
<code class="path">{text(report["path"])}</code></p></header>
<main id="main">
<p class="conclusion" data-tone="{wording.tone_of(report)}">{text(wording.conclusion(report))}</p>
<p>{text(wording.headline(report))}.</p>
{_evidence(report)}
<h2>Details</h2>
{_facts(report)}
{_messages(report)}
<h2>Last frames</h2>
{_frames(report)}
<h2>Close code {text(wording.code_of(report))}</h2>
{code_entry(wording.explain(wording.code_of(report)))}
<p><a href="/closes/{name}?format=json">This report as JSON</a></p>
</main>"""
    return f"{page_head(f'{wording.code_of(report)} {wording.title(report)}: websocket-exporter')}{body}{PAGE_END}"


def missing_page(message: str) -> str:
    """Return the page for a report that is not kept."""
    body = f"""<header><p class="crumbs"><a href="/">This sidecar</a> / <a href="/closes">{_TITLE}</a></p>
<h1>No such report</h1></header><main id="main"><p>{text(message.capitalize())}.</p></main>"""
    return f"{page_head('No such report: websocket-exporter')}{body}{PAGE_END}"


def _nothing(reports: RecentCloses, query: Query) -> str:
    if query.before:
        return f"Nothing older than session {text(query.before)} is kept."
    if query.filters and len(reports):
        return f'No report matches. <a href="/closes">Show all {len(reports)}</a>'
    return "None so far."


def _list_head(reports: RecentCloses, query: Query) -> str:
    kept = f"{len(reports):,} of {wording.quantity(reports.total, 'report')} since the start"
    shown = f"older than session {text(query.before)}, " if query.before else ""
    as_json = text(query.link(format="json"))
    return f"""<a class="skip" href="#main">To the reports</a>
<header><p class="crumbs"><a href="/">This sidecar</a></p>
<h1>{_TITLE}</h1>
<p>Newest first, {shown}{kept}. <a href="{as_json}">As JSON</a></p></header>
<main id="main">
{_form(reports, query)}"""


def _form(reports: RecentCloses, query: Query) -> str:
    """Return the filters, each with the values that occur."""
    seen: dict[str, set[str]] = {name: {value} for name, value in query.filters.items()}
    for _, report in reports.walk():
        for name in FILTERS:
            seen.setdefault(name, set()).add(str(report.fields[name]))
    fields = "".join(
        _select(name, title, sorted(seen.get(name, ())), query.filters.get(name, "")) for name, title in FILTERS.items()
    )
    clear = '<a href="/closes">Show all</a>' if query.filters else ""
    return f'<form method="get" action="/closes" role="search">{fields}<button>Filter</button> {clear}</form>'


def _select(name: str, title: str, values: Sequence[str], chosen: str) -> str:
    options = "".join(
        f'<option value="{text(value)}"{" selected" if value == chosen else ""}>{text(value)}</option>'
        for value in values
    )
    return f'<label>{title} <select name="{name}"><option value="">any</option>{options}</select></label>'


def _article(report: Fields) -> str:
    name, ended = text(report["session_id"]), report["ended_at"]
    code = chips([wording.chip(wording.code_of(report))])
    about = f"Details and the last {wording.quantity(len(report['last_frames']), 'frame')}"
    return f"""<article class="report" data-tone="{wording.tone_of(report)}" aria-labelledby="s-{name}">
<h2 id="s-{name}">{code} <a href="/closes/{name}">{text(wording.title(report))}</a></h2>
<p class="over"><time data-exact datetime="{wording.iso(ended)}">{wording.when(ended)}</time>
<code class="path">{text(report["path"])}</code></p>
<p>{text(wording.conclusion(report))}</p>
<p class="soft">{text("; ".join([wording.headline(report), *wording.evidence(report)]))}.</p>
<details><summary>{about}</summary>
{_facts(report)}{_messages(report)}{_frames(report)}</details>
</article>
"""


def _evidence(report: Fields) -> str:
    phrases = "".join(f"<li>{text(phrase[0].upper() + phrase[1:])}.</li>" for phrase in wording.evidence(report))
    return f"<h2>Evidence</h2><ul>{phrases}</ul>" if phrases else ""


def _facts(report: Fields) -> str:
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in _rows(report) if value)
    return f'<dl class="pairs">{rows}</dl>'


def _rows(report: Fields) -> Iterator[tuple[str, str]]:
    """Yield headings and HTML; an unknown value is empty."""
    idle = report["idle_s"] if report["code"] == ABNORMAL else wording.idle_before(report["last_frames"])
    yield "Session", _code(report["session_id"])
    yield "Route", text(report["route"])
    yield "Path", _code(report["path"])
    yield "Reason text", f"<q>{text(report['reason'])}</q>" if report["reason"] else "none"
    yield "Duration", wording.duration(report["duration_s"])
    yield "Idle before the end", "no frame passed" if idle is None else wording.duration(idle)
    yield "Closing handshake", "complete" if report["clean"] else "incomplete"
    yield "TCP ended by", _tcp(report)
    yield "Ping without a pong", wording.duration(waited) if (waited := report["ping_unanswered_s"]) else ""
    for peer in ("client", "server"):
        age = report["last_frame_age_s"][peer]
        last = f", the last {wording.duration(age)} before the end" if age is not None else ""
        frames, payload = report["frames"][peer], report["bytes"][peer]
        passed = f"{wording.quantity(frames, 'frame')}, {wording.quantity(payload, 'byte')}"
        yield f"From the {peer}", passed + last
    yield "Subprotocol", _code(report["subprotocol"])
    yield "Client", _code(report["client"])
    yield "X-Forwarded-For", _code(report["forwarded_for"])
    yield "Trace", _code(report["trace_id"])


def _code(value: str) -> str:
    return f"<code>{text(value)}</code>" if value else ""


def _tcp(report: Fields) -> str:
    if not report["tcp_ended_by"]:
        return ""
    how = "reset" if report["tcp_ended_how"] == "reset" else "FIN"
    return f"{text(report['tcp_ended_by'])} ({how})"


def _messages(report: Fields) -> str:
    """Return the first bytes of each side's last message, which ``--record-payload`` keeps."""
    samples = report.get("last_message") or {}
    rows = "".join(
        f"<dt>Last message of the {text(peer)}, first bytes</dt><dd><pre tabindex='0'>{text(sample)}</pre></dd>"
        for peer, sample in samples.items()
        if sample
    )
    return f'<dl class="pairs">{rows}</dl>' if rows else ""


def _frames(report: Fields) -> str:
    frames = report["last_frames"]
    if not frames:
        return "<p>No frame passed.</p>"
    rows = "".join(map(_frame, frames))
    caption = f"The last {wording.quantity(len(frames), 'frame')}, oldest first; headers only"
    return f"""<table class="frames"><caption>{caption}</caption>
<thead><tr><th scope="col" class="number">Before the end</th><th scope="col">Direction</th><th scope="col">Opcode</th>
<th scope="col" class="number">Length</th></tr></thead><tbody>{rows}</tbody></table>"""


def _frame(seen: Fields) -> str:
    more = "" if seen["fin"] else ' <span class="soft">more follows</span>'
    sender = seen["sender"]
    return (
        f'<tr data-from="{sender}"><td class="number">{seen["age_s"]:,.4f} s</td>'
        f'<td>{sender} <span class="to">→ {_OTHER[sender]}</span></td><td>{text(seen["opcode"])}{more}</td>'
        f'<td class="number">{wording.quantity(seen["length"], "byte")}</td></tr>'
    )
