"""The pages that tell abnormal endings: the list with its filters, and one story in full.

A list is made story by story, as :mod:`exporter.admin.responses` asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from exporter.admin.pages.layout import chips, described, ending, frame, glossary, text
from exporter.admin.pages.meanings import explain, meaning_of
from exporter.admin.pages.wording import circumstances, duration, headline, iso, quantity, quiet_before, when, whom
from exporter.admin.state import Book, CloseReport, chip
from exporter.protocol.close_codes import ABNORMAL

if TYPE_CHECKING:
    from exporter.admin.closes_api import Query

Fields = Mapping[str, Any]

_TITLE = "Abnormal endings"
_OTHER = {"client": "server", "server": "client"}


def listing(book: Book, query: Query, found: Iterator[CloseReport]) -> Iterator[str]:
    """The list, page by page for as many stories as the query wants."""
    yield frame(f"{_TITLE}: websocket-exporter")
    yield _list_head(book, query)
    last = ""
    for story in islice(found, query.limit):
        yield _article(story.as_dict())
        last = story.fields["session_id"]
    if not last:
        yield f'<p class="none">{_nothing(book, query)}</p>'
    if next(found, None) is not None:
        older = text(query.link(limit=str(query.limit), before=last))
        yield f'<p><a class="more" rel="next" href="{older}">Older ones</a></p>'
    yield f"{glossary()}</main>{ending()}"


def one(story: Fields) -> str:
    """One story in full."""
    name = text(story["session_id"])
    body = f"""<header><p class="crumbs"><a href="/">This pod</a> / <a href="/closes">{_TITLE}</a></p>
<h1>{text(story["code"])} {_summary(story)}</h1></header>
<main id="main">
{_told(story)}
{_explained(story)}
<h2>What was seen</h2>
{_facts(story)}
{_messages(story)}
<h2>The last frames</h2>
{_frames(story)}
<p><a href="/closes/{name}?format=json">The same as JSON</a></p>
</main>"""
    title = f"{story['code']} {story['cause']}: websocket-exporter"
    return f"{frame(title)}{body}{ending()}"


def missing(said: str) -> str:
    """The page for a story that is not kept."""
    body = f"""<header><p class="crumbs"><a href="/">This pod</a> / <a href="/closes">{_TITLE}</a></p>
<h1>No such story</h1></header><main id="main"><p>{text(said.capitalize())}.</p></main>"""
    return f"{frame('No such story: websocket-exporter')}{body}{ending()}"


def _nothing(book: Book, query: Query) -> str:
    if query.before:
        return f"Nothing older than session {text(query.before)} is kept."
    if query.filters and len(book):
        return f'None that is kept matches. <a href="/closes">Show all {len(book)}</a>'
    return "None so far."


def _list_head(book: Book, query: Query) -> str:
    kept = f"{len(book):,} of {book.total:,} since the start are kept"
    shown = f"older than session {text(query.before)}, " if query.before else ""
    as_json = text(query.link(format="json"))
    return f"""<a class="skip" href="#main">To the endings</a>
<header><p class="crumbs"><a href="/">This pod</a></p>
<h1>{_TITLE}</h1>
<p>Newest first, {shown}{kept}. <a href="{as_json}">The same as JSON</a></p></header>
<main id="main">
{_form(book, query)}"""


def _form(book: Book, query: Query) -> str:
    """The filters, each with the values that occur."""
    seen: dict[str, set[str]] = {name: {value} for name, value in query.filters.items()}
    for _, story in book.walk():
        for name in ("code", "cause", "route"):
            seen.setdefault(name, set()).add(str(story.fields[name]))
    fields = "".join(
        _select(name, title, sorted(seen.get(name, ())), getattr(query, name))
        for name, title in (("code", "Code"), ("cause", "Cause"), ("route", "Route"))
    )
    clear = '<a href="/closes">Show all</a>' if query.filters else ""
    return f'<form method="get" action="/closes" role="search">{fields}<button>Filter</button> {clear}</form>'


def _select(name: str, title: str, values: Sequence[str], chosen: str) -> str:
    options = "".join(
        f'<option value="{text(value)}"{" selected" if value == chosen else ""}>{text(value)}</option>'
        for value in values
    )
    return f'<label>{title} <select name="{name}"><option value="">any</option>{options}</select></label>'


def _article(story: Fields) -> str:
    name = text(story["session_id"])
    return f"""<article class="story" data-nature="{meaning_of(story["cause"]).nature}" aria-labelledby="s-{name}">
<h2 id="s-{name}">{chips([chip(story["code"])])} <a href="/closes/{name}">{_summary(story)}</a></h2>
{_told(story)}
<details><summary>What was seen, and the last {quantity(len(story["last_frames"]), "frame")}</summary>
{_facts(story)}{_messages(story)}{_frames(story)}</details>
</article>
"""


def _summary(story: Fields) -> str:
    return f"{text(story['cause'])} by the {whom(story['initiator'])}"


def _told(story: Fields) -> str:
    sentences = " ".join([f"{headline(story)}.", *circumstances(story)])
    ended = story["ended_at"]
    return f"""<p class="over"><time datetime="{iso(ended)}">{when(ended)}</time>
<code class="path">{text(story["path"])}</code></p>
<p>{text(sentences)}</p>"""


def _explained(story: Fields) -> str:
    """What the cause and the code mean, and what to do."""
    cause, code = meaning_of(story["cause"]).text, explain(story["code"])
    also = "" if cause in dict(code.rows).values() else f"<p><b>{text(story['cause'])}</b>: {text(cause)}</p>"
    return f"<h2>What that means</h2>{also}{described(code)}"


def _facts(story: Fields) -> str:
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in _rows(story) if value)
    return f'<dl class="pairs">{rows}</dl>'


def _rows(story: Fields) -> Iterator[tuple[str, str]]:
    """Headings and HTML; what is not known is empty."""
    quiet = story["idle_s"] if story["code"] == ABNORMAL else quiet_before(story["last_frames"])
    yield "Session", _code(story["session_id"])
    yield "Route", text(story["route"])
    yield "Path", _code(story["path"])
    yield "Reason text", f"<q>{text(story['reason'])}</q>" if story["reason"] else "none"
    yield "Lasted", duration(story["duration_s"])
    yield "Idle before the end", "no frame passed" if quiet is None else duration(quiet)
    yield "Closing handshake", "complete" if story["clean"] else "not complete"
    yield "TCP ended by", _tcp(story)
    yield "Ping without a pong", duration(waited) if (waited := story["ping_unanswered_s"]) else ""
    yield "Cut in a frame", _peers(story["cut_in_frame"])
    yield "Cut in a message", _peers(story["cut_in_message"])
    for peer in ("client", "server"):
        age = story["last_frame_age_s"][peer]
        last = f", the last {duration(age)} before the end" if age is not None else ""
        passed = f"{quantity(story['frames'][peer], 'frame')}, {quantity(story['bytes'][peer], 'byte')}"
        yield f"From the {peer}", passed + last
    yield "Subprotocol", _code(story["subprotocol"])
    yield "Client", _code(story["client"])
    yield "X-Forwarded-For", _code(story["forwarded_for"])
    yield "Trace", _code(story["trace_id"])


def _code(value: str) -> str:
    return f"<code>{text(value)}</code>" if value else ""


def _tcp(story: Fields) -> str:
    if not story["tcp_ended_by"]:
        return ""
    how = "reset" if story["tcp_ended_how"] == "reset" else "FIN"
    return f"{text(story['tcp_ended_by'])} ({how})"


def _peers(peers: Iterable[str]) -> str:
    return ", ".join(f"of the {text(peer)}" for peer in peers)


def _messages(story: Fields) -> str:
    """The first bytes of each side's last message, if somebody asked for them with ``--record-payload``."""
    samples = story.get("last_message") or {}
    rows = "".join(
        f"<dt>Last message of the {text(peer)}, its beginning</dt><dd><pre tabindex='0'>{text(sample)}</pre></dd>"
        for peer, sample in samples.items()
        if sample
    )
    return f'<dl class="pairs">{rows}</dl>' if rows else ""


def _frames(story: Fields) -> str:
    frames = story["last_frames"]
    if not frames:
        return "<p>No frame passed.</p>"
    rows = "".join(map(_frame, frames))
    caption = f"The last {quantity(len(frames), 'frame')}, oldest first; headers only"
    return f"""<table class="frames"><caption>{caption}</caption>
<thead><tr><th scope="col" class="number">Before the end</th><th scope="col">Direction</th><th scope="col">Opcode</th>
<th scope="col" class="number">Length</th></tr></thead><tbody>{rows}</tbody></table>"""


def _frame(seen: Fields) -> str:
    more = "" if seen["fin"] else ' <span class="soft">more follows</span>'
    sender = seen["sender"]
    return (
        f'<tr data-from="{sender}"><td class="number">{seen["age_s"]:,.3f} s</td>'
        f'<td>{sender} <span class="to">→ {_OTHER[sender]}</span></td><td>{text(seen["opcode"])}{more}</td>'
        f'<td class="number">{quantity(seen["length"], "byte")}</td></tr>'
    )
