"""The partitions that the group gave us: restored beside the loop, live until they are taken or given up."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from consumer import kafka
from consumer.assignment import Assignment
from consumer.embedding import Model
from consumer.foreign import Foreign
from consumer.items import Items
from consumer.metrics import Metrics
from consumer.murmur2 import Places
from consumer.restoring import Restores, check_partitions, first_offset, prove_membership, restored
from consumer.serving import Serving
from consumer.settings import Settings
from consumer.state import FORMAT, PartitionState, Position
from consumer.transaction import Aborted, Produce, Transactions
from model.errors import DependencyAway
from model.fold import Fold

log = structlog.get_logger("penchant.partitions")


class Restored(NamedTuple):
    """What a restore made."""

    fold: Fold
    changes: int
    """How often items had changed before the fold was given the catalogue."""
    state: PartitionState | None
    records: int


class Partitions:
    """Which partitions are ours, and how each of them comes to life."""

    def __init__(
        self,
        settings: Settings,
        consumer: Consumer,
        states: dict[int, PartitionState],
        items: Items,
        serving: Serving,
        foreign: Foreign,
        new_fold: Callable[[Model], Fold],
        metrics: Metrics,
        on_error: kafka.OnError,
    ) -> None:
        """`states` is filled and emptied here; `new_fold` makes an empty fold of a model."""
        self._settings, self._consumer, self._metrics, self._on_error = settings, consumer, metrics, on_error
        self._items, self._serving, self._foreign, self._new_fold = items, serving, foreign, new_fold
        self.states = states
        self.pending: set[int] = set()
        """Assigned, not yet restored; paused meanwhile."""
        self.assigned = False
        """Whether the group ever gave us anything."""
        self.places = Places(1)
        self._restores: Restores[Restored] = Restores()
        self._assignment = Assignment()

    def look(self) -> None:
        """See that the topics are there; raises `DependencyAway`."""
        kafka.partitions_of(self._consumer, self._settings.state_topic)
        if self._settings.tune_requests:
            kafka.partitions_of(self._consumer, self._settings.tune_requests_topic)
        if self._settings.apprentice:
            kafka.partitions_of(self._consumer, self._settings.apprentice_topic)
        self.places = Places(len(kafka.partitions_of(self._consumer, self._settings.events_topic)))

    def subscribe(self) -> None:
        """Join the group."""
        self._assignment.subscribe(self._consumer, self._settings.events_topic)

    def settle(self) -> list[int]:
        """Take note of what the group gave and took, and return which partitions that were."""
        changed: list[int] = []
        for given, partitions in self._assignment.notes():
            changed += partitions
            for partition in partitions:
                self.states.pop(partition, None)
                self.pending.discard(partition)
                self._restores.give_up(partition)
                if given:
                    self.pending.add(partition)
                    self.assigned = True
            log.info("partitions given" if given else "partitions taken", partitions=partitions)
        self._metrics.partitions.set(len(self.states))
        return changed

    def discard(self, partitions: list[int]) -> None:
        """Give up what is in memory of those that are ours; it is restored, and they are read again from there."""
        ours = [partition for partition in partitions if partition in self.states]
        self._consumer.pause([TopicPartition(self._settings.events_topic, partition) for partition in ours])
        for partition in ours:
            del self.states[partition]
            self.pending.add(partition)

    def wait_for_group(self) -> list[int]:
        """Let the group go on, reading nothing, and return what it gave and took; raises `DependencyAway`."""
        events = self._settings.events_topic
        self._consumer.pause([TopicPartition(events, partition) for partition in self.states])
        self._consumer.poll(0.1)  # gives nothing but news
        changed = self.settle()
        for partition, state in self.states.items():
            kafka.seek(self._consumer, TopicPartition(events, partition, state.position.offset))
        return changed

    def prove(self) -> None:
        """Raise `Fatal` if another instance has our ordinal; `DependencyAway` if nobody can say."""
        for partition in [*self.states, *self.pending][:1]:
            prove_membership(self._consumer, TopicPartition(self._settings.events_topic, partition))

    def restore(self, transactions: Transactions) -> None:
        """Begin restores that are due, and take over what they made; raises `DependencyAway`, `Fatal`."""
        for partition in sorted(self.pending):
            try:
                if partition not in self._restores:
                    self._begin(partition, transactions)
                elif (done := self._restores.take(partition)) is not None:
                    self._go_live(partition, done, transactions)
            except KafkaException as error:
                raise DependencyAway(f"partition {partition} not restored ({error.args[0].str()}); waiting") from None

    def close(self) -> None:
        """Let go of restores that are under way."""
        self._restores.close()

    def _begin(self, partition: int, transactions: Transactions) -> None:
        settings = self._settings
        # First, so that nothing of a producer given up can still be committed behind the restored state's back.
        transactions.open()
        count = len(kafka.partitions_of(self._consumer, settings.events_topic))
        check_partitions(settings, count, len(kafka.partitions_of(self._consumer, settings.state_topic)))
        if count != self.places.partitions:
            self.places = Places(count)
        changes, model = self._items.changes, self._serving.model
        known = self._items.known()

        def work(beat: Callable[[], None]) -> Restored:
            fold = self._new_fold(model)
            for item, vector in known.values():
                fold.put_item(item, vector)
            args = (settings, partition, fold, self._foreign, self._metrics, self._on_error, beat)
            return Restored(fold, changes, *restored(*args))

        self._restores.begin(partition, work)

    def _go_live(self, partition: int, done: Restored, transactions: Transactions) -> None:
        settings, fold, state = self._settings, done.fold, done.state
        here = TopicPartition(settings.events_topic, partition)
        if state is None:
            start = first_offset(self._consumer, here, settings.start)
            state = PartitionState(partition, fold, Position(FORMAT, start, 0, "", [], ""))
        for each in (state, *self.states.values()):
            check_partitions(settings, self.places.partitions, each.position.partitions)
        self._serving.catch_up(fold)
        self._items.catch_up(fold, done.changes)
        state.merge(self._foreign.between(state.position.merged, self._foreign.offsets))
        state.position = msgspec.structs.replace(
            state.position, bundle=self._serving.model.version, settings=settings.outcome_hash(),
            partitions=self.places.partitions,
        )  # fmt: skip
        here.offset = state.position.offset
        if done.state is None and settings.start != "earliest":
            # Or "latest" would be another place after an abort, a crash, or with another instance.
            self._commit_beginning(state, here, transactions)
        kafka.seek(self._consumer, here)
        self.states[partition] = state
        self.pending.discard(partition)
        self._metrics.restored_records.inc(done.records)
        log.info("restored", partition=partition, offset=here.offset, records=done.records, users=len(fold.profiles))

    def _commit_beginning(self, state: PartitionState, here: TopicPartition, transactions: Transactions) -> None:
        topic = self._settings.state_topic
        records: list[Produce] = [(topic, key, value, here.partition) for key, value in state.beginning()]
        try:
            transactions.commit(records, self._consumer, [here])
        except Aborted as aborted:
            where = f"where partition {here.partition} begins is not committed"
            raise DependencyAway(f"{where} ({aborted}); waiting") from None
