"""What the demo sees from outside: lists as a read_committed consumer gets them, and interests that moved."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from consumer.topics import TIMEOUT_SECONDS
from model.errors import Fatal
from model.events import Interests, Recommendation

POLL_SECONDS = 0.05
BATCH = 1000
LUMP_SECONDS = 0.02
"""Lists of one transaction arrive closer together than this, and those of two, if they are large, further apart."""
WARM_SECONDS = 2.0
WARM_UP = f"its first {WARM_SECONDS:g} s, of a short run a quarter"
"""What latency leaves out of a phase: the replay has just started, and so has the broker's compiler."""


class _Named(msgspec.Struct):
    id: str


class _Answer(msgspec.Struct):
    event: str
    user: str


@dataclass(frozen=True)
class Moved:
    """A user's interests at first and at last, the last list, and by how much the interests differ (0-1)."""

    user: str
    first: Interests
    last: Interests
    variation: float
    recommendation: Recommendation | None


class Watch:
    """A reader of events (for their timestamps), lists and dead letters; times are milliseconds since 1970."""

    def __init__(self, consumer: Consumer, app_id: str, events_topic: str) -> None:
        self._consumer = consumer
        self._events, self._dead = events_topic, f"{app_id}.dead-letters"
        self._event, self._answer = msgspec.json.Decoder(_Named), msgspec.json.Decoder(_Answer)
        self._stamped_ms: dict[str, int] = {}
        self._seen_ms: dict[str, float] = {}
        self._last_value: dict[str, bytes] = {}
        self.lists = 0
        self.dead_letters = 0

    @classmethod
    @contextmanager
    def open(cls, bootstrap: str, app_id: str, events_topic: str) -> "Iterator[Watch]":
        """Watch from the beginning of the topics."""
        consumer = _consumer(bootstrap)
        try:
            names = (events_topic, f"{app_id}.recommendations", f"{app_id}.dead-letters")
            consumer.assign([part for name in names for part in _partitions(consumer, name)])
            yield cls(consumer, app_id, events_topic)
        finally:
            consumer.close()

    @property
    def answered(self) -> int:
        """Events that came to their end: a list or a dead letter."""
        return self.lists + self.dead_letters

    def start_phase(self) -> None:
        """Forget the times so far: rate and latency are of what comes from here on."""
        self._stamped_ms.clear()
        self._seen_ms.clear()

    def poll(self) -> bool:
        """Take what has arrived; say whether an event was answered."""
        first = self._consumer.poll(POLL_SECONDS)
        if first is None:
            return False
        now_ms = time.time() * 1000
        before = self.answered
        # Not one consume(): that waits for a full batch, which would be counted as Penchant's latency.
        for message in [first, *self._consumer.consume(BATCH, 0)]:
            self._take(message, now_ms)
        return self.answered > before

    def _take(self, message: Message, now_ms: float) -> None:
        if (error := message.error()) is not None:
            raise Fatal(f"cannot watch the demo: {error.str()}") from KafkaException(error)
        value, topic = message.value(), message.topic()
        if value is None:
            return
        if topic == self._events:
            self._stamped_ms[self._event.decode(value).id] = message.timestamp()[1]
        elif topic == self._dead:
            self.dead_letters += 1
        else:
            answer = self._answer.decode(value)
            self.lists += 1
            self._seen_ms[answer.event] = now_ms
            self._last_value[answer.user] = value

    def lists_per_second(self) -> float:
        """Lists of this phase, whose first quarter warms up.

        Where they came in too few transactions for that: from the first event's record timestamp on.
        """
        if not self._seen_ms or not self._stamped_ms:
            return 0.0
        times = sorted(seen / 1000 for seen in self._seen_ms.values())
        whole = len(times) / max(times[-1] - min(self._stamped_ms.values()) / 1000, 0.001)
        return rate_after(times, len(times) // 4) or whole

    def latency_ms(self, quantile: float) -> float | None:
        """Record timestamp to seen by this consumer, in this phase after `WARM_UP`; None without lists."""
        stamps = self._stamped_ms
        if not stamps:
            return None
        first, last = min(stamps.values()), max(stamps.values())
        start = first + min(WARM_SECONDS * 1000, (last - first) / 4)
        both = self._seen_ms.keys() & stamps.keys()
        times = sorted(self._seen_ms[event] - stamps[event] for event in both if stamps[event] >= start)
        return times[min(len(times) - 1, int(quantile * len(times)))] if times else None

    def last_list(self, user: str) -> Recommendation | None:
        """Return the list that the user would see now."""
        value = self._last_value.get(user)
        return None if value is None else msgspec.json.decode(value, type=Recommendation)


def rate_after(times: Sequence[float], first: int) -> float | None:
    """Return how many a second arrived once `first` had; `times` in seconds, ascending; None if it cannot be told.

    What is committed together arrives together. To start amid such a lump would count its rest without the time that it
    took, so it is counted from the end of a lump on.

    >>> rate_after([0.0] * 10 + [1.0] * 5 + [1.01] * 5 + [2.0] * 10, 12)
    10.1
    >>> rate_after([0.0] * 10, 2)
    """
    ends = (n for n in range(max(first, 1), len(times)) if times[n] - times[n - 1] > LUMP_SECONDS)
    start = next(ends, max(first, 1))
    if start >= len(times) or times[-1] <= times[start - 1]:
        return None
    return round((len(times) - start) / (times[-1] - times[start - 1]), 1)


def interests_moved(bootstrap: str, topic: str, watch: Watch) -> Moved | None:
    """Return the user whose interests differ most between the first and the last message."""
    first: dict[str, Interests] = {}
    last: dict[str, Interests] = {}
    decoder = msgspec.json.Decoder(Interests)
    for value in _all(bootstrap, topic):
        interests = decoder.decode(value)
        first.setdefault(interests.user, interests)
        last[interests.user] = interests
    if not last:
        return None
    user = max(last, key=lambda name: variation(first[name], last[name]))
    return Moved(user, first[user], last[user], variation(first[user], last[user]), watch.last_list(user))


def variation(one: Interests, other: Interests) -> float:
    """Return the total variation distance of two interests, 0-1."""
    left = {topic.topic: topic.probability for topic in one.topics}
    right = {topic.topic: topic.probability for topic in other.topics}
    return sum(abs(left.get(name, 0.0) - right.get(name, 0.0)) for name in left | right) / 2


def _all(bootstrap: str, topic: str) -> Iterator[bytes]:
    consumer = _consumer(bootstrap)
    try:
        parts = _partitions(consumer, topic)
        ends = {}
        for part in parts:
            low, high = consumer.get_watermark_offsets(part, timeout=TIMEOUT_SECONDS)
            if high > low:
                ends[part.partition] = high
        consumer.assign([part for part in parts if part.partition in ends])
        quiet_at = time.monotonic() + TIMEOUT_SECONDS
        while ends and time.monotonic() < quiet_at:
            message = consumer.poll(POLL_SECONDS)
            if message is None:
                # The last offset may be a transaction's marker: ask for the position rather than look at messages.
                for position in consumer.position([TopicPartition(topic, part) for part in ends]):
                    if position.offset >= ends[position.partition]:
                        del ends[position.partition]
                continue
            if message.error() is None and (value := message.value()) is not None:
                quiet_at = time.monotonic() + TIMEOUT_SECONDS
                yield value
    finally:
        consumer.close()


def _consumer(bootstrap: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "penchant-demo-watch",  # demanded by the client; nothing joins it
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            # As `serve` does: what a reader waits for is not Penchant's latency.
            "fetch.wait.max.ms": 20,
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": 32 * 1024,
        }
    )


def _partitions(consumer: Consumer, topic: str) -> list[TopicPartition]:
    found = consumer.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic]
    return [TopicPartition(topic, number, 0) for number in found.partitions]
