"""Topics, check and replay against a real broker."""

import uuid

import pytest
from confluent_kafka import Producer

from consumer import topics
from consumer.check import check
from consumer.replay import Replay, run
from model.errors import DependencyAway, Fatal


@pytest.fixture
def app_id() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def wanted(app_id: str, partitions: int = 1) -> list[topics.Topic]:
    return topics.wanted(app_id, events=f"{app_id}.events", items=f"{app_id}.items", partitions=partitions)


def test_apply_creates_what_plan_says_and_then_nothing_differs(bootstrap: str, app_id: str) -> None:
    lines = topics.plan(bootstrap, app_id, wanted(app_id, 2))
    assert sum(line.startswith("+") for line in lines) == 7
    assert any("--transactional-id" in line for line in lines)
    assert sum(line.endswith("created") for line in topics.apply(bootstrap, wanted(app_id, 2))) == 7
    client = topics.admin(bootstrap)
    assert topics.differences(client, wanted(app_id, 2)) == []
    assert topics.apply(bootstrap, wanted(app_id, 2)) == ["every topic is as it should be"]
    there = client.list_topics(timeout=10).topics
    assert len(there[f"{app_id}.state"].partitions) == len(there[f"{app_id}.events"].partitions) == 2


def test_what_exists_is_never_changed_and_is_said(bootstrap: str, app_id: str) -> None:
    client = topics.admin(bootstrap)
    other = topics.Topic(f"{app_id}.interests", 3, {"cleanup.policy": "delete"})
    topics.create(client, [other])
    lines = topics.apply(bootstrap, wanted(app_id))
    assert f"! {app_id}.interests: cleanup.policy is delete, should be compact; left as it is" in lines
    assert f"! {app_id}.interests: partitions is 3, should be 1; left as it is" in lines
    found = {d.setting for d in topics.differences(client, wanted(app_id))}
    assert {"cleanup.policy", "partitions"} <= found


def test_the_rights_are_those_that_serve_uses() -> None:
    """Read: what it consumes; write: what it produces. One that is missing shows on a secured Kafka alone."""
    outputs = {"a.recommendations", "a.interests", "a.dead-letters", "a.facts", "a.state"}
    for asking, more in ((False, set()), (True, {"a.tune-requests"})):
        lines = topics.acls("a", topics.wanted("a", tune_requests=asking))
        granted = {
            right: {line.split()[-1] for line in lines if f"--operation {right} " in line and "--topic" in line}
            for right in ("Read", "Write")
        }
        assert granted["Read"] == {"events", "items", "a.facts", "a.state"}
        assert granted["Write"] == outputs | more


def test_copies_and_how_many_a_write_waits_for_are_compared(bootstrap: str, app_id: str) -> None:
    topics.create(topics.admin(bootstrap), wanted(app_id))
    three = topics.wanted(app_id, events=f"{app_id}.events", items=f"{app_id}.items", replication=3)
    lines = topics.plan(bootstrap, app_id, three)
    for name in ("events", "items", "state", "interests", "recommendations", "dead-letters", "facts"):
        assert f"! {app_id}.{name}: replication factor is 1, should be 3; left as it is" in lines
        assert f"! {app_id}.{name}: min.insync.replicas is 1, should be 2; left as it is" in lines
    assert sum(line.startswith(("!", "+")) for line in lines) == 14


def test_a_topic_to_which_nothing_can_be_written_is_said(bootstrap: str, app_id: str) -> None:
    stuck = topics.Topic(f"{app_id}.state", 1, {"cleanup.policy": "compact", "min.insync.replicas": "2"})
    topics.create(topics.admin(bootstrap), [stuck])
    said = "min.insync.replicas is 2, should be at most 1, or no write succeeds; left as it is"
    assert f"! {app_id}.state: {said}" in topics.plan(bootstrap, app_id, wanted(app_id))


def test_more_copies_than_brokers_is_one_line(bootstrap: str, app_id: str) -> None:
    with pytest.raises(Fatal, match=r"cannot create topic .*[Rr]eplication factor"):
        topics.apply(bootstrap, [topics.Topic(f"{app_id}.events", 1, {}, replication=30)])


def test_a_broker_that_is_away_says_what_to_do() -> None:
    with pytest.raises(DependencyAway, match="penchant broker run"):
        topics.admin("127.0.0.1:1")


def test_check_counts_reasons_and_gives_an_example_each(bootstrap: str, app_id: str) -> None:
    name = f"{app_id}.events"
    topics.create(topics.admin(bootstrap), wanted(app_id))
    producer = Producer({"bootstrap.servers": bootstrap})
    good = b'{"kind":"click","id":"e1","user":"u1","at_ms":5,"item":"i1"}'
    for key, value in ((b"u1", good), (b"x", good), (b"u1", b"\xff"), (b"u1", b"{"), (b"u1", b'{"kind":"sing"}')):
        producer.produce(name, value, key)
    producer.produce(name, None, b"u1")
    producer.flush(10)
    findings = check(bootstrap, name, 1000)
    assert findings.accepted == {"click": 2}
    assert findings.refused.total() == 4
    assert findings.refused["null"] == 1
    assert findings.wrong_keys == 1
    assert set(findings.examples) == {"click", *findings.refused}
    assert "6 records read: 2 accepted, 4 dead-lettered" in findings.lines()[0]
    assert sum(check(bootstrap, name, 3).accepted.values()) == 2


def test_check_of_a_topic_that_is_not_there(bootstrap: str) -> None:
    with pytest.raises(Fatal, match="no topic 'nowhere'"):
        check(bootstrap, "nowhere", 10)


def test_replay_of_the_chinese_example_is_accepted_whole(bootstrap: str, app_id: str) -> None:
    topics.create(topics.admin(bootstrap), wanted(app_id))
    said = run(
        Replay(
            source="zh", bootstrap=bootstrap, events_topic=f"{app_id}.events", items_topic=f"{app_id}.items",
            interleave=True, fresh_text=5.0,
        )
    )  # fmt: skip
    assert "40 items" in said
    assert "300 events" in said
    findings = check(bootstrap, f"{app_id}.events", 1000)
    assert findings.accepted.total() == 300
    assert findings.wrong_keys == 0
    assert not findings.refused
