"""The whole loop against a real Kafka: poison, crashes, any poll size, any bytes."""

import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer import topics
from consumer.embedding import Model
from consumer.http import Health
from consumer.loop import Loop
from consumer.metrics import Metrics
from consumer.settings import Settings
from model.errors import DependencyAway
from model.evaluate import RANKERS, judge
from model.evaluate import prepare as evaluated_fold
from model.events import Click, Event, decode_event, encode
from model.fold import Fold, FoldSettings
from model.outcome import Outcome
from model.taxonomy import Taxonomy
from tests.model.conftest import WordEncoder

ENCODER = WordEncoder()
TAXONOMY = Taxonomy(Taxonomy.read(), ENCODER)
POISON = [
    b"\xff\xfe{", b"", b"{}", b"nonsense", None, b"[" * 20_000, b'{"kind":"cl\xc3"', b'{"kind":"party","id":"1"}',
    b'{"kind":"click","id":"x","user":"u","at_ms":' + b"9" * 400 + b',"item":"i1"}', b"x" * 700_000,
    b'{"kind":"click","id":"x","user":"u","at_ms":4000000000000,"item":"i1"}',
]  # fmt: skip


def new_fold() -> Fold:
    return Fold(FoldSettings(), ENCODER, TAXONOMY)


def make(loop_settings: Settings, fold: Callable[[], Fold] = new_fold) -> Loop:
    return Loop(loop_settings, Model(ENCODER, TAXONOMY), lambda _: fold(), Metrics(), Health())


def prepare(bootstrap: str, partitions: int = 1) -> Settings:
    name = f"t{uuid.uuid4().hex[:8]}"
    settings = Settings(
        app_id=name,
        bootstrap=bootstrap,
        events_topic=f"{name}-events",
        items_topic=f"{name}-items",
        linger_seconds=0.05,
    )
    topics.create(AdminClient({"bootstrap.servers": bootstrap}), topics.wanted_by(settings, partitions))
    kinds = ["space alien robot ship", "love wedding kiss couple"]
    items = [(f"i{n}", {"item": f"i{n}", "title": f"{kinds[n % 2]} part{n}"}) for n in range(40)]
    send(settings, settings.items_topic, [(k.encode(), json.dumps(v).encode()) for k, v in items])
    return settings


def send(settings: Settings, topic: str, records: list[tuple[bytes | None, bytes | None]]) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap, "partitioner": "murmur2_random"})
    for key, value in records:
        producer.produce(topic, value, key)
    producer.flush(10)


def events(count: int, seed: int = 1) -> list[tuple[bytes | None, bytes | None]]:
    dice = random.Random(seed)
    made: list[tuple[bytes | None, bytes | None]] = []
    for n in range(count):
        user = f"u{dice.randrange(8)}"
        body: dict[str, object] = {"kind": "click", "id": f"e{seed}-{n}", "user": user, "at_ms": n * 1000}
        if dice.random() < 0.2:
            body |= {"kind": "search", "text": f"robot kiss {dice.randrange(9)}"}
        else:
            body["item"] = f"i{dice.randrange(40)}"
        made.append((user.encode(), json.dumps(body).encode()))
    return made


@contextmanager
def running(loop: Loop) -> Iterator[Loop]:
    try:
        yield loop
    finally:
        loop.close()


def turn_until(loop: Loop, folded: int, seconds: float = 30.0) -> None:
    """Turn until every partition's positions add up to `folded`."""
    deadline = time.monotonic() + seconds
    while sum(state.position.offset for state in loop.states.values()) < folded:
        assert time.monotonic() < deadline, f"{[s.position for s in loop.states.values()]} {loop.health.reason}"
        loop.turn()


def read(settings: Settings, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    """Return what a read_committed consumer sees."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap, "group.id": "reader", "isolation.level": "read_committed",
            "auto.offset.reset": "earliest", "enable.partition.eof": True,
        }
    )  # fmt: skip
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    found, ended = [], 0
    while ended < len(partitions):
        for message in consumer.consume(1000, 1.0):
            if message.error() is None:
                found.append((message.key(), message.value()))
            else:
                ended += 1
    consumer.close()
    return found


def lists(settings: Settings) -> list[tuple[str, list[str]]]:
    decoded = [json.loads(value or b"") for _, value in read(settings, settings.recommendations_topic)]
    return [(one["event"], [slot["item"] for slot in one["items"]]) for one in decoded]


def test_poison_goes_to_the_dead_letters_and_its_neighbours_are_served(bootstrap: str) -> None:
    settings = prepare(bootstrap)
    good = events(len(POISON))
    mixed = [record for pair in zip(good, [(b"k", value) for value in POISON], strict=True) for record in pair]
    send(settings, settings.events_topic, mixed)
    with running(make(settings)) as loop:
        turn_until(loop, len(mixed))
        assert loop.health.ready
        value = loop.metrics.registry.get_sample_value
        assert value("penchant_recommendations_total") == len(good)
        dead = [s.value for m in loop.metrics.dead_letters.collect() for s in m.samples if s.name.endswith("_total")]
        assert sum(dead) == len(POISON)
    assert len(read(settings, settings.dead_letters_topic)) == len(POISON)
    assert [event for event, _ in lists(settings)] == [json.loads(value or b"")["id"] for _, value in good]


def test_any_poll_size_and_a_crash_give_the_same_lists(bootstrap: str) -> None:
    records, results = events(60), []
    for poll in (1, 7, 500):
        settings = prepare(bootstrap).model_copy(update={"poll_events": poll, "snapshot_every": 25, "delta_ring": 16})
        send(settings, settings.events_topic, records)
        with running(make(settings)) as loop:
            turn_until(loop, len(records))
        results.append(lists(settings))
    assert len(results[0]) == len(records)
    assert results[0] == results[1] == results[2]

    settings = prepare(bootstrap).model_copy(update={"poll_events": 7, "snapshot_every": 25, "delta_ring": 16})
    send(settings, settings.events_topic, records)
    crashed = make(settings)
    turn_until(crashed, 30)
    # Dies within a transaction: records are written, none is committed.
    producer = crashed._transactions._producer
    producer.begin_transaction()
    producer.produce(settings.recommendations_topic, b"{}", b"u0")
    producer.produce(settings.state_topic, b"never", b"p", 0)
    producer.flush(5)
    with running(make(settings)) as loop:
        turn_until(loop, len(records))
    assert lists(settings) == results[0]
    crashed.close()


def test_random_bytes_and_a_failing_fold_do_not_stop_it(bootstrap: str) -> None:
    class Fragile(Fold):
        def apply(self, event: Event, vectors: object) -> Outcome:
            outcome = super().apply(event, vectors)  # type: ignore[arg-type]
            if event.id == "e1-10":
                raise RuntimeError("after the state was changed")
            return outcome

    settings = prepare(bootstrap)
    records = events(30)
    noise: list[tuple[bytes | None, bytes | None]] = [(os.urandom(3), os.urandom(n)) for n in range(40)]
    send(settings, settings.events_topic, records + noise)
    with running(make(settings, lambda: Fragile(FoldSettings(), ENCODER, TAXONOMY))) as loop:
        turn_until(loop, len(records) + len(noise))
        assert loop.metrics.registry.get_sample_value("penchant_dead_letters_total", {"reason": "failed"}) == 1
    assert len(lists(settings)) == len(records) - 1

    # The state is as if the failed event had never been.
    twin = prepare(bootstrap)
    send(twin, twin.events_topic, [r for n, r in enumerate(records) if n != 10])
    with running(make(twin)) as loop:
        turn_until(loop, len(records) - 1)
    assert sorted(lists(twin)) == sorted(lists(settings))


def test_items_come_and_go_and_users_are_forgotten(bootstrap: str) -> None:
    settings = prepare(bootstrap)
    send(settings, settings.events_topic, events(20))
    with running(make(settings)) as loop:
        turn_until(loop, 20)
        send(settings, settings.items_topic, [(b"i1", None), (b"new", b'{"item":"new","title":"robot"}'), (b"x", b"{")])
        deadline = time.monotonic() + 10
        while "new" not in loop.items and time.monotonic() < deadline:
            loop.turn()
        assert "i1" not in loop.items
        forget = encode({"kind": "forget", "id": "f", "user": "u1", "at_ms": 1})
        send(settings, settings.events_topic, [(b"u1", forget)])
        turn_until(loop, 21)
    state = dict(read(settings, settings.state_topic))
    assert state[b"u/u1"] is None
    assert dict(read(settings, settings.interests_topic))[b"u1"] is None


def test_users_unheard_of_are_erased_and_pictures_count(bootstrap: str) -> None:
    settings = prepare(bootstrap).model_copy(update={"modalities": ("image",)})
    pictures = {"i0": [1, 0], "i1": [0, 1], "i2": [1, 0], "odd": [1, 2, 3]}
    records: list[tuple[bytes | None, bytes | None]] = [
        (name.encode(), json.dumps({"item": name, "title": "robot", "vectors": {"image": vector}}).encode())
        for name, vector in pictures.items()
    ]
    send(settings, settings.items_topic, records)

    def click(user: str, item: str, day: int) -> tuple[bytes, bytes]:
        at_ms = day * 86_400_000
        return user.encode(), encode(Click(id=f"{user}-{item}", user=user, at_ms=at_ms, item=item))

    send(settings, settings.events_topic, [click("old", "i0", 0), click("here", "i0", 1)])
    folding = FoldSettings(modalities=("image",), ttl_days=10)
    with running(make(settings, lambda: Fold(folding, ENCODER, TAXONOMY))) as loop:
        turn_until(loop, 2)
        assert loop.metrics.registry.get_sample_value("penchant_bad_items_total", {"reason": "vector"}) == 1
        assert "odd" not in loop.items
        fold = loop.states[0].fold
        alike = fold.catalogue.modal[0][fold.catalogue.index["i0"]]
        assert [alike[fold.catalogue.index[i]] for i in ("i1", "i2", "i3")] == [0, 1, 0]
        send(settings, settings.events_topic, [click("here", "i2", 12)])
        turn_until(loop, 3)
        assert set(fold.profiles) == {"here"}
    assert dict(read(settings, settings.state_topic))[b"u/old"] is None
    assert dict(read(settings, settings.interests_topic))[b"old"] is None
    assert dict(read(settings, settings.recommendations_topic))[b"old"] is None
    with running(make(settings, lambda: Fold(folding, ENCODER, TAXONOMY))) as loop:
        turn_until(loop, 3)
        assert set(loop.states[0].fold.profiles) == {"here"}


@pytest.mark.parametrize("start", ["latest"])
def test_latest_starts_at_the_end(bootstrap: str, start: str) -> None:
    settings = prepare(bootstrap).model_copy(update={"start": start})
    send(settings, settings.events_topic, events(5))
    with running(make(settings)) as loop:
        turn_until(loop, 5)
        send(settings, settings.events_topic, events(3, seed=2))
        turn_until(loop, 8)
    assert len(lists(settings)) == 3


def test_a_coordinator_that_goes_away_between_fold_and_commit_loses_and_doubles_nothing(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepare(bootstrap).model_copy(update={"poll_events": 10})
    sent = events(40)
    send(settings, settings.events_topic, sent)
    with running(make(settings)) as loop:
        turn_until(loop, 10)
        commit, failures = loop._transactions.commit, [1, 1]

        def away(*args: object) -> None:
            if failures and failures.pop():
                raise DependencyAway("the coordinator does not answer")
            commit(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(loop._transactions, "commit", away)
        for _ in range(200):
            with suppress(DependencyAway):
                turn_until(loop, len(sent))
                break
        assert not failures
    assert [event for event, _ in lists(settings)] == [json.loads(value or b"")["id"] for _, value in sent]


def test_it_ranks_as_evaluate_does(bootstrap: str) -> None:
    settings = prepare(bootstrap)
    sent = events(150)
    send(settings, settings.events_topic, sent)
    with running(make(settings)) as loop:
        turn_until(loop, len(sent))
        value = loop.metrics.registry.get_sample_value
        served = {name: value("penchant_hits_total", {"ranker": name}) or 0.0 for name in RANKERS}
        count, items = value("penchant_evaluated_total"), [item for item, _ in loop.items]
    judged = judge(evaluated_fold(items, ENCODER, FoldSettings()), [decode_event(v) for _, v in sent], ENCODER)
    assert len(judged) == count
    assert served == {name: sum(0 <= one.evaluation.ranks[name] < 10 for one in judged) for name in RANKERS}
