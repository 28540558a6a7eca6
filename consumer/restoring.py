"""A partition's way back: its changelog read, its fold rebuilt, its place among the events found."""

import time
from collections.abc import Callable

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from consumer import kafka
from consumer.foreign import Foreign
from consumer.metrics import Metrics
from consumer.settings import Settings
from consumer.state import FORMAT, PartitionState, Position, restore
from consumer.tables import read_table
from model.errors import Fatal
from model.fold import Fold

Beat = Callable[[], None]
log = structlog.get_logger("penchant.restoring")


def restored(
    settings: Settings,
    consumer: Consumer,
    here: TopicPartition,
    fold: Fold,
    foreign: Foreign,
    metrics: Metrics,
    on_error: kafka.OnError,
    beat: Beat,
) -> tuple[PartitionState, int]:
    """Return the state of the partition `here`, built into the new `fold`, and how many records that took.

    Raises:
        KafkaException, DependencyAway: Kafka does not answer now.
        Fatal: going on would be silently wrong: offsets without state, a gap in it, a newer format.
    """
    partition = here.partition
    committed = consumer.committed([here], timeout=kafka.TIMEOUT_SECONDS)[0]
    if committed.error is not None:
        raise KafkaException(committed.error)
    began = time.monotonic()

    def progress(offset: int, end: int) -> None:
        metrics.restore_remaining.set(end - offset)
        metrics.restore_eta.set((time.monotonic() - began) / max(1, offset) * (end - offset))

    table, count = read_table(settings, settings.state_topic, partition, on_error, beat, progress)
    metrics.restore_remaining.set(0)
    metrics.restore_eta.set(0)
    state = restore(partition, fold, table, foreign.between)
    if state is not None and state.position.ring not in (0, settings.delta_ring):
        raise Fatal(
            f"the state of {settings.app_id} goes round on {state.position.ring} keys, delta_ring is "
            f"{settings.delta_ring}: leave it as it was, or use a new app_id"
        )
    if state is None:
        if committed.offset >= 0:
            raise Fatal(
                f"partition {partition} has offsets of {settings.app_id} but no state in {settings.state_topic}: "
                "use a new app_id"
            )
        offset = first_offset(consumer, here, settings.start)
        state = PartitionState(partition, fold, Position(FORMAT, offset, 0, "", [], ""))
    elif committed.offset != state.position.offset:
        log.warning("offsets differ from the state's, which count", partition=partition)
    state.merge(foreign.between(state.position.merged, foreign.offsets))
    return state, count


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


def prove_membership(consumer: Consumer, partition: TopicPartition) -> None:
    """Ask the group whether we still hold our ordinal, before our producer fences whoever may have it now.

    Raises:
        Fatal: another instance has it.
    """
    committed = consumer.committed([partition], timeout=kafka.TIMEOUT_SECONDS)[0]
    if committed.error is not None or committed.offset < 0:
        return
    try:
        consumer.commit(offsets=[committed], asynchronous=False)  # what is there already: only the answer counts
    except KafkaException as exception:
        error = exception.args[0]
        if kafka.refuses(error):
            raise Fatal(f"another instance has this ordinal ({error.str()}): give every instance its own") from None
