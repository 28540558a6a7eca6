"""Real events into Kafka: flat out, at a rate, or at N times their own speed; their own times stay in them."""

import json
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from model.errors import BadEvent, DependencyAway, PenchantError
from model.events import Event, Item, Review, Search, decode_event, encode

CONNECT_SECONDS = 10.0
FLUSH_SECONDS = 60.0
TICK_SECONDS = 0.005
"""A paced replay sleeps at least so long at a time: to wait for less burns a core that the others need."""
STATE_MS = 50
"""How often the producer says whether it has its id."""
Properties = Mapping[str, str | int | float | bool]
_SILENT = logging.Logger("penchant.replay", logging.CRITICAL + 1)  # what goes wrong is raised, not logged
_WORDS = """
about after air all animal answer back before best big black blue boat book boy bread bring build car child
city class clean cold color cook country cut dark day deep dog door dream dry earth east eat eye face family
farm fast father field fire fish fly food foot free friend garden girl glass gold good great green group hand
hard head heart high home horse hot house idea island king lake land language large last late laugh learn
leave left letter life light line list live long love machine man map mark men money moon morning mother
mountain music name near new night north note ocean old open paper park people picture place plan plant play
point power question quiet rain read red rest river road rock room round run sail school sea ship short show
side sing size sky sleep slow small snow song sound south space star stone story street strong summer sun
table talk tall teach time town travel tree true turn voice walk wall war warm water wave west wheel white
wild wind window winter wood word work world year
""".split()  # noqa: SIM905 - a list of one word a line would be 200 lines


class Progress(Protocol):
    """Told how many events went out since it was last told."""

    def __call__(self, count: int, /) -> None: ...


def interleave(events: Iterable[Event]) -> list[Event]:
    """Return the events round-robin over users; each user's own order is kept.

    >>> from model.events import Request
    >>> [e.id for e in interleave([Request(id=i, user=i[0], at_ms=0) for i in ("a1", "a2", "b1", "a3")])]
    ['a1', 'b1', 'a2', 'a3']
    """
    queues: dict[str, deque[Event]] = {}
    for event in events:
        queues.setdefault(event.user, deque()).append(event)
    result: list[Event] = []
    while queues:
        result += [queue.popleft() for queue in queues.values()]
        queues = {user: queue for user, queue in queues.items() if queue}
    return result


def with_fresh_text(events: Iterable[Event], percent: float, seed: int = 0) -> Iterator[Event]:
    """Yield the events, `percent` of them with a text of 8-20 tokens never seen before.

    A review gets the new text; anything else becomes a search, under the same id. A function of the seed.
    """
    chance, seen = random.Random(seed), set[str]()
    for event in events:
        if chance.random() * 100 >= percent:
            yield event
            continue
        text = _text(chance)
        while text in seen:
            text = _text(chance)
        seen.add(text)
        if isinstance(event, Review | Search):
            yield msgspec.structs.replace(event, text=text)
        else:
            yield Search(id=event.id, user=event.user, at_ms=event.at_ms, context=event.context, text=text)


def _text(chance: random.Random) -> str:
    # Common words are one token each, and a BERT adds two of its own.
    return " ".join(chance.choices(_WORDS, k=chance.randint(8, 18)))


def send_items(bootstrap: str, topic: str, items: Sequence[Item], kafka: Properties | None = None) -> None:
    """Write the catalogue, keyed by item; returns when the broker has it all."""
    out = _Out(bootstrap, kafka or {})
    out.connect(topic)
    for item in items:
        out.send(topic, item.item, encode(item))
    out.close()


def send_events(
    bootstrap: str,
    topic: str,
    events: Sequence[Event],
    *,
    speed: float | None = None,
    rate: float | None = None,
    progress: Progress | None = None,
    kafka: Properties | None = None,
) -> float:
    """Write the events, keyed by user, stamped with now; return the seconds it took.

    `speed` is a factor on the time between events (their own `at_ms`), `rate` is events per second; neither: flat out.
    """
    if speed is not None and rate is not None:
        raise PenchantError("give --speed or --rate, not both")
    for name, value in (("speed", speed), ("rate", rate)):
        if value is not None and value <= 0:
            raise PenchantError(f"--{name} must be above 0")
    out = _Out(bootstrap, kafka or {}, paced=rate is not None or speed is not None)
    out.connect(topic)
    start, told = time.monotonic(), 0
    for number, event in enumerate(events):
        if rate is not None:
            out.wait_until(start + number / rate)
        elif speed is not None:
            out.wait_until(start + (event.at_ms - events[0].at_ms) / 1000 / speed)
        out.send(topic, event.user, encode(event))
        if progress is not None and number - told >= 500:
            progress(number - told)
            told = number
    out.close()
    if progress is not None:
        progress(len(events) - told)
    return time.monotonic() - start


class _Out:
    """An idempotent producer that waits while its queue is full, and says so if anything was not delivered.

    `paced`: records leave at once; else they gather for a few milliseconds, which is faster in all.
    """

    def __init__(self, bootstrap: str, kafka: Properties, *, paced: bool = False) -> None:
        self._bootstrap = bootstrap
        self._failed: KafkaError | None = None
        self._fatal: KafkaError | None = None
        self._ready = False
        self._producer = Producer(
            {
                **kafka,
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",  # Java's: one user, one partition, whoever produces
                "acks": "all",
                "enable.idempotence": True,  # order and no doubles, with several requests under way
                "max.in.flight.requests.per.connection": 5,
                "linger.ms": 0 if paced else 5,
                "delivery.timeout.ms": int(FLUSH_SECONDS * 1000),
                "statistics.interval.ms": STATE_MS,
                "stats_cb": self._state,
                "error_cb": self._error,
                "on_delivery": self._delivered,
                "logger": _SILENT,
            }
        )

    def connect(self, topic: str) -> None:
        """Learn where the topic lives and get the producer's id: records must not wait for either, already stamped."""
        try:
            found = self._producer.list_topics(topic, timeout=CONNECT_SECONDS).topics[topic]
        except KafkaException as error:
            raise DependencyAway(
                f"no Kafka at {self._bootstrap} ({error.args[0].str()}); "
                "start one ('penchant broker run') or give --bootstrap"
            ) from None
        if found.error is not None:
            raise DependencyAway(f"topic {topic}: {found.error.str()}; 'penchant topics apply' creates it")
        deadline = time.monotonic() + CONNECT_SECONDS
        while not self._ready:
            self._producer.poll(STATE_MS / 1000)
            if self._fatal is not None:
                raise DependencyAway(
                    f"Kafka gives no producer id ({self._fatal.str()}); has this user the right to write?"
                )
            if time.monotonic() > deadline:
                raise DependencyAway(f"Kafka gave no producer id within {CONNECT_SECONDS:.0f} s; is the broker well?")

    def send(self, topic: str, key: str, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key.encode(), timestamp=int(time.time() * 1000))
            except BufferError:
                self._producer.poll(0.1)
                continue
            self._producer.poll(0)
            self._check()
            return

    def wait_until(self, due: float) -> None:
        """Return when `due` (`time.monotonic`) is there or just over; what became due in one tick goes out together."""
        while (left := due - time.monotonic()) > 0:
            # Not poll(left): librdkafka counts in whole milliseconds, and to wait for zero of them is to spin.
            time.sleep(min(max(left, TICK_SECONDS), 0.1))
            self._producer.poll(0)

    def close(self) -> None:
        if self._producer.flush(FLUSH_SECONDS):
            raise DependencyAway("Kafka took too long to accept the events; is the broker alive?")
        self._check()

    def _state(self, statistics: str) -> None:
        # The only way in which librdkafka tells that an idempotent producer can send.
        self._ready = self._ready or json.loads(statistics).get("eos", {}).get("idemp_state") == "Assigned"

    def _error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = self._fatal or error

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        self._failed = self._failed or error

    def _check(self) -> None:
        if self._failed is not None:
            raise DependencyAway(f"Kafka refused a record: {self._failed.str()}") from KafkaException(self._failed)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What to replay, and how; see `penchant replay --help`."""

    source: str
    bootstrap: str
    events_topic: str
    items_topic: str
    only: str = "both"
    events: int | None = None
    skip: int = 0
    speed: float | None = None
    rate: float | None = None
    interleave: bool = False
    fresh_text: float = 0.0
    seed: int = 0
    kafka: Properties = field(default_factory=dict)
    """Properties of librdkafka: TLS, SASL, ..."""
    decode: Callable[[bytes | None, int | None], Event] = decode_event
    """How serve reads events; a `[mapping]` reads other JSON than what a replay writes."""

    def check(self, event: Event) -> None:
        """Raise `PenchantError` unless serve would read the event as it is written."""
        fault = ""
        try:
            if self.decode(encode(event), int(time.time() * 1000)) != event:
                fault = "serve would read other events than these"
        except BadEvent as error:
            fault = f"serve would dead-letter them ({error.reason}: {error.detail})"
        if fault:
            raise PenchantError(
                f"a replay writes Penchant's own JSON, but the settings have a [mapping] for another: {fault}; "
                "replay with settings and topics of their own, or only the catalogue (--only items)"
            )

    def select(self, events: Iterable[Event]) -> list[Event]:
        """Return the events to send, in order."""
        chosen = interleave(events) if self.interleave else list(events)
        chosen = chosen[self.skip :][: self.events]
        return list(with_fresh_text(chosen, self.fresh_text, self.seed)) if self.fresh_text else chosen


def run(job: Replay) -> str:
    """Replay with a progress bar where there is a terminal; return a line that says what was sent."""
    from consumer.datasets import load

    if job.only not in ("items", "events", "both"):
        raise PenchantError("--only takes items, events or both")
    items, events = load(job.source)
    if job.only != "items" and events:
        job.check(events[0])
    said = []
    if job.only != "events":
        send_items(job.bootstrap, job.items_topic, items, job.kafka)
        said.append(f"{len(items):,} items to {job.items_topic}")
    if job.only != "items":
        chosen = job.select(events)
        console = Console(stderr=True)
        with Bar("events", TextColumn("{task.completed:,} of {task.total:,}"), BarColumn(), TimeRemainingColumn(),
                 console=console, disable=not console.is_terminal) as bar:  # fmt: skip
            task = bar.add_task("events", total=len(chosen))
            seconds = send_events(
                job.bootstrap, job.events_topic, chosen, speed=job.speed, rate=job.rate,
                progress=lambda count: bar.advance(task, count),
                kafka=job.kafka,
            )  # fmt: skip
        rate = len(chosen) / max(seconds, 1e-9)
        said.append(f"{len(chosen):,} events to {job.events_topic} in {seconds:.1f} s ({rate:,.0f} a second)")
    return "; ".join(said)
