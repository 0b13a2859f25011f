"""How often the same thing is said."""

from __future__ import annotations

from exporter.observe.inline.log_throttle import INTERVAL, LogThrottle


def test_the_first_time_at_once_then_once_an_interval_with_the_number() -> None:
    """What happens first is due at once; repeats wait for the interval, and none of them is lost from the number."""
    now = 100.0
    seldom = LogThrottle(lambda: now)
    assert seldom.due("refused") == 1
    assert [seldom.due("refused") for _ in range(5)] == [0] * 5
    now += INTERVAL - 0.001
    assert seldom.due("refused") == 0
    now += 0.001
    assert seldom.due("refused") == 7
    assert seldom.due("refused") == 0
    now += INTERVAL
    assert seldom.due("refused") == 2


def test_different_things_do_not_wait_for_each_other() -> None:
    """A new reason is said at once, however much another one is being said."""
    seldom = LogThrottle(lambda: 0.0)
    assert (seldom.due("refused"), seldom.due("dns"), seldom.due("dns"), seldom.due("timeout")) == (1, 1, 0, 1)
