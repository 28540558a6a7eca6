"""How Kafka's clients are set up: transactions, read_committed, small waits."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from consumer import topics
from consumer.security import Heard, hidden
from consumer.settings import Settings
from model.errors import DependencyAway, Fatal

CLASSIC_SESSION_SECONDS = 30
"""Three times what a transaction may take: what a dead instance left open has ended when another takes over, and a
broker that stands still for less does not make a client join twice (its own second joining then fences its first)."""
HEARTBEAT_MS = 3000
GROUP_HEARTBEAT_MS = 5000
"""What a broker asks of the members of groups of the protocol `consumer`, unless told otherwise."""
TRANSACTION_TIMEOUT_SECONDS = 10
TIMEOUT_SECONDS = 15.0

logger = logging.getLogger("librdkafka")
"""Goes where the process's logs go (structlog renders it too)."""
log = structlog.get_logger("penchant.kafka")

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


class Member(Consumer):
    """The consumer of events: a member of the group, that ends where Kafka refuses it, and says why."""

    def __init__(self, settings: Settings, config: dict[str, Any], heard: Heard) -> None:
        super().__init__(config)
        self._settings, self._heard = settings, heard
        self._joined = False

    def list_topics(self, *args: Any, **options: Any) -> Any:
        """Do as `Consumer` does; raises `Fatal` where it fails because Kafka refuses us."""
        try:
            found = super().list_topics(*args, **options)
        except KafkaException:
            if not self._joined:  # else events would be lost; and the loop polls anyway
                self.poll(0.05)
            self._heard.check(self._settings.bootstrap, self._settings.kafka)
            raise
        self._heard.well()
        return found

    def subscribe(self, *args: Any, **options: Any) -> None:
        """Join the group; its session time-out is first set where the protocol leaves it to the broker."""
        settings = self._settings
        if settings.group_protocol == "consumer" and settings.session_timeout_seconds is not None:
            set_session_timeout(settings, settings.session_timeout_seconds)
        super().subscribe(*args, **options)
        self._joined = True


def group_consumer(settings: Settings, on_error: OnError) -> Consumer:
    """Return the consumer of events: never commits by itself, never guesses where to start."""
    heard = Heard(on_error)
    config = common(settings, heard) | {
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
        # The longest there is: whether the loop turns is for the watchdog to say (`consumer/http.py`).
        "max.poll.interval.ms": 86_400_000,
    }
    if settings.group_protocol == "classic":
        milliseconds = 1000 * (settings.session_timeout_seconds or CLASSIC_SESSION_SECONDS)
        config |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": milliseconds,
            "heartbeat.interval.ms": min(HEARTBEAT_MS, milliseconds // 3),  # two may be lost
        }
    return Member(settings, config, heard)


def set_session_timeout(settings: Settings, seconds: int) -> None:
    """Set the session time-out of our group on the broker (KIP-848); says so where the broker does not let us.

    Raises:
        DependencyAway: Kafka does not answer.
    """
    wanted = {"consumer.session.timeout.ms": 1000 * seconds}
    if (heartbeat := 1000 * seconds // 3) < GROUP_HEARTBEAT_MS:
        wanted["consumer.heartbeat.interval.ms"] = heartbeat
    entries = [
        ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET) for name, value in wanted.items()
    ]
    group = ConfigResource(ResourceType.GROUP, settings.app_id, incremental_configs=entries)
    client = topics.admin(settings.bootstrap, settings.kafka)
    try:
        client.incremental_alter_configs([group], request_timeout=topics.TIMEOUT_SECONDS)[group].result()
    except KafkaException as exception:  # no right to it, below what the broker allows, older than Kafka 4
        why = hidden(exception.args[0].str(), settings.kafka)
        log.warning("the group keeps the session time-out that it has", wanted_seconds=seconds, why=why)


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


def asker(settings: Settings, group: str, on_error: OnError) -> Consumer:
    """Return a consumer that asks for a group's offsets, and never joins it."""
    return Consumer(
        common(settings, on_error)
        | {"group.id": group, "isolation.level": "read_committed", "enable.auto.commit": False}
    )


def committed(settings: Settings, group: str, partitions: Iterable[int], on_error: OnError) -> list[TopicPartition]:
    """Return a group's offsets of the events, negative where it has none; waits for those that are being committed.

    Raises:
        DependencyAway: Kafka does not answer now.
    """
    client = asker(settings, group, on_error)
    try:
        asked = [TopicPartition(settings.events_topic, partition) for partition in partitions]
        found: list[TopicPartition] = client.committed(asked, timeout=TIMEOUT_SECONDS)
        for one in found:
            if one.error is not None:
                raise KafkaException(one.error)
        return found
    except KafkaException as error:
        raise DependencyAway(f"the offsets of {group} are not known ({error.args[0].str()}); waiting") from None
    finally:
        client.close()


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


def good(messages: Iterable[Message]) -> Iterator[Message]:
    """Yield what is no error; raises `Fatal` where Kafka refuses us."""
    for message in messages:
        error = message.error()
        if error is None:
            yield message
        elif refuses(error):
            raise Fatal(f"Kafka refuses ({error.str()}); 'penchant topics plan' says which rights serve needs")


def seek(consumer: Consumer, here: TopicPartition) -> None:
    """Go to an offset of a paused partition and resume it; raises `DependencyAway`."""
    for attempt in range(100):
        try:
            consumer.seek(here)
            break
        except KafkaException as exception:  # an assignment takes effect a moment later
            error = exception.args[0]
            if error.code() != KafkaError._STATE or attempt == 99:
                where = f"offset {here.offset} of partition {here.partition}"
                raise DependencyAway(f"cannot go to {where} ({error.str()}); waiting") from None
            time.sleep(0.02)
    consumer.resume([here])
