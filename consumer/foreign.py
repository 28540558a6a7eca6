"""What other partitions told: facts, read as they are committed, so that all partitions learn from all users."""

from collections.abc import Callable, Iterable, Sequence

import structlog
from confluent_kafka import KafkaException, Message, TopicPartition

from consumer import kafka
from consumer.settings import Settings
from consumer.state import Told
from consumer.tables import ends, read_to
from model.errors import DependencyAway

log = structlog.get_logger("penchant.foreign")


class Foreign:
    """A reader of the facts topic from here on; what was told before is read for each partition that is restored."""

    def __init__(self, settings: Settings, on_error: kafka.OnError) -> None:
        self._settings, self._on_error = settings, on_error
        self._consumer = kafka.table_consumer(settings, on_error)
        self.offsets: list[int] = []
        """First offset not yet read, by partition."""

    def open(self) -> None:
        """Begin at the end; raises `DependencyAway`."""
        topic = self._settings.facts_topic
        partitions = kafka.partitions_of(self._consumer, topic)
        end = ends(self._settings, topic, partitions, self._on_error)
        self.offsets = [end[partition] for partition in partitions]
        self._consumer.assign([TopicPartition(topic, partition, end[partition]) for partition in partitions])

    def poll(self) -> Told:
        """Return what was told since; never waits."""
        if len(self.offsets) < 2:  # nobody else to learn from
            return []
        told = _told(kafka.good(self._consumer.consume(500, 0)))
        for partition, offset, _ in told:
            self.offsets[partition] = offset + 1
        return told

    def between(self, start: Sequence[int], stop: Sequence[int], beat: Callable[[], None] = lambda: None) -> Told:
        """Return what was told from one vector of offsets up to another; raises `DependencyAway`. Any thread may call.

        What is older than the topic keeps is lost to this partition, and said.
        """
        wanted = {}
        for partition, end in enumerate(stop):
            begin = start[partition] if partition < len(start) else 0
            if begin < end:
                wanted[partition] = (begin, end)
        if not wanted or len(self.offsets) < 2:
            return []
        topic, consumer = self._settings.facts_topic, kafka.table_consumer(self._settings, self._on_error)
        try:
            places, until = [], {}
            for partition, (begin, end) in wanted.items():
                here = TopicPartition(topic, partition)
                low, _ = consumer.get_watermark_offsets(here, timeout=kafka.TIMEOUT_SECONDS)
                if low > begin and begin > 0:
                    log.warning("facts are gone before they were merged", partition=partition, offsets=low - begin)
                if max(low, begin) < end:
                    places.append(TopicPartition(topic, partition, max(low, begin)))
                    until[partition] = end
            consumer.assign(places)
            found = read_to(consumer, until, beat)
            return _told(m for m in found if (m.offset() or 0) < until[m.partition() or 0])
        except KafkaException as error:
            raise DependencyAway(f"Kafka does not give {topic} ({error.args[0].str()}); waiting") from None
        finally:
            consumer.close()

    def close(self) -> None:
        """Leave the topic."""
        self._consumer.close()


def _told(messages: Iterable[Message]) -> Told:
    """Return partition, offset and value of each message, by partition and offset: the order in which they count."""
    return sorted((m.partition() or 0, m.offset() or 0, m.value() or b"") for m in messages)
