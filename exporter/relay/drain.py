"""Closes sessions on purpose, so that the pod can go.

How it works
============
The best end of a session is one that a peer chose. A drain therefore begins by waiting, and goes through four phases:

    SERVING ──grace──► WAITING ──► CLOSING ──all gone, or deadline──► DONE

    serving    not ready any more, but new clients are still served: load balancers learn slowly
    waiting    after SIGTERM only: sessions may end by themselves until the time left equals the spread
    closing    no new clients; the sessions that are left get a Close, one by one, evenly over the spread, so that
               their clients do not come back all at once
    done       at the latest at the deadline, when all that are left are closed

A drain over HTTP (a preStop hook) starts closing right after the grace: the pod has somewhere to be. One that SIGTERM
began waits as long as it may: the app got the same signal and knows best how to end its own sessions.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from exporter.protocol.enums import Cause, DrainPhase
from exporter.relay.server import Relay
from exporter.relay.timeouts import clock

#: Seconds after the deadline for apps to read our final Close.
FINAL_CLOSES = 3.0


_PHASES = tuple(DrainPhase)


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of a drain: seconds, and ``code``, that of its Close frames.

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
    """The one drain of a relay."""

    def __init__(self, relay: Relay, plan: Plan) -> None:
        self.phase = DrainPhase.NONE
        self.finished = asyncio.Event()
        self._relay = relay
        self._plan = plan
        self._began = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_on(self) -> bool:
        """Whether a drain has begun; it stays on until the process ends."""
        return self.phase is not DrainPhase.NONE

    @property
    def sessions_left(self) -> int:
        """The number of sessions that have not ended yet; 0 when no drain is on."""
        return len(self._relay.sessions) if self.is_on else 0

    def begin(self, wait: bool) -> bool:
        """Begin, if none has begun. ``wait`` is SIGTERM's way: let sessions end by themselves first.

        Return whether this call began it.
        """
        if self.is_on:
            return False
        self._began = clock()
        self._set_phase(DrainPhase.SERVING)
        self._relay.reporter.notice("drain.started", "info", sessions=len(self._relay.sessions), wait=wait)
        self._task = asyncio.get_running_loop().create_task(self._run(wait))
        self._task.add_done_callback(self._done)
        return True

    def _set_phase(self, phase: DrainPhase) -> None:
        self.phase = phase
        self.report()

    def report(self) -> None:
        """Bring the shared cells up to date."""
        deadline = self._began + self._plan.timeout if self.is_on else 0.0
        self._relay.reporter.set_drain(_PHASES.index(self.phase), self.sessions_left, deadline)

    def _done(self, task: asyncio.Task[None]) -> None:
        """End the drain, after a defect as well: a process that is to end waits for this."""
        if task.cancelled():
            return
        self._set_phase(DrainPhase.DONE)
        self.finished.set()
        self._relay.reporter.notice("drain.finished", "info", seconds=round(clock() - self._began, 3))
        if (error := task.exception()) is not None:
            self._relay.reporter.defect(error)

    async def _run(self, wait: bool) -> None:
        plan, relay = self._plan, self._relay
        deadline = self._began + plan.timeout
        spread = min(plan.spread, plan.timeout - plan.grace)
        closing_at = deadline - spread if wait else self._began + plan.grace
        await self._until(self._began + plan.grace, even_if_quiet=True)
        self._set_phase(DrainPhase.WAITING)
        await self._until(closing_at)
        self._set_phase(DrainPhase.CLOSING)
        relay.stop_listening()
        relay.close_idle()
        await self._close_evenly(min(clock() + spread, deadline))
        await self._until(deadline)
        relay.close_rest()
        await relay.wait_quiet(FINAL_CLOSES)

    async def _until(self, when: float, even_if_quiet: bool = False) -> None:
        """Wait until ``when``, or until nothing is left to wait for."""
        while (left := when - clock()) > 0:
            if not even_if_quiet and not self._relay.sessions:
                self._relay.close_idle()
                if self._relay.context.is_quiet:
                    return
            await self._relay.context.wait_changed(left)

    async def _close_evenly(self, until: float) -> None:
        began = clock()
        span = max(until - began, 0.0)
        waiting = list(self._relay.sessions)
        for index, session in enumerate(waiting):
            await asyncio.sleep(max(0.0, began + span * index / len(waiting) - clock()))
            if session in self._relay.sessions:
                session.close(Cause.DRAIN, self._plan.code, self._plan.close_timeout)

    def cancel(self) -> None:
        """Stop waiting; for a process that ends at once."""
        if self._task is not None:
            self._task.cancel()
