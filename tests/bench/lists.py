"""Lists as a read_committed consumer sees them: counted and timed, never decoded, so that measuring costs little."""

import time
from collections.abc import Callable

from confluent_kafka import Consumer, TopicPartition

from model.errors import Fatal

POLL_SECONDS = 0.05
BATCH = 2000
QUIET_SECONDS = 60.0
"""No list for so long, while more are due: something is stuck (a start-up with PyTorch takes a while)."""


class Lists:
    """The lists of one topic with one partition, from its beginning; times are seconds since 1970."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = Consumer(_config(bootstrap))
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self._topic = topic
        self.seen: list[float] = []
        """When each list arrived."""
        self.last_key: bytes | None = None

    def wait(self, due: int, must_live: Callable[[], None]) -> None:
        """Return once `due` lists were seen in all; raises `Fatal` where none comes any more."""
        last = time.monotonic()
        while len(self.seen) < due:
            if self._take():
                last = time.monotonic()
            must_live()
            if time.monotonic() - last > QUIET_SECONDS:
                raise Fatal(f"{len(self.seen)} of {due} lists in {self._topic}, then nothing for {QUIET_SECONDS:.0f} s")

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def _take(self) -> bool:
        first = self._consumer.poll(POLL_SECONDS)
        if first is None:
            return False
        now = time.time()
        # Not one consume(): that waits for a full batch, which would count as latency.
        for message in (first, *self._consumer.consume(BATCH, 0)):
            if (error := message.error()) is not None:
                raise Fatal(f"cannot read {self._topic}: {error.str()}")
            self.seen.append(now)
            self.last_key = message.key()
        return True


def stamps(bootstrap: str, topic: str, first: int, count: int) -> tuple[list[float], bytes | None]:
    """Return the timestamps (seconds) of `count` records from offset `first` on, and the last one's key."""
    consumer = Consumer(_config(bootstrap))
    consumer.assign([TopicPartition(topic, 0, first)])
    found: list[float] = []
    key: bytes | None = None
    deadline = time.monotonic() + QUIET_SECONDS
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(count - len(found), 0.5):
            if message.error() is None:
                found.append(message.timestamp()[1] / 1000)
                key = message.key()
    consumer.close()
    if len(found) < count:
        raise Fatal(f"{len(found)} of {count} events could be read back from {topic}")
    return found, key


def _config(bootstrap: str) -> dict[str, object]:
    return {
        "bootstrap.servers": bootstrap,
        "group.id": "penchant-bench",  # demanded by the client; nothing joins it
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "fetch.wait.max.ms": 20,
        "fetch.queue.backoff.ms": 5,
        "queued.max.messages.kbytes": 32 * 1024,
    }
