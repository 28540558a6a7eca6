"""Drift in a real stream: it is on /metrics, and in a topic where somebody wants to be asked for a tuning."""

import json
import random

import msgspec
import pytest

from consumer import topics
from consumer.loop import Loop
from consumer.settings import Settings
from consumer.transaction import Aborted
from model.errors import DependencyAway
from model.events import TuneRequest
from tests.broker.test_serve import make, prepare, read, running, send, turn_until

BEFORE, AFTER = 600, 400
Records = list[tuple[bytes | None, bytes | None]]


def clicks(count: int, popular: range, start: int) -> Records:
    """Return clicks of users who come for two films, nearly always popular ones."""
    dice = random.Random(start)
    made: Records = []
    for n in range(start, start + count):
        user, items = f"u{n // 2}", popular if dice.random() < 0.9 else range(40)
        body = {"kind": "click", "id": f"e{n}", "user": user, "at_ms": n * 1000, "item": f"i{dice.choice(items)}"}
        made.append((user.encode(), json.dumps(body).encode()))
    return made


SENT = [*clicks(BEFORE, range(8), 0), *clicks(AFTER, range(20, 40), BEFORE)]


def prepared(bootstrap: str, **more: object) -> Settings:
    settings = prepare(bootstrap).model_copy(update={"poll_events": 50, "drift_evaluations": 10, **more})
    topics.create(topics.admin(bootstrap), topics.wanted_by(settings))
    return settings


def detected(loop: Loop) -> float:
    return sum(s.value for m in loop.metrics.drift_detected.collect() for s in m.samples if s.name.endswith("_total"))


def asked(settings: Settings) -> list[TuneRequest]:
    records = read(settings, settings.tune_requests_topic)
    assert {key for key, _ in records} <= {settings.app_id.encode()}
    return [msgspec.json.decode(value or b"", type=TuneRequest) for _, value in records]


def test_a_shift_is_counted_and_asks_once(bootstrap: str) -> None:
    settings = prepared(bootstrap, tune_requests=True)
    send(settings, settings.events_topic, SENT)
    with running(make(settings)) as loop:
        turn_until(loop, BEFORE)
        assert detected(loop) == 0
        turn_until(loop, len(SENT))
        assert detected(loop) >= 1
        assert loop.metrics.registry.get_sample_value("penchant_tune_requests_total") == 1
        model = loop.serving.model.version
    (request,) = asked(settings)
    assert BEFORE * 1000 <= request.at_ms < len(SENT) * 1000
    assert request.after > request.before
    assert request.model == model


def test_nobody_is_asked_where_it_is_not_configured(bootstrap: str) -> None:
    settings = prepared(bootstrap)
    send(settings, settings.events_topic, SENT)
    with running(make(settings)) as loop:
        turn_until(loop, len(SENT))
        assert detected(loop) >= 1
        assert loop.metrics.registry.get_sample_value("penchant_tune_requests_total") == 0
    assert settings.tune_requests_topic not in topics.admin(bootstrap).list_topics(timeout=10).topics


def test_a_topic_that_is_missing_is_said_before_anything_is_read(bootstrap: str) -> None:
    settings = prepare(bootstrap).model_copy(update={"tune_requests": True})
    with running(make(settings)) as loop, pytest.raises(DependencyAway, match=r"tune-requests is missing: .*apply"):
        turn_until(loop, 1)


@pytest.mark.parametrize(("raised", "count"), [(Aborted("planted"), 1), (DependencyAway("planted"), 0)])
def test_a_transaction_that_fails_neither_doubles_nor_loses_more_than_is_said(
    bootstrap: str, raised: Exception, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepared(bootstrap, tune_requests=True)
    send(settings, settings.events_topic, SENT)
    with running(make(settings)) as loop:
        commit = loop._transactions.commit
        failed: list[int] = []

        def failing(records: list[tuple[str, bytes, bytes, int]], *rest: object) -> None:
            if any(topic == settings.tune_requests_topic for topic, *_ in records) and not failed:
                failed.append(1)
                raise raised
            commit(records, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(loop._transactions, "commit", failing)
        try:
            turn_until(loop, len(SENT))
        except DependencyAway:  # as `run` does, go on
            turn_until(loop, len(SENT))
        assert failed
    assert len(asked(settings)) == count
