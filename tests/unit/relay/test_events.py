"""The guard between an observer and the traffic."""

from __future__ import annotations

import inspect

import pytest

from exporter.observe.inline.recorder import Record, Recorder
from exporter.relay.events import Observer, Watch, guarded, report
from tests.unit.relay.harness import Observed, Watched


def test_a_call_that_works_is_made_once() -> None:
    """A call goes through, and nothing is told of it."""
    told, calls = Observed(), []
    guarded(told, lambda: calls.append(1))
    assert (calls, told.defects) == ([1], [])


def test_a_call_that_fails_is_told_and_goes_no_further() -> None:
    """What an observer raises is told to it as a defect, and does not reach the caller."""
    told = Observed()
    guarded(told, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    assert [type(defect) for defect in told.defects] == [ZeroDivisionError]


def test_a_failing_report_is_the_end_of_it() -> None:
    """If even telling of a defect fails there is nobody left to tell, and the traffic is still not touched."""
    told = Observed(failing={"defect"})
    report(told, ValueError("first"))
    guarded(told, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    assert [type(defect) for defect in told.defects] == [ValueError, ZeroDivisionError]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_wish_to_end_is_no_defect(error: type[BaseException]) -> None:
    """What ends a process passes the guard."""
    told = Observed()

    def wish() -> None:
        raise error

    with pytest.raises(error):
        guarded(told, wish)
    assert told.defects == []


@pytest.mark.parametrize(
    ("wanted", "offered"), [(Observer, Recorder), (Watch, Record), (Observer, Observed), (Watch, Watched)]
)
def test_observers_answer_every_call(wanted: type, offered: type) -> None:
    """The recorder, which the relay does not import, and the tests' own observer have every method, with the
    parameters that the relay passes."""
    for name, method in inspect.getmembers(wanted, inspect.isfunction):
        if not name.startswith("_"):
            asked = list(inspect.signature(method).parameters)
            assert list(inspect.signature(getattr(offered, name)).parameters) == asked, name
