"""The loop without a model: what consuming, decoding, state and transactions cost, beside a bare pass-through."""

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from confluent_kafka import Consumer, Producer, TopicPartition

from consumer import kafka, topics
from consumer.broker import EmbeddedBroker
from consumer.embedding import Model
from consumer.http import Health
from consumer.loop import Loop
from consumer.metrics import Metrics
from consumer.replay import send_events
from consumer.settings import Settings
from consumer.transaction import Produce
from export.encoder import OnnxEncoder
from model.errors import Fatal
from model.events import Event, Recommendation
from model.fold import Fold, FoldSettings
from model.outcome import Outcome
from model.profile import Profile
from model.taxonomy import Taxonomy
from tests.bench.figures import Figure, Section, quantile

SECONDS = 120.0
POLLS = (100, 500, 1000)
"""Events a transaction, at most."""


class NoModel(Fold):
    """Answers every event with an empty list, and keeps an empty profile of everyone."""

    def apply(self, event: Event, vectors: Mapping[str, object]) -> Outcome:
        """Count the event and answer it."""
        profile = self.profiles.setdefault(event.user, Profile())
        profile.events += 1
        identity = f"{event.id}.r"
        return Outcome(Recommendation(identity, event.user, event.at_ms, event.id, self.version, 0, "greedy", []))


def bench(events: Sequence[Event], encoder: OnnxEncoder, count: int, rounds: int) -> Section:
    """Run `count` events through both, for each number of events a transaction; the order changes with every round."""
    figures = []
    with (
        tempfile.TemporaryDirectory(prefix="penchant-bench-") as folder,
        EmbeddedBroker.start(Path(folder)) as broker,
    ):
        source = "bench-events"
        topics.create(topics.admin(broker.bootstrap), topics.wanted("none", events=source, items="bench-items"))
        sent = [event for start in range(0, count, len(events)) for event in events[: count - start]]
        send_events(broker.bootstrap, source, sent)
        number = 0
        for poll in POLLS:
            rates: dict[Callable[..., tuple[float, list[float]]], list[float]] = {_ours: [], _bare: []}
            commits: list[float] = []
            for turn in range(rounds):
                for system in (_ours, _bare) if turn % 2 == 0 else (_bare, _ours):
                    number += 1
                    settings = Settings(
                        app_id=f"bench{number}", bootstrap=broker.bootstrap, events_topic=source,
                        items_topic="bench-items", poll_events=poll,
                    )  # fmt: skip
                    topics.create(topics.admin(broker.bootstrap), topics.wanted_by(settings))
                    rate, took = system(settings, encoder, len(sent))
                    rates[system].append(rate)
                    commits += took if system is _ours else []
            what = f"{poll} events a transaction"
            figures.append(Figure(what, "events / s", median(rates[_ours]), median(rates[_bare])))
            figures.append(Figure(f"{what}, begin to committed, p50", "ms", round(1000 * quantile(commits, 0.5), 1)))
    return Section(
        f"Loop without a model, {len(sent):,} events",
        figures,
        [
            "Ours: the loop of serve with a fold that answers with empty lists: decoded events, a list each, a profile "
            "of each user, deltas, snapshots, position, offsets, exactly once.",
            "Bare: consume, produce the bytes as they are, send offsets, commit: Kafka's own limit on this machine, "
            "with the broker on it.",
        ],
        ("ours", "bare"),
    )


def _ours(settings: Settings, encoder: OnnxEncoder, count: int) -> tuple[float, list[float]]:
    def new_fold(model: Model) -> Fold:
        return NoModel(FoldSettings(), model.encoder, model.taxonomy)

    model = Model(encoder, Taxonomy(Taxonomy.read(None), encoder))
    loop = Loop(settings, model, new_fold, Metrics(), Health())
    took: list[float] = []
    commit = loop._transactions.commit

    def timed(records: Iterable[Produce], consumer: Consumer, offsets: list[TopicPartition]) -> None:
        began = time.perf_counter()
        commit(records, consumer, offsets)
        took.append(time.perf_counter() - began)

    loop._transactions.commit = timed  # type: ignore[method-assign]
    try:

        def folded() -> int:
            return sum(state.position.offset for state in loop.states.values())

        deadline = time.monotonic() + SECONDS
        while not (first := folded()):  # the first transaction, with what starts up in it, is not counted
            loop.turn()
            _in_time(deadline)
        began = time.perf_counter()
        while folded() < count:
            loop.turn()
            _in_time(deadline)
        return (count - first) / (time.perf_counter() - began), took
    finally:
        loop.close()


def _in_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise Fatal(f"the loop did not come to the end within {SECONDS:.0f} s")


def _bare(settings: Settings, _encoder: OnnxEncoder, count: int) -> tuple[float, list[float]]:
    consumer = kafka.group_consumer(settings, lambda _: None)
    producer: Producer = kafka.producer(settings, lambda _: None)
    producer.init_transactions(10)
    consumer.assign([TopicPartition(settings.events_topic, 0, 0)])
    done, first, began, took = 0, 0, 0.0, list[float]()
    try:
        while done < count:
            messages = consumer.consume(settings.poll_events, 0.1)
            if not messages:
                continue
            start = time.perf_counter()
            producer.begin_transaction()
            for message in messages:
                producer.produce(settings.recommendations_topic, message.value(), message.key())
            place = TopicPartition(settings.events_topic, 0, (messages[-1].offset() or 0) + 1)
            producer.send_offsets_to_transaction([place], consumer.consumer_group_metadata(), 10)
            producer.commit_transaction(10)
            took.append(time.perf_counter() - start)
            done += len(messages)
            if not first:
                first, began = done, time.perf_counter()
        return (done - first) / (time.perf_counter() - began), took
    finally:
        consumer.close()
