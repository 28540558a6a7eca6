"""Dead letters against a real Kafka: a flood of them ends serve, they are listed safely, and they can be sent again."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition

from consumer.dead_letters import listed, places, replay
from consumer.embedding import Model
from consumer.http import Health
from consumer.loop import Loop
from consumer.mapping import Mapping
from consumer.metrics import Metrics
from consumer.settings import Settings
from model.encoding import Vectors
from model.errors import DependencyAway, Fatal
from model.events import DeadLetter, encode
from tests.broker.test_refusals import refusal
from tests.broker.test_serve import (
    ENCODER,
    POISON,
    TAXONOMY,
    events,
    lists,
    make,
    new_fold,
    prepare,
    read,
    running,
    send,
    turn_until,
)

Records = list[tuple[bytes | None, bytes | None]]
JUNK: Records = [(b"k", b"junk %d" % n) for n in range(130)]


def committed(settings: Settings) -> int:
    consumer = Consumer({"bootstrap.servers": settings.bootstrap, "group.id": settings.app_id})
    offset = consumer.committed([TopicPartition(settings.events_topic, 0)], 10)[0].offset
    consumer.close()
    return int(offset)


@pytest.mark.parametrize(("poll", "kept"), [(1, 105), (30, 90), (1000, None)])
def test_nothing_but_poison_ends_it_and_so_it_does_after_a_restart(bootstrap: str, poll: int, kept: int | None) -> None:
    settings = prepare(bootstrap).model_copy(update={"poll_events": poll})
    send(settings, settings.events_topic, events(5))
    with running(make(settings)) as loop:
        turn_until(loop, 5)
    send(settings, settings.events_topic, JUNK)
    offsets = []
    for _ in range(3):
        with running(make(settings)) as loop, pytest.raises(Fatal, match=r"offset 105 .*max_dead_run") as caught:
            turn_until(loop, 5 + len(JUNK))
        assert "\n" not in str(caught.value)
        offsets.append(committed(settings))
    assert offsets[-1] <= 105
    assert len(read(settings, settings.dead_letters_topic)) == offsets[-1] - 5
    if poll == 1:
        assert offsets == [kept] * 3  # to the record, and a restart lets no more through

    with running(make(settings.model_copy(update={"max_dead_run": 0, "max_dead_share": 0}))) as loop:
        turn_until(loop, 5 + len(JUNK))
    assert committed(settings) == 5 + len(JUNK)
    assert len(read(settings, settings.dead_letters_topic)) == len(JUNK)
    assert len(lists(settings)) == 5


def test_the_process_ends_with_one_line(bootstrap: str, shipped: Path, tmp_path: Path) -> None:
    settings = prepare(bootstrap)
    send(settings, settings.events_topic, JUNK)
    said = refusal(settings, shipped, tmp_path)
    assert "101 records in a row would be dead letters, the last at partition 0, offset 100 " in said
    assert "max_dead_run (0: no limit)" in said


def test_poison_among_good_events_ends_nothing(bootstrap: str) -> None:
    settings = prepare(bootstrap)
    good = events(40)
    mixed = [record for n, one in enumerate(good) for record in (*JUNK[n * 3 : n * 3 + 3], one)]
    send(settings, settings.events_topic, mixed)
    with running(make(settings)) as loop:  # 75 % of it, but never many in a row, and never 1,000
        turn_until(loop, len(mixed))
    assert [event for event, _ in lists(settings)] == [json.loads(value or b"")["id"] for _, value in good]


class Picky:
    """An encoder that crashes at some texts."""

    dim, learnt, version = ENCODER.dim, 0, ENCODER.version
    broken = False

    def encode(self, texts: Sequence[str]) -> Vectors:
        if self.broken or any("crash" in text for text in texts):
            raise RuntimeError("index out of range")
        vectors = np.array(ENCODER.encode(list(texts)))
        vectors[[row for row, text in enumerate(texts) if "nan" in text]] = np.nan
        return vectors


def test_words_that_crash_the_encoder_are_dead_letters_and_such_items_are_left_out(bootstrap: str) -> None:
    settings = prepare(bootstrap)
    titles = {"good": "robot", "bad": "crash", "worse": "nan"}
    send(settings, settings.items_topic, [(k.encode(), encode({"item": k, "title": t})) for k, t in titles.items()])
    words = ["robot", "crash", "kiss", "nan"]
    searches: Records = [
        (b"u", encode({"kind": "search", "id": f"s{n}", "user": "u", "at_ms": n, "text": text}))
        for n, text in enumerate(words)
    ]
    send(settings, settings.events_topic, searches)
    encoder = Picky()
    with running(Loop(settings, Model(encoder, TAXONOMY), lambda _: new_fold(), Metrics(), Health())) as loop:
        turn_until(loop, len(words))
        value = loop.metrics.registry.get_sample_value
        assert value("penchant_bad_items_total", {"reason": "text"}) == 2
        assert value("penchant_dead_letters_total", {"reason": "text"}) == 2
        assert "good" in loop.items
        assert "bad" not in loop.items
        assert "worse" not in loop.items
        encoder.broken = True
        send(settings, settings.events_topic, [(b"u", searches[0][1] and searches[0][1].replace(b"robot", b"new"))])
        with pytest.raises(Fatal, match="every text"):
            turn_until(loop, len(words) + 1)
    assert committed(settings) == len(words)
    assert [event for event, _ in lists(settings)] == ["s0", "s2"]


def with_letters(bootstrap: str, values: Sequence[bytes | None]) -> Settings:
    settings = prepare(bootstrap, partitions=3)
    send(settings, settings.events_topic, [(b"k%d" % n, value) for n, value in enumerate(values)])
    with running(make(settings)) as loop:
        turn_until(loop, len(values))
    return settings


def test_letters_are_counted_and_shown_and_nothing_steers_the_terminal(bootstrap: str) -> None:
    settings = with_letters(bootstrap, [*POISON, b"\x1b[2J\x07 caf\xc3\xa9"])
    send(settings, settings.dead_letters_topic, [(None, b"not ours")])
    lines = listed(settings, (), 100, False)
    text = "\n".join(lines)
    assert lines[0] == f"{len(POISON) + 2} dead letters in {settings.dead_letters_topic}"
    assert f"  not_json: {text.count('  not_json') - 1}" in lines
    assert "  (no dead letter of ours): 1" in lines
    assert "    value: \\x1b[2J\\x07 café" in lines
    assert text.replace("\n", "").isprintable()
    assert "value cut to its first 512 KiB: cannot be replayed" in text
    assert max(map(len, lines)) < 700
    only = listed(settings, ["null"], 5, False)
    assert "  null: 1" in only
    assert not any("not_json" in line for line in only)

    found = [json.loads(line) for line in listed(settings, (), 3, True)]
    assert len(found) == 3
    everything = [json.loads(line) for line in listed(settings, (), 1000, True)]
    assert found == everything[:3]
    assert len(everything) == len(POISON) + 1


def foreign(n: int) -> bytes:
    return encode({"name": "play", "uid": f"k{n}", "clip": "i1", "uuid": f"p{n}", "ts": 1000 + n})


MAPPING = Mapping(
    fields={"kind": "name", "id": "uuid", "user": "uid", "at_ms": "ts", "item": "clip"}, kinds={"play": "click"}
)


def test_letters_go_back_as_they_were_once_they_can_be_read(bootstrap: str) -> None:
    settings = with_letters(bootstrap, [foreign(0), b"nonsense", foreign(2), b"x" * 700_000, foreign(4), None])
    before = read(settings, settings.events_topic)
    mended = settings.model_copy(update={"mapping": MAPPING})
    reasons = {json.loads(line)["reason"] for line in listed(settings, (), 10, True)}

    dry = replay(mended, reasons, (), False, True).splitlines()
    assert len(dry) == 4
    assert dry[-1].startswith("3 of 6 dead letters would be sent again; left out ")
    assert "1: value cut to its first 512 KiB" in dry[-1]
    assert "not_json" in dry[-1]
    assert "0 of 6 dead letters would be sent" in replay(settings, reasons, (), False, True)
    assert sorted(map(str, read(settings, settings.events_topic))) == sorted(map(str, before))  # across partitions

    assert replay(mended, reasons, (), False, False).startswith("3 of 6 dead letters sent again; ")
    after = read(settings, settings.events_topic)
    assert sorted(map(str, after)) == sorted(map(str, before + [(b"k%d" % n, foreign(n)) for n in (0, 2, 4)]))
    with running(make(mended)) as loop:
        turn_until(loop, 9)
        value = loop.metrics.registry.get_sample_value
        assert value("penchant_events_total", {"kind": "click"}) == 3
        assert value("penchant_foreign_partitions_total") == 0  # by another partitioner k0 and k4 would be elsewhere

    assert "5 of 6 dead letters sent again; left out 1: value cut" in replay(settings, reasons, (), True, False)
    assert read(settings, settings.events_topic).count((b"k5", None)) == 2


def test_letters_are_chosen_by_their_place(bootstrap: str) -> None:
    settings = with_letters(bootstrap, [b"a", b"b", b"c"])
    one = next(found for found in map(json.loads, listed(settings, (), 9, True)) if found["value"] == "b")
    at = places([f"{one['partition']}:{one['offset']}"])
    assert "  b\n1 of 1 dead letters" in replay(settings, (), at, True, True)
    assert replay(settings, ["null"], at, True, True) == "0 of 0 dead letters would be sent again"
    with pytest.raises(Fatal, match="--reason"):
        replay(settings, (), (), True, False)
    with pytest.raises(Fatal, match="PARTITION:OFFSET"):
        places(["b"])


def test_a_letter_twice_in_the_topic_is_sent_once_and_a_topic_that_is_gone_is_said(bootstrap: str) -> None:
    settings = prepare(bootstrap)
    letter = DeadLetter(settings.events_topic, 0, 3, "schema", "", b"u", events(1)[0][1])
    gone = DeadLetter(f"{settings.app_id}-gone", 0, 4, "schema", "", b"u", events(1)[0][1])
    send(settings, settings.dead_letters_topic, [(b"u", encode(one)) for one in (letter, letter, gone)])
    assert replay(settings, (), {(0, 3)}, False, False) == "1 of 1 dead letters sent again"
    assert len(read(settings, settings.events_topic)) == 1
    with pytest.raises(Fatal, match="1 sent; then no topic"):
        replay(settings, ["schema"], (), False, False)
    with pytest.raises(DependencyAway, match="no topic"):
        listed(settings.model_copy(update={"app_id": "never"}), (), 1, False)


def test_the_commands_say_it_in_lines(bootstrap: str) -> None:
    settings = with_letters(bootstrap, [b"nonsense"])
    environment = os.environ | {
        "PENCHANT_APP_ID": settings.app_id, "PENCHANT_BOOTSTRAP": bootstrap,
        "PENCHANT_EVENTS_TOPIC": settings.events_topic,
    }  # fmt: skip

    def penchant(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "consumer.cli", "dead-letters", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)

    assert json.loads(penchant("list", "--json", "-n", "1").stdout)["value"] == "nonsense"
    assert "not_json: 1" in penchant("list", "--reason", "not_json").stdout
    again = penchant("replay", "--at", "0:0", "--at", "1:0", "--at", "2:0", "--all", "--dry-run")
    assert "1 of 1 dead letters would be sent again" in again.stdout
    refused = penchant("replay")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
