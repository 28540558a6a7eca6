"""A reader of the lists while the stream runs: what it sees must be committed, and when it sees it is the takeover."""

import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from consumer import kafka
from consumer.settings import Settings
from tests.torture.checker import Sighting
from tests.torture.faults import Diary
from tests.torture.reading import named, nothing

ASK_SECONDS = 0.3
ANSWER_SECONDS = 2.0


class Watch(threading.Thread):
    """Reads lists as they are committed; after each look asks the group how far it is."""

    def __init__(self, settings: Settings, partitions: int, diary: Diary) -> None:
        super().__init__(name="watch", daemon=True)
        self._settings, self._partitions, self._diary = settings, partitions, diary
        self._stop_it = threading.Event()
        self.lists = 0
        self.group: dict[int, int] = {}
        """What the group had committed when last asked."""
        self.sightings: list[Sighting] = []
        self.raised: BaseException | None = None

    def run(self) -> None:
        """Read until told to stop."""
        reader = kafka.table_consumer(self._settings, nothing)
        # With read_committed an answer waits for transactions that are being committed.
        asker = Consumer(
            {
                "bootstrap.servers": self._settings.bootstrap, "group.id": self._settings.app_id, "log_level": 0,
                "enable.auto.commit": False, "isolation.level": "read_committed", "reconnect.backoff.max.ms": 1000,
            }
        )  # fmt: skip
        topic, numbers = self._settings.recommendations_topic, range(self._partitions)
        asked = [TopicPartition(self._settings.events_topic, number) for number in numbers]
        try:
            reader.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers])
            newest: dict[int, str] = {}
            ask_at = 0.0
            while not self._stop_it.is_set():
                for message in reader.consume(500, 0.1):
                    if message.error() is None:
                        newest[message.partition() or 0] = self._note(message)
                if time.monotonic() < ask_at:
                    continue
                try:
                    answer = asker.committed(asked, ANSWER_SECONDS)
                except KafkaException:  # away: what was seen is compared with a later answer
                    continue
                if any(one.error is not None for one in answer):
                    continue
                self.group = {one.partition: max(0, one.offset) for one in answer}
                self.sightings += [Sighting(number, event, self.group[number]) for number, event in newest.items()]
                newest.clear()
                ask_at = time.monotonic() + ASK_SECONDS
        except BaseException as error:
            self.raised = error
        finally:
            reader.close()
            asker.close()

    def stop(self) -> None:
        """Read no more."""
        self._stop_it.set()

    def _note(self, message: Message) -> str:
        self.lists += 1
        number = message.partition() or 0
        for killed in self._diary.killed:
            # Made after the kill (not: committed before, and seen after).
            if number in killed.waiting and message.timestamp()[1] > killed.wall_ms:
                killed.waiting.discard(number)
                if not killed.waiting:
                    killed.ended = time.monotonic()
        return named.decode(message.value() or b"{}").event
