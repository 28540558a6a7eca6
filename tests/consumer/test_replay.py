"""Replay: order, fresh texts, pace; the broker is a stand-in here."""

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import replay
from consumer.mapping import Mapping
from model.errors import DependencyAway, PenchantError
from model.events import Click, Event, Rating, Review, Search, decode_event


def clicks(users: str) -> list[Event]:
    return [Click(id=f"e{n}", user=user, item="i", at_ms=n * 1000) for n, user in enumerate(users)]


@given(st.text("abcd", max_size=40))
def test_interleaving_keeps_every_event_and_each_users_order(users: str) -> None:
    events = clicks(users)
    mixed = replay.interleave(events)
    assert sorted(e.at_ms for e in mixed) == [e.at_ms for e in events]
    for user in set(users):
        assert [e for e in mixed if e.user == user] == [e for e in events if e.user == user]


def test_interleaving_goes_round() -> None:
    assert "".join(e.user for e in replay.interleave(clicks("aaabbc"))) == "abcaba"


def test_fresh_texts_are_new_seeded_and_as_many_as_asked() -> None:
    events: list[Event] = [Rating(id=f"e{n}", user="u", item="i", value=4, at_ms=n) for n in range(4000)]
    out = list(replay.with_fresh_text(events, 5, seed=1))
    texts = [event.text for event in out if isinstance(event, Search)]
    assert len(set(texts)) == len(texts)
    assert 150 < len(texts) < 250
    assert all(8 <= len(text.split()) <= 18 for text in texts)
    assert [event.id for event in out] == [event.id for event in events]
    assert out == list(replay.with_fresh_text(events, 5, seed=1))
    assert out != list(replay.with_fresh_text(events, 5, seed=2))


def test_a_review_keeps_its_item_when_it_gets_a_fresh_text() -> None:
    review = Review(id="e", user="u", item="i", text="old", at_ms=1)
    (fresh,) = replay.with_fresh_text([review], 100)
    assert isinstance(fresh, Review)
    assert fresh.item == "i"
    assert fresh.text != "old"


class FakeProducer:
    """Keeps what is produced; its queue is full every third time; `refuse` fails every delivery."""

    refuse: Any = None

    fatal: Any = None

    def __init__(self, config: dict[str, Any]) -> None:
        self.states = iter(["WaitPID", *["Assigned"] * 10])
        self.config, self.sent, self.calls = config, list[tuple[str, bytes, bytes, int]](), 0
        FakeProducer.last = self

    def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None)})

    def produce(self, topic: str, value: bytes, key: bytes, timestamp: int) -> None:
        self.calls += 1
        if self.calls % 3 == 0:
            raise BufferError
        self.sent.append((topic, key, value, timestamp))
        self.config["on_delivery"](self.refuse, None)

    def poll(self, timeout: float = 0) -> int:
        if self.fatal is not None:
            self.config["error_cb"](self.fatal)
        elif timeout and (state := next(self.states, None)):
            self.config["stats_cb"](json.dumps({"eos": {"idemp_state": state}}))
        time.sleep(min(timeout, 0.01))
        return 0

    def flush(self, _timeout: float) -> int:
        return 0

    last: "FakeProducer"


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> type[FakeProducer]:
    monkeypatch.setattr(replay, "Producer", FakeProducer)
    return FakeProducer


def test_records_are_keyed_by_user_stamped_now_and_none_is_lost(producer: type[FakeProducer]) -> None:
    events, told = clicks("abcabcabc"), list[int]()
    replay.send_events("b", "events", events, progress=told.append)
    sent = producer.last.sent
    assert producer.last.config["partitioner"] == "murmur2_random"
    assert producer.last.config["enable.idempotence"] is True
    assert next(producer.last.states) == "Assigned"  # the id was waited for
    assert [decode_event(value) for _, _, value, _ in sent] == events
    assert all(key.decode() == event.user for (_, key, _, _), event in zip(sent, events, strict=True))
    assert all(abs(stamp - time.time() * 1000) < 60_000 for *_, stamp in sent)
    assert sum(told) == len(events)


@pytest.mark.parametrize(("pace", "seconds"), [({"rate": 40.0}, 0.2), ({"speed": 40.0}, 0.2), ({}, 0.0)])
def test_the_pace_is_kept(producer: type[FakeProducer], pace: dict[str, float], seconds: float) -> None:
    took = replay.send_events("b", "events", clicks("a" * 9), **pace)  # type: ignore[arg-type]
    assert seconds <= took < seconds + 5


@pytest.mark.parametrize("pace", [{"rate": 0.0}, {"speed": -1.0}, {"rate": 1.0, "speed": 1.0}])
def test_a_senseless_pace_is_refused(pace: dict[str, float]) -> None:
    with pytest.raises(PenchantError):
        replay.send_events("b", "events", clicks("a"), **pace)  # type: ignore[arg-type]


def test_a_refused_record_is_an_error(producer: type[FakeProducer], monkeypatch: pytest.MonkeyPatch) -> None:
    from confluent_kafka import KafkaError

    monkeypatch.setattr(producer, "refuse", KafkaError(KafkaError._MSG_TIMED_OUT))
    with pytest.raises(DependencyAway, match="refused"):
        replay.send_events("b", "events", clicks("a"))


def test_a_fast_pace_does_not_spin(producer: type[FakeProducer], monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    out = replay._Out("b", {}, paced=True)
    monkeypatch.setattr(replay, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    for number in range(100):
        out.wait_until(number / 5000)
    assert now[0] == pytest.approx(0.02)
    assert slept == [replay.TICK_SECONDS] * 4


def test_a_producer_that_gets_no_id_says_so(producer: type[FakeProducer], monkeypatch: pytest.MonkeyPatch) -> None:
    from confluent_kafka import KafkaError

    monkeypatch.setattr(producer, "fatal", KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, "no right", True))
    with pytest.raises(DependencyAway, match="no producer id"):
        replay.send_events("b", "events", clicks("a"))


def job(**more: Any) -> replay.Replay:
    return replay.Replay(source="zh", bootstrap="b", events_topic="events", items_topic="items", **more)


def test_a_mapping_that_would_not_read_a_replay_is_refused_before_anything_is_sent(
    producer: type[FakeProducer],
) -> None:
    fields = {"id": "uuid", "user": "actor.id", "at_ms": "ts", "item": "sku"}
    foreign = Mapping(fields=fields, constants={"kind": "click"})
    with pytest.raises(PenchantError, match="dead-letter"):
        replay.run(job(decode=foreign.decode))
    seconds = Mapping(fields={name: name for name in ("id", "user", "at_ms", "item", "kind")}, time_unit="s")
    with pytest.raises(PenchantError, match="other events than these"):
        job(decode=seconds.decode).check(clicks("ab")[1])


def test_a_mapping_does_not_matter_to_the_catalogue_nor_where_it_maps_nothing(producer: type[FakeProducer]) -> None:
    foreign = Mapping(fields={"id": "uuid", "user": "u", "at_ms": "ts"}, constants={"kind": "request"})
    assert "items to items" in replay.run(job(decode=foreign.decode, only="items"))
    job(decode=Mapping(fields={name: name for name in ("id", "user", "at_ms", "item", "kind")}).decode).check(
        clicks("a")[0]
    )
