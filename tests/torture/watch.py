"""A reader of the lists while the stream runs: what it sees must be committed, and when it sees it is the takeover."""

import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from consumer import kafka
from consumer.settings import Settings
from tests.torture.checker import Sighting
from tests.torture.faults import Diary, Killed
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
        self.went_back = 0
        """Answers in which an offset was smaller than before."""
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
                found = reader.consume(500, 0.1)
                waiting = [killed for killed in self._diary.killed if killed.waiting]
                for message in found:
                    if message.error() is None:
                        newest[message.partition() or 0] = self._note(message, waiting)
                if time.monotonic() < ask_at:
                    continue
                try:
                    answer = asker.committed(asked, ANSWER_SECONDS)
                except KafkaException:  # away: what was seen is compared with a later answer
                    continue
                if any(one.error is not None for one in answer):
                    continue
                group = {one.partition: max(0, one.offset) for one in answer}
                if any(group[number] < offset for number, offset in self.group.items()):
                    # Kafka 4.2 does so for a while after some restarts; what was seen is compared with a later answer.
                    self.went_back += 1
                    continue
                self.group = group
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

    def _note(self, message: Message, waiting: list[Killed]) -> str:
        self.lists += 1
        number, made_ms = message.partition() or 0, message.timestamp()[1]
        for killed in waiting:
            # Made after the kill (not: committed before, and seen after).
            if number in killed.waiting and made_ms > killed.wall_ms:
                killed.waiting.discard(number)
                killed.answered_ms = max(killed.answered_ms, made_ms)
        return named.decode(message.value() or b"{}").event
