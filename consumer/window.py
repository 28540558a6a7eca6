"""What `penchant tune` learns from: a data set, or the newest events in Kafka with the items as they are now."""

import heapq
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_NOT_AVAILABLE, TopicPartition

from consumer import datasets, kafka
from consumer.settings import Settings
from consumer.tables import ItemsTable, ends, read_to
from model.errors import BadEvent, Fatal
from model.events import Event, Item, ItemEvent, Recommendation


@dataclass(frozen=True)
class Source:
    """Items, events in order, and where they came from."""

    items: list[Item]
    events: list[Event]
    said: dict[str, object]
    """For the manifest."""
    shown: dict[str, list[str]] = field(default_factory=dict)
    """Items of the lists that events answer by name, as users had them."""
    refused: Counter[str] = field(default_factory=Counter)
    """Records that are no events, by reason: serve dead-letters them."""


def from_dataset(name: str) -> Source:
    """Return a data set; raises `PenchantError` where there is none of that name."""
    items, events = datasets.load(name)
    return Source(items, events, {"dataset": name})


def from_kafka(settings: Settings, count: int, progress: Callable[[int, int], None]) -> Source:
    """Return the newest `count` events, divided equally among the partitions, merged by time; nothing is committed.

    Only what is there when this begins is read, however much comes in meanwhile.

    Raises:
        DependencyAway: Kafka does not answer, or a topic is missing.
        Fatal: it refuses, or there are no events.
    """

    def on_error(_error: object) -> None:
        """Leave it to the calls that fail."""

    table = ItemsTable(settings, on_error, lambda: None)
    try:
        items = [item for item in table.open().values() if item is not None]
    finally:
        table.close()
    topic = settings.events_topic
    consumer = kafka.table_consumer(settings, on_error)
    refused: Counter[str] = Counter()
    try:
        partitions = kafka.partitions_of(consumer, topic)
        stops = ends(settings, topic, partitions, on_error)
        starts = {}
        for partition in partitions:
            low, _ = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=kafka.TIMEOUT_SECONDS)
            starts[partition] = max(low, stops[partition] - -(-count // len(partitions)))
        filled = {partition: stop for partition, stop in stops.items() if stop > starts[partition]}
        if not filled:
            raise Fatal(f"{topic} has no events to learn from: 'penchant replay' writes some; or --from-dataset")
        consumer.assign([TopicPartition(topic, partition, starts[partition]) for partition in filled])
        events: dict[int, list[Event]] = {partition: [] for partition in filled}
        of = sum(stop - starts[partition] for partition, stop in filled.items())
        for number, message in enumerate(read_to(consumer, filled, lambda: None), 1):
            kind, milliseconds = message.timestamp()
            try:
                event = settings.decode(message.value(), None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds)
            except BadEvent as error:
                refused[error.reason] += 1
            else:
                at, offset = message.partition() or 0, message.offset() or 0
                if offset < filled[at]:
                    events[at].append(event)
            progress(number, of)
    finally:
        consumer.close()
    answered = {event.recommendation for each in events.values() for event in each if isinstance(event, ItemEvent)}
    shown = _shown(settings, answered - {None}, on_error)
    merged = list(heapq.merge(*events.values(), key=lambda event: event.at_ms))
    offsets = {str(partition): [starts[partition], stop] for partition, stop in sorted(stops.items())}
    return Source(
        items, merged, {"topic": topic, "offsets": offsets, "items": len(items), "lists": len(shown)}, shown, refused
    )


def _shown(settings: Settings, wanted: AbstractSet[str | None], on_error: kafka.OnError) -> dict[str, list[str]]:
    """Return the items of those of the published lists that are wanted, as far as they are still there, by id."""
    if not wanted:
        return {}
    topic, consumer = settings.recommendations_topic, kafka.table_consumer(settings, on_error)
    decoder, shown = msgspec.json.Decoder(Recommendation), dict[str, list[str]]()
    try:
        partitions = kafka.partitions_of(consumer, topic)
        stops = ends(settings, topic, partitions, on_error)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        for message in read_to(consumer, stops, lambda: None):
            if (value := message.value()) is not None:
                found = decoder.decode(value)
                if found.id in wanted:
                    shown[found.id] = [one.item for one in found.items]
    finally:
        consumer.close()
    return shown
