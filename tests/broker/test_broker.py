"""The embedded broker is a real one, survives a power cut, and never outlives its program."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from consumer.broker import EmbeddedBroker
from consumer.broker_jars import JARS_SHA256, BrokerError, jars_digest, kafka_jars

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE_SECONDS = 30.0


def create_topic(bootstrap: str) -> str:
    topic = f"test-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(DEADLINE_SECONDS)
    return topic


def produce_in_transaction(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"tx-{topic}"})
    producer.init_transactions(DEADLINE_SECONDS)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value)
    producer.commit_transaction(DEADLINE_SECONDS)


def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"group-{uuid.uuid4().hex[:8]}",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([topic])
    values: list[bytes] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while len(values) < count and time.monotonic() < deadline:
            values += [message.value() or b"" for message in consumer.consume(count, 0.5) if message.error() is None]
    finally:
        consumer.close()
    return values


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_is_produced_in_a_transaction_is_consumed(bootstrap: str) -> None:
    topic = create_topic(bootstrap)
    produce_in_transaction(bootstrap, topic, [b"one", b"two", b"three"])
    assert consume(bootstrap, topic, 3) == [b"one", b"two", b"three"]


def test_data_survive_sigkill(tmp_path: Path) -> None:
    with EmbeddedBroker.start(tmp_path) as first:
        topic = create_topic(first.bootstrap)
        produce_in_transaction(first.bootstrap, topic, [b"kept"])
        with pytest.raises(BrokerError, match="already"):
            EmbeddedBroker.start(tmp_path)
        first.kill()
    with EmbeddedBroker.start(tmp_path) as second:
        assert consume(second.bootstrap, topic, 1) == [b"kept"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a child's life to its parent's")
def test_broker_dies_with_its_program(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from consumer.broker import EmbeddedBroker\n"
        "broker = EmbeddedBroker.start(Path(sys.argv[1])); print(broker.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        broker_pid = int(parent.stdout.readline())
        assert is_alive(broker_pid)
        parent.kill()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while is_alive(broker_pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(broker_pid)


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(BrokerError, match=r"in use.*another port"):
        EmbeddedBroker.start(tmp_path, other.getsockname()[1])


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BrokerError, match=r"runs on .* already"):
            EmbeddedBroker.start(tmp_path)


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "meta.properties").write_text("version=1\ncluster.id=broken\nnode.id=7\n")
    with pytest.raises(BrokerError, match=r"ended with status 1[\s\S]*node id 7"):
        EmbeddedBroker.start(tmp_path)


@pytest.mark.skipif("KAFKA_HOME" in os.environ, reason="these jars are not the pinned ones")
def test_jars_are_the_pinned_ones() -> None:
    assert jars_digest(kafka_jars()) == JARS_SHA256


def test_kafka_home_without_jars_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_HOME", str(tmp_path))
    with pytest.raises(BrokerError, match="holds no jars"):
        kafka_jars()
