"""Where serve begins, and whether it notices that a producer spreads users over partitions in another way."""

import time
import uuid

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from structlog.testing import capture_logs

from consumer.loop import Loop
from consumer.murmur2 import Places
from consumer.settings import Settings
from tests.broker.test_away import ids
from tests.broker.test_serve import events, lists, make, prepare, running, send, turn_until
from tests.broker.test_twice import put_before

HOUR_MS = 3_600_000


def send_at(settings: Settings, stamps: list[int]) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap})
    for (key, value), stamp in zip(events(len(stamps)), stamps, strict=True):
        producer.produce(settings.events_topic, value, key, timestamp=stamp)
    producer.flush(10)


def test_earliest_latest_or_a_time(bootstrap: str) -> None:
    now = int(time.time() * 1000)
    stamps = [now - HOUR_MS + n * 1000 for n in range(10)]
    for start, skipped in (
        ("earliest", 0), ("latest", 10), (stamps[4], 4), (stamps[4] - 1, 4), (stamps[4] + 1, 5),
        (stamps[0] - HOUR_MS, 0), (now, 10),
    ):  # fmt: skip
        settings = prepare(bootstrap).model_copy(update={"start": start})
        send_at(settings, stamps)
        with running(make(settings)) as loop:
            turn_until(loop, 10)
        assert [event for event, _ in lists(settings)] == [f"e1-{n}" for n in range(skipped, 10)], start


def test_state_counts_more_than_start(bootstrap: str) -> None:
    settings = prepare(bootstrap)
    send(settings, settings.events_topic, events(3))
    with running(make(settings)) as loop:
        turn_until(loop, 3)
    send(settings, settings.events_topic, events(3, seed=2))
    for start in ("latest", int(time.time() * 1000) + HOUR_MS):
        with running(make(settings.model_copy(update={"start": start}))) as loop:
            turn_until(loop, 6)
    assert len(lists(settings)) == 6


@pytest.mark.parametrize("partitions", [3, 7])
def test_places_are_those_of_librdkafka(bootstrap: str, partitions: int) -> None:
    topic = f"t{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)
    found: dict[bytes, int] = {}

    def delivered(error: object, message: Message) -> None:
        assert error is None
        found[message.key() or b""] = message.partition() or 0

    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "on_delivery": delivered})
    keys = [bytes((7 * n + length) % 256 for n in range(length)) for length in range(1, 40)]
    keys += [f"user-{n}".encode() for n in range(300)] + ["用户-1".encode(), b"\xff" * 13, b"\x80\x00\x80"]
    for key in keys:
        producer.produce(topic, b"", key)
    producer.flush(10)
    assert len(found) == len(keys)
    assert len(set(found.values())) == partitions
    places = Places(partitions)
    assert {key: places[key] for key in keys} == found


def test_records_elsewhere_than_their_key_says_are_counted_and_told_once(bootstrap: str) -> None:
    settings = prepare(bootstrap, partitions=3)
    records, places = events(30), Places(3)
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    for n, (key, body) in enumerate(records):
        if n % 3 == 0:  # a producer with another partitioner
            producer.produce(settings.events_topic, body, key, (places[key or b""] + 1) % 3)
        elif n % 3 == 1:  # a producer that keys by something else
            producer.produce(settings.events_topic, body, b"session-%d" % n)
        else:
            producer.produce(settings.events_topic, body, key)
    producer.produce(settings.events_topic, records[0][1], None, 0)  # has no key that could be anywhere
    producer.flush(10)
    with capture_logs() as logs, running(make(settings.model_copy(update={"poll_events": 4}))) as loop:
        turn_until(loop, 31)
        value = loop.metrics.registry.get_sample_value
        assert value("penchant_foreign_partitions_total") == 10
        assert value("penchant_foreign_keys_total") == 11
    said = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert len([line for line in said if "key is not their user" in line]) == 1
    assert len([line for line in said if "murmur2" in line]) == 1


def test_what_is_as_it_should_be_is_not_told(bootstrap: str) -> None:
    settings = prepare(bootstrap, partitions=3)
    send(settings, settings.events_topic, events(30))
    with capture_logs() as logs, running(make(settings)) as loop:
        turn_until(loop, 30)
        value = loop.metrics.registry.get_sample_value
        assert value("penchant_foreign_partitions_total") == value("penchant_foreign_keys_total") == 0
    assert not [line for line in logs if line["log_level"] == "warning"]


def ready(loop: Loop) -> None:
    deadline = time.monotonic() + 30
    while not loop.states:
        assert time.monotonic() < deadline
        loop.turn()


def test_latest_is_where_it_was_first_asked_for(bootstrap: str) -> None:
    """An abort of the first transaction loses nothing that was read."""
    settings, sent = prepare(bootstrap).model_copy(update={"start": "latest"}), events(10)

    def fail() -> None:
        raise KafkaException(KafkaError(KafkaError._PURGE_QUEUE, "made up", False, False, True))

    with running(make(settings)) as loop:
        ready(loop)
        left = put_before(loop, "commit_transaction", fail)
        send(settings, settings.events_topic, sent)
        turn_until(loop, 10)
        assert not left
    assert [event for event, _ in lists(settings)] == ids(sent)


def test_latest_of_one_that_never_committed_is_its_successor_s_too(bootstrap: str) -> None:
    settings, sent = prepare(bootstrap).model_copy(update={"start": "latest"}), events(10)
    send(settings, settings.events_topic, events(5, seed=2))
    with running(make(settings)) as loop:
        ready(loop)
    send(settings, settings.events_topic, sent)
    with running(make(settings)) as loop:
        turn_until(loop, 15)
    assert [event for event, _ in lists(settings)] == ids(sent)
