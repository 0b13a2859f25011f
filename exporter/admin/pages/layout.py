"""The parts that all pages share: head and end, style, script, and the headers that protect them.

Nothing is loaded from elsewhere. The style and the script are in the page itself, and the Content-Security-Policy names
them by their hash: no other script runs. All text goes through :func:`text`.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape as text
from pathlib import Path

from exporter.admin.pages.wording import GLOSSARY, CodeMeaning, entry

#: Where the documents are.
DOCS = "https://github.com/websocket-exporter/websocket-exporter/blob/main/docs"


#: Read as files: importlib.resources imports zipfile, which nothing else here needs.
_STATIC = Path(__file__).parents[1] / "static"


_STYLE, _SCRIPT = ((_STATIC / name).read_text("utf-8").strip() for name in ("page.css", "page.js"))


def _hash(asset: str) -> str:
    return f"'sha256-{b64encode(sha256(asset.encode()).digest()).decode()}'"


#: Headers of every answer: nothing is loaded, framed or kept, and only our own script runs.
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)}; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def page_head(title: str) -> str:
    """Return the beginning of a page; ``title`` is text."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
"""


#: The end of a page.
PAGE_END = f"""
<script>{_SCRIPT}</script>
</body>
</html>
"""


def chips(codes: list[dict[str, str]]) -> str:
    """Return close codes that explain themselves on hover, focus or tap; ``chip`` makes them."""
    return "".join(
        f'<a class="code" data-key="{text(code["key"])}" data-text="key" href="{text(code["href"])}"'
        f' aria-describedby="{text(code["meaning_id"])}" data-attr="href:href aria-describedby:meaning_id">'
        f"{text(code['key'])}</a>"
        for code in codes
    )


def chip_list(name: str, codes: list[dict[str, str]]) -> str:
    """Return chips that the script keeps up to date from the list ``name``."""
    blank = chips([{"key": "", "href": "#", "meaning_id": ""}])
    return f'<span class="codes" data-list="{name}"><template>{blank}</template>{chips(codes)}</span>'


@cache
def glossary() -> str:
    """Return the meaning of every code; chips link here."""
    entries = "".join(map(code_entry, GLOSSARY))
    return f"""<section aria-labelledby="codes-title">
<h2 id="codes-title">Close codes</h2>
<details id="codes"><summary>All {len(GLOSSARY)} codes</summary>
<div class="glossary">{entries}</div>
</details>
</section>"""


def code_entry(meaning: CodeMeaning) -> str:
    """Return the meaning of one code, with the anchor of its chips."""
    anchor = text(entry(meaning.code))
    names = [f' id="{anchor}-meaning"', *[""] * len(meaning.rows)]
    rows = "".join(
        f"<dt>{text(name)}</dt><dd{id}>{text(sentence)}</dd>"
        for id, (name, sentence) in zip(names, meaning.rows, strict=False)
    )
    title = f"<h3><b>{text(meaning.code)}</b> {text(meaning.name)}</h3>"
    return f'<div class="entry" id="{anchor}">{title}<dl>{rows}</dl></div>'
