"""The watchdog barks at a loop that stands still, and at none that was only stopped from outside."""

import threading
import time

import pytest

from consumer import watchdog
from consumer.http import Health


def test_it_ends_what_stands_still_and_says_where(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.02)
    health, ended = Health(), threading.Event()
    statuses: list[int] = []

    def end(status: int) -> None:
        statuses.append(status)
        ended.set()

    watchdog.watch(health, end, 0.3)
    for _ in range(20):  # twice as long as that, but it turns
        time.sleep(0.03)
        health.turn()
    assert not ended.is_set()
    assert ended.wait(10)
    assert statuses == [watchdog.STATUS]
    assert "test_it_ends_what_stands_still" in capfd.readouterr().err


def test_a_clock_that_jumps_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped for an hour, and let go on: the clock has moved, the watchdog has not seen it stand still."""
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.02)
    health, ended = Health(), threading.Event()
    health.turned_at = time.monotonic() - 3600
    watching = watchdog.watch(health, lambda _: ended.set(), 1.0)
    assert not ended.wait(0.3)
    health.turn()
    assert not ended.wait(0.5)
    watching.join(10)  # it barks now: not in the middle of another test
    assert ended.is_set()
