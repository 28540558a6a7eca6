"""The lists as a read_committed reader gets them, while the stream runs: when each came, and of which model it is."""

import re
import threading
import time
from typing import NamedTuple

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from model.errors import Fatal
from tests.torture.reading import place

POLL_SECONDS = 0.05
BATCH = 2000
FRESH = "fresh-"
"""New items are called so, and numbered."""
_FRESH = re.compile(rb'"item":"(' + FRESH.encode() + rb'[0-9]+)"')


class Seen(NamedTuple):
    """A list."""

    partition: int
    offset: int
    event: str
    model: str
    at_ms: float


class _Named(msgspec.Struct):
    event: str
    model: str
    at_ms: int


class Reader(threading.Thread):
    """Reads from the beginning on until told to stop; an error ends it, and `raised` says so."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        super().__init__(name="reader", daemon=True)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap, "group.id": "drill-reader", "isolation.level": "read_committed",
                "enable.auto.commit": False, "auto.offset.reset": "error",
                # As the benchmarks' reader: what a reader waits for is not Penchant's latency.
                "fetch.wait.max.ms": 20, "fetch.queue.backoff.ms": 5, "queued.max.messages.kbytes": 32 * 1024,
            }
        )  # fmt: skip
        self._consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
        self._stop_it = threading.Event()
        self.lists: list[Seen] = []
        self.newest: dict[int, str] = {}
        """Model of each partition's newest list."""
        self.turns: list[Seen] = []
        """Lists of another model than the one before them on their partition."""
        self.stream_ms = 0
        """Time of the event that the newest list is of."""
        self.fresh: dict[str, float] = {}
        """When the first list came that holds a new item, by item."""
        self.raised: BaseException | None = None

    def run(self) -> None:
        """Read."""
        decode = msgspec.json.Decoder(_Named).decode
        try:
            while not self._stop_it.is_set():
                first = self._consumer.poll(POLL_SECONDS)
                if first is None:
                    continue
                at_ms = time.time() * 1000
                # Not one consume(): that waits for a full batch, which would count as latency.
                for message in (first, *self._consumer.consume(BATCH, 0)):
                    if (error := message.error()) is not None:
                        raise _refused(error)
                    if (value := message.value()) is None:  # a user unheard of for the TTL is forgotten
                        continue
                    for found in _FRESH.findall(value):
                        self.fresh.setdefault(found.decode(), at_ms)
                    named = decode(value)
                    self.stream_ms = named.at_ms
                    seen = Seen(*place(message), named.event, named.model, at_ms)
                    if self.newest.get(seen.partition) != seen.model:
                        self.newest[seen.partition] = seen.model
                        self.turns.append(seen)
                    self.lists.append(seen)
        except BaseException as error:
            self.raised = error
        finally:
            self._consumer.close()

    def stop(self) -> None:
        """Read no more."""
        self._stop_it.set()
        self.join()

    def first(self, model: str, since_ms: float) -> float | None:
        """Return when the first list of a model came since a moment, None where none has come yet."""
        return next((turn.at_ms for turn in self.turns if turn.model == model and turn.at_ms >= since_ms), None)


def _refused(error: KafkaError) -> Fatal:
    return Fatal(f"the lists cannot be read: {error.str()}")
