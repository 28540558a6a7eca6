"""Full queues, full disks, records too large, state that was deleted, clocks that jump: loud, or as if nothing was."""

import os
import resource
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

import consumer.batch
import consumer.transaction
from consumer import kafka, topics
from consumer.broker import EmbeddedBroker
from consumer.loop import Loop
from consumer.settings import Settings
from model.events import Click, encode
from tests.broker.outcome import Left, answered, check_same, left_by, prepared, undisturbed
from tests.broker.process import SECONDS, Serve, wait_for
from tests.broker.test_away import turning
from tests.broker.test_serve import events, make, running, send, turn_until
from tests.broker.test_twice import open_transactions, put_before, turn_until_fatal

SENT = events(60)


@pytest.fixture(scope="module")
def wanted(bootstrap: str) -> Left:
    """What sixty events lead to where nothing goes wrong."""
    return undisturbed(bootstrap, SENT)


def test_a_producer_whose_queue_is_full(bootstrap: str, wanted: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    full: list[int] = []

    class Small(Producer):
        def __init__(self, config: dict[str, Any]) -> None:
            super().__init__(config | {"queue.buffering.max.messages": 5})

        def produce(self, *args: Any) -> None:
            try:
                super().produce(*args)
            except BufferError:
                full.append(1)
                raise

    monkeypatch.setattr(kafka, "Producer", Small)
    settings = prepared(bootstrap, poll_events=20)
    send(settings, settings.events_topic, SENT)
    with running(make(settings)) as loop:
        turn_until(loop, len(SENT))
        assert loop.metrics.registry.get_sample_value("penchant_transactions_total", {"outcome": "aborted"}) is None
    assert full
    check_same(left_by(settings), wanted)


def test_lists_that_are_too_large_are_left_out_and_counted(
    bootstrap: str, wanted: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = sorted(len(encode(one)) for one in wanted.lists)
    limit = sizes[len(sizes) // 2]
    monkeypatch.setattr(consumer.batch, "MAX_RECORD_BYTES", limit)
    settings = prepared(bootstrap)
    send(settings, settings.events_topic, SENT)
    with running(make(settings)) as loop:
        turn_until(loop, len(SENT))
        value = loop.metrics.registry.get_sample_value
        left_out = [value("penchant_problems_total", {"problem": f"{what}_too_large"}) or 0
                    for what in ("list", "interests")]  # fmt: skip
    # What is left out changes nothing of what is learnt, nor of the other lists.
    wanted_lists = [one for one in wanted.lists if len(encode(one)) <= limit]
    wanted_interests = [one for one in wanted.interests if len(encode(one)) <= limit]
    assert 0 < len(wanted_lists) < len(wanted.lists)
    assert left_out == [len(wanted.lists) - len(wanted_lists), len(wanted.interests) - len(wanted_interests)]
    check_same(left_by(settings), Left(**vars(wanted) | {"lists": wanted_lists, "interests": wanted_interests}))


def delete_state(settings: Settings, before: int) -> None:
    """Delete what the state topic has before an offset, as a wrong cleanup.policy or a tool would."""
    client = topics.admin(settings.bootstrap)
    policy = ConfigEntry("cleanup.policy", "compact,delete", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, settings.state_topic, incremental_configs=[policy])
    client.incremental_alter_configs([topic])[topic].result(10)
    for done in client.delete_records([TopicPartition(settings.state_topic, 0, before)]).values():
        done.result(10)


@pytest.mark.parametrize("every", [10**6, 25])
def test_a_changelog_whose_beginning_was_deleted(bootstrap: str, every: int) -> None:
    """Without a snapshot deltas are missing; with one, that needs none of them, the profiles of users are."""
    settings = prepared(bootstrap, snapshot_every=every, delta_ring=4096)
    # One that comes once, and is never heard of again.
    early = encode(Click(id="early", user="early", at_ms=0, item="i1"))
    send(settings, settings.events_topic, [(b"early", early), *SENT])
    with running(make(settings)) as loop:
        turn_until(loop, 1 + len(SENT))
        users = {user.encode() for user in loop.states[0].fold.profiles}
        log = loop._consumer.get_watermark_offsets(TopicPartition(settings.state_topic, 0), timeout=10)[1]
        complete = loop.states[0].complete
    assert (complete > 0) == (every == 25)
    places = [message for message in placed(settings) if message[1][:1] in (b"p", b"s", b"u")]
    if complete:  # right before the newest snapshot begins: everything that a restore of the tables needs is after it
        first = min(offset for offset, key in places if key.startswith(b"s/"))
    else:
        first = min(offset for offset, key in places if key == b"p")
    lost = users - {key[2:] for offset, key in places if offset >= first and key.startswith(b"u/")}
    assert 0 < first < log
    assert lost or not complete, "nobody would be missed"
    delete_state(settings, first)
    with running(make(settings)) as loop:
        said = turn_until_fatal(loop, 10.0)
    assert "new app_id" in said


def placed(settings: Settings) -> list[tuple[int, bytes]]:
    """Return the offsets and keys of the state topic, only the newest of each key."""
    consumer = kafka.table_consumer(settings, lambda error: None)
    consumer.assign([TopicPartition(settings.state_topic, 0, 0)])
    newest: dict[bytes, int] = {}
    try:
        while True:
            for message in consumer.consume(1000, 0.05):
                if message.error() is not None:
                    return [(offset, key) for key, offset in newest.items()]
                newest[message.key() or b""] = message.offset() or 0
    finally:
        consumer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the files of a process that runs")
@pytest.mark.timeout(180)
def test_a_broker_whose_disk_is_full(wanted: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "TRANSACTION_TIMEOUT_SECONDS", 3)  # so long it tries to end the one that fails
    with EmbeddedBroker.start(tmp_path) as broker:
        settings = prepared(broker.bootstrap)
        send(settings, settings.events_topic, SENT)

        def fill() -> None:
            growing = tmp_path / "kafka" / f"{settings.state_topic}-0" / f"{0:020}.log"
            limit = growing.stat().st_size + 4096
            assert limit > os.path.getsize(tmp_path / "broker.log")
            resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (limit, limit))

        loop = make(settings)
        turn_until(loop, 20)
        put_before(loop, "begin_transaction", fill)
        with turning(loop):
            wait_for(lambda: not broker.is_running(), "the broker goes on with a full disk")
            wait_for(lambda: not loop.health.ready, "it is ready without a broker")
            assert loop.health.alive
            acknowledged = loop.metrics.recommendations._value.get()
            assert 20 <= acknowledged < len(SENT), "nothing was left to do"
            with EmbeddedBroker.start(tmp_path, int(broker.bootstrap.rpartition(":")[2])):
                wait_for(lambda: loop.health.ready, "not ready again")
                wait_for(lambda: answered(settings) >= len(SENT), "it does not go on")
                found = left_by(settings)
    check_same(found, wanted)


class Unheard(Serve):
    """A `serve` whose log is on a full disk."""

    def __init__(self, settings: Settings, bundle: Path, folder: Path) -> None:
        (folder / "serve.log").symlink_to("/dev/full")
        super().__init__(settings, bundle, folder)

    def text(self) -> str:
        return "its log is on a full disk"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux and some others have a disk that is always full")
def test_serve_goes_on_where_it_cannot_log(bootstrap: str, shipped: Path, tmp_path: Path) -> None:
    settings = prepared(bootstrap)
    send(settings, settings.events_topic, SENT)
    with Unheard(settings, shipped, tmp_path) as serve:
        wait_for(lambda: serve.is_ready() and answered(settings) == len(SENT), "not all are answered")
        assert serve.end() == 0


class Clock(SimpleNamespace):
    """The wall clock of `consumer.transaction`, which somebody may set."""

    ahead_seconds = 0.0

    def time(self) -> float:
        return time.time() + self.ahead_seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.mark.parametrize("jump_seconds", [3600.0, -3600.0])
def test_a_clock_that_is_set_within_a_transaction(
    bootstrap: str, wanted: Left, monkeypatch: pytest.MonkeyPatch, jump_seconds: float
) -> None:
    """Also within one that the coordinator gives up, which is known by the time that it took."""
    clock = Clock()
    monkeypatch.setattr(consumer.transaction, "time", clock)
    monkeypatch.setattr(consumer.transaction, "GRACE_SECONDS", 60.0)
    monkeypatch.setattr(kafka, "TRANSACTION_TIMEOUT_SECONDS", 2)  # it looks every 10 s, however short that is
    settings = prepared(bootstrap)
    send(settings, settings.events_topic, SENT)

    def jump() -> None:
        clock.ahead_seconds += jump_seconds

    def jump_and_stand_still() -> None:
        jump()
        loop._transactions._producer.flush(10)
        assert open_transactions(settings)
        wait_for(lambda: not open_transactions(settings), "the coordinator never ends the transaction")

    with running(make(settings)) as loop:
        turn_until(loop, 20)
        assert not put_before_and_turn(loop, jump, 30)
        assert not put_before_and_turn(loop, jump_and_stand_still, len(SENT))
        assert loop.metrics.registry.get_sample_value("penchant_transactions_total", {"outcome": "aborted"}) == 1
    check_same(left_by(settings), wanted)


def put_before_and_turn(loop: Loop, what: Any, count: int) -> list[int]:
    left = put_before(loop, "commit_transaction", what)
    turn_until(loop, count, SECONDS)
    return left
