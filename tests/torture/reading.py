"""Reading the topics back, for the checker: everything, from the beginning, as a reader sees it or as it is stored."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from consumer.foreign import Foreign
from consumer.settings import Settings
from consumer.state import read_position, restore
from model.errors import BadEvent
from model.events import DeadLetter, Interests, decode_event
from model.fold import Fold
from tests.torture.checker import Account, Answer, Letter, Mark, Sent, Sighting
from tests.torture.load import sent

SECONDS = 30.0


class Named(msgspec.Struct):
    """Of a list: the event that it answers."""

    event: str


named = msgspec.json.Decoder(Named)
_told = msgspec.json.Decoder(Interests)
_letter = msgspec.json.Decoder(DeadLetter)


def nothing(*_: object) -> None:
    """Do nothing: for callbacks that are of no interest."""


def messages(settings: Settings, topic: str, isolation: str = "read_committed") -> Iterator[Message]:
    """Yield a topic's records up to its end, each partition's in order.

    Raises:
        AssertionError: the end is not reached (a transaction is open, or Kafka is away).
    """
    consumer = _consumer(settings, isolation)
    try:
        missing = set(consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in missing])
        deadline = time.monotonic() + SECONDS
        while missing:
            assert time.monotonic() < deadline, f"{topic} was not read to its end"
            for message in consumer.consume(1000, 0.2):
                deadline = time.monotonic() + SECONDS
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    missing.discard(message.partition() or 0)
    finally:
        consumer.close()


def _consumer(settings: Settings, isolation: str = "read_committed") -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": settings.bootstrap, "group.id": settings.app_id, "isolation.level": isolation,
            "enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest",
        }
    )  # fmt: skip


def events(settings: Settings) -> list[Sent]:
    """Return what was sent, by partition and offset."""
    found = []
    for message in messages(settings, settings.events_topic):
        partition, offset = place(message)
        try:
            found.append(sent(partition, offset, decode_event(message.value())))
        except BadEvent:
            found.append(sent(partition, offset, None))
    return sorted(found, key=lambda one: (one.partition, one.offset))


def count(settings: Settings, topic: str) -> int:
    """Return how many records are stored, those of aborted transactions among them."""
    return sum(message.value() is not None for message in messages(settings, topic, "read_uncommitted"))


def lists(settings: Settings, isolation: str = "read_committed") -> list[Answer]:
    """Return the lists."""
    return [
        Answer(*place(message), (message.key() or b"").decode(), named.decode(message.value() or b"").event)
        for message in messages(settings, settings.recommendations_topic, isolation)
        if message.value() is not None
    ]


def searched(settings: Settings, searches: set[str]) -> list[Answer]:
    """Return the interests told at these times: others are told at engagements whose number only the state knows."""
    found = []
    for message in messages(settings, settings.interests_topic):
        if message.value() is not None:
            told = _told.decode(message.value() or b"")
            if str(told.at_ms) in searches:
                found.append(Answer(*place(message), told.user, str(told.at_ms)))
    return found


def account(settings: Settings, sightings: Sequence[Sighting] = ()) -> Account:
    """Return everything that the checker compares, but for the restored state."""
    consumer, topic = _consumer(settings), settings.events_topic
    try:
        partitions = sorted(consumer.list_topics(topic, timeout=SECONDS).topics[topic].partitions)
        asked = [TopicPartition(topic, partition) for partition in partitions]
        group = {one.partition: max(0, one.offset) for one in consumer.committed(asked, SECONDS)}
        end = {one.partition: consumer.get_watermark_offsets(one, SECONDS)[1] for one in asked}
    finally:
        consumer.close()
    came = events(settings)
    letters = [_letter.decode(m.value() or b"") for m in messages(settings, settings.dead_letters_topic)]
    marks = [
        Mark(message.partition() or 0, position.offset, position.sequence)
        for message in messages(settings, settings.state_topic)
        if message.key() == b"p"
        for position in [read_position(message.value() or b"")]
    ]
    return Account(
        sent=came,
        lists=lists(settings),
        letters=[Letter(letter.partition, letter.offset) for letter in letters],
        marks=marks,
        ends=end,
        group=group,
        interests=searched(settings, {str(one.at_ms) for one in came if len(one.due) > 1}),
        sightings=sightings,
    )


def count_state(account: Account, settings: Settings, new_fold: Callable[[], Fold]) -> None:
    """Restore every partition as `serve` would, and note what its state has counted; a new fold knows the items.

    Raises:
        DependencyAway: Kafka does not answer.
        Fatal: a state cannot be restored.
    """
    tables: dict[int, dict[bytes, bytes]] = {partition: {} for partition in account.ends}
    for message in messages(settings, settings.state_topic):
        key, value = message.key() or b"", message.value()
        if value is None:
            tables[message.partition() or 0].pop(key, None)
        else:
            tables[message.partition() or 0][key] = value
    foreign = Foreign(settings, nothing)
    users: Counter[str] = Counter()
    engaged: dict[int, dict[str, int]] = {}
    try:
        foreign.open()
        for partition, table in tables.items():
            state = restore(partition, new_fold(), table, foreign.between)
            if state is None:
                continue
            state.merge(foreign.between(state.position.merged, foreign.offsets))
            counts = zip(state.fold.catalogue.ids, state.fold.tables.engaged, strict=False)
            engaged[partition] = {item: int(count) for item, count in counts if count}
            users.update({user: profile.events for user, profile in state.fold.profiles.items()})
    finally:
        foreign.close()
    account.users, account.engaged = users, engaged


def place(message: Message) -> tuple[int, int]:
    """Return partition and offset."""
    return message.partition() or 0, message.offset() or 0
