"""What a run leaves behind, read back as a reader of the topics and a successor see it, and compared."""

from dataclasses import dataclass

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer import kafka
from consumer.settings import Settings
from consumer.state import PartitionState, Position, read_position, restore
from consumer.tables import read_table
from model.events import Interests, Recommendation, decode_item
from model.fold import Fold, FoldSettings
from model.pairs import TABLES
from tests.broker.killed import TAXONOMIES, make_with
from tests.broker.test_serve import ENCODER, prepare, running, send, turn_until
from tests.model.conftest import WordEncoder

Records = list[tuple[bytes | None, bytes | None]]
NEAR = 1e-5
"""Scores that a restore may put into another order: sums of float32 in another order."""
SMALL: dict[str, object] = {"poll_events": 5, "snapshot_every": 25, "delta_ring": 16, "session_timeout_seconds": 6}
"""Settings with which sixty events are many transactions, and several snapshots."""


@dataclass
class Left:
    """What a run on one partition left behind, for a reader that reads what is committed."""

    lists: list[Recommendation]
    interests: list[Interests]
    dead: int
    positions: list[Position]
    """One for each transaction."""
    offset: int
    """Of the group."""
    state: PartitionState
    """As a successor restores it."""


def prepared(bootstrap: str, **changed: object) -> Settings:
    """Return settings of a new application with topics of its own, and small transactions."""
    return prepare(bootstrap).model_copy(update=SMALL | changed)


def read(settings: Settings, topic: str) -> Records:
    """Return what a read_committed consumer sees of a topic with one partition, without waiting for more."""
    consumer = kafka.table_consumer(settings, lambda error: None)
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: Records = []
    try:
        while True:
            for message in consumer.consume(1000, 0.02):
                error = message.error()
                if error is None:
                    found.append((message.key(), message.value()))
                elif error.code() == KafkaError._PARTITION_EOF:
                    return found
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()


def answered(settings: Settings) -> int:
    """Return how many lists are committed."""
    return len(read(settings, settings.recommendations_topic))


def group_offset(settings: Settings) -> int:
    """Return the group's offset, without what an open transaction would make it."""
    config = {"bootstrap.servers": settings.bootstrap, "group.id": settings.app_id}
    consumer = Consumer(config | {"isolation.level": "read_uncommitted"})
    committed = consumer.committed([TopicPartition(settings.events_topic, 0)], 10)[0]
    consumer.close()
    return int(committed.offset)


def left_by(settings: Settings, encoder: WordEncoder = ENCODER) -> Left:
    """Read back what was left behind."""
    lists = [value for _, value in read(settings, settings.recommendations_topic)]
    interests = [value for _, value in read(settings, settings.interests_topic)]
    positions = [value for key, value in read(settings, settings.state_topic) if key == b"p"]
    return Left(
        [msgspec.json.decode(value or b"", type=Recommendation) for value in lists],
        [msgspec.json.decode(value or b"", type=Interests) for value in interests],
        len(read(settings, settings.dead_letters_topic)),
        [read_position(value or b"") for value in positions],
        group_offset(settings),
        restored(settings, encoder),
    )


def is_open(settings: Settings) -> bool:
    """Say whether records of a transaction that is neither committed nor aborted are among the lists."""
    marks = []
    for isolation in ("read_committed", "read_uncommitted"):
        consumer = Consumer({"bootstrap.servers": settings.bootstrap, "group.id": "x", "isolation.level": isolation})
        marks.append(consumer.get_watermark_offsets(TopicPartition(settings.recommendations_topic, 0), timeout=10)[1])
        consumer.close()
    return bool(marks[0] != marks[1])


def restored(settings: Settings, encoder: WordEncoder) -> PartitionState:
    """Return the state that the changelog describes."""
    fold = Fold(FoldSettings(), encoder, TAXONOMIES[encoder.version])
    for item in (decode_item(value) for _, value in read(settings, settings.items_topic)):
        fold.put_item(item, encoder.encode([item.content()])[0])
    table, _ = read_table(settings, settings.state_topic, 0, lambda error: None, lambda: None)
    state = restore(0, fold, table)
    assert state is not None
    return state


def undisturbed(bootstrap: str, records: Records) -> Left:
    """Return what a run without any fault leaves behind of these events."""
    settings = prepared(bootstrap)
    send(settings, settings.events_topic, records)
    with running(make_with(settings, ENCODER)) as loop:
        turn_until(loop, len(records))
    return left_by(settings)


def check_same(found: Left, wanted: Left) -> None:
    """Compare what a reader sees, how far the group is, and what was learnt."""
    assert [one.event for one in found.lists] == [one.event for one in wanted.lists]
    for one, other in zip(found.lists, wanted.lists, strict=True):
        assert (one.id, one.user, one.at_ms, one.model, one.ranker) == (
            other.id, other.user, other.at_ms, other.model, other.ranker,
        )  # fmt: skip
        check_ranked(one, other)
    assert [(one.user, one.at_ms, [t.topic for t in one.topics]) for one in found.interests] == [
        (one.user, one.at_ms, [t.topic for t in one.topics]) for one in wanted.interests
    ]
    assert found.dead == wanted.dead
    assert found.offset == wanted.offset == found.positions[-1].offset
    check_numbered(found.positions)
    check_learnt(found.state, wanted.state)


def check_ranked(one: Recommendation, other: Recommendation) -> None:
    """Demand the same items in the same order, but for items whose scores are as good as equal."""
    assert len(one.items) == len(other.items)
    scores = {slot.item: slot.score for slot in other.items}
    last = other.items[-1].score
    for mine, its in zip(one.items, other.items, strict=True):
        assert mine.score == pytest.approx(its.score, abs=1e-4), one.event
        assert mine.item == its.item or abs(scores.get(mine.item, last) - its.score) < NEAR, one.event


def check_numbered(positions: list[Position]) -> None:
    """Demand that transactions are numbered without a gap, each further than the one before: none is seen twice."""
    assert [one.sequence for one in positions] == list(range(1, len(positions) + 1))
    offsets = [one.offset for one in positions]
    assert offsets == sorted(set(offsets))


def check_learnt(one: PartitionState, other: PartitionState) -> None:
    """Compare the users and what is learnt of all of them together."""
    assert one.fold.profiles == other.fold.profiles
    assert one.fold.stream_ms == other.fold.stream_ms
    mine, its = one.fold.tables, other.fold.tables
    assert one.fold.catalogue.ids == other.fold.catalogue.ids
    assert (mine.engaged == its.engaged).all()
    for name in ("liked", "recent"):
        assert getattr(mine, name) == pytest.approx(getattr(its, name), rel=1e-5), name
    n = len(one.fold.catalogue)
    for name in TABLES:
        assert mine.pairs.matrix(name, n) == pytest.approx(its.pairs.matrix(name, n), rel=1e-5), name
    assert one.fold.ranker.steps == other.fold.ranker.steps
    for name in ("weights", "mean", "variance", "gradients"):
        assert getattr(one.fold.ranker, name) == pytest.approx(getattr(other.fold.ranker, name), abs=1e-4), name
