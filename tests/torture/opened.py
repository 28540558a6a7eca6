"""Says whether an instance has a transaction open: asked while it is stopped or dead, so that the answer stays true."""

from collections.abc import Iterable

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from consumer.settings import Settings

ASK_SECONDS = 1.0
PENDING_SECONDS = 0.5
"""Offsets that Kafka does not tell for so long are those of an open transaction."""


class Opened:
    """Asks for the ends of the changelog, and for the group's offsets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = AdminClient({"bootstrap.servers": settings.bootstrap, "log_level": 0})
        self._asker = Consumer(
            {
                "bootstrap.servers": settings.bootstrap, "group.id": settings.app_id, "log_level": 0,
                "enable.auto.commit": False, "isolation.level": "read_committed",
            }
        )  # fmt: skip

    def written(self, partitions: Iterable[int]) -> bool:
        """Say whether the changelog of one of these partitions holds records of an open transaction."""
        return bool(self._written(set(partitions)))

    def left(self, partitions: Iterable[int]) -> bool:
        """Say whether a dead instance with these partitions left a transaction open, written to or not."""
        those = set(partitions)
        if (written := self._written(those)) is None or not those:  # nobody knows
            return False
        try:
            asked = [TopicPartition(self._settings.events_topic, partition) for partition in those]
            return written or any(one.error is not None for one in self._asker.committed(asked, PENDING_SECONDS))
        except KafkaException:
            return True

    def _written(self, partitions: set[int]) -> bool | None:
        """Say whether a `read_committed` reader's end comes earlier than the end; None where nobody answers."""
        asked = [TopicPartition(self._settings.state_topic, partition) for partition in partitions]
        if not asked:
            return False
        try:
            # In this order: what ends meanwhile is then not taken for open.
            stored = self._ends(asked, IsolationLevel.READ_UNCOMMITTED)
            stable = self._ends(asked, IsolationLevel.READ_COMMITTED)
        except (KafkaException, TimeoutError):
            return None
        return any(stable[partition] < end for partition, end in stored.items())

    def _ends(self, asked: list[TopicPartition], isolation: IsolationLevel) -> dict[int, int]:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # of confluent_kafka, which has types else
        found = self._admin.list_offsets(
            dict.fromkeys(asked, latest), isolation_level=isolation, request_timeout=ASK_SECONDS
        )
        return {one.partition: future.result(2 * ASK_SECONDS).offset for one, future in found.items()}
