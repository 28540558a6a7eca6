"""Two instances with one number, transactions that fail, folds that raise: nothing twice, nothing lost, an end."""

import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from structlog.testing import capture_logs

import consumer.transaction
from consumer import kafka
from consumer.loop import Loop
from consumer.settings import Settings
from model.errors import DependencyAway, Fatal
from model.events import Event
from model.fold import Fold, FoldSettings
from model.outcome import Outcome
from tests.broker.process import wait_for
from tests.broker.test_away import ids
from tests.broker.test_serve import (
    ENCODER,
    TAXONOMY,
    events,
    lists,
    make,
    prepare,
    read,
    running,
    send,
    turn_until,
)  # fmt: skip


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a call take as long as these tests stand still within it."""
    monkeypatch.setattr(consumer.transaction, "GRACE_SECONDS", 60.0)


class Seam:
    """A producer, one of whose calls is preceded by something else."""

    def __init__(self, producer: Producer, name: str, before: Callable[[], None]) -> None:
        self._producer, self._name, self._before = producer, name, before

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._producer, name)
        if name != self._name:
            return real

        def call(*args: object) -> object:
            self._before()
            return real(*args)

        return call


def put_before(loop: Loop, name: str, what: Callable[[], None]) -> list[int]:
    """Let the loop's producer do `what` before its next call of `name`, once; return a list that then is empty."""
    left = [1]

    def once() -> None:
        if left:
            left.pop()
            what()

    loop._transactions._producer = cast(Producer, Seam(loop._transactions._producer, name, once))
    return left


def turn_until_fatal(loop: Loop, seconds: float = 30.0) -> str:
    """Turn until the loop ends, and return what it says."""
    alarm = threading.Timer(seconds, loop.stop.set)
    alarm.start()
    try:
        with pytest.raises(Fatal) as caught:
            loop.run()
    finally:
        alarm.cancel()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sequence(settings: Settings) -> int:  # grows with every commit
    return len(read(settings, settings.state_topic))


@pytest.mark.parametrize("busy", [False, True])
def test_a_second_instance_with_the_same_number_ends_the_first(bootstrap: str, busy: bool) -> None:
    settings, sent = prepare(bootstrap).model_copy(update={"poll_events": 5}), events(30)
    send(settings, settings.events_topic, sent[:20])
    with running(make(settings)) as first, running(make(settings)) as second:
        turn_until(first, 5 if busy else 20)
        while not second.states:
            second.turn()
        before = sequence(settings)
        assert "ordinal" in turn_until_fatal(first)
        assert sequence(settings) == before
        send(settings, settings.events_topic, sent[20:])
        turn_until(second, 30)
    assert [event for event, _ in lists(settings)] == ids(sent)


def test_a_second_instance_between_fold_and_commit(bootstrap: str) -> None:
    settings, sent = prepare(bootstrap).model_copy(update={"poll_events": 5}), events(20)
    send(settings, settings.events_topic, sent)
    with running(make(settings)) as first, running(make(settings)) as second:
        turn_until(first, 5)

        def start_second() -> None:
            while not second.states:
                second.turn()

        put_before(first, "commit_transaction", start_second)
        assert "ordinal" in turn_until_fatal(first)
        turn_until(second, 20)
    assert [event for event, _ in lists(settings)] == ids(sent)


def test_one_that_was_stopped_does_not_fence_off_its_successor(bootstrap: str) -> None:
    """Stopped within a transaction for longer than that may take, replaced meanwhile, and let go again."""
    settings, sent = prepare(bootstrap).model_copy(update={"poll_events": 5}), events(20)
    send(settings, settings.events_topic, sent[:10])
    with running(make(settings)) as first, running(make(settings)) as second:
        turn_until(first, 5)

        def stopped() -> None:
            until = time.monotonic() + kafka.TRANSACTION_TIMEOUT_SECONDS
            turn_until(second, 10)
            while time.monotonic() < until:
                second.turn()

        put_before(first, "commit_transaction", stopped)
        assert "ordinal" in turn_until_fatal(first)
        send(settings, settings.events_topic, sent[10:])
        turn_until(second, 20)
    assert [event for event, _ in lists(settings)] == ids(sent)


def expected(bootstrap: str, count: int) -> list[tuple[str, list[str]]]:
    """Return the lists of as many events where nothing goes wrong."""
    settings = prepare(bootstrap)
    send(settings, settings.events_topic, events(count))
    with running(make(settings)) as loop:
        turn_until(loop, count)
    return lists(settings)


def open_transactions(settings: Settings) -> bool:
    """Say whether the state topic ends in a transaction that is neither committed nor aborted."""
    marks = []
    for isolation in ("read_committed", "read_uncommitted"):
        consumer = Consumer({"bootstrap.servers": settings.bootstrap, "group.id": "x", "isolation.level": isolation})
        marks.append(consumer.get_watermark_offsets(TopicPartition(settings.state_topic, 0), timeout=10)[1])
        consumer.close()
    return marks[0] != marks[1]


@pytest.mark.timeout(180)
def test_a_transaction_that_the_coordinator_times_out_is_done_again(bootstrap: str) -> None:
    settings = prepare(bootstrap).model_copy(update={"poll_events": 10})
    send(settings, settings.events_topic, events(40))
    with capture_logs() as logs, running(make(settings)) as loop:
        turn_until(loop, 10)

        def stand_still() -> None:
            """Do what a process stopped before its commit does, until the coordinator gave it up."""
            loop._transactions._producer.flush(10)
            assert open_transactions(settings)
            wait_for(lambda: not open_transactions(settings), "the coordinator never ends the transaction")

        left = put_before(loop, "commit_transaction", stand_still)
        turn_until(loop, 40, 60.0)
        assert not left
        assert loop.metrics.registry.get_sample_value("penchant_transactions_total", {"outcome": "aborted"}) == 1
    assert len([line for line in logs if line["event"] == "transaction aborted; rewinding"]) == 1
    assert lists(settings) == expected(bootstrap, 40)


@pytest.mark.parametrize("call", ["produce", "send_offsets_to_transaction", "commit_transaction"])
@pytest.mark.parametrize(("fatal", "abort"), [(False, True), (True, False)])
def test_a_transaction_that_fails_is_done_again(bootstrap: str, call: str, fatal: bool, abort: bool) -> None:
    settings = prepare(bootstrap).model_copy(update={"poll_events": 10})
    send(settings, settings.events_topic, events(30))

    def fail() -> None:
        raise KafkaException(KafkaError(KafkaError._PURGE_QUEUE, "made up", fatal, False, abort))

    with running(make(settings)) as loop:
        turn_until(loop, 10)
        left = put_before(loop, call, fail)
        turn_until(loop, 30)
        assert not left
        assert loop.metrics.registry.get_sample_value("penchant_transactions_total", {"outcome": "aborted"}) == 1
    assert lists(settings) == expected(bootstrap, 30)


def test_a_commit_whose_answer_is_lost_is_not_done_again(bootstrap: str) -> None:
    settings = prepare(bootstrap).model_copy(update={"poll_events": 10})
    send(settings, settings.events_topic, events(30))
    with running(make(settings)) as loop:
        turn_until(loop, 10)
        producer = loop._transactions._producer

        def lose() -> None:
            producer.commit_transaction(10)
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "made up", False, True, False))

        put_before(loop, "commit_transaction", lose)
        with pytest.raises(DependencyAway):
            turn_until(loop, 30)
        turn_until(loop, 30)
    assert lists(settings) == expected(bootstrap, 30)


def fragile(bad: Callable[[int], bool]) -> Callable[[], Fold]:
    """Return what makes folds that raise, after they changed their state, at events whose number is bad."""

    class Fragile(Fold):
        def apply(self, event: Event, vectors: Any) -> Outcome:
            outcome = super().apply(event, vectors)
            if bad(int(event.id.partition("-")[2])):
                raise RuntimeError("after the state was changed")
            return outcome

    return lambda: Fragile(FoldSettings(), ENCODER, TAXONOMY)


def test_a_version_that_fails_at_everything_ends_and_loses_nothing(bootstrap: str) -> None:
    settings, sent = prepare(bootstrap).model_copy(update={"max_failures": 3}), events(20)
    send(settings, settings.events_topic, sent)
    with running(make(settings)) as loop:
        turn_until(loop, 20)
    send(settings, settings.events_topic, events(20, seed=2))
    before = sequence(settings)
    with running(make(settings, fragile(lambda _: True))) as loop:
        said = turn_until_fatal(loop)
        # So many restores, no more: once at the start, once for each that was forgiven.
        assert loop.metrics.restored_records._value.get() == 4 * before
    assert "4 events" in said
    assert "offset 2" in said
    assert "max_failures" in said
    assert sequence(settings) == before
    assert read(settings, settings.dead_letters_topic) == []
    with running(make(settings)) as loop:  # the version before
        turn_until(loop, 40)
    assert [event for event, _ in lists(settings)] == ids(sent + events(20, seed=2))


def test_failures_far_apart_are_forgiven_however_many(bootstrap: str) -> None:
    settings, sent = prepare(bootstrap).model_copy(update={"max_failures": 1, "poll_events": 50}), events(420)
    send(settings, settings.events_topic, sent)
    with running(make(settings, fragile(lambda n: n % 140 == 139))) as loop:
        turn_until(loop, 420)
        assert loop._failures.skip == {}
        assert loop.metrics.registry.get_sample_value("penchant_dead_letters_total", {"reason": "failed"}) == 3
    assert [event for event, _ in lists(settings)] == [one for n, one in enumerate(ids(sent)) if n % 140 != 139]
