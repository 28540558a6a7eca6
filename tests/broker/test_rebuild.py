"""A new app_id folds the past in silence and takes over: every event has one list, here or there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from consumer import rebuild
from consumer.broker import dying_with_parent
from consumer.demo_process import free_port
from consumer.loop import Loop
from consumer.settings import Settings
from model.errors import Fatal
from tests.broker.process import Serve, wait_for
from tests.broker.test_away import ids
from tests.broker.test_serve import events, lists, make, prepare, read, running, send, turn_until


def offset(loop: Loop) -> int:
    return sum(state.position.offset for state in loop.states.values())


def quick(settings: Settings) -> Settings:
    return settings.model_copy(update={"poll_events": 10, "session_timeout_seconds": 6})


def turn_for(loop: Loop, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        loop.turn()


@pytest.mark.timeout(180)
def test_it_takes_over_where_the_old_one_ends(bootstrap: str) -> None:
    settings, sent = quick(prepare(bootstrap)), events(60)
    undisturbed = quick(prepare(bootstrap))
    send(undisturbed, undisturbed.events_topic, sent)
    with running(make(undisturbed)) as loop:
        turn_until(loop, 60)
    send(settings, settings.events_topic, sent[:40])
    with running(make(settings)) as old:
        turn_until(old, 20)
        successor = rebuild.successor(settings, f"{settings.app_id}-2")
        with running(make(successor)) as new:
            turn_until(new, 10)
        with running(make(successor)) as new:  # ended halfway, it goes on
            turn_until(new, 20)
            turn_for(new, 2.0)
            assert offset(new) == 20  # never past the place up to which the old one has committed
            assert not new.health.ready
            turn_until(old, 40)
            turn_until(new, 40)
            assert new.metrics.registry.get_sample_value("penchant_muted_lists_total") == 30
    # Without the setting, too: what is not to be answered is in the state.
    send(settings, settings.events_topic, sent[40:])
    with running(make(successor)) as new:
        turn_until(new, 60, 60.0)
        assert new.health.ready
    before, after = lists(settings), lists(successor)
    assert [event for event, _ in before] == ids(sent[:40])
    assert [event for event, _ in after] == ids(sent[40:])
    assert before + after == lists(undisturbed)
    interests = {key for key, _ in read(undisturbed, undisturbed.interests_topic)}
    assert {key for key, _ in read(successor, successor.interests_topic)} == interests  # the table is whole


def test_added_partitions(bootstrap: str) -> None:
    settings, sent = quick(prepare(bootstrap)), events(60)
    send(settings, settings.events_topic, sent[:30])
    with running(make(settings)) as loop:
        turn_until(loop, 30)
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_partitions([NewPartitions(settings.events_topic, 2)])[settings.events_topic].result()

    def both_are_there() -> bool:
        return len(client.list_topics(settings.events_topic).topics[settings.events_topic].partitions) == 2

    wait_for(both_are_there, "no second partition")
    send(settings, settings.events_topic, sent[30:])
    successor = rebuild.successor(settings, f"{settings.app_id}-2")
    with running(make(successor)) as new:
        turn_until(new, 60, 60.0)
    assert sorted(event for event, _ in lists(settings) + lists(successor)) == sorted(ids(sent))


def test_what_is_no_rebuild_is_refused(bootstrap: str) -> None:
    settings = prepare(bootstrap)
    with pytest.raises(Fatal, match="give a new name"):
        rebuild.successor(settings, settings.app_id)
    with pytest.raises(Fatal, match="is no app_id"):
        rebuild.successor(settings, "two words")
    with pytest.raises(Fatal, match="nothing to replace"):
        rebuild.successor(settings, f"{settings.app_id}-2")
    with pytest.raises(Fatal, match="missing"):
        rebuild.successor(settings.model_copy(update={"events_topic": "none-such"}), f"{settings.app_id}-2")


@pytest.mark.timeout(180)
def test_the_command(bootstrap: str, shipped: Path, tmp_path: Path) -> None:
    settings, sent = quick(prepare(bootstrap)), events(30)
    send(settings, settings.events_topic, sent[:20])
    told = {name: getattr(settings, name) for name in settings.model_fields_set}
    told |= {"bundle": shipped, "http_port": free_port()}
    environment = os.environ | {f"PENCHANT_{name.upper()}": str(value) for name, value in told.items()}
    log = tmp_path / "rebuild.log"

    def said(what: str) -> bool:
        return any(json.loads(line)["event"].startswith(what) for line in log.read_text().splitlines())

    with Serve(settings, shipped, tmp_path) as old:
        wait_for(lambda: len(lists(settings)) == 20, "the old one does not serve")
        with log.open("wb") as out:
            command = [sys.executable, "-m", "consumer.cli", "rebuild", f"{settings.app_id}-2"]
            process = subprocess.Popen(
                dying_with_parent(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment
            )
        try:
            wait_for(lambda: said("caught up: end the predecessor"), "it does not catch up")
            assert old.end() == 0, old.text()
            wait_for(lambda: said("the predecessor has ended"), "it does not take over")
            send(settings, settings.events_topic, sent[20:])
            successor = settings.model_copy(update={"app_id": f"{settings.app_id}-2"})
            wait_for(lambda: len(lists(successor)) == 10, "it does not serve")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    assert [event for event, _ in lists(settings) + lists(successor)] == ids(sent)


def test_old_lists_are_muted_and_nothing_else(bootstrap: str) -> None:
    """After an outage: nobody waits for lists of an hour ago, but what they taught is known."""
    outcomes = []
    for age in (0.0, 600.0):
        settings, sent = prepare(bootstrap).model_copy(update={"publish_max_age_seconds": age}), events(30)
        producer = Producer({"bootstrap.servers": bootstrap})
        for n, (key, value) in enumerate(sent):
            old = 3600_000 if n < 20 else 0
            producer.produce(settings.events_topic, value, key, 0, timestamp=int(time.time() * 1000) - old)
        producer.flush(10)
        with running(make(settings)) as loop:
            turn_until(loop, 30)
            muted = loop.metrics.registry.get_sample_value("penchant_muted_lists_total")
        outcomes.append((muted, lists(settings), read(settings, settings.interests_topic)))
    (none, all_lists, interests), (some, few, same_interests) = outcomes
    assert (none, some) == (0, 20)
    assert [event for event, _ in all_lists] == ids(sent)
    assert few == all_lists[20:]
    assert interests == same_interests


def test_offsets_of_a_group_are_not_touched(bootstrap: str) -> None:
    settings = quick(prepare(bootstrap))
    send(settings, settings.events_topic, events(20))
    with running(make(settings)) as old:
        turn_until(old, 20)
    before = committed(settings)
    successor = rebuild.successor(settings, f"{settings.app_id}-2")
    with running(make(successor)) as new:
        turn_until(new, 20)
        turn_for(new, 1.5)
    assert committed(settings) == before == [20]


def committed(settings: Settings) -> list[int]:
    consumer = Consumer({"bootstrap.servers": settings.bootstrap, "group.id": settings.app_id})
    found = consumer.committed([TopicPartition(settings.events_topic, 0)], timeout=10)
    consumer.close()
    return [one.offset for one in found]
