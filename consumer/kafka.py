"""How Kafka's clients are set up: transactions, read_committed, small waits."""

import logging
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from consumer.settings import Settings
from model.errors import DependencyAway

TRANSACTION_TIMEOUT_SECONDS = 10
TIMEOUT_SECONDS = 15.0

logger = logging.getLogger("librdkafka")
"""Goes where the process's logs go (structlog renders it too)."""

REFUSALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION,
    KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL,
}  # fmt: skip

OnError = Callable[[KafkaError], None]


def common(settings: Settings, on_error: OnError) -> dict[str, Any]:
    """Return what every client has."""
    return {
        "bootstrap.servers": settings.bootstrap,
        "client.id": f"{settings.app_id}-{settings.ordinal}",
        "error_cb": on_error,
        "logger": logger,
        "retry.backoff.ms": 1,  # the default of 100 dominates latency with transactions
        "retry.backoff.max.ms": 200,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 1000,
        **settings.kafka,
    }


def group_consumer(settings: Settings, on_error: OnError) -> Consumer:
    """Return the consumer of events: never commits by itself, never guesses where to start."""
    config = common(settings, on_error) | {
        "group.id": settings.app_id,
        "group.instance.id": f"{settings.app_id}-{settings.ordinal}",
        "group.protocol": settings.group_protocol,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "fetch.wait.max.ms": 20,
        "fetch.queue.backoff.ms": 5,
        "queued.max.messages.kbytes": 32 * 1024,
        "queued.min.messages": 2000,
    }
    if settings.group_protocol == "classic":
        config |= {"partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": 15_000}
    return Consumer(config)


def table_consumer(settings: Settings, on_error: OnError, isolation: str = "read_committed") -> Consumer:
    """Return a consumer to be assigned by hand; it says where a partition ends."""
    return Consumer(
        common(settings, on_error)
        | {
            "group.id": f"{settings.app_id}-table",  # needed by the client, never used
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 5,
        }
    )


def producer(settings: Settings, on_error: OnError) -> Producer:
    """Return the transactional producer, not yet initialised."""
    return Producer(
        common(settings, on_error)
        | {
            "transactional.id": f"{settings.app_id}-{settings.ordinal}",
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_SECONDS * 1000,
            "linger.ms": 1,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",  # what Java does: one user, one partition
            "message.max.bytes": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 512 * 1024,
        }
    )


def partitions_of(consumer: Consumer, topic: str) -> list[int]:
    """Return a topic's partitions; raises `DependencyAway` if the topic or the broker is not there."""
    try:
        found = consumer.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic]
    except KafkaException as error:
        raise DependencyAway(f"Kafka does not answer ({error.args[0].str()}); waiting") from None
    if found.error is not None or not found.partitions:
        raise DependencyAway(f"topic {topic} is missing: 'penchant topics apply' creates it; waiting")
    return sorted(found.partitions)


def refuses(error: KafkaError) -> bool:
    """Say whether waiting is no use: no right to it, or another instance took our place."""
    return bool(error.fatal()) or error.code() in REFUSALS


def seek(consumer: Consumer, here: TopicPartition) -> None:
    """Go to an offset of a paused partition and resume it."""
    for attempt in range(100):
        try:
            consumer.seek(here)
            break
        except KafkaException as exception:  # an assignment takes effect a moment later
            if exception.args[0].code() != KafkaError._STATE or attempt == 99:
                raise
            time.sleep(0.02)
    consumer.resume([here])
