"""A restore takes as long as it takes: meanwhile the other partitions flow, the loop polls, and an end is an end."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from consumer import restoring
from consumer.loop import Loop
from consumer.murmur2 import Places
from consumer.settings import Settings
from tests.broker.process import wait_for
from tests.broker.test_away import ids
from tests.broker.test_serve import events, lists, make, prepare, running, send

Records = list[tuple[bytes | None, bytes | None]]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """What the restore of partition 1 waits for, as if its state were large."""
    real, opened = restoring.restored, threading.Event()

    def slow(settings: Settings, partition: int, *more: Any) -> Any:
        beat: Callable[[], None] = more[-1]
        while partition == 1 and not opened.wait(0.01):
            beat()
        return real(settings, partition, *more)

    monkeypatch.setattr("consumer.partitions.restored", slow)
    return opened


def of_partition(records: Records, partition: int) -> Records:
    places = Places(2)
    return [(key, value) for key, value in records if places[key or b""] == partition]


def turn_while(loop: Loop, condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while condition():
        assert time.monotonic() < deadline, loop.health.reason
        loop.turn()


def test_retained_partitions_flow_during_a_restore(bootstrap: str, gate: threading.Event) -> None:
    settings, sent = prepare(bootstrap, partitions=2), events(60)
    here, there = of_partition(sent, 0), of_partition(sent, 1)
    assert here
    assert there
    send(settings, settings.events_topic, sent)
    with running(make(settings)) as loop:
        turn_while(loop, lambda: 0 not in loop.states or loop.states[0].position.offset < len(here))
        assert sorted(event for event, _ in lists(settings)) == sorted(ids(here))
        assert 1 not in loop.states
        assert loop.health.reason == "restoring"
        gate.set()
        turn_while(loop, lambda: 1 not in loop.states or loop.states[1].position.offset < len(there))
        assert loop.health.ready
    assert sorted(event for event, _ in lists(settings)) == sorted(ids(sent))


def test_items_that_change_during_a_restore(bootstrap: str, gate: threading.Event) -> None:
    settings = prepare(bootstrap, partitions=2)
    with running(make(settings)) as loop:
        turn_while(loop, lambda: 0 not in loop.states)
        send(settings, settings.items_topic, [(b"new", b'{"item":"new","title":"robot"}'), (b"i1", None)])
        turn_while(loop, lambda: "new" not in loop.items or "i1" in loop.items)
        gate.set()
        turn_while(loop, lambda: 1 not in loop.states)
        for state in loop.states.values():
            catalogue = state.fold.catalogue
            assert "new" in catalogue.index
            assert catalogue.offsets[catalogue.index["new"]] == 0
            assert "i1" not in catalogue.index or catalogue.offsets[catalogue.index["i1"]] < 0


def test_an_end_does_not_wait_for_a_restore(bootstrap: str, gate: threading.Event) -> None:
    settings = prepare(bootstrap, partitions=2)
    loop = make(settings)
    turn_while(loop, lambda: 0 not in loop.states)
    ended = threading.Event()

    def end() -> None:
        loop.close()
        ended.set()

    threading.Thread(target=end, daemon=True).start()
    wait_for(ended.is_set, "it waits for a restore that nobody wants", 20.0)
    assert not gate.is_set()


def test_a_partition_that_is_taken_while_it_is_restored(bootstrap: str, gate: threading.Event) -> None:
    settings, sent = prepare(bootstrap, partitions=2), events(40)
    send(settings, settings.events_topic, sent)
    with running(make(settings)) as first:
        turn_while(first, lambda: 0 not in first.states)
        with running(make(settings.model_copy(update={"ordinal": 1}))) as second:
            # One of the two partitions goes over, whichever: nobody is stuck on what is not theirs any more.
            deadline = time.monotonic() + 30
            while not (second.partitions.pending or second.states):
                assert time.monotonic() < deadline
                first.turn()
                second.turn()
            gate.set()
            while sum(s.position.offset for loop in (first, second) for s in loop.states.values()) < len(sent):
                assert time.monotonic() < deadline + 30
                first.turn()
                second.turn()
            assert len(first.states) == len(second.states) == 1
    assert sorted(event for event, _ in lists(settings)) == sorted(ids(sent))
