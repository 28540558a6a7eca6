"""Dead letters looked at, and sent again to where they came from once what was wrong is mended."""

import heapq
import time
from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

import msgspec
from confluent_kafka import OFFSET_BEGINNING, KafkaError, Message, Producer, TopicPartition

from consumer import kafka
from consumer.batch import CUT, KEPT_BYTES, KEPT_KEY_BYTES
from consumer.settings import Settings
from consumer.tables import ends, read_to
from consumer.topics import TIMEOUT_SECONDS, admin
from model.errors import BadEvent, DependencyAway, Fatal
from model.events import DeadLetter

SHOWN_CHARACTERS = 120
UNREADABLE = "(no dead letter of ours)"
Place = tuple[int, int]
"""Partition and offset of the events topic."""


class Found(NamedTuple):
    """A dead letter as it is in its topic; ordered by when it was written."""

    at_ms: int
    place: tuple[int, int]
    letter: DeadLetter

    @property
    def cut(self) -> str:
        """What of the record was not kept whole, or an empty string."""
        key, value = self.letter.key, self.letter.value
        if value is not None and len(value) >= KEPT_BYTES and self.letter.detail.endswith(CUT):
            return f"value cut to its first {KEPT_BYTES // 1024} KiB"
        return "key cut" if key is not None and len(key) >= KEPT_KEY_BYTES else ""


def shown(data: bytes | str | None, limit: int = SHOWN_CHARACTERS) -> str:
    r"""Return a line that is safe to print, whatever the bytes: shortened, what would steer a terminal escaped.

    >>> shown(b"caf\xc3\xa9 \xff\x1b[2J")
    'café \\xff\\x1b[2J'
    >>> shown(None), shown("abc", 2)
    ('-', 'ab...')
    """
    if data is None:
        return "-"
    text = data[: limit * 4 + 4].decode("utf-8", "backslashreplace") if isinstance(data, bytes) else data
    safe = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:limit])
    return "".join(safe) + ("..." if len(text) > limit else "")


def listed(settings: Settings, reasons: Collection[str], newest: int, as_json: bool) -> list[str]:
    """Return lines to print: how many by reason, and the newest; `as_json`: those alone, one object a line.

    Raises:
        DependencyAway: Kafka does not answer, or there is no topic of dead letters.
    """
    counts: Counter[str] = Counter()

    def counted() -> Iterator[Found]:
        for found in _read(settings, counts):
            if not reasons or found.letter.reason in reasons:
                counts[found.letter.reason] += 1
                yield found

    chosen = heapq.nlargest(newest, counted(), key=lambda found: found[:2])
    if as_json:
        return [msgspec.json.encode(_fields(found)).decode() for found in chosen]
    lines = [f"{counts.total()} dead letters in {settings.dead_letters_topic}"]
    lines += [f"  {shown(reason)}: {count}" for reason, count in counts.most_common()]
    if chosen:
        lines += ["", f"The newest {len(chosen)}:"]
    for found in chosen:
        fields = _fields(found)
        lines.append(f"{fields['topic']} {fields['partition']}:{fields['offset']}  {fields['at']}  {fields['reason']}")
        lines += [f"    {name}: {fields[name]}" for name in ("detail", "key", "value")]
        if found.cut:
            lines.append(f"    {found.cut}: cannot be replayed")
    return lines


def _fields(found: Found) -> dict[str, object]:
    letter = found.letter
    return {
        "topic": shown(letter.topic),
        "partition": letter.partition,
        "offset": letter.offset,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.at_ms / 1000)),
        "reason": shown(letter.reason),
        "detail": shown(letter.detail, 400),
        "key": shown(letter.key),
        "value": shown(letter.value),
        "value_bytes": None if letter.value is None else len(letter.value),
        "cut": bool(found.cut),
    }


def places(said: Collection[str]) -> set[Place]:
    """Return places written as PARTITION:OFFSET; raises `Fatal`."""
    found = set()
    for text in said:
        partition, _, offset = text.partition(":")
        if not (partition.isdecimal() and offset.isdecimal()):
            raise Fatal(f"--at takes PARTITION:OFFSET as 'penchant dead-letters list' shows them (0:17), not {text!r}")
        found.add((int(partition), int(offset)))
    return found


def replay(settings: Settings, reasons: Collection[str], at: Collection[Place], everything: bool, dry: bool) -> str:
    """Send the chosen letters' keys and values to the topic they came from, and return what was done, in one line.

    Chosen are those of one of `reasons` (none: of any) at one of the places `at` (none: at any); each place once.
    Left out are those that still do not decode, unless `everything`, and always those not kept whole.

    Raises:
        Fatal: nothing says which, or a topic is gone, or Kafka did not take some of them.
        DependencyAway: Kafka does not answer, or there is no topic of dead letters.
    """
    if not reasons and not at:
        raise Fatal("say which dead letters: --reason REASON or --at PARTITION:OFFSET ('penchant dead-letters list')")
    chosen: dict[tuple[str, Place], None] = {}
    left: Counter[str] = Counter()
    lines = []
    sender = None if dry else _Sender(settings)
    for found in _read(settings, Counter()):
        letter = found.letter
        place = letter.partition, letter.offset
        if (reasons and letter.reason not in reasons) or (at and place not in at) or (letter.topic, place) in chosen:
            continue
        chosen[letter.topic, place] = None
        why = found.cut or ("" if everything else _refusal(settings, letter))
        if why:
            left[why] += 1
        elif sender is not None:
            sender.send(letter)
        else:
            where = f"{shown(letter.topic)} {letter.partition}:{letter.offset}"
            lines.append(f"{where}  {shown(letter.reason)}  key {shown(letter.key, 40)}  {shown(letter.value)}")
    if sender is not None:
        sender.finish()
    said = f"{len(chosen) - left.total()} of {len(chosen)} dead letters {'would be sent' if dry else 'sent'} again"
    lines.append("; ".join([said, *(f"left out {count}: {shown(why)}" for why, count in left.most_common())]))
    return "\n".join(lines)


def _refusal(settings: Settings, letter: DeadLetter) -> str:
    try:
        settings.decode(letter.value, int(time.time() * 1000))
    except BadEvent as bad:
        return f"still no event ({bad.reason}; --all sends them, too)"
    return ""


class _Sender:
    """A producer that counts what was not taken; puts keys on partitions as Kafka's Java clients do."""

    def __init__(self, settings: Settings) -> None:
        config = kafka.common(settings, lambda _: None)
        self._there = set(admin(settings.bootstrap, settings.kafka).list_topics(timeout=TIMEOUT_SECONDS).topics)
        self._producer = Producer({**config, "partitioner": "murmur2_random", "enable.idempotence": True})
        self._failed = self._sent = 0
        self._why = ""

    def send(self, letter: DeadLetter) -> None:
        """Hand a letter's record over; raises `Fatal` where its topic is gone."""
        if letter.topic not in self._there:
            self.finish()
            raise Fatal(f"{self._sent} sent; then no topic {shown(letter.topic)!r} to send to: make it, or choose --at")
        while True:
            try:
                self._producer.produce(letter.topic, letter.value, letter.key, on_delivery=self._delivered)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self._sent += 1
        else:
            self._failed, self._why = self._failed + 1, error.str()

    def finish(self) -> None:
        """Wait until Kafka has them all; raises `Fatal` if it did not take some."""
        waiting = self._producer.flush(kafka.TIMEOUT_SECONDS)
        if waiting or self._failed:
            why = self._why or "no answer"
            raise Fatal(
                f"{self._sent} sent, {self._failed + waiting} not ({why}); mend that and run the same again: "
                "an event sent twice has one id and counts once among its user's newest 32"
            )


def _read(settings: Settings, unreadable: Counter[str]) -> Iterator[Found]:
    """Yield every letter that is there now."""
    topic = settings.dead_letters_topic
    there = admin(settings.bootstrap, settings.kafka).list_topics(timeout=TIMEOUT_SECONDS).topics
    if topic not in there:
        raise DependencyAway(f"no topic {topic} at {settings.bootstrap}: check app_id, or 'penchant topics apply'")
    partitions = sorted(there[topic].partitions)
    end = ends(settings, topic, partitions, lambda _: None)
    consumer = kafka.table_consumer(settings, lambda _: None)
    decode = msgspec.json.Decoder(DeadLetter).decode
    try:
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        for message in read_to(consumer, end, lambda: None):
            try:
                letter = decode(message.value() or b"")
            except (msgspec.DecodeError, UnicodeDecodeError):
                unreadable[UNREADABLE] += 1
                continue
            yield Found(message.timestamp()[1], (message.partition() or 0, message.offset() or 0), letter)
    finally:
        consumer.close()
