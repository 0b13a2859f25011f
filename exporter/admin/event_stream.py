"""``/events``: the page's state as Server-Sent Events, to a bounded number of listeners.

Each listener has a task that checks once a second whether anything has changed and, if so, sends the whole state, which
is made once for all of them. There is no queue: a slow reader gets fewer states, not older ones. When nothing changes a
comment is sent now and then, so that both ends notice a connection that died.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from exporter.admin.responses import begin, bounded, line, web

#: Listeners at a time: people who look at one pod, with some to spare.
MAX_LISTENERS = 16
#: Seconds between two events to one listener, at least.
INTERVAL = 1.0
#: Seconds for which a state serves all listeners; a little less than their interval.
FRESH = 0.9
#: Seconds between two checks of readiness, which may cost the app a connection.
READINESS = 5.0
#: Seconds after which something is sent even if nothing has changed; below the usual 60 s idle cut-offs.
HEARTBEAT = 15.0
#: Seconds that one write may wait for its reader.
WRITE_TIME = 10.0
#: Milliseconds after which a browser connects again when the connection breaks.
RETRY = 2000


class EventStream:
    """Send states to listeners.

    :param change_token: returns another value whenever the state is another; cheap.
    :param unready: returns the reasons why the sidecar is not ready; may connect to the app.
    :param state: returns the state with these reasons, ready for JSON.
    """

    def __init__(
        self,
        change_token: Callable[[], Hashable],
        unready: Callable[[], Awaitable[list[str]]],
        state: Callable[[list[str]], Mapping[str, Any]],
    ) -> None:
        self.listeners = 0
        self._change_token = change_token
        self._unready = unready
        self._make = state
        self._reasons: list[str] = []
        self._checked = float("-inf")
        self._seen: Hashable = None
        self._made = float("-inf")
        self._state = b""
        self._closing = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Send states until the listener or the server goes."""
        if self.listeners >= MAX_LISTENERS:
            return line(503, f"{MAX_LISTENERS} listeners are connected already", {"Retry-After": "15"})
        self.listeners += 1
        try:
            response = await begin(request, "text/event-stream")
            if request.method != "HEAD":
                async with bounded(request, None):
                    await self._write(response, f"retry: {RETRY}\n\n".encode())
                    await self._feed(request, response)
            return response
        finally:
            self.listeners -= 1

    def close(self) -> None:
        """End all streams."""
        self._closing.set()

    async def _feed(self, request: web.Request, response: web.StreamResponse) -> None:
        sent, last = b"", monotonic()
        while not self._closing.is_set() and request.transport is not None:
            state = await self._latest()
            if state is not sent:
                await self._write(response, state)
                sent, last = state, monotonic()
            elif monotonic() - last >= HEARTBEAT:
                await self._write(response, b": no change\n\n")
                last = monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), INTERVAL)

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(WRITE_TIME):
            await response.write(data)

    async def _latest(self) -> bytes:
        """Return the event to send: the same object until something has changed."""
        if monotonic() - self._checked >= READINESS:
            self._checked = monotonic()
            self._reasons = await self._unready()
        token = (self._change_token(), *self._reasons)
        if token != self._seen and monotonic() - self._made >= FRESH:
            self._seen, self._made = token, monotonic()
            state = json.dumps(self._make(self._reasons), separators=(",", ":"))
            self._state = f"data: {state}\n\n".encode()
        return self._state
