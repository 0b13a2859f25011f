"""``/events``: the landing page's numbers as Server-Sent Events, to a bounded number of listeners.

How it works
============
Each listener has a task that looks once a second whether anything has changed and, if so, sends the whole state. The
state is made once for all of them and kept until something changes, so one listener more costs a write. There is no
queue: who reads slowly gets fewer states, not older ones, and who does not read at all is dropped when a write has
waited for :data:`PATIENCE`. When nothing changes a comment is sent now and then, so that both ends notice a connection
that died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Any

from exporter.admin.cooperative import run_cooperatively
from exporter.admin.http import web
from exporter.admin.responses import begin, drop, line
from exporter.admin.state import encoded

#: Listeners at a time: people who look at one pod, with some to spare.
MAX_LISTENERS = 16
#: Seconds between two events to one listener, at least.
INTERVAL = 1.0
#: Seconds for which a state will do for all listeners; a little less than their interval.
FRESH = 0.9
#: Seconds between two looks whether we are ready, which may cost the app a connection.
READINESS = 5.0
#: Seconds after which something is sent even if nothing has changed; below the usual 60 s idle cut-offs.
HEARTBEAT = 15.0
#: Seconds that one write may wait for its reader.
PATIENCE = 10.0
#: Milliseconds after which a browser is to come back when the connection breaks.
RETRY = 2000


class EventStream:
    """The handler and what it shares among listeners.

    :param change_token: something that is different whenever the state is; cheap.
    :param unready: the reasons why we are not ready; may ask the app.
    :param take: makes the state with these reasons: names and values ready for JSON, in small steps.
    """

    def __init__(
        self,
        change_token: Callable[[], Hashable],
        unready: Callable[[], Awaitable[list[str]]],
        take: Callable[[list[str]], Iterable[tuple[str, Any]]],
    ) -> None:
        self.listeners = 0
        self._pulse = change_token
        self._unready = unready
        self._take = take
        self._reasons: list[str] = []
        self._asked = float("-inf")
        self._seen: Hashable = None
        self._made = float("-inf")
        self._state = b""
        self._making = asyncio.Lock()  # who comes meanwhile waits for what is being made
        self._closing = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Send states until the listener or the server goes."""
        if self.listeners >= MAX_LISTENERS:
            return line(503, f"{MAX_LISTENERS} listeners are here already", {"Retry-After": "15"})
        self.listeners += 1
        try:
            return await self._serve(request)
        finally:
            self.listeners -= 1

    def close(self) -> None:
        """Let all listeners go."""
        self._closing.set()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        response = await begin(request, "text/event-stream")
        if request.method == "HEAD":
            return response
        try:
            await self._write(response, f"retry: {RETRY}\n\n".encode())
            await self._feed(request, response)
        except TimeoutError:
            drop(request)
        except ConnectionError:
            pass  # gone
        return response

    async def _feed(self, request: web.Request, response: web.StreamResponse) -> None:
        sent, last = b"", monotonic()
        while not self._closing.is_set() and request.transport is not None:
            state = await self._latest()
            if state is not sent:
                await self._write(response, state)
                sent, last = state, monotonic()
            elif monotonic() - last >= HEARTBEAT:
                await self._write(response, b": still here\n\n")
                last = monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), INTERVAL)

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await response.write(data)

    async def _latest(self) -> bytes:
        """The event to send: the same object until something has changed."""
        if monotonic() - self._asked >= READINESS:
            self._asked = monotonic()
            self._reasons = await self._unready()
        async with self._making:
            change_token = (self._pulse(), *self._reasons)
            if change_token != self._seen and monotonic() - self._made >= FRESH:
                began = monotonic()
                state = dict(await run_cooperatively(self._take(self._reasons)))
                self._state = f"data: {''.join(await run_cooperatively(encoded(state)))}\n\n".encode()
                self._seen, self._made = change_token, began
            return self._state
