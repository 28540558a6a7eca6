"""A run: a Kafka, two instances, load, faults; then everything is read back and checked."""

import sys
import time
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from consumer import topics
from consumer.datasets import load
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
from tests.torture.actors import Actor, Acts
from tests.torture.checker import Verdict, check
from tests.torture.faults import BROKER, Diary, plan
from tests.torture.instance import Instance
from tests.torture.load import Load, Source
from tests.torture.node import Node
from tests.torture.opened import Opened
from tests.torture.quiet import Quiet
from tests.torture.report import report_of
from tests.torture.watch import Watch

Protocol = Literal["classic", "consumer"]
PARTITIONS = 4
INSTANCES = 2
ITEMS = 100
"""Of MovieLens-100K; few, as every start embeds them all."""
SESSION_SECONDS = 6
"""The shortest that a broker allows unless told otherwise: less than a transaction may take (10 s), so that partitions
change hands while the transaction of their former owner is open."""
BEHIND_SECONDS = 5.0
"""The group may be so much behind the load where it counts as ready."""
SAY_SECONDS = 5.0
STUCK_SECONDS = 120.0
"""No progress of the group for so long after the last fault: it is stuck."""


def torture(folder: Path, seed: int, seconds: float, rate: float, protocol: Protocol) -> tuple[dict[str, Any], Verdict]:
    """Return the report of a run and the checker's verdict; raises `PenchantError` where nothing could be started."""
    bundle = shipped_bundle(Console(stderr=True))
    items = load("ml-100k")[0][:ITEMS]
    faults, diary, acts = plan(seed, seconds), Diary(log=folder / "faults.jsonl"), Acts(INSTANCES + 1)
    node = Node(folder / "kafka")
    actors = [Actor(node, [one for one in faults if one.target == BROKER], acts, diary)]
    actors[0].start()
    _wait_up(actors[0])
    settings = prepare(node.bootstrap, items, protocol)
    opened, instances = Opened(settings), list[Instance]()
    for ordinal in range(INSTANCES):
        own = settings.model_copy(update={"ordinal": ordinal, "http_port": 0})
        instances.append(Instance(own, bundle, folder / f"serve-{ordinal}", diary, opened))
        actors.append(Actor(instances[-1], [one for one in faults if one.target == ordinal], acts, diary))
    watch = Watch(settings, PARTITIONS, diary)
    sender = Load(settings, Source(seed, [item.item for item in items]), rate)
    node.instances = instances
    for instance in instances:
        instance.quiet = Quiet(instances, PARTITIONS, lambda: _behind(sender, watch) < BEHIND_SECONDS * rate)
    try:
        for actor in actors[1:]:
            actor.start()
        watch.start()
        sender.start()
        _until(lambda: len(watch.group) == PARTITIONS and min(watch.group.values()) > 0, "no list came", 120.0)
        began = time.monotonic()
        acts.until = began + seconds
        for actor in actors:
            actor.go.set()
        while time.monotonic() < began + seconds or not all(actor.done.is_set() for actor in actors):
            time.sleep(SAY_SECONDS)
            _say(began, sender, watch, diary)
            for actor in actors:
                if actor.raised is not None:
                    raise actor.raised
        sender.stop()
        sender.join()
        took = time.monotonic() - began
        drained = _drain(watch, began, sender, diary, node)
        statuses = [_finish(actor) for actor in actors[1:]]
        watch.stop()
        watch.join()
        if watch.raised is not None:
            raise watch.raised
        print("reading everything back", flush=True)
        read_at = time.monotonic()
        account = reading.account(settings, watch.sightings)
        stored = reading.count(settings, settings.recommendations_topic)
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
    logs = {ordinal: instance.log for ordinal, instance in enumerate(instances)}
    return report_of(account, found, diary, logs, settings) | {
        "lists_aborted": stored - len(account.lists),
        "group_went_back": watch.went_back,
        "seconds": round(took, 1),
        "checked_in_s": round(time.monotonic() - read_at, 1),
        "seed": seed,
    }, found


def _behind(sender: Load, watch: Watch) -> int:
    return sender.confirmed - sum(watch.group.values())


def prepare(bootstrap: str, items: list[Item], protocol: Protocol) -> Settings:
    """Create the topics, send the catalogue, and return the settings of `serve`."""
    settings = Settings(
        app_id="torture", bootstrap=bootstrap, events_topic="torture-events", items_topic="torture-items",
        # Many small transactions and snapshots: more of everything that a fault can fall into.
        poll_events=200, snapshot_every=2000, delta_ring=256, length=3, reasons=1,
        group_protocol=protocol, session_timeout_seconds=SESSION_SECONDS,
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
        fold = Fold(fold_settings(settings), encoder, taxonomy)
        for item, vector in zip(items, vectors, strict=True):
            fold.put_item(item, vector)
        return fold

    return new


def _drain(watch: Watch, began: float, sender: Load, diary: Diary, node: Node) -> bool:
    """Wait until the group is at the end; say whether it came there.

    Where nothing moves for a minute the broker is started again, once: Kafka 4.2.0's group coordinator may come back
    from a SIGKILL with a view of long ago, and keep it until its next start. Whether anything is lost is asked later.
    """
    last, moved_at = -1, time.monotonic()
    while sum(watch.group.values()) < sender.confirmed:
        if sum(watch.group.values()) != last:
            last, moved_at = sum(watch.group.values()), time.monotonic()
        if time.monotonic() > moved_at + STUCK_SECONDS / 2 and not diary.restarted_to_drain:
            diary.restarted_to_drain, moved_at = 1, time.monotonic()
            node.kill()
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
