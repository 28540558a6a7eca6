"""Reads some records of a topic and says which `serve` would accept and which it would dead-letter, and why."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaException, Message, TopicPartition

from consumer.topics import TIMEOUT_SECONDS, Properties, admin
from model.errors import BadEvent, Fatal
from model.events import Event, decode_event

if TYPE_CHECKING:
    from consumer.settings import Settings

QUIET_SECONDS = 5.0
Decode = Callable[[bytes | None, int | None], Event]


@dataclass
class Findings:
    """What was accepted by kind, what was refused by reason, with the first example of each."""

    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    wrong_keys: int = 0

    def lines(self) -> list[str]:
        """Return the findings as lines to print."""
        total = self.accepted.total() + self.refused.total()
        lines = [f"{total} records read: {self.accepted.total()} accepted, {self.refused.total()} dead-lettered"]
        for title, counts in (("accepted", self.accepted), ("dead-lettered", self.refused)):
            lines += [
                f"  {title} {count:>6}  {name:<14} e.g. {self.examples[name]}" for name, count in counts.most_common()
            ]
        if self.wrong_keys:
            lines.append(f"  {self.wrong_keys} accepted, but not keyed by the user: one user's events may be split")
        return lines


def check(
    bootstrap: str,
    topic: str,
    sample: int,
    decode: Decode = decode_event,
    properties: Properties | None = None,
) -> Findings:
    """Return what would become of up to `sample` records from the beginning of `topic`; commits nothing."""
    findings = Findings()
    for message in _read(bootstrap, topic, sample, properties or {}):
        value, key = message.value(), message.key()
        kind, milliseconds = message.timestamp()
        where = f"partition {message.partition()} offset {message.offset()}"
        try:
            event = decode(value, None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds)
        except BadEvent as error:
            findings.refused[error.reason] += 1
            findings.examples.setdefault(error.reason, f"{where}: {error.detail}: {(value or b'')[:120]!r}")
            continue
        findings.accepted[event.kind] += 1
        findings.examples.setdefault(event.kind, f"{where}: {(value or b'')[:120].decode(errors='replace')}")
        if key is None or key != event.user.encode():
            findings.wrong_keys += 1
    return findings


def _read(bootstrap: str, topic: str, sample: int, properties: Properties) -> Iterator[Message]:
    there = admin(bootstrap, properties).list_topics(timeout=TIMEOUT_SECONDS).topics
    if topic not in there:
        raise Fatal(f"no topic {topic!r} at {bootstrap}; there are: {', '.join(sorted(there)) or 'none'}")
    consumer = Consumer(
        {
            **properties,
            "bootstrap.servers": bootstrap,
            "group.id": "penchant-check",  # demanded by the client; nothing joins it, nothing is committed
            "enable.auto.commit": False,
            "enable.partition.eof": False,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        ends, starts = {}, []
        for partition in there[topic].partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_SECONDS)
            if high > low:
                ends[partition] = high
                starts.append(TopicPartition(topic, partition, low))
        if not starts:
            return
        consumer.assign(starts)
        while ends and sample > 0:
            message = consumer.poll(QUIET_SECONDS)
            if message is None:
                return
            if (error := message.error()) is not None:
                raise Fatal(f"cannot read {topic}: {error.str()}") from KafkaException(error)
            sample -= 1
            at, offset = message.partition(), message.offset()
            if at is not None and offset is not None and offset + 1 >= ends.get(at, 0):
                ends.pop(at, None)
            yield message
    finally:
        consumer.close()


def run(settings: "Settings", topic: str | None, sample: int, bootstrap: str | None) -> list[str]:
    """Check `topic` (default: the settings' events) as `serve` with these settings would; return lines to print."""
    return check(
        bootstrap or settings.bootstrap, topic or settings.events_topic, sample, settings.decode, settings.kafka
    ).lines()
