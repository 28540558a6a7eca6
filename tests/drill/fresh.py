"""New items while events come, and users who search for their words: how long until somebody's list holds one."""

import threading
import time
from collections.abc import Sequence

import msgspec
from confluent_kafka import Producer

from consumer.settings import Settings
from model.events import Item, Search, encode
from tests.drill.reader import FRESH, Reader

EVERY_SECONDS = 2.0
SEARCH_SECONDS = 0.25
"""Between two searches for one item, by two users: the first may be answered before the item is known."""
GIVE_UP_SECONDS = 15.0


class Fresh(threading.Thread):
    """Sends an item and then, until a list holds it, searches for its words by users of whom nothing else is known."""

    def __init__(self, settings: Settings, items: Sequence[Item], reader: Reader) -> None:
        super().__init__(name="fresh", daemon=True)
        self._settings, self._items, self._reader = settings, items, reader
        self._producer = Producer({"bootstrap.servers": settings.bootstrap, "partitioner": "murmur2_random"})
        self._searches = 0
        self._stop_it = threading.Event()
        self.seconds: dict[str, float | None] = {}
        """From sending an item to the first list that holds it, None where none came in time."""

    def run(self) -> None:
        """Send one item after the other."""
        while not self._stop_it.wait(EVERY_SECONDS):
            self._follow(len(self.seconds))

    def stop(self) -> None:
        """Send no more; what was sent is in the topics, flushed, when this returns."""
        self._stop_it.set()
        self.join()

    def _follow(self, number: int) -> None:
        like = self._items[number % len(self._items)]
        item = msgspec.structs.replace(like, item=f"{FRESH}{number}", title=f"{like.title}, volume {number + 2}")
        began = time.time()
        self._send(self._settings.items_topic, item.item, encode(item))
        while item.item not in self._reader.fresh and time.time() < began + GIVE_UP_SECONDS:
            self._search(item.content())  # its title alone is most like other titles with "volume" in them
            if self._stop_it.wait(SEARCH_SECONDS):
                return  # the end of the drill is no failure
        seen_ms = self._reader.fresh.get(item.item)
        self.seconds[item.item] = None if seen_ms is None else seen_ms / 1000 - began

    def _search(self, words: str) -> None:
        # The stream's own times are whole seconds, and some ms more in each lap; the checker needs other ones.
        at_ms = self._reader.stream_ms // 1000 * 1000 + 500 + self._searches % 500
        name = f"searcher-{self._searches}"
        self._searches += 1
        self._send(self._settings.events_topic, name, encode(Search(id=name, user=name, at_ms=at_ms, text=words)))

    def _send(self, topic: str, key: str, value: bytes) -> None:
        self._producer.produce(topic, value, key)
        self._producer.flush()
