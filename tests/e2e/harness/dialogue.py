"""One dialogue, held by clients of four makes, and what each peer saw of it.

The same dialogue is held twice, direct and through the sidecar, and the two transcripts must be equal. A client
sends :data:`MESSAGES`, reads until the last of them comes back, and closes with 4000 "bye"; then it opens another
session, asks the app to close, and is told 4001 "done".
"""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.waiting import WAIT_LIMIT

from .process import Process, running
from .stack import CLIENTS, skip_without

T = TypeVar("T")

TEXT, BINARY = "text", "binary"


@dataclass(frozen=True, slots=True)
class Message:
    """What a client sends: its fragments, one or several."""

    kind: str
    parts: tuple[bytes, ...]

    @property
    def whole(self) -> bytes:
        """The message's payload."""
        return b"".join(self.parts)


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a client saw: the extensions that were agreed on, every message, code and reason of both closes."""

    extensions: str
    messages: tuple[tuple[str, bytes], ...]
    closes: tuple[tuple[int, str], ...]


_EVERY_BYTE = bytes(range(256))
#: Repeated, so that a compressor that keeps its context makes something else of the second than of the first.
_VERSE = ("So many words, so many frames: " * 60).encode()

MESSAGES = (
    Message(TEXT, (b"hello",)),
    Message(TEXT, ("grüße 🐘".encode(),)),
    Message(TEXT, (b"",)),
    Message(BINARY, (b"",)),
    Message(BINARY, (_EVERY_BYTE,)),
    Message(TEXT, (b"in ", b"three ", b"pieces")),
    Message(BINARY, (_EVERY_BYTE, b"", _EVERY_BYTE[::-1])),
    Message(BINARY, (_EVERY_BYTE * 256,)),
    *([Message(TEXT, (_VERSE,))] * 3),
    Message(TEXT, (b"over",)),
)
LAST = (TEXT, b"over")
ECHOES = tuple((message.kind, message.whole) for message in MESSAGES)

Client = Callable[[str, bool], Transcript]
"""Holds the dialogue at a URL, offering permessage-deflate or not."""


def run_apart(dialogue: Coroutine[Any, Any, T]) -> T:
    """Run it on a loop in a thread of its own: a browser's driver has one running in ours."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, dialogue).result()


def websockets_client(url: str, deflate: bool) -> Transcript:
    """`websockets` on asyncio."""

    async def talk() -> Transcript:
        seen: list[tuple[str, bytes]] = []
        options: dict[str, object] = {"ping_interval": None, "compression": "deflate" if deflate else None}
        async with asyncio.timeout(WAIT_LIMIT):
            async with connect(url, **options) as one:  # type: ignore[arg-type]
                for message in MESSAGES:
                    parts = [part.decode() if message.kind == TEXT else part for part in message.parts]
                    await one.send(parts[0] if len(parts) == 1 else parts)  # type: ignore[arg-type]
                while LAST not in seen:
                    echo = await one.recv()
                    seen.append((TEXT, echo.encode()) if isinstance(echo, str) else (BINARY, echo))
                await one.close(4000, "bye")
            async with connect(url, **options) as two:  # type: ignore[arg-type]
                await two.send("close")
                with suppress(ConnectionClosed):
                    await two.recv()
        assert one.response is not None
        extensions = one.response.headers.get("Sec-WebSocket-Extensions", "")
        closes = tuple((session.close_code or 0, session.close_reason or "") for session in (one, two))
        return Transcript(extensions, tuple(seen), closes)

    return run_apart(talk())


def aiohttp_client(url: str, deflate: bool) -> Transcript:
    """aiohttp. It cannot send fragments: what has several parts goes as one. It does not tell a close's reason."""

    async def talk() -> Transcript:
        seen: list[tuple[str, bytes]] = []
        options: dict[str, int] = {"compress": 15 if deflate else 0}
        async with asyncio.timeout(WAIT_LIMIT), aiohttp.ClientSession() as session:
            async with session.ws_connect(url, **options) as one:  # type: ignore[arg-type]
                for message in MESSAGES:
                    if message.kind == TEXT:
                        await one.send_str(message.whole.decode())
                    else:
                        await one.send_bytes(message.whole)
                while LAST not in seen:
                    echo = await one.receive()
                    is_text = echo.type == aiohttp.WSMsgType.TEXT
                    seen.append((TEXT, echo.data.encode()) if is_text else (BINARY, echo.data))
                await one.close(code=4000, message=b"bye")
            async with session.ws_connect(url, **options) as two:  # type: ignore[arg-type]
                await two.send_str("close")
                last = await two.receive()
        extensions = one._response.headers.get("Sec-WebSocket-Extensions", "")
        closes = ((one.close_code or 0, ""), (two.close_code or 0, str(last.extra or "")))
        return Transcript(extensions, tuple(seen), closes)

    return run_apart(talk())


def _as_json() -> list[dict[str, object]]:
    return [
        {"kind": message.kind, "parts": [base64.b64encode(part).decode() for part in message.parts]}
        for message in MESSAGES
    ]


def _from_json(told: dict[str, list[list[str]]]) -> Transcript:
    messages = tuple((kind, base64.b64decode(data)) for kind, data in told["messages"])
    closes = tuple((int(code), reason) for code, reason in told["closes"])
    return Transcript(str(told["extensions"]), messages, closes)


def node_client(url: str, deflate: bool) -> Transcript:
    """Node ws, in a process of its own."""
    skip_without("node")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(_as_json(), file)
        file.flush()
        argv = ["node", str(CLIENTS / "node_interop.mjs"), url, file.name, "on" if deflate else "off"]
        with running(Process("the Node client", argv)) as client:
            assert client.wait(WAIT_LIMIT) == 0, client.tail()
            return _from_json(json.loads(client.output().splitlines()[-1]))


#: What a page does to hold the dialogue. A page sends whole messages; the browser fragments as it likes.
SCRIPT = """async ([url, messages]) => {
  const told = { extensions: "", messages: [], closes: [] };
  const bytes = (part) => Uint8Array.from(atob(part), (char) => char.charCodeAt(0));
  const base64 = (data) => btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""));
  const opened = () => new Promise((resolve, reject) => {
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => resolve(socket);
    socket.onerror = reject;
  });
  const closed = (socket) => new Promise((resolve) => {
    socket.onclose = (event) => { told.closes.push([event.code, event.reason]); resolve(); };
  });
  const one = await opened();
  told.extensions = one.extensions;
  for (const { kind, parts } of messages) {
    const whole = bytes(btoa(parts.map(atob).join("")));
    one.send(kind === "text" ? new TextDecoder().decode(whole) : whole);
  }
  await new Promise((resolve, reject) => {
    setTimeout(reject, 20000, new Error("no last echo"));
    one.onmessage = ({ data }) => {
      told.messages.push(typeof data === "string"
        ? ["text", base64(new TextEncoder().encode(data))] : ["binary", base64(new Uint8Array(data))]);
      if (data === "over") resolve();
    };
  });
  let over = closed(one);
  one.close(4000, "bye");
  await over;
  const two = await opened();
  over = closed(two);
  two.send("close");
  await over;
  return told;
}"""


def in_page(evaluate: Callable[[str, object], dict[str, list[list[str]]]], url: str) -> Transcript:
    """A browser's page: `evaluate` runs a script in it. Browsers always offer permessage-deflate."""
    return _from_json(evaluate(SCRIPT, [url, _as_json()]))
