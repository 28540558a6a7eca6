"""The load: events of many users at a steady pace, some sent twice, some that are none at all."""

import random
import threading
import time
from collections import deque
from typing import NamedTuple

from confluent_kafka import Producer

from consumer.settings import Settings
from model.events import Click, Event, Impression, Purchase, Rating, Request, Search, View, encode
from tests.torture.checker import INTERESTS, LETTER, LIST, Sent

USERS = 64
"""At a time; after EPOCH events new ones take their place, so that none has engaged the whole catalogue."""
EPOCH = 64 * USERS
POISON_SHARE = 0.01
REPEATED_SHARE = 0.02
LATEST = 8
"""Of a user's events: what is sent again is one of these (serve knows a user's last 32)."""
FIRST_MS = 1_700_000_000_000
STEP_MS = 100
WORDS = ("space", "robot", "love", "wedding", "war", "comedy", "ghost", "ship", "island", "winter", "music")


class Made(NamedTuple):
    """A record to be sent."""

    key: bytes
    value: bytes


class Source:
    """Records without end, the same for the same seed; no two events share a time."""

    def __init__(self, seed: int, items: list[str]) -> None:
        self._dice, self._items = random.Random(seed), items
        self._latest: dict[str, deque[bytes]] = {}
        self.made = 0

    def next(self) -> Made:
        """Return the next record."""
        dice, number = self._dice, self.made
        self.made += 1
        user = f"u{number // EPOCH}-{dice.randrange(USERS)}"
        lot = dice.random()
        if lot < POISON_SHARE:
            return Made(user.encode(), b"poison %d " % number + dice.randbytes(8))
        latest = self._latest.setdefault(user, deque(maxlen=LATEST))
        if lot < POISON_SHARE + REPEATED_SHARE and latest:
            return Made(user.encode(), dice.choice(latest))
        value = encode(self._event(f"e{number}", user, FIRST_MS + number * STEP_MS))
        latest.append(value)
        if number % EPOCH == 0:  # users of the last but one epoch send no more
            self._latest = {
                u: ids for u, ids in self._latest.items() if int(u[1:].split("-")[0]) >= number // EPOCH - 1
            }
        return Made(user.encode(), value)

    def _event(self, id: str, user: str, at_ms: int) -> Event:
        dice = self._dice
        lot, item = dice.random(), dice.choice(self._items)
        if lot < 0.4:
            return Rating(id=id, user=user, at_ms=at_ms, item=item, value=float(dice.randint(1, 5)))
        if lot < 0.6:
            return Click(id=id, user=user, at_ms=at_ms, item=item)
        if lot < 0.7:
            return View(id=id, user=user, at_ms=at_ms, item=item)
        if lot < 0.8:
            return Purchase(id=id, user=user, at_ms=at_ms, item=item)
        if lot < 0.86:
            return Search(id=id, user=user, at_ms=at_ms, text=" ".join(dice.sample(WORDS, 2)))
        if lot < 0.93:
            return Request(id=id, user=user, at_ms=at_ms)
        return Impression(id=id, user=user, at_ms=at_ms, item=item)


def sent(partition: int, offset: int, event: Event | None) -> Sent:
    """Return what the checker must know of a record of the events topic; None: it is no event."""
    if event is None:
        return Sent(partition, offset, "", "", 0, frozenset({LETTER}))
    due = {LIST} if event.lists else set()
    item = getattr(event, "item", None) if event.lists else None
    if isinstance(event, Search):
        due.add(INTERESTS)
    return Sent(partition, offset, event.id, event.user, event.at_ms, frozenset(due), item or "")


class Load(threading.Thread):
    """Sends at `rate` records a second until told to stop; nothing of it is ever given up, whatever the broker does."""

    def __init__(self, settings: Settings, source: Source, rate: float) -> None:
        super().__init__(name="load", daemon=True)
        self._topic, self._source, self._rate = settings.events_topic, source, rate
        self._stop_it = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": settings.bootstrap, "partitioner": "murmur2_random", "acks": "all",
                "enable.idempotence": True, "message.timeout.ms": 0, "linger.ms": 5, "log_level": 0,
                "reconnect.backoff.max.ms": 1000, "retry.backoff.max.ms": 500,
            }
        )  # fmt: skip
        self.confirmed = 0
        self.refused: list[str] = []

    def run(self) -> None:
        """Send."""
        began, count = time.monotonic(), 0
        while not self._stop_it.is_set():
            due = int((time.monotonic() - began) * self._rate)
            while count < due:
                self._send(self._source.next())
                count += 1
            self._producer.poll(0.02)
        while self._producer.flush(1.0):
            pass

    def stop(self) -> None:
        """Send no more; the thread ends when all is confirmed."""
        self._stop_it.set()

    def _send(self, made: Made) -> None:
        while True:
            try:
                return self._producer.produce(self._topic, made.value, made.key, on_delivery=self._delivered)
            except BufferError:  # the broker is away for long
                self._producer.poll(0.1)

    def _delivered(self, error: object, _message: object) -> None:
        if error is None:
            self.confirmed += 1
        else:
            self.refused.append(str(error))
