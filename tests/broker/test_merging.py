"""Partitions learn from each other's users: every fact counts once, wherever it was told, and over restarts, too."""

import threading
import time
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from consumer import restoring
from consumer.kafka import OnError
from consumer.loop import Loop
from consumer.settings import Settings
from model.events import Click, decode_event
from model.fold import Fold
from tests.broker.test_restoring import of_partition, turn_while
from tests.broker.test_serve import events, make, prepare, running, send

COUNT = 120


def turn_until_merged(loops: list[Loop], wanted: Counter[str], seconds: float = 40.0) -> None:
    """Turn until every partition has counted every engagement, those of other partitions included."""
    deadline = time.monotonic() + seconds
    while True:
        states = [state for loop in loops for state in loop.states.values()]
        if len(states) == 2 and all(engaged(state.fold.tables.engaged, state.fold.catalogue.ids) == wanted
                                    for state in states):  # fmt: skip
            return
        assert time.monotonic() < deadline, [state.position for state in states]
        for loop in loops:
            loop.turn()


def engaged(counts: np.ndarray, ids: list[str]) -> Counter[str]:
    return Counter({item: int(count) for item, count in zip(ids, counts, strict=False) if count})


def wanted(records: list[tuple[bytes | None, bytes | None]]) -> Counter[str]:
    decoded = [decode_event(value) for _, value in records]
    return Counter(event.item for event in decoded if isinstance(event, Click))


def small(settings: Settings, ordinal: int = 0) -> Settings:
    return settings.model_copy(update={"ordinal": ordinal, "poll_events": 7, "snapshot_every": 25, "delta_ring": 16})


def together(fold: Fold) -> NDArray[np.float32]:
    """Return how often any two items were engaged by one user."""
    return fold.tables.pairs.matrix("together", len(fold.catalogue))


def test_every_partition_counts_every_engagement_once_over_restarts(bootstrap: str) -> None:
    settings = prepare(bootstrap, partitions=2)
    first, second = events(COUNT, 1), events(COUNT, 2)
    send(settings, settings.events_topic, first)
    with running(make(small(settings))) as loop:
        turn_until_merged([loop], wanted(first))
    send(settings, settings.events_topic, second)
    with running(make(small(settings))) as loop:  # restored, and what was not merged yet caught up with
        turn_until_merged([loop], wanted(first + second))
        before = {number: together(state.fold).copy() for number, state in loop.states.items()}
    with running(make(small(settings))) as loop:
        turn_until_merged([loop], wanted(first + second))
        for number, state in loop.states.items():
            assert (together(state.fold) == before[number]).all()


def test_two_instances_learn_from_each_other_and_one_takes_over(bootstrap: str) -> None:
    settings = prepare(bootstrap, partitions=2)
    first, second = events(COUNT, 1), events(COUNT, 2)
    with running(make(small(settings, 0))) as one:
        with running(make(small(settings, 1))) as two:
            deadline = time.monotonic() + 40
            while not (len(one.states) == len(two.states) == 1):
                assert time.monotonic() < deadline
                one.turn()
                two.turn()
            send(settings, settings.events_topic, first)
            turn_until_merged([one, two], wanted(first))
        send(settings, settings.events_topic, second)
        turn_until_merged([one], wanted(first + second))
        assert len(one.states) == 2


def test_facts_told_during_a_restore(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told after the restore looked how far the others are, and before the partition is live: counted, once."""
    opened, real = threading.Event(), restoring.beginning
    opened.set()

    def slow(settings: Settings, partition: int, on_error: OnError) -> int:
        while partition == 1 and not opened.wait(0.01):
            pass
        return real(settings, partition, on_error)

    monkeypatch.setattr(restoring, "beginning", slow)
    settings, sent = prepare(bootstrap, partitions=2).model_copy(update={"poll_events": 7}), events(60)
    here, there = of_partition(sent, 0), of_partition(sent, 1)
    with running(make(settings)) as loop:
        send(settings, settings.events_topic, there)
        turn_while(loop, lambda: 1 not in loop.states or loop.states[1].position.offset < len(there))
        opened.clear()
        loop.partitions.discard([1])
        loop.turn()
        time.sleep(0.3)
        send(settings, settings.events_topic, here)
        turn_while(loop, lambda: loop.states[0].position.offset < len(here))
        for _ in range(20):
            loop.turn()
        opened.set()
        turn_while(loop, lambda: 1 not in loop.states)
        for _ in range(20):
            loop.turn()
        for number, state in loop.states.items():
            assert engaged(state.fold.tables.engaged, state.fold.catalogue.ids) == wanted(sent), number
