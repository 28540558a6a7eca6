"""The loop: consume, decode, embed, fold, and then everything that follows in one transaction."""

import threading
import time
from collections import Counter
from collections.abc import Callable

import structlog
from confluent_kafka import Consumer, KafkaError, Message

from consumer import kafka
from consumer.batch import FoldFailed, Work, fold_poll
from consumer.embedding import EncoderFails, Model
from consumer.failures import Failures
from consumer.foreign import Foreign
from consumer.http import Health
from consumer.items import Items
from consumer.metrics import Metrics
from consumer.partitions import Partitions
from consumer.predecessor import Predecessor
from consumer.reach import Reach
from consumer.serving import OnFailure, Serving
from consumer.settings import Settings
from consumer.state import PartitionState
from consumer.transaction import Aborted, Produce, Rebalanced, Transactions
from consumer.tune_requests import TuneRequests
from model.errors import DependencyAway, Fatal
from model.fold import Fold

log = structlog.get_logger("penchant.loop")
IDLE_SECONDS = 0.1
RESTORING_SECONDS = 0.01
REBALANCE_SECONDS = 5.0
"""How long a poll's work is kept for a group that does not settle."""
AWAY_SECONDS = 1.0


class Loop:
    """Reads events until told to stop; owns the partitions' states."""

    def __init__(
        self,
        settings: Settings,
        model: Model,
        new_fold: Callable[[Model], Fold],
        metrics: Metrics,
        health: Health,
        on_failure: OnFailure = lambda version, why: None,
    ) -> None:
        self.settings, self.metrics, self.health = settings, metrics, health
        self.states: dict[int, PartitionState] = {}
        self.stop = threading.Event()
        self._started = False
        self._warned: set[str] = set()
        self._failures = Failures(settings.max_failures)
        self._reach = Reach(settings, health)
        on_error, beat, states = self._reach.on_error, self._beat, self.states
        self._consumer: Consumer = kafka.group_consumer(settings, on_error)
        self._foreign = Foreign(settings, on_error)
        self.items = items = Items(settings, model, on_error, beat)
        self.serving = Serving(settings, model, items, states, metrics, beat, on_failure)
        self.partitions = Partitions(
            settings, self._consumer, states, items, self.serving, self._foreign, new_fold, metrics, on_error
        )
        self._tune_requests = TuneRequests(settings, metrics)
        self._transactions = Transactions(settings, on_error, self.partitions.prove)
        self._predecessor = Predecessor(settings, settings.predecessor, on_error) if settings.predecessor else None

    def run(self) -> None:
        """Turn until `stop` is set; raises `Fatal`. What is in memory is then committed."""
        while not self.stop.is_set():
            try:
                self.turn()
            except DependencyAway as away:
                self._reach.away(str(away))
                self.stop.wait(AWAY_SECONDS)

    def close(self) -> None:
        """Leave the group and let go of the broker."""
        self.health.say(False, "stopping")
        self.partitions.close()
        self._transactions.close()
        self.items.close()
        self._foreign.close()
        if self._predecessor is not None:
            self._predecessor.close()
        self._consumer.close()

    def turn(self) -> int:
        """Do one poll's work, and return how many events were committed; raises `DependencyAway`, `Fatal`."""
        self._beat()
        if self._reach.answers(self._consumer):
            if not self._started:
                self._start()
            self.partitions.restore(self._transactions)
        if not self._started:
            return 0
        self.serving.turn()
        self._poll_items()
        self._merge()
        if self._predecessor is not None:
            settled = {} if self.partitions.pending else self.states
            self._predecessor.look(range(self.partitions.places.partitions), settled)
            self._predecessor.follow(self._consumer, self.states)
            self.metrics.rebuild_remaining.set(self._predecessor.remaining(self.states))
        messages = self._consume()  # also where Kafka is away: it is where the group's news come in
        self._settle(self.partitions.settle())
        if messages:
            self._fold(messages)
        self._reach.turned()
        lacking = (
            "restoring" if self.partitions.pending else "" if self.partitions.assigned else "waiting for partitions"
        )
        behind = "" if self._predecessor is None else self._predecessor.behind
        why = self._reach.why or lacking or behind
        self.health.say(not why, why or "ready")
        return len(messages)

    def _start(self) -> None:
        self._transactions.open()
        self.partitions.look()
        self.items.open()
        self._foreign.open()
        self.partitions.subscribe()
        self._started = True
        log.info("reading", topic=self.settings.events_topic, items=len(self.items))

    # -- steps of a turn

    def _beat(self) -> None:
        self.health.turn()
        self.metrics.heartbeat.set(time.time())

    def _consume(self) -> list[Message]:
        consumer, count = self._consumer, self.settings.poll_events
        found: list[Message] = consumer.consume(1, RESTORING_SECONDS if self.partitions.pending else IDLE_SECONDS)
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
            elif kafka.refuses(error):
                raise Fatal(f"Kafka refuses ({error.str()}); check rights, and that every instance has its own ordinal")
            elif not self._reach.why:
                log.warning("kafka", error=error.str())
        return good

    def _settle(self, changed: list[int]) -> None:
        if self._predecessor is not None:
            self._predecessor.forget(changed)

    def _poll_items(self) -> None:
        try:
            self.items.poll([state.fold for state in self.states.values()])
        except EncoderFails as failed:  # what was read is still to be taken
            if not self.serving.fall_back(str(failed)):
                raise
        self.metrics.tally(self.metrics.bad_items, Counter(self.items.bad))
        self.items.bad.clear()
        self.metrics.items.set(len(self.items))

    def _merge(self) -> None:
        told = self._foreign.poll()
        for state in self.states.values() if told else ():
            self.metrics.merged_facts.inc(state.merge(told))

    def _fold(self, messages: list[Message]) -> None:
        settings, states = self.settings, self.states
        age_ms = 1000 * settings.publish_max_age_seconds
        oldest_ms = int(time.time() * 1000 - age_ms) if age_ms else 0
        if self._predecessor is not None:
            messages = self._predecessor.hold(self._consumer, messages)
        try:
            work = fold_poll(
                messages, states, self.serving.texts, settings, self._failures.skip, self.partitions.places, oldest_ms
            )
        except FoldFailed as failed:
            self._failures.note(failed)
            self._again(messages)
            return
        except EncoderFails as failed:
            if not self.serving.fall_back(str(failed)):
                raise
            self._again(messages)
            return
        if not work.offsets:
            return
        self._failures.judge(work, states, self._consumer, settings)
        records: list[Produce] = [(topic, key, value, -1) for topic, key, value in work.outputs]
        for partition, offset in work.offsets.items():
            told = states[partition].tell() if len(self._foreign.offsets) > 1 else []
            records += [(settings.facts_topic, None, value, partition) for value in told]
            changes = states[partition].changes(
                offset, work.folded[partition], work.users.get(partition, ()), self.items.offsets,
                settings.snapshot_every, settings.delta_ring,
            )  # fmt: skip
            records += [(settings.state_topic, key, value, partition) for key, value in changes]
        records += self._tune_requests.records()
        try:
            self._commit(records, work)
        except Aborted as aborted:
            log.warning("transaction aborted; rewinding", why=str(aborted))
            self.partitions.discard(sorted(work.offsets))
            return
        except DependencyAway:
            self._tune_requests.lost()
            self.partitions.discard(sorted(work.offsets))  # the fold is ahead of what is committed
            raise
        self._reach.answered()
        self.metrics.committed(work, self.serving.texts, sum(len(state.fold.profiles) for state in states.values()))
        newest_ms = max(states[partition].fold.stream_ms for partition in work.offsets)
        self._tune_requests.committed(work, self.serving.model.version, newest_ms)
        self.serving.judge(work)
        self._failures.committed(work.folded.total(), states, self.partitions.pending)
        if work.foreign_keys:
            self._warn("events whose key is not their user: one user may be on two partitions, half known on each")
        if work.foreign_partitions:
            self._warn(
                "events on another partition than murmur2 puts their key (a producer's partitioner differs, or "
                "partitions were added): one user may be on two partitions, half known on each"
            )

    def _again(self, messages: list[Message]) -> None:
        """Have the messages' partitions restored, and then these messages read once more."""
        there = {message.partition() for message in messages}
        self.partitions.discard([partition for partition in sorted(self.states) if partition in there])

    def _commit(self, records: list[Produce], work: Work) -> None:
        """Commit a poll's records; once more where only a rebalance came between, and its partitions stay ours."""
        offsets = self._failures.offsets(self.settings.events_topic, self.serving.model.version)
        deadline = time.monotonic() + REBALANCE_SECONDS
        while True:
            try:
                return self._transactions.commit(records, self._consumer, offsets)
            except Aborted as aborted:
                self.metrics.transactions.labels("aborted").inc()
                again = isinstance(aborted, Rebalanced) and time.monotonic() < deadline
                if not again or not self._kept(work):
                    raise

    def _kept(self, work: Work) -> bool:
        """Let the group go on, and say whether all partitions of a poll are still ours."""
        ours = [self.states.get(partition) for partition in work.offsets]
        self._settle(self.partitions.wait_for_group())
        # The very same states: one that was taken and given back is another's to continue.
        return ours == [self.states.get(partition) for partition in work.offsets]

    def _warn(self, what: str) -> None:
        """Say it, once in this process's life."""
        if what not in self._warned:
            self._warned.add(what)
            log.warning(what)
