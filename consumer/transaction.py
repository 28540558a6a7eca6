"""The producer's side of a turn: outputs, state and offsets together or not at all."""

import time
from collections.abc import Callable, Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from consumer import kafka
from consumer.settings import Settings
from model.errors import DependencyAway, Fatal

COMMIT_SECONDS = 60.0

Produce = tuple[str, bytes | None, bytes | None, int]
"""Topic, key, value (None: tombstone), partition (-1: by key)."""


class Aborted(Exception):
    """Nothing of the transaction will ever be seen: restore, rewind, do it again."""


class Transactions:
    """One transactional producer, replaced where it can no longer be trusted."""

    def __init__(self, settings: Settings, on_error: kafka.OnError, beat: Callable[[], None]) -> None:
        self._settings, self._on_error, self._beat = settings, on_error, beat
        self._producer: Producer = kafka.producer(settings, on_error)
        self._open = False

    def open(self) -> None:
        """Fence off whoever had our id, end what it left open; raises `DependencyAway`, `Fatal`."""
        if self._open:
            return
        try:
            self._producer.init_transactions(kafka.TIMEOUT_SECONDS)
        except KafkaException as exception:
            error = exception.args[0]
            self._refuse(error)
            self._producer = kafka.producer(self._settings, self._on_error)
            raise DependencyAway(f"Kafka's transaction coordinator does not answer ({error.str()}); waiting") from None
        self._open = True

    def commit(self, records: Iterable[Produce], consumer: Consumer, offsets: list[TopicPartition]) -> None:
        """Write it all and commit; raises `Aborted`, `DependencyAway` (renewed: call `open`), `Fatal`."""
        self.open()
        producer = self._producer
        try:
            producer.begin_transaction()
            produce = producer.produce
            for topic, key, value, partition in records:
                try:
                    produce(topic, value, key, partition)
                except BufferError:
                    producer.flush(kafka.TIMEOUT_SECONDS)
                    produce(topic, value, key, partition)
            self._retry(lambda: producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 10.0))
            self._retry(lambda: producer.commit_transaction(10.0))
        except (KafkaException, BufferError) as exception:
            error = exception.args[0]
            if isinstance(error, KafkaError):
                self._refuse(error)
                if error.txn_requires_abort() or not error.fatal():
                    self._abort(error)
            self._renew()
            raise Aborted(str(error)) from exception

    def _abort(self, error: KafkaError) -> None:
        try:
            self._retry(lambda: self._producer.abort_transaction(10.0))
        except KafkaException:
            return
        raise Aborted(error.str())

    def _renew(self) -> None:
        """Throw the producer away: nobody knows what became of its transaction; the changelog will say."""
        self._producer.purge()
        self._producer = kafka.producer(self._settings, self._on_error)
        self._open = False

    def _refuse(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._FENCED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED):
            raise Fatal(
                f"the transactional id {self._settings.app_id}-{self._settings.ordinal} is refused ({error.str()}): "
                "give every instance an ordinal of its own, or the rights to it"
            )

    def _retry(self, call: Callable[[], None]) -> None:
        deadline = time.monotonic() + COMMIT_SECONDS
        while True:
            self._beat()
            try:
                return call()
            except KafkaException as exception:
                error = exception.args[0]
                if not error.retriable() or error.txn_requires_abort() or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def close(self) -> None:
        """Let go of the broker; no transaction is open between two turns."""
        self._producer.flush(1.0)
