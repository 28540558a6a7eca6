"""The loop: consume, decode, embed, fold, and then everything that follows in one transaction."""

import threading
import time
from collections.abc import Callable, Iterable

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumer import kafka
from consumer.assignment import Assignment
from consumer.batch import FoldFailed, Texts, Vector, fold_poll
from consumer.http import Health
from consumer.metrics import Metrics
from consumer.settings import Settings
from consumer.state import FORMAT, PartitionState, Position, restore
from consumer.tables import ItemsTable, read_table
from consumer.transaction import Aborted, Produce, Transactions
from model.encoding import Encoder
from model.errors import DependencyAway, Fatal
from model.events import Item
from model.fold import Fold

log = structlog.get_logger("penchant.loop")
IDLE_SECONDS = 0.1
AWAY_SECONDS = 1.0
FATAL_CODES = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION,
    KafkaError.FENCED_INSTANCE_ID,
}  # fmt: skip


class Loop:
    """Reads events until told to stop; owns the partitions' states."""

    def __init__(
        self, settings: Settings, encoder: Encoder, new_fold: Callable[[], Fold], metrics: Metrics, health: Health
    ) -> None:
        self.settings, self.encoder, self.metrics, self.health = settings, encoder, metrics, health
        self.states: dict[int, PartitionState] = {}
        self.stop = threading.Event()
        self._new_fold = new_fold
        self._texts = Texts(encoder, settings.cached_texts)
        self._items: dict[str, tuple[Item, Vector]] = {}
        self._pending: set[int] = set()
        """Assigned, not yet restored; paused meanwhile."""
        self._assignment = Assignment()
        self._skip: dict[tuple[int, int], str] = {}
        self._away = ""
        self._all_down = self._started = self._assigned = self._warned = self._idle = False
        self._consumer: Consumer = kafka.group_consumer(settings, self._on_error)
        self._table = ItemsTable(settings, self._on_error, self._beat)
        self._transactions = Transactions(settings, self._on_error, self._beat)

    def run(self) -> None:
        """Turn until `stop` is set; raises `Fatal`. What is in memory is then committed."""
        while not self.stop.is_set():
            try:
                self.turn()
            except DependencyAway as away:
                self._say_away(str(away))
                self.stop.wait(AWAY_SECONDS)

    def close(self) -> None:
        """Leave the group and let go of the broker."""
        self.health.say(False, "stopping")
        self._transactions.close()
        self._table.close()
        self._consumer.close()

    def turn(self) -> int:
        """Do one poll's work, and return how many events were committed; raises `DependencyAway`, `Fatal`."""
        self._beat()
        if not self._started:
            self._start()
        for partition in sorted(self._pending):
            self._restore(partition)
        self._take_items(self._table.poll())
        messages = self._consume()
        self._settle()
        if messages:
            self._fold(messages)
        elif self._all_down:
            self._probe()
        if self._away and not self._all_down:
            log.info("kafka is back")
            self._away = ""
        ready = self._assigned and not self._pending and not self._away
        self.health.say(ready, "ready" if ready else self._away or "waiting for partitions")
        return len(messages)

    def _start(self) -> None:
        self._transactions.open()
        kafka.partitions_of(self._consumer, self.settings.state_topic)
        kafka.partitions_of(self._consumer, self.settings.events_topic)
        self._take_items(self._table.open())
        self._assignment.subscribe(self._consumer, self.settings.events_topic)
        self._started = True
        log.info("reading", topic=self.settings.events_topic, items=len(self._items))

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._all_down = True

    # -- steps of a turn

    def _beat(self) -> None:
        self.health.turn()
        self.metrics.heartbeat.set(time.time())

    def _say_away(self, why: str) -> None:
        self.health.say(False, why)
        if not self._away:
            log.warning("kafka is away", why=why)
        self._away = why

    def _probe(self) -> None:
        self._say_away(f"no broker of {self.settings.bootstrap} answers; waiting")
        try:
            self._consumer.list_topics(self.settings.events_topic, timeout=AWAY_SECONDS)
            self._all_down = False
        except KafkaException:
            return

    def _consume(self) -> list[Message]:
        consumer, count = self._consumer, self.settings.poll_events
        found: list[Message] = consumer.consume(1, IDLE_SECONDS)
        if found and count > 1:
            found += consumer.consume(count - 1, self.settings.linger_seconds)
        good = []
        for message in found:
            error = message.error()
            if error is None:
                good.append(message)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET and message.partition() in self.states:
                raise Fatal(
                    f"events of partition {message.partition()} are gone before they were read ({error.str()}): "
                    "start over with a new app_id, and let the topic keep them longer"
                )
            elif error.fatal() or error.code() in FATAL_CODES:
                raise Fatal(f"Kafka refuses ({error.str()}); check rights, and that every instance has its own ordinal")
            else:
                log.warning("kafka", error=error.str())
        if good:
            self._all_down = False
        return good

    def _settle(self) -> None:
        for given, partitions in self._assignment.notes():
            for partition in partitions:
                self.states.pop(partition, None)
                self._pending.discard(partition)
                if given:
                    self._pending.add(partition)
                    self._assigned = True
            log.info("partitions given" if given else "partitions taken", partitions=partitions)
        self.metrics.partitions.set(len(self.states))

    def _discard(self, partitions: list[int]) -> None:
        """Give up what is in memory; the next turn restores it and rewinds."""
        self._consumer.pause([TopicPartition(self.settings.events_topic, p) for p in partitions])
        for partition in partitions:
            del self.states[partition]
            self._pending.add(partition)

    def _restore(self, partition: int) -> None:
        settings, here = self.settings, TopicPartition(self.settings.events_topic, partition)
        try:
            committed = self._consumer.committed([here], timeout=kafka.TIMEOUT_SECONDS)[0]
            if committed.error is not None:
                raise KafkaException(committed.error)
            table, count = read_table(settings, settings.state_topic, partition, self._on_error, self._beat)
            fold = self._new_fold()
            for item, vector in self._items.values():
                fold.put_item(item, vector)
            state = restore(partition, fold, table)
            decisions = {"bundle": self.encoder.version, "settings": settings.outcome_hash()}
            if state is None:
                if committed.offset >= 0:
                    raise Fatal(
                        f"partition {partition} has offsets of {settings.app_id} but no state in "
                        f"{settings.state_topic}: use a new app_id"
                    )
                low, high = self._consumer.get_watermark_offsets(here, timeout=kafka.TIMEOUT_SECONDS)
                offset = low if settings.start == "earliest" else high
                state = PartitionState(partition, fold, Position(FORMAT, offset, 0, "", [], ""))
            elif committed.offset != state.position.offset:
                log.warning("offsets differ from the state's, which count", partition=partition)
            state.position = msgspec.structs.replace(state.position, **decisions)
            here.offset = state.position.offset
            kafka.seek(self._consumer, here)
        except KafkaException as exception:
            raise DependencyAway(f"partition {partition} not restored ({exception.args[0].str()}); waiting") from None
        self.states[partition] = state
        self._pending.discard(partition)
        self.metrics.restored_records.inc(count)
        log.info("restored", partition=partition, offset=here.offset, records=count, users=len(fold.profiles))

    def _take_items(self, changed: dict[str, Item | None]) -> None:
        for reason in self._table.bad:
            self.metrics.bad_items.labels(reason).inc()
        self._table.bad.clear()
        if not changed:
            return
        there = [item for item in changed.values() if item is not None]
        vectors: Iterable[Vector] = self.encoder.encode([item.content() for item in there]) if there else ()
        for item, vector in zip(there, vectors, strict=True):
            self._items[item.item] = (item, vector)
            for state in self.states.values():
                state.fold.put_item(item, vector)
        for name in (name for name, item in changed.items() if item is None):
            if self._items.pop(name, None) is not None:
                for state in self.states.values():
                    state.fold.drop_item(name)
        self.metrics.items.set(len(self._items))

    def _fold(self, messages: list[Message]) -> None:
        settings, states = self.settings, self.states
        try:
            work = fold_poll(messages, states, self._texts, settings, self._skip)
        except FoldFailed as failed:
            log.error("the fold failed; the event goes to the dead letters", place=failed.place, exc_info=failed)
            self._skip[failed.place] = str(failed)
            there = {message.partition() for message in messages}
            self._discard([partition for partition in sorted(states) if partition in there])
            return
        if not work.offsets:
            return
        records: list[Produce] = [(topic, key, value, -1) for topic, key, value in work.outputs]
        for partition, offset in work.offsets.items():
            changes = states[partition].changes(
                offset, work.folded[partition], work.users.get(partition, ()), list(self._table.offsets),
                settings.snapshot_every, settings.delta_ring,
            )  # fmt: skip
            records += [(settings.state_topic, key, value, partition) for key, value in changes]
        offsets = [TopicPartition(settings.events_topic, p, offset) for p, offset in work.offsets.items()]
        try:
            self._transactions.commit(records, self._consumer, offsets)
        except Aborted as aborted:
            log.warning("transaction aborted; rewinding", why=str(aborted))
            self.metrics.transactions.labels("aborted").inc()
            self._discard(sorted(work.offsets))
            return
        except DependencyAway:
            self._discard(sorted(work.offsets))  # the fold is ahead of what is committed
            raise
        self.metrics.committed(work, self._texts, sum(len(state.fold.profiles) for state in states.values()))
        if work.foreign_keys and not self._warned:
            self._warned = True
            log.warning("events whose key is not their user: one user may be on two partitions, half known on each")
