"""SIGKILL at named points of a transaction, takeovers while it is open, another bundle after it: as if nobody died."""

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

import model.tables
from consumer import topics
from consumer.settings import Settings
from consumer.state import PartitionState
from tests.broker.killed import KILLED, OTHER, POINTS, Nursery, make_with
from tests.broker.outcome import Left, answered, check_same, group_offset, is_open, left_by, prepared, undisturbed
from tests.broker.process import wait_for
from tests.broker.test_away import turning
from tests.broker.test_serve import ENCODER, events, make, running, send, turn_until

SENT = events(60)
WAITING_SECONDS = 2.0


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as one:
        yield one


@pytest.fixture(scope="module")
def wanted(bootstrap: str) -> Left:
    """What sixty events lead to where nothing goes wrong."""
    return undisturbed(bootstrap, SENT)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let partitions tell nothing, and snapshots have many parts, so that kills fall into them."""
    monkeypatch.setattr(PartitionState, "tell", lambda self: [])
    monkeypatch.setattr(model.tables, "CHUNK_BYTES", 600)


def with_ordinal(settings: Settings, ordinal: int) -> Settings:
    return settings.model_copy(update={"ordinal": ordinal})


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_of_a_transaction(bootstrap: str, nursery: Nursery, wanted: Left, point: str) -> None:
    settings = prepared(bootstrap)
    send(settings, settings.events_topic, SENT)
    nursery.run(settings, point, after=20)
    # The premise: it died where it was to die, and what it left open is open.
    assert is_open(settings) == (point in ("produce", "written", "offsets"))
    before = answered(settings)
    assert group_offset(settings) == before
    assert before >= (25 if point == "committed" else 20)
    with running(make(settings)) as loop:
        turn_until(loop, before + 1)
        assert not is_open(settings)
        turn_until(loop, len(SENT))
    check_same(left_by(settings), wanted)


def test_ten_kills_are_as_none(bootstrap: str, nursery: Nursery) -> None:
    dice, sent = random.Random(11), events(150, seed=4)
    settings = prepared(bootstrap, poll_events=3)
    send(settings, settings.events_topic, sent)
    for number in range(10):
        nursery.run(settings, dice.choice(POINTS), after=number * 13 + dice.randrange(10))
    assert 100 < answered(settings) < 150
    with running(make(settings)) as loop:
        turn_until(loop, len(sent))
    check_same(left_by(settings), undisturbed(bootstrap, sent))


def assigned(settings: Settings, ordinal: int) -> bool:
    """Say whether the group has given its partition to the instance with this number."""
    client = topics.admin(settings.bootstrap)
    group = client.describe_consumer_groups([settings.app_id])[settings.app_id].result(10)
    return any(
        member.group_instance_id == f"{settings.app_id}-{ordinal}" and member.assignment.topic_partitions
        for member in group.members
    )


def end_transaction(settings: Settings) -> None:
    """Abort what an instance left open, as the coordinator does when its time is up."""
    producer = Producer({"bootstrap.servers": settings.bootstrap, "transactional.id": f"{settings.app_id}-0"})
    producer.init_transactions(10)


@pytest.mark.timeout(180)
def test_two_takeovers_while_the_transaction_of_the_dead_is_open(
    bootstrap: str, nursery: Nursery, wanted: Left
) -> None:
    settings = prepared(bootstrap)
    send(settings, settings.events_topic, SENT)
    # Its time-out is longer than any takeover takes, so that it is the test that ends it. Its offsets are not sent yet:
    # Kafka lets nobody ask for a group's offsets while they are part of an open transaction, which would hide the rest.
    first = nursery.start(settings, "written", 20, timeout=120)
    assert nursery.wait(first) == KILLED
    before = answered(settings)
    second = nursery.start(with_ordinal(settings, 1))
    wait_for(lambda: assigned(settings, 1), "the second is given nothing")
    time.sleep(1.0)  # let it begin to restore
    os.kill(second, signal.SIGKILL)
    assert nursery.wait(second) == KILLED
    with turning(make(with_ordinal(settings, 2))) as third:
        wait_for(lambda: third.partitions.pending == {0}, "the third is given nothing")
        time.sleep(WAITING_SECONDS)
        assert is_open(settings)
        assert not third.states, "restored though what was written before may still be committed"
        assert answered(settings) == before
        end_transaction(settings)
        wait_for(lambda: answered(settings) >= len(SENT), "it does not go on")
    check_same(left_by(settings), wanted)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("point", "after"), [("offsets", 20), ("unsent", 5)])
def test_one_that_stands_still_commits_after_its_partition_is_anothers(
    bootstrap: str, nursery: Nursery, wanted: Left, point: str, after: int
) -> None:
    """Its transaction may take longer than its session: the other must wait, else both fold the same events.

    All is written (`offsets`), or nothing but its offsets (`unsent`), so that its records are nowhere to be seen.
    """
    settings = prepared(bootstrap)
    send(settings, settings.events_topic, SENT)
    first = nursery.start(settings, point, after, number=signal.SIGSTOP, timeout=120)
    try:
        if point == "offsets":
            wait_for(lambda: is_open(settings), "it does not come to its transaction")
        else:
            wait_for(lambda: answered(settings) >= after, "it does not begin")
            time.sleep(WAITING_SECONDS)
        before = answered(settings)
        with turning(make(with_ordinal(settings, 1))) as second:
            wait_for(lambda: second.partitions.pending == {0}, "the second is given nothing")
            time.sleep(WAITING_SECONDS)
            assert is_open(settings) == (point == "offsets")
            assert not second.states
            os.kill(first, signal.SIGCONT)
            wait_for(lambda: answered(settings) > before, "the first does not commit")
            wait_for(lambda: answered(settings) >= len(SENT), "nobody goes on")
    finally:
        os.kill(first, signal.SIGKILL)
        nursery.wait(first)
    check_same(left_by(settings), wanted)


def test_another_bundle_after_a_kill(bootstrap: str, nursery: Nursery) -> None:
    settings = prepared(bootstrap)
    send(settings, settings.events_topic, SENT)
    nursery.run(settings, "produce", after=20)
    middle = answered(settings)
    with running(make_with(settings, OTHER)) as loop:
        turn_until(loop, len(SENT))
    found = left_by(settings, OTHER)

    twin = prepared(bootstrap)
    send(twin, twin.events_topic, SENT[:middle])
    with running(make_with(twin, ENCODER)) as loop:
        turn_until(loop, middle)
    send(twin, twin.events_topic, SENT[middle:])
    with running(make_with(twin, OTHER)) as loop:
        turn_until(loop, len(SENT))
    check_same(found, left_by(twin, OTHER))

    assert 20 <= middle < len(SENT)
    assert [one.model for one in found.lists] == ["words-1"] * middle + ["words-2"] * (len(SENT) - middle)
    assert [one.bundle for one in found.positions] == [
        "words-1" if one.offset <= middle else "words-2" for one in found.positions
    ]
