"""Instances come, go and die in the middle of the stream: each event is answered once, and as if nobody had."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType
from structlog.testing import capture_logs

from consumer import kafka, topics
from consumer.batch import Work
from consumer.broker import dying_with_parent
from consumer.loop import Loop
from consumer.settings import Settings
from consumer.state import PartitionState
from model.errors import DependencyAway
from tests.broker.process import wait_for
from tests.broker.test_away import ids, turning
from tests.broker.test_serve import events, lists, make, prepare, running, send, turn_until
from tests.broker.test_twice import put_before

SESSION_SECONDS = 6
PROGRAM = """
from consumer.settings import load
from consumer.state import PartitionState
from tests.broker.test_serve import make
PartitionState.tell = lambda self: []
make(load()).run()
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let partitions tell each other nothing: when they hear what is a matter of time, and so are then their lists."""
    monkeypatch.setattr(PartitionState, "tell", lambda self: [])


def together(loops: list[Loop], done: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Turn the loops, one after the other, until it is done."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what}: {[(list(one.states), one.health.reason) for one in loops]}"
        for one in loops:
            with suppress(DependencyAway):
                one.turn()


def folded(loops: list[Loop]) -> int:
    """Return how many events the loops' partitions have behind them."""
    return sum(state.position.offset for one in loops for state in list(one.states.values()))


def held(loops: list[Loop]) -> list[list[int]]:
    """Return the partitions that each of the loops has restored."""
    return [sorted(one.states) for one in loops]


def undisturbed(bootstrap: str, count: int, partitions: int) -> list[tuple[str, list[str]]]:
    """Return the lists of as many events where one instance reads them all."""
    settings = prepare(bootstrap, partitions)
    send(settings, settings.events_topic, events(count))
    with running(make(settings)) as loop:
        turn_until(loop, count)
    return sorted(lists(settings))


def second_of(settings: Settings) -> Settings:
    return settings.model_copy(update={"ordinal": 1})


@pytest.mark.timeout(180)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_second_instance_joins_and_leaves_in_the_middle(bootstrap: str, protocol: str) -> None:
    changed = {"poll_events": 5, "group_protocol": protocol, "session_timeout_seconds": SESSION_SECONDS}
    settings, sent = prepare(bootstrap, partitions=2).model_copy(update=changed), events(120)
    send(settings, settings.events_topic, sent[:40])
    with running(make(settings)) as first:
        turn_until(first, 20)
        with running(make(second_of(settings))) as second:

            def join() -> None:  # folded, and not yet committed
                for _ in range(5):
                    second.turn()

            left = put_before(first, "commit_transaction", join)
            together([first, second], lambda: sorted(map(len, held([first, second]))) == [1, 1], "not shared")
            assert not left
            send(settings, settings.events_topic, sent[40:80])
            together([first, second], lambda: folded([first, second]) == 80, "not all folded by two")
            send(settings, settings.events_topic, sent[80:])
            for one in (first, second):
                one.turn()
        together([first], lambda: held([first]) == [[0, 1]] and folded([first]) == 120, "not all folded by the first")
    assert sorted(lists(settings)) == undisturbed(bootstrap, 120, 2)


@pytest.mark.timeout(180)
def test_the_only_partition_goes_from_one_to_another_and_back(bootstrap: str) -> None:
    changed = {"poll_events": 7, "session_timeout_seconds": SESSION_SECONDS}
    settings, sent = prepare(bootstrap).model_copy(update=changed), events(90)
    send(settings, settings.events_topic, sent)
    with running(make(second_of(settings))) as second:
        with running(make(settings)) as first:
            turn_until(first, 20)
            for _ in range(3):
                second.turn()
        together([second], lambda: folded([second]) >= 50, "not taken over")
        assert folded([second]) < 90
        with running(make(settings)) as again:
            for _ in range(3):
                again.turn()
            second.close()
            together([again], lambda: folded([again]) == 90, "not taken back")
    assert sorted(lists(settings)) == undisturbed(bootstrap, 90, 1)


@contextmanager
def process(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a loop in a process of its own; it is killed at the end of the block at the latest."""
    told = {name: str(getattr(settings, name)) for name in settings.model_fields_set}
    environment = os.environ | {f"PENCHANT_{name.upper()}": value for name, value in told.items()}
    child = subprocess.Popen(
        dying_with_parent([sys.executable, "-c", PROGRAM]), stdin=subprocess.DEVNULL, env=environment
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_the_other_takes_over_from_one_that_is_killed(bootstrap: str, protocol: str) -> None:
    if protocol == "consumer" and os.environ.get("PENCHANT_TEST_BOOTSTRAP"):
        pytest.skip("that broker may not allow a session time-out as short as this")
    changed = {"poll_events": 5, "group_protocol": protocol, "session_timeout_seconds": SESSION_SECONDS}
    settings, sent = prepare(bootstrap, partitions=2).model_copy(update=changed), events(400)
    with turning(make(settings)) as mine, process(second_of(settings)) as other:
        wait_for(lambda: held([mine]) == [[0, 1]], "nothing given")
        send(settings, settings.events_topic, sent[:40])
        wait_for(lambda: len(mine.states) == 1 and len(lists(settings)) == 40, "not shared")
        send(settings, settings.events_topic, sent[40:])
        wait_for(lambda: len(lists(settings)) >= 60, "nobody reads")
        other.kill()
        killed_at = time.monotonic()
        wait_for(lambda: held([mine]) == [[0, 1]], "not taken over")
        taken = time.monotonic() - killed_at
        wait_for(lambda: folded([mine]) == 400, "not all folded")
    # What it left open ends by itself: its time-out, and how often the coordinator looks, both 10 s.
    assert taken < SESSION_SECONDS + 2 * kafka.TRANSACTION_TIMEOUT_SECONDS + 5
    assert sorted(lists(settings)) == undisturbed(bootstrap, 400, 2)


def time_out_on_the_broker(settings: Settings) -> dict[str, str]:
    client, group = topics.admin(settings.bootstrap), ConfigResource(ResourceType.GROUP, settings.app_id)
    found = client.describe_configs([group])[group].result(10)
    return {name: str(entry.value) for name, entry in found.items()}


@pytest.mark.skipif("PENCHANT_TEST_BOOTSTRAP" in os.environ, reason="depends on the broker's limits")
def test_the_groups_time_out_is_set_where_the_broker_allows_it(bootstrap: str) -> None:
    settings = prepare(bootstrap)
    with capture_logs() as logs:
        kafka.set_session_timeout(settings, 6)
        found = time_out_on_the_broker(settings)
        assert (found["consumer.session.timeout.ms"], found["consumer.heartbeat.interval.ms"]) == ("6000", "2000")
        assert logs == []
        kafka.set_session_timeout(settings, 1800)  # more than any broker allows unless told to
        assert time_out_on_the_broker(settings)["consumer.session.timeout.ms"] == "6000"
    assert [line["log_level"] for line in logs] == ["warning"]
    assert "consumer.session.timeout.ms" in json.dumps(logs)


@pytest.mark.timeout(180)
def test_what_is_kept_in_a_rebalance_is_not_restored(bootstrap: str) -> None:
    """A second one joins while a transaction is open: only what goes to it is restored, by it; the rest flows on."""
    changed = {"poll_events": 5, "session_timeout_seconds": SESSION_SECONDS}
    settings, sent = prepare(bootstrap, partitions=2).model_copy(update=changed), events(120)
    send(settings, settings.events_topic, sent)
    with capture_logs() as logs, running(make(settings)) as first:
        together([first], lambda: held([first]) == [[0, 1]] and folded([first]) >= 20, "not restored")
        begun = len(restores(logs))
        with running(make(second_of(settings))) as second:

            def join() -> None:
                until = time.monotonic() + SESSION_SECONDS  # long enough for the group to have gone on
                while time.monotonic() < until:
                    second.turn()

            left = put_before(first, "send_offsets_to_transaction", join)
            together([first, second], lambda: folded([first, second]) >= 120, "not all folded")
            assert not left
            assert first.metrics.registry.get_sample_value("penchant_transactions_total", {"outcome": "aborted"})
            assert len(restores(logs)) - begun == 1
    assert sorted(lists(settings)) == undisturbed(bootstrap, 120, 2)


def restores(logs: list[Any]) -> list[int]:
    return [line["partition"] for line in logs if line["event"] == "restored"]


@pytest.mark.timeout(180)
def test_a_poll_of_which_a_part_was_taken_is_not_sent_again(bootstrap: str) -> None:
    """The group takes one of a poll's two partitions while its transaction is open, and the other one folds on."""
    changed = {"poll_events": 500, "session_timeout_seconds": SESSION_SECONDS, "linger_seconds": 0.3}
    settings, sent = prepare(bootstrap, partitions=2).model_copy(update=changed), events(120)
    send(settings, settings.events_topic, sent[:20])
    with running(make(settings)) as first:
        turn_until(first, 20)
        with running(make(second_of(settings))) as second:
            stop = threading.Event()

            def run() -> None:
                while not stop.is_set():
                    with suppress(DependencyAway):
                        second.turn()

            thread = threading.Thread(target=run)

            def rebalance() -> None:
                thread.start()
                time.sleep(4)
                raise KafkaException(KafkaError(KafkaError.REBALANCE_IN_PROGRESS, "made up", False, False, True))

            real = first._kept

            def kept(work: Work) -> bool:
                said = real(work)
                deadline = time.monotonic() + 20
                while said is False and not second.states and time.monotonic() < deadline:
                    time.sleep(0.1)  # the other one has its part before this one goes on
                return said

            first._kept = kept  # type: ignore[method-assign]
            left = put_before(first, "send_offsets_to_transaction", rebalance)
            send(settings, settings.events_topic, sent[20:])
            time.sleep(0.5)
            together([first], lambda: folded([first, second]) >= 120 and bool(second.states), "not all folded")
            stop.set()
            thread.join()
            assert not left
    assert sorted(event for event, _ in lists(settings)) == sorted(ids(sent))
