"""What `penchant tune` reads from Kafka: the newest events of every partition, the items, and nothing that is none."""

from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from consumer.labelled import load
from consumer.reviews import reviews
from consumer.settings import Settings
from consumer.window import from_kafka
from model.errors import DependencyAway, Fatal
from model.events import Recommendation, Recommended
from model.training.labelled import Labelled
from tests.broker.test_serve import events, prepare, send


def nothing(done: int, of: int) -> None:
    """Tell nobody."""


def test_the_newest_of_every_partition_merged_by_time(bootstrap: str) -> None:
    settings = prepare(bootstrap, partitions=2)
    producer = Producer({"bootstrap.servers": bootstrap})
    for number, (key, value) in enumerate(events(40)):
        producer.produce(settings.events_topic, value, key, number % 2)
    producer.produce(settings.events_topic, b"no event", partition=1)
    assert producer.flush(30) == 0
    told: list[tuple[int, int]] = []
    source = from_kafka(settings, 21, lambda done, of: told.append((done, of)))
    assert len(source.events) == 21
    assert [event.at_ms for event in source.events] == sorted(event.at_ms for event in source.events)
    assert source.refused.total() == 1
    assert source.said["offsets"] == {"0": [9, 20], "1": [10, 21]}
    assert told[-1] == (22, 22)
    assert len(source.items) == 40


def test_lists_are_those_that_users_had(bootstrap: str) -> None:
    settings = prepare(bootstrap)
    click = {"kind": "click", "id": "c", "user": "u", "at_ms": 2, "item": "i1", "recommendation": "seen"}
    lists = [
        Recommendation(name, "u", 1, "e", "m", 0, "greedy", [Recommended(i, 0.0, 1.0, [], 0.0) for i in ("i2", "i1")])
        for name in ("seen", "other")
    ]
    send(settings, settings.events_topic, [(b"u", msgspec.json.encode(click))])
    send(settings, settings.recommendations_topic, [(b"u", msgspec.json.encode(one)) for one in lists])
    source = from_kafka(settings, 1000, nothing)
    assert source.shown == {"seen": ["i2", "i1"]}
    assert source.said["lists"] == 1


def test_no_events_and_no_topic_are_said(bootstrap: str) -> None:
    settings = prepare(bootstrap)
    with pytest.raises(Fatal, match="no events to learn from"):
        from_kafka(settings, 1000, nothing)
    with pytest.raises(DependencyAway, match="missing"):
        from_kafka(Settings(bootstrap=bootstrap, items_topic="nowhere-at-all", events_topic="nor-here"), 1000, nothing)


def test_reviews_with_stars_come_out_of_the_stream(
    bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepare(bootstrap)
    told = {"kind": "review", "user": "u", "item": "i1", "at_ms": 5}
    records = [
        told | {"id": "r1", "text": "lovely", "value": 5}, told | {"id": "r2", "text": "no stars"},
        told | {"id": "r3", "text": "dull", "value": 1},
    ]  # fmt: skip
    send(settings, settings.events_topic, [*events(5), *((b"u", msgspec.json.encode(one)) for one in records)])
    for name in ("bootstrap", "events_topic", "items_topic", "app_id"):
        monkeypatch.setenv(f"PENCHANT_{name.upper()}", getattr(settings, name))
    reviews(tmp_path / "found.jsonl")
    assert load(str(tmp_path / "found.jsonl")) == [Labelled("lovely", "positive"), Labelled("dull", "negative")]
