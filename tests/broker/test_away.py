"""Kafka goes away and comes back: serve waits, says so once, and goes on by itself, every event answered once."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumer import kafka
from consumer.broker import EmbeddedBroker
from consumer.loop import Loop
from tests.broker.process import Serve, wait_for
from tests.broker.test_serve import events, lists, make, prepare, send

Records = list[tuple[bytes | None, bytes | None]]


def ids(records: Records) -> list[str]:
    return [json.loads(value or b"")["id"] for _, value in records]


@contextmanager
def turning(loop: Loop) -> Iterator[Loop]:
    """Let the loop run in a thread; what it raised is raised here."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            loop.run()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield loop
    finally:
        loop.stop.set()
        thread.join()
        loop.close()
    assert not raised, raised


@pytest.mark.timeout(240)
def test_serve_outlives_its_broker(shipped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kafka"
    with EmbeddedBroker.start(folder) as broker:
        bootstrap = broker.bootstrap
        settings = prepare(bootstrap).model_copy(update={"poll_events": 20})
    port = int(bootstrap.rpartition(":")[2])
    first, second, third = events(20), events(400, seed=2), events(20, seed=3)

    with Serve(settings, shipped, tmp_path) as serve:  # before there is a broker
        wait_for(lambda: "no broker" in serve.get("/readyz")[1], "it does not say that there is no broker")
        serve.turns()
        assert (serve.get("/readyz")[0], serve.get("/healthz")[0]) == (503, 200)
        assert serve.said("warning", "error", "critical") == ["kafka is away"]

        with EmbeddedBroker.start(folder, port) as broker:
            wait_for(serve.is_ready, f"not ready with a broker: {serve.get('/readyz')}")
            send(settings, settings.events_topic, first)
            wait_for(lambda: serve.value("penchant_recommendations_total") == 20, "the first events have no lists")
            send(settings, settings.events_topic, second)
            wait_for(lambda: serve.value("penchant_recommendations_total") >= 60, "it does not go on")
            broker.kill()
        wait_for(lambda: not serve.is_ready(), "it is ready without a broker")
        assert serve.value("penchant_recommendations_total") < 420, "nothing was left to do when the broker died"
        serve.turns()
        assert (serve.get("/readyz")[0], serve.get("/healthz")[0]) == (503, 200)
        assert serve.said("warning", "error", "critical").count("kafka is away") == 2

        with EmbeddedBroker.start(folder, port):
            wait_for(serve.is_ready, f"not ready again: {serve.get('/readyz')}")
            send(settings, settings.events_topic, third)
            wait_for(lambda: len(lists(settings)) >= 440, "not all events have lists")
            assert serve.end() == 0
            assert [event for event, _ in lists(settings)] == ids(first + second + third)
        assert serve.said("info").count("kafka is back") == 2
        # Whether the broker dies within a transaction or between two is chance; away it is once for each outage.
        said = [line for line in serve.said("warning") if line != "transaction aborted; rewinding"]
        assert said == ["kafka is away"] * 2
        assert serve.said("error", "critical") == []


@pytest.mark.timeout(240)
def test_a_broker_that_stands_still_longer_than_a_transaction_may_take(tmp_path: Path) -> None:
    sent = events(300)
    with EmbeddedBroker.start(tmp_path) as broker:
        settings = prepare(broker.bootstrap).model_copy(update={"poll_events": 5})
        send(settings, settings.events_topic, sent)
        with turning(make(settings)) as loop:
            done = loop.metrics.recommendations._value.get
            wait_for(lambda: done() >= 20, "no lists")
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                stopped_at = time.monotonic()
                wait_for(lambda: not loop.health.ready, "it is ready though the broker stands still")
                assert done() < len(sent)
                assert loop.health.alive
                # The premise, not a hope: the coordinator must find that the transaction took too long.
                time.sleep(max(0.0, stopped_at + kafka.TRANSACTION_TIMEOUT_SECONDS + 2 - time.monotonic()))
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            wait_for(lambda: sum(s.position.offset for s in list(loop.states.values())) >= len(sent), "not all folded")
            wait_for(lambda: loop.health.ready, f"not ready again: {loop.health.reason}")
        assert [event for event, _ in lists(settings)] == ids(sent)


@pytest.mark.timeout(120)
def test_it_can_be_stopped_while_kafka_is_away(shipped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kafka"
    with EmbeddedBroker.start(folder) as broker, Serve(prepare(broker.bootstrap), shipped, tmp_path) as serve:
        wait_for(serve.is_ready, "not ready")
        broker.kill()
        wait_for(lambda: not serve.is_ready(), "it is ready without a broker")
        assert serve.end() == 0
