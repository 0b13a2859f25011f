"""Ends sessions on purpose, so that the pod can go.

How it works
============
The best ending is one that a peer chose. A drain therefore begins by waiting, and goes through four phases:

    serving    not ready any more, but new clients are still served: load balancers learn slowly
    waiting    for SIGTERM only: sessions may end by themselves until the time left equals the spread
    closing    no new clients; the sessions that are left are told, one by one, evenly over the spread, so that
               their clients do not come back as one herd
    done       at the latest at the deadline, when whatever is left is closed at once

A drain asked for over HTTP (a preStop hook) starts closing right after the grace: the pod has somewhere to be. One that
SIGTERM began waits as long as it may: the app got the same signal and knows best how to end its own sessions.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic

from exporter.protocol.enums import Cause
from exporter.relay.server import Relay

#: Seconds after the deadline that endings which wait for a verdict on the app get, and apps that read our last Close.
LAST_JUDGEMENTS = 3.0


class Phase(StrEnum):
    """Where a drain is."""

    NONE = "none"
    SERVING = "serving"
    WAITING = "waiting"
    CLOSING = "closing"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a drain goes. Seconds, but for ``code``, the close code that sessions are told.

    :ivar timeout: bounds the whole.
    :ivar spread: over which the Closes are spread evenly, at the end of ``timeout`` or right after ``grace``.
    :ivar grace: during which new clients are still served.
    :ivar close_timeout: that a client gets to answer our Close.
    """

    timeout: float = 30.0
    spread: float = 5.0
    grace: float = 0.0
    close_timeout: float = 5.0
    code: int = 1001


class Drain:
    """The one drain of a process. It is begun once; later calls only hasten it."""

    def __init__(self, relay: Relay, plan: Plan) -> None:
        self.phase = Phase.NONE
        self.finished = asyncio.Event()
        self._relay = relay
        self._plan = plan
        self._began = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_on(self) -> bool:
        """Whether a drain has begun; it stays on until the process ends."""
        return self.phase is not Phase.NONE

    @property
    def sessions_left(self) -> int:
        """Sessions that have not ended yet; 0 when no drain is on."""
        return len(self._relay.sessions) if self.is_on else 0

    @property
    def seconds_left(self) -> float:
        """Seconds to the deadline; 0 when no drain is on or it is done."""
        if self.phase in (Phase.NONE, Phase.DONE):
            return 0.0
        return max(0.0, self._began + self._plan.timeout - monotonic())

    def begin(self, patient: bool) -> bool:
        """Begin, if none has begun. ``patient`` is SIGTERM's way: wait for sessions to end by themselves first.

        Returns whether this call began it.
        """
        if self.is_on:
            return False
        self.phase = Phase.SERVING
        self._began = monotonic()
        self._task = asyncio.get_running_loop().create_task(self._run(patient))
        self._task.add_done_callback(self._done)
        return True

    def _done(self, task: asyncio.Task[None]) -> None:
        """What was begun is done, even if by a defect of ours: a process that is to end waits for this."""
        if task.cancelled():
            return
        self.phase = Phase.DONE
        self.finished.set()
        if (error := task.exception()) is not None:
            task.get_loop().call_exception_handler({"message": "the drain failed", "exception": error})

    async def _run(self, patient: bool) -> None:
        plan, relay = self._plan, self._relay
        deadline = self._began + plan.timeout
        spread = min(plan.spread, plan.timeout - plan.grace)
        closing_at = deadline - spread if patient else self._began + plan.grace
        await self._until(self._began + plan.grace, even_if_quiet=True)
        self.phase = Phase.WAITING
        await self._until(closing_at)
        self.phase = Phase.CLOSING
        relay.stop_listening()
        relay.close_idle()
        await self._close_evenly(min(monotonic() + spread, deadline))
        await self._until(deadline)
        self._close_rest()
        await relay.wait_quiet(LAST_JUDGEMENTS)

    async def _until(self, when: float, even_if_quiet: bool = False) -> None:
        """Wait until ``when``, or until nothing is left to wait for."""
        while (left := when - monotonic()) > 0:
            if not even_if_quiet and not self._relay.sessions:
                self._relay.close_idle()
                if self._relay.is_quiet:
                    return
            await self._relay.wait_changed(left)

    async def _close_evenly(self, until: float) -> None:
        began = monotonic()
        span = max(until - began, 0.0)
        waiting = list(self._relay.sessions)
        for index, session in enumerate(waiting):
            await asyncio.sleep(max(0.0, began + span * index / len(waiting) - monotonic()))
            if session in self._relay.sessions and session.splice is not None:
                session.splice.finish(Cause.DRAIN, self._plan.code, self._plan.close_timeout)

    def _close_rest(self) -> None:
        for session in list(self._relay.sessions):
            if session.splice is not None:
                session.splice.abort(Cause.DRAIN)
        self._relay.close_others()

    def cancel(self) -> None:
        """Stop waiting; for a process that ends at once."""
        if self._task is not None:
            self._task.cancel()
