"""Taking over from another `app_id`: fold what it answered without answering again, and go on where it ended.

A rebuild folds the events anew under a new `app_id` while the old one still serves. It never passes the place up to
which the old one has committed, and sends no lists for what lies before it. Once it is there and the old group has no
members, that place no longer moves: whatever comes after it is the new one's to answer, so that every event has one
list, in the one topic or in the other.
"""

import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import structlog
from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer import kafka
from consumer.security import hidden
from consumer.settings import Settings
from consumer.state import PartitionState
from model.errors import DependencyAway, Fatal

log = structlog.get_logger("penchant.predecessor")
LOOK_SECONDS = 1.0
SAY_SECONDS = 10.0


class Predecessor:
    """What is known of the group that is to be replaced, and the partitions that wait for it."""

    def __init__(self, settings: Settings, app_id: str, on_error: kafka.OnError) -> None:
        self._settings, self.app_id = settings, app_id
        self._admin = AdminClient(kafka.common(settings, on_error))
        self._asker = kafka.asker(settings, app_id, on_error)
        self._offsets: dict[int, int] = {}
        self.ended = False
        self._held: set[int] = set()
        self._looked_at = self._said_at = self._began_at = -SAY_SECONDS
        self._began = 0
        self._caught_up = False

    @property
    def behind(self) -> str:
        """Why nothing is answered yet; empty once it took over."""
        return "" if self.ended else f"rebuilding; {self.app_id} still serves"

    def look(self, partitions: Sequence[int], states: Mapping[int, PartitionState]) -> None:
        """Ask, once a second, how far the group is, and whether it has ended; raises `DependencyAway`, `Fatal`."""
        if self.ended or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        asked = [TopicPartition(self._settings.events_topic, partition) for partition in partitions]
        try:
            # In this order: what is read of a group that had no members is the last that it committed.
            group = self._admin.describe_consumer_groups([self.app_id], request_timeout=kafka.TIMEOUT_SECONDS)
            state = group[self.app_id].result().state
            found = self._asker.committed(asked, timeout=kafka.TIMEOUT_SECONDS)
        except KafkaException as exception:
            error = exception.args[0]
            if kafka.refuses(error):
                why = hidden(error.str(), self._settings.kafka)
                raise Fatal(
                    f"Kafka does not let us look at group {self.app_id} ({why}); grant Describe on it"
                ) from None
            raise DependencyAway(f"Kafka does not say how far {self.app_id} is ({error.str()}); waiting") from None
        if any(one.error is not None for one in found):
            raise DependencyAway(f"Kafka does not say how far {self.app_id} is; waiting")
        self._offsets = {one.partition: max(0, one.offset) for one in found}
        self._looked_at = time.monotonic()
        gone = state in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)
        # Only then, as one that is away for a moment, to be started again, has no members either.
        there = bool(states) and all(self._offsets.get(p, 0) <= states[p].position.offset for p in states)
        if gone and there:
            self.ended = True
            log.info("the predecessor has ended; what it did not answer is ours", predecessor=self.app_id)

    def follow(self, consumer: Consumer, states: Mapping[int, PartitionState]) -> None:
        """Let those partitions flow whose place the group has left behind, and note in each where answers begin."""
        for partition, state in states.items():
            there = self._offsets.get(partition, 0)
            if there > state.position.answers_from:
                state.position = msgspec.structs.replace(state.position, answers_from=there)
            if partition in self._held and (self.ended or there > state.position.offset):
                kafka.seek(consumer, TopicPartition(self._settings.events_topic, partition, state.position.offset))
                self._held.discard(partition)
        self._say(states)

    def hold(self, consumer: Consumer, messages: Iterable[Message]) -> list[Message]:
        """Return those messages that the group has left behind; partitions of others wait, and will read them again."""
        if self.ended:
            return list(messages)
        passed = []
        for message in messages:
            partition = message.partition() or 0
            if partition in self._held:
                continue
            if (message.offset() or 0) < self._offsets.get(partition, 0):
                passed.append(message)
            else:
                self._held.add(partition)
                consumer.pause([TopicPartition(self._settings.events_topic, partition)])
        return passed

    def forget(self, partitions: Iterable[int]) -> None:
        """Note that partitions are no longer ours, or start over."""
        self._held.difference_update(partitions)

    def remaining(self, states: Mapping[int, PartitionState]) -> int:
        """Return how many offsets lie between us and the place where answers begin."""
        return sum(max(0, state.position.answers_from - state.position.offset) for state in states.values())

    def close(self) -> None:
        """Let go of the broker."""
        self._asker.close()

    def _say(self, states: Mapping[int, PartitionState]) -> None:
        """Say how far we are, every ten seconds; and once what to do when that is far enough."""
        left, now = self.remaining(states), time.monotonic()
        if not states or now - self._said_at < SAY_SECONDS:
            return
        folded = sum(state.position.offset for state in states.values())
        if self._said_at < 0 or folded < self._began:
            self._began_at, self._began = now, folded
        self._said_at = now
        if left:
            pace = (folded - self._began) / (now - self._began_at) if now > self._began_at else 0.0
            eta = round(left / pace) if pace else None
            log.info("rebuilding", events_left=left, events_per_second=round(pace), eta_seconds=eta)
        elif not self.ended and not self._caught_up:
            self._caught_up = True
            log.info("caught up: end the predecessor, and this takes over", predecessor=self.app_id)
