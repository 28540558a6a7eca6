"""The producer's side of a turn: outputs, state and offsets together or not at all."""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from consumer import kafka
from consumer.settings import Settings
from model.errors import DependencyAway, Fatal

REFUSED = {KafkaError._FENCED, KafkaError.FENCED_INSTANCE_ID, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED}

REBALANCED = {KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.STALE_MEMBER_EPOCH}
"""The group went on while the transaction was open."""

Produce = tuple[str, bytes | None, bytes | None, int]
"""Topic, key, value (None: tombstone), partition (-1: by key)."""
GRACE_SECONDS = 5.0
"""How much longer than it was given a call may take before it is given up."""


class Aborted(Exception):
    """Nothing of the transaction will ever be seen: restore, rewind, do it again."""


class Rebalanced(Aborted):
    """The same, but where the partitions are still ours once the group has settled, the same records may be sent."""


class Transactions:
    """One transactional producer, replaced where it can no longer be trusted."""

    def __init__(self, settings: Settings, on_error: kafka.OnError, prove: Callable[[], None]) -> None:
        """`prove` raises `Fatal` if another instance has our ordinal, so that its producer is not ours to fence."""
        self._settings, self._on_error, self._prove = settings, on_error, prove
        self._producer: Producer = kafka.producer(settings, on_error)
        self._open = self._late = False

    def open(self) -> None:
        """Fence off whoever had our id, end what it left open; raises `DependencyAway`, `Fatal`."""
        if self._open:
            return
        if self._late:  # a successor may have come while we stood still, or fenced us off
            self._prove()
        try:
            self._producer.init_transactions(kafka.TIMEOUT_SECONDS)
        except KafkaException as exception:
            error = exception.args[0]
            if error.code() in REFUSED:
                raise self._refused(error) from None
            if not error.retriable():
                self._renew(self._late)
            raise DependencyAway(f"Kafka's transaction coordinator does not answer ({error.str()}); waiting") from None
        self._open, self._late = True, False

    def commit(self, records: Iterable[Produce], consumer: Consumer, offsets: list[TopicPartition]) -> None:
        """Write it all and commit.

        Raises:
            Aborted: nothing of it was committed.
            DependencyAway: nobody knows whether it was; the changelog will say after the next `open`.
            Fatal: another instance has our transactional id, or we no right to it.
        """
        self.open()
        producer, began, began_at = self._producer, time.monotonic(), time.time()

        def late() -> bool:
            # By either clock: one may be set, the other stands still while the machine sleeps.
            return max(time.monotonic() - began, time.time() - began_at) >= kafka.TRANSACTION_TIMEOUT_SECONDS

        try:
            producer.begin_transaction()
            produce = producer.produce
            for topic, key, value, partition in records:
                try:
                    produce(topic, value, key, partition)
                except BufferError:
                    producer.flush(kafka.TIMEOUT_SECONDS)
                    produce(topic, value, key, partition)
            group = consumer.consumer_group_metadata()
            self._retry(lambda seconds: producer.send_offsets_to_transaction(offsets, group, seconds))
            self._retry(producer.commit_transaction)
        except BufferError as exception:
            self._renew(late())
            raise Aborted(f"the producer's queue is full ({exception})") from exception
        except DependencyAway:
            self._renew(late())
            raise
        except KafkaException as exception:
            error = exception.args[0]
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:  # the same again would fail again
                raise Fatal(f"Kafka refuses a record ({error.str()}); raise max.message.bytes to 1000000") from None
            # The coordinator ends what takes too long, and fences its producer as it would an older instance.
            timed_out = error.code() == KafkaError._FENCED and late()
            if error.code() in REFUSED and not timed_out:
                raise self._refused(error) from None
            if not error.fatal() and self._abort():
                raise (Rebalanced if error.code() in REBALANCED else Aborted)(error.str()) from exception
            self._renew(late())
            raise Aborted("it took longer than its time-out" if timed_out else error.str()) from exception

    def _abort(self) -> bool:
        try:
            self._retry(self._producer.abort_transaction)
        except (KafkaException, DependencyAway):
            return False
        return True

    def _renew(self, late: bool) -> None:
        """Throw the producer away: nobody knows what became of its transaction; the next `open` ends it."""
        self._producer.purge()
        self._producer = kafka.producer(self._settings, self._on_error)
        self._open, self._late = False, late

    def _refused(self, error: KafkaError) -> Fatal:
        return Fatal(
            f"the transactional id {self._settings.app_id}-{self._settings.ordinal} is refused ({error.str()}): "
            "give every instance an ordinal of its own, or the rights to it"
        )

    def _retry(self, call: Callable[[float], None]) -> None:
        """Call until it works; raises `KafkaException`, or `DependencyAway` after the transaction's time-out."""
        seconds = float(kafka.TRANSACTION_TIMEOUT_SECONDS)
        deadline = time.monotonic() + seconds
        while True:
            try:
                return _within(seconds + GRACE_SECONDS, lambda: call(seconds))
            except KafkaException as exception:
                error = exception.args[0]
                if not error.retriable() or error.txn_requires_abort():
                    raise
                # Never again after a time-out: librdkafka 2.16 then waits for ever, whatever time it is given.
                if error.code() == KafkaError._TIMED_OUT or time.monotonic() > deadline:
                    raise DependencyAway(f"Kafka does not finish a transaction ({error.str()}); waiting") from None
                time.sleep(0.05)

    def close(self) -> None:
        """Let go of the broker; no transaction is open between two turns."""
        # A fenced producer says so here, too; where librdkafka logs at that moment, a SystemError comes of it.
        with suppress(KafkaException, SystemError):
            self._producer.flush(1.0)


def _within(seconds: float, call: Callable[[], None]) -> None:
    """Call in a thread of its own; raises what the call raises, or `DependencyAway` where it does not come back.

    librdkafka 2.16 may wait for ever, whatever time it is given, where a broker dies within a transaction.
    """
    raised: list[BaseException | None] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not raised:
        raise DependencyAway("Kafka's client does not come back from a transaction; waiting")
    if raised[0] is not None:
        raise raised[0]
