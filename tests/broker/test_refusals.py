"""What `serve` cannot go on with ends it: a status above 0, and one line that says what to do."""

import shutil
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from consumer.settings import Settings
from consumer.state import FORMAT
from tests.broker.process import SECONDS, Serve
from tests.broker.test_serve import events, make, prepare, running, send, turn_until


def refusal(settings: Settings, bundle: Path, folder: Path) -> str:
    """Return the one error that serve ends with; everything that it says must be JSON, so no traceback passes."""
    with Serve(settings, bundle, folder) as serve:
        assert serve.process.wait(SECONDS) == 1, serve.text()
        errors = serve.said("warning", "error", "critical")
    assert len(errors) == 1, errors
    assert "\n" not in errors[0]
    return errors[0]


def put_state(settings: Settings, key: bytes, value: bytes | None) -> None:
    producer = Producer({"bootstrap.servers": settings.bootstrap})
    producer.produce(settings.state_topic, value, key, 0)
    producer.flush(10)


def with_state(bootstrap: str) -> Settings:
    settings = prepare(bootstrap)
    send(settings, settings.events_topic, events(5))
    with running(make(settings)) as loop:
        turn_until(loop, 5)
    return settings


@pytest.mark.parametrize("key", [b"p", b"u/u0", b"d/1/0"])
def test_state_of_a_newer_format(bootstrap: str, shipped: Path, tmp_path: Path, key: bytes) -> None:
    settings = with_state(bootstrap)
    put_state(settings, key, msgspec.msgpack.encode([FORMAT + 1, "of another shape"]))
    said = refusal(settings, shipped, tmp_path)
    assert f"format {FORMAT + 1}" in said
    assert "upgrade" in said


def test_a_gap_in_the_state(bootstrap: str, shipped: Path, tmp_path: Path) -> None:
    settings = with_state(bootstrap)
    put_state(settings, b"d/1/0", None)
    assert "use a new app_id" in refusal(settings, shipped, tmp_path)


def test_offsets_without_state(bootstrap: str, shipped: Path, tmp_path: Path) -> None:
    settings = prepare(bootstrap)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": settings.app_id})
    consumer.commit(offsets=[TopicPartition(settings.events_topic, 0, 3)], asynchronous=False)
    consumer.close()
    said = refusal(settings, shipped, tmp_path)
    assert "no state" in said
    assert "new app_id" in said


@pytest.mark.parametrize("state_too", [False, True])
def test_partitions_that_were_added(bootstrap: str, shipped: Path, tmp_path: Path, state_too: bool) -> None:
    settings = with_state(bootstrap)
    topics = [settings.events_topic, settings.facts_topic, *([settings.state_topic] if state_too else [])]
    client = AdminClient({"bootstrap.servers": bootstrap})
    for done in client.create_partitions([NewPartitions(topic, 2) for topic in topics]).values():
        done.result()
    said = refusal(settings, shipped, tmp_path)
    assert "has 2 partitions" in said
    assert "new app_id" in said


def test_events_that_are_gone_before_they_were_read(bootstrap: str, shipped: Path, tmp_path: Path) -> None:
    settings = with_state(bootstrap)
    behind = msgspec.msgpack.encode([FORMAT, 10**6, 1, "", [], ""])  # a place that the topic does not have
    put_state(settings, b"p", behind)
    with Serve(settings, shipped, tmp_path) as serve:
        assert serve.process.wait(SECONDS) == 1, serve.text()
        assert len(serve.said("error", "critical")) == 1
        assert "new app_id" in serve.said("error")[0]


def test_a_damaged_bundle(bootstrap: str, shipped: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "bundle"
    shutil.copytree(shipped, damaged)
    with (damaged / "encoder.onnx").open("r+b") as file:
        file.write(b"\0")
    assert "copy it again" in refusal(prepare(bootstrap), damaged, tmp_path)


def test_no_bundle(bootstrap: str, tmp_path: Path) -> None:
    assert "penchant export" in refusal(prepare(bootstrap), tmp_path / "none", tmp_path)


def test_a_port_that_is_taken(bootstrap: str, shipped: Path, tmp_path: Path) -> None:
    settings = prepare(bootstrap)
    with Serve(settings, shipped, tmp_path) as first:
        first.turns(1)
        (tmp_path / "second").mkdir()
        taken = settings.model_copy(update={"app_id": f"{settings.app_id}b", "http_port": first.port})
        assert "PENCHANT_HTTP_PORT" in refusal(taken, shipped, tmp_path / "second")


def test_wrong_settings(tmp_path: Path, shipped: Path) -> None:
    wrong = Settings.model_construct(length=0, start="tomorrow")
    with Serve(wrong, shipped, tmp_path) as serve:
        assert serve.process.wait(SECONDS) == 1
    assert serve.text().count("\n") == 1
    assert serve.text().startswith("penchant: settings: ")
    assert "PENCHANT_LENGTH" in serve.text()
    assert "PENCHANT_START" in serve.text()
