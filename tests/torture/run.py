"""A run: a Kafka, two instances, load, faults; then everything is read back and checked."""

import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from consumer import topics
from consumer.datasets import load
from consumer.demo_process import free_port
from consumer.serve import fold_settings
from consumer.settings import Settings
from consumer.shipped import shipped_bundle
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from model.errors import PenchantError
from model.events import Item, encode
from model.fold import Fold
from model.taxonomy import Taxonomy
from tests.broker.test_serve import send
from tests.torture import reading
from tests.torture.actors import Actor, Instance, Node
from tests.torture.checker import Verdict, check
from tests.torture.faults import BROKER, Diary, plan
from tests.torture.load import Load, Source
from tests.torture.report import report_of
from tests.torture.watch import Watch

PARTITIONS = 4
INSTANCES = 2
ITEMS = 100
"""Of MovieLens-100K; few, as every start embeds them all."""
SAY_SECONDS = 5.0
STUCK_SECONDS = 120.0
"""No progress of the group for so long after the last fault: it is stuck."""


def torture(folder: Path, seed: int, seconds: float, rate: float) -> tuple[dict[str, Any], Verdict]:
    """Return the report of a run and the checker's verdict; raises `PenchantError` where nothing could be started."""
    bundle = shipped_bundle(Console(stderr=True))
    items = load("ml-100k")[0][:ITEMS]
    faults, diary = plan(seed, seconds), Diary()
    actors = [Actor(Node(folder / "kafka", free_port()), [one for one in faults if one.target == BROKER], diary)]
    actors[0].start()
    _wait_up(actors[0])
    node = actors[0].target
    assert isinstance(node, Node)
    settings = prepare(node.bootstrap, items)
    for ordinal in range(INSTANCES):
        own = settings.model_copy(update={"ordinal": ordinal, "http_port": 0})
        instance = Instance(own, bundle, folder / f"serve-{ordinal}", diary)
        actors.append(Actor(instance, [one for one in faults if one.target == ordinal], diary))
    watch = Watch(settings, PARTITIONS, diary)
    sender = Load(settings, Source(seed, [item.item for item in items]), rate)
    try:
        for actor in actors[1:]:
            actor.start()
        watch.start()
        sender.start()
        _until(lambda: len(watch.group) == PARTITIONS and min(watch.group.values()) > 0, "no list came", 120.0)
        began = time.monotonic()
        for actor in actors:
            actor.began = began
            actor.go.set()
        while time.monotonic() < began + seconds or not all(actor.done.is_set() for actor in actors):
            time.sleep(SAY_SECONDS)
            _say(began, sender, watch, diary)
        sender.stop()
        sender.join()
        took = time.monotonic() - began
        drained = _drain(watch, began, sender, diary)
        statuses = [_finish(actor) for actor in actors[1:]]
        watch.stop()
        watch.join()
        if watch.raised is not None:
            raise watch.raised
        print("reading everything back", flush=True)
        account = reading.account(settings, watch.sightings)
        stored = len(reading.lists(settings, "read_uncommitted"))
        verdict = Verdict()
        try:
            reading.count_state(account, settings, _folds(settings, bundle, items))
        except PenchantError as error:
            verdict.state.append(str(error))
        found = check(account)
        found.state += verdict.state
        if sender.refused or sender.confirmed != len(account.sent):
            found.unexpected.append(f"{sender.confirmed} events confirmed by Kafka, {len(account.sent)} in the topic")
        if not drained:
            found.offsets.append(f"no progress for {STUCK_SECONDS:.0f} s after the last fault")
        for ordinal, status in enumerate(statuses):
            if status != 0:
                diary.ended.append(f"ordinal {ordinal}, the last SIGTERM: {status}")
    finally:
        sender.stop()
        watch.stop()
        for actor in actors[::-1]:
            _finish(actor)
    return report_of(account, found, diary, stored, took, seed), found


def prepare(bootstrap: str, items: list[Item]) -> Settings:
    """Create the topics, send the catalogue, and return the settings of `serve`."""
    settings = Settings(
        app_id="torture", bootstrap=bootstrap, events_topic="torture-events", items_topic="torture-items",
        # Many small transactions and snapshots: more of everything that a fault can fall into.
        poll_events=200, snapshot_every=2000, delta_ring=256, length=3, reasons=1,
    )  # fmt: skip
    wanted = topics.wanted_by(settings, PARTITIONS)
    for topic in wanted:
        if topic.name in (settings.recommendations_topic, settings.interests_topic):
            # The checker wants them all.
            topic.configs.update({"cleanup.policy": "delete", "retention.ms": "-1"})
        if topic.name == settings.state_topic:
            # Compacted within the run, so that restores read what compaction left.
            topic.configs.update(
                {"segment.ms": "20000", "min.cleanable.dirty.ratio": "0.1", "max.compaction.lag.ms": "20000"}
            )
    topics.create(topics.admin(bootstrap), wanted)
    send(settings, settings.items_topic, [(item.item.encode(), encode(item)) for item in items])
    return settings


def _folds(settings: Settings, bundle: Path, items: list[Item]) -> Any:
    encoder = OnnxEncoder(Bundle.open(bundle))
    taxonomy = Taxonomy(Taxonomy.read(None), encoder)
    vectors = list(encoder.encode([item.content() for item in items]))

    def new() -> Fold:
        fold = Fold(fold_settings(settings), encoder.dim, encoder.version, taxonomy)
        for item, vector in zip(items, vectors, strict=True):
            fold.put_item(item, vector)
        return fold

    return new


def _drain(watch: Watch, began: float, sender: Load, diary: Diary) -> bool:
    """Wait until the group is at the end; say whether it came there."""
    last, moved_at = -1, time.monotonic()
    while sum(watch.group.values()) < sender.confirmed:
        if sum(watch.group.values()) != last:
            last, moved_at = sum(watch.group.values()), time.monotonic()
        if time.monotonic() > moved_at + STUCK_SECONDS or watch.raised is not None:
            return False
        time.sleep(1.0)
        if int(time.monotonic()) % 5 == 0:
            _say(began, sender, watch, diary)
    return True


def _say(began: float, sender: Load, watch: Watch, diary: Diary) -> None:
    print(
        f"{time.monotonic() - began:6.0f} s  {sender.confirmed:8,} events, {sum(watch.group.values()):8,} folded, "
        f"{watch.lists:8,} lists; {len(diary.done):4} faults, {len(diary.ended)} ends of their own",
        flush=True,
    )


def _wait_up(actor: Actor) -> None:
    actor.up.wait()
    if actor.raised is not None:
        raise actor.raised


def _finish(actor: Actor) -> int | None:
    actor.release.set()
    actor.go.set()
    if actor.ident is not None:
        actor.join()
    if actor.raised is not None:
        print(f"{actor.name}: {actor.raised!r}", file=sys.stderr)
    return actor.status


def _until(condition: Any, what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise PenchantError(f"{what} within {seconds:.0f} s")
        time.sleep(0.1)
