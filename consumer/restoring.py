"""A partition's way back: its changelog read, its fold rebuilt, its place among the events found."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer import kafka
from consumer.foreign import Foreign
from consumer.metrics import Metrics
from consumer.settings import Settings
from consumer.state import PartitionState, Told, restore
from consumer.tables import read_table
from model.errors import DependencyAway, Fatal
from model.fold import Fold

T = TypeVar("T")
Beat = Callable[[], None]
log = structlog.get_logger("penchant.restoring")


class Stopped(Exception):
    """Nobody wants this restore any more."""


class Restores(Generic[T]):
    """Restores in a thread of their own, one after the other: meanwhile the loop serves what it has, and polls.

    `max.poll.interval.ms` is thereby never overrun, however large a state is.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "restore")
        self._running: dict[int, tuple[Future[T], threading.Event]] = {}

    def __contains__(self, partition: int) -> bool:
        return partition in self._running

    def begin(self, partition: int, work: Callable[[Beat], T]) -> None:
        """Start `work`, which calls what it is given now and then."""
        stop = threading.Event()

        def beat() -> None:
            if stop.is_set():
                raise Stopped

        self._running[partition] = self._pool.submit(work, beat), stop

    def take(self, partition: int) -> T | None:
        """Return what the work returned, None while it is at work; raises what it raised."""
        future, _ = self._running[partition]
        if not future.done():
            return None
        del self._running[partition]
        return future.result()

    def give_up(self, partition: int) -> None:
        """Let go of a restore, if there is one."""
        if partition in self._running:
            future, stop = self._running.pop(partition)
            stop.set()
            future.cancel()

    def close(self) -> None:
        """Let go of them all."""
        for partition in list(self._running):
            self.give_up(partition)
        self._pool.shutdown()


def restored(
    settings: Settings,
    partition: int,
    fold: Fold,
    foreign: Foreign,
    metrics: Metrics,
    on_error: kafka.OnError,
    beat: Beat,
) -> tuple[PartitionState | None, int]:
    """Return the partition's state, None if there is none yet, built into the new `fold`; and how many records it took.

    For any thread: the group's consumer, which answers nobody else while it is polled, is left alone.

    Raises:
        DependencyAway: Kafka does not answer now.
        Fatal: going on would be silently wrong: offsets without state, a gap in it, a newer format.
    """
    told_to = list(foreign.offsets)
    # Before the changelog is read: an answer waits for offsets that a transaction of another may still commit, whose
    # records may not be in the changelog yet.
    committed = kafka.committed(settings, settings.app_id, [partition], on_error)[0].offset
    first = beginning(settings, partition, on_error)
    if first > 0:
        raise Fatal(
            f"the first {first} records of partition {partition} of {settings.state_topic} were deleted, and users "
            "with them: set its cleanup.policy to compact alone, and use a new app_id"
        )
    began = time.monotonic()

    def progress(offset: int, end: int) -> None:
        metrics.restore_remaining.set(end - offset)
        metrics.restore_eta.set((time.monotonic() - began) / max(1, offset) * (end - offset))

    table, count = read_table(settings, settings.state_topic, partition, on_error, beat, progress)
    metrics.restore_remaining.set(0)
    metrics.restore_eta.set(0)

    def between(start: Sequence[int], stop: Sequence[int]) -> Told:
        return foreign.between(start, stop, beat)

    state = restore(partition, fold, table, between, beat)
    if state is not None:
        if state.position.ring not in (0, settings.delta_ring):
            raise Fatal(
                f"the state of {settings.app_id} goes round on {state.position.ring} keys, delta_ring is "
                f"{settings.delta_ring}: leave it as it was, or use a new app_id"
            )
        # Nearly all that was told since; the loop adds what is told while this goes on.
        state.merge(between(state.position.merged, told_to))
        if committed != state.position.offset:
            log.warning("offsets differ from the state's, which count", partition=partition)
    elif committed >= 0:
        raise Fatal(
            f"partition {partition} has offsets of {settings.app_id} but no state in {settings.state_topic}: "
            "use a new app_id"
        )
    return state, count


def beginning(settings: Settings, partition: int, on_error: kafka.OnError) -> int:
    """Return the first offset of the changelog, which compaction never moves; raises `DependencyAway`."""
    asker = kafka.table_consumer(settings, on_error)
    try:
        here = TopicPartition(settings.state_topic, partition)
        return int(asker.get_watermark_offsets(here, timeout=kafka.TIMEOUT_SECONDS)[0])
    except KafkaException as error:
        raise DependencyAway(f"Kafka does not say where the state begins ({error.args[0].str()}); waiting") from None
    finally:
        asker.close()


def first_offset(consumer: Consumer, here: TopicPartition, start: str | int) -> int:
    """Return where to begin what was never read: earliest, latest, or at the first record since a time (ms)."""
    low, high = consumer.get_watermark_offsets(here, timeout=kafka.TIMEOUT_SECONDS)
    if start == "earliest":
        return int(low)
    if start == "latest":
        return int(high)
    asked = TopicPartition(here.topic, here.partition, int(start))
    found = consumer.offsets_for_times([asked], timeout=kafka.TIMEOUT_SECONDS)[0]
    if found.error is not None:
        raise KafkaException(found.error)
    return int(found.offset) if found.offset >= 0 else int(high)  # negative: nothing is as young as that


def check_partitions(settings: Settings, there: int, known: int) -> None:
    """Raise `Fatal` where events have another number of partitions than when their state was written (0: never was)."""
    if known not in (0, there):
        raise Fatal(
            f"{settings.events_topic} has {there} partitions, the state of {settings.app_id} is of {known}: users are "
            "not where their state is; fold anew under a new app_id (docs/reliability.md, Rebuilding)"
        )


def prove_membership(consumer: Consumer, ours: TopicPartition) -> None:
    """Ask the group whether we still hold our ordinal, before our producer fences whoever may have it now.

    Raises:
        DependencyAway: Kafka does not answer now.
        Fatal: another instance has it.
    """
    try:
        committed = consumer.committed([ours], timeout=kafka.TIMEOUT_SECONDS)[0]
        if committed.error is not None or committed.offset < 0:
            return
        consumer.commit(offsets=[committed], asynchronous=False)  # what is there already: only the answer counts
    except KafkaException as exception:
        error = exception.args[0]
        if kafka.refuses(error):
            raise Fatal(f"another instance has this ordinal ({error.str()}): give every instance its own") from None
        if error.retriable() or error.code() == KafkaError._TIMED_OUT:
            raise DependencyAway(f"the group does not answer ({error.str()}); waiting") from None
