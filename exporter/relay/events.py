"""What the relay tells to whoever observes it, and the guard that keeps an observer's defects away from the traffic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mypy_extensions import mypyc_attr

from exporter.protocol.classify import Ending
from exporter.protocol.enums import ConnectError, Peer, Unobserved
from exporter.protocol.http1_parser import Request, Response
from exporter.protocol.session import Session


@mypyc_attr(free_list_len=1, acyclic=True)
@dataclass(slots=True, init=False)
class Opening:
    """An opening handshake that was answered with 101. ``seconds`` is how long the answer took."""

    request: Request
    response: Response
    client: str
    seconds: float

    def __init__(self, request: Request, response: Response, client: str, seconds: float) -> None:
        self.request = request
        self.response = response
        self.client = client
        self.seconds = seconds


class Watch(Protocol):
    """An observer's side of one session."""

    session: Session

    def unobserved(self, reason: Unobserved, why: str) -> None:
        """The session is no longer understood. Told at most once."""

    def ping_answered(self, sender: Peer, seconds: float) -> None:
        """A ping of ``sender`` was answered after ``seconds``."""

    def closed(self, ending: Ending, now: float) -> None:
        """The session has ended; ``now`` is on the monotonic clock. Told exactly once."""


class Observer(Protocol):
    """Whoever turns what the relay tells into numbers and sentences."""

    def opened(self, opening: Opening) -> Watch:
        """A session has begun. Its handshake is told by this call alone."""

    def refused(self, request: Request, status: int, seconds: float) -> None:
        """An opening handshake got an answer other than 101, ours included."""

    def aborted(self, request: Request) -> None:
        """An opening handshake ended without an answer."""

    def unobserved(self, reason: Unobserved, why: str) -> None:
        """A connection is passed on without being understood, and never became a session."""

    def connect_failed(self, error: ConnectError, why: str) -> None:
        """A client's connection found no app."""

    def accept_paused(self, why: str) -> None:
        """No more clients are accepted for the moment; those that come wait."""

    def tls_failed(self, why: str) -> None:
        """A client could not be understood as TLS."""

    def defect(self, error: Exception) -> None:
        """Our own code failed while listening; the traffic went on."""


def guarded(observer: Observer, call: Callable[[], None]) -> None:
    """Run ``call``, which tells the observer something. Whatever it raises must not reach the traffic."""
    try:
        call()
    except Exception as error:
        report(observer, error)


def report(observer: Observer, error: Exception) -> None:
    """Tell the observer of a defect of ours; if even that fails there is nobody left to tell."""
    try:
        observer.defect(error)
    except Exception:
        return
