"""What rebalances say: noted within librdkafka's callbacks, which never raise, and handled between two polls."""

import structlog
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

log = structlog.get_logger("penchant.assignment")


class Assignment:
    """Callbacks for `Consumer.subscribe`, and the notes that they took."""

    def __init__(self) -> None:
        self._notes: list[tuple[bool, list[int]]] = []

    def subscribe(self, consumer: Consumer, topic: str) -> None:
        """Join the group; partitions that it gives are paused until somebody seeks and resumes them."""
        consumer.subscribe([topic], on_assign=self._given, on_revoke=self._taken, on_lost=self._taken)

    def notes(self) -> list[tuple[bool, list[int]]]:
        """Return what happened since the last call: given (True) or taken, and the partitions."""
        notes, self._notes = self._notes, []
        return notes

    def _given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Where to read is known after the restore; until then: somewhere valid, paused.
        try:
            consumer.incremental_assign([TopicPartition(p.topic, p.partition, OFFSET_END) for p in partitions])
            consumer.pause([TopicPartition(p.topic, p.partition) for p in partitions])
        except Exception as error:  # an exception here would drop the messages in flight
            log.error("assignment failed", error=str(error))
        self._notes.append((True, [p.partition for p in partitions]))

    def _taken(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._notes.append((False, [p.partition for p in partitions]))
        try:
            consumer.incremental_unassign(partitions)
        except Exception as error:
            log.error("unassignment failed", error=str(error))
