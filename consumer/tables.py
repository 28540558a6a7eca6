"""Reading compacted topics to their end, without silent loss: the changelog at a restore, the items always."""

import time
from collections.abc import Callable, Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumer import kafka
from consumer.settings import Settings
from model.errors import BadEvent, DependencyAway, Fatal
from model.events import Item, decode_item

END_SECONDS = 30.0
"""How long to wait for a crashed writer's open transaction to end; its time-out is 10 s."""


def ends(settings: Settings, topic: str, partitions: list[int], on_error: kafka.OnError) -> dict[int, int]:
    """Return the high watermarks, open transactions included; raises `DependencyAway`.

    A read_committed consumer would say the last stable offset, below which a crashed writer may hide records.
    """
    consumer = kafka.table_consumer(settings, on_error, "read_uncommitted")
    try:
        found = {}
        for partition in partitions:
            marks = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=kafka.TIMEOUT_SECONDS)
            if marks is None:
                raise DependencyAway(f"Kafka does not say where {topic} ends; waiting")
            found[partition] = marks[1]
        return found
    except KafkaException as error:
        raise DependencyAway(f"Kafka does not say where {topic} ends ({error.args[0].str()}); waiting") from None
    finally:
        consumer.close()


def read_to(consumer: Consumer, ends: dict[int, int], beat: Callable[[], None]) -> Iterator[Message]:
    """Yield every committed message up to `ends`; raises `DependencyAway` if that takes too long without progress."""
    missing = {partition for partition, end in ends.items() if end > 0}
    deadline = time.monotonic() + END_SECONDS
    while missing:
        beat()
        for message in consumer.consume(1000, 0.1):
            error = message.error()
            if error is None:
                deadline = time.monotonic() + END_SECONDS
                yield message
                # Past the end already, where new records keep coming in.
                if _offset(message) + 1 >= ends[_partition(message)]:
                    missing.discard(_partition(message))
            elif kafka.refuses(error):
                raise Fatal(f"Kafka refuses ({error.str()}); 'penchant topics plan' says which rights serve needs")
            elif error.code() == KafkaError._PARTITION_EOF and _offset(message) >= ends[_partition(message)]:
                missing.discard(_partition(message))
        if time.monotonic() > deadline:
            raise DependencyAway(f"a topic was not read to its end within {END_SECONDS:.0f} s; trying again")


def read_table(
    settings: Settings,
    topic: str,
    partition: int,
    on_error: kafka.OnError,
    beat: Callable[[], None],
    progress: Callable[[int, int], None] = lambda offset, end: None,
) -> tuple[dict[bytes, bytes], int]:
    """Return a compacted partition's latest value of every key, and how many records that took.

    `progress` is told now and then up to which offset it is read, and where it ends.
    """
    end = ends(settings, topic, [partition], on_error)
    consumer = kafka.table_consumer(settings, on_error)
    table: dict[bytes, bytes] = {}
    count = 0
    try:
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
        for message in read_to(consumer, end, beat):
            count += 1
            if count % 1000 == 0:
                progress(_offset(message), end[partition])
            key, value = message.key() or b"", message.value()
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value
    finally:
        consumer.close()
    return table, count


def _offset(message: Message) -> int:
    return message.offset() or 0  # None only for messages that were produced and failed


def _partition(message: Message) -> int:
    return message.partition() or 0


class ItemsTable:
    """The items topic as it is now; every poll says what changed."""

    def __init__(self, settings: Settings, on_error: kafka.OnError, beat: Callable[[], None]) -> None:
        self._settings, self._on_error, self._beat = settings, on_error, beat
        self._consumer = kafka.table_consumer(settings, on_error)
        self.offsets: list[int] = []
        """First offset not yet read, by partition."""
        self.bad: list[str] = []
        """Reasons of records that can never be handled, since the caller last looked."""
        self._lengths: dict[str, int] = {}
        """Of the vectors of each modality that counts: what the first item had."""

    def open(self) -> dict[str, Item | None]:
        """Read to the end and return the catalogue; raises `DependencyAway`."""
        topic = self._settings.items_topic
        partitions = kafka.partitions_of(self._consumer, topic)
        end = ends(self._settings, topic, partitions, self._on_error)
        self.offsets = [0] * (max(partitions) + 1)
        self._consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        return self._changes(read_to(self._consumer, end, self._beat))

    def poll(self, count: int) -> dict[str, Item | None]:
        """Return what changed since, from at most `count` records, None for an item that is gone; never waits."""
        return self._changes(kafka.good(self._consumer.consume(count, 0)))

    def _changes(self, messages: Iterator[Message]) -> dict[str, Item | None]:
        changed: dict[str, Item | None] = {}
        for message in messages:
            self.offsets[_partition(message)] = _offset(message) + 1
            key, value = message.key(), message.value()
            try:
                if value is None:
                    if key is not None:
                        changed[key.decode()] = None
                    continue
                item = decode_item(value)
                self._check(item)
            except (UnicodeDecodeError, BadEvent) as bad:
                self.bad.append(bad.reason if isinstance(bad, BadEvent) else "not_utf8")
                # What it was before is overwritten in the topic: after a restart nobody would know it.
                changed[(key or b"").decode(errors="replace")] = None
            else:
                changed[item.item] = item
        return changed

    def _check(self, item: Item) -> None:
        for name, vector in (item.vectors or {}).items():
            if name in self._settings.modalities and len(vector) != self._lengths.setdefault(name, len(vector)):
                raise BadEvent("vector", f"{name} has {len(vector)} values, others had {self._lengths[name]}")

    def close(self) -> None:
        """Leave the topic."""
        self._consumer.close()
