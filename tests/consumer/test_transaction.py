"""A call into Kafka's client comes back, raises, or is given up."""

import threading

import pytest

from consumer.transaction import _within
from model.errors import DependencyAway, Fatal


def test_a_call_that_comes_back_or_raises_does_so_here() -> None:
    done: list[int] = []
    _within(5.0, lambda: done.append(1))
    assert done == [1]

    def refuse() -> None:
        raise Fatal("no")

    with pytest.raises(Fatal, match="no"):
        _within(5.0, refuse)


def test_one_that_does_not_come_back_is_given_up() -> None:
    for_ever = threading.Event()

    def wait() -> None:
        for_ever.wait(30)

    with pytest.raises(DependencyAway, match="does not come back"):
        _within(0.05, wait)
    for_ever.set()
