"""The drill: a Kafka and a `serve` of its own, events at a steady rate, models promoted meanwhile; the accounts."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from consumer import topics
from consumer.broker import EmbeddedBroker
from consumer.datasets import load
from consumer.demo_process import start, stop
from consumer.demo_watch import rate_after
from consumer.replay import send_events, send_items
from consumer.settings import Settings
from consumer.shipped import shipped_bundle
from export.bundle import Bundle
from export.registry import Registry
from export.registry_folder import MODELS
from model.errors import Fatal
from tests.drill import accounts, bundles
from tests.drill.conductor import Conductor, Good, plan
from tests.drill.fresh import Fresh
from tests.drill.reader import Reader
from tests.drill.report import CALM_AFTER, CALM_BEFORE, Drilled, Times, strays, summary
from tests.drill.sender import stream
from tests.drill.serving import Serving
from tests.torture.checker import Verdict, check

WARM = 3000
"""Lists that are not measured: start-up, compilation."""
SETTLE_SECONDS = 3.0
START_SECONDS = 120.0
DRAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Options:
    """How much of everything."""

    swaps: int = 50
    every: float = 4.0
    rate: float | None = None
    calm: float = 20.0
    measured: int = 10_000
    """Lists whose rate is measured flat out."""
    partitions: int = 2
    models: tuple[str, ...] = bundles.GOOD
    bad: bool = True


def drill(folder: Path, options: Options) -> tuple[dict[str, Any], list[str]]:
    """Run it, and return the report and what is wrong, line by line; raises `Fatal` where it cannot go on."""
    began = time.monotonic()
    items, events = load("ml-100k")
    registry, at = Registry.open(str(folder / "registry")), folder / "registry"
    goods, bads = _publish(registry, at, folder, options, [item.content() for item in items])
    registry.promote(goods[0][1], None)
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker.start(folder / "kafka"))
        settings = _settings(broker.bootstrap, at, options.partitions)
        send_items(settings.bootstrap, settings.items_topic, items)
        filled = WARM + (0 if options.rate else options.measured)
        send_events(settings.bootstrap, settings.events_topic, list(islice(stream(events, 0, lambda: False), filled)))
        reader = Reader(settings.bootstrap, settings.recommendations_topic, options.partitions)
        reader.start()
        stack.callback(reader.stop)
        serving = stack.enter_context(Serving(settings, folder))
        drilled = Drilled(reigns=[goods[0]])
        conductor = Conductor(registry, serving, reader, drilled, options.every)
        if not conductor.wait(lambda: len(reader.lists) >= filled, START_SECONDS):
            raise Fatal(f"{len(reader.lists)} lists of {filled} within {START_SECONDS:.0f} s: {serving.log}")
        if options.rate is None:
            drilled.max_rate = rate_after([one.at_ms / 1000 for one in reader.lists], WARM)
            if drilled.max_rate is None:
                raise Fatal(f"{options.measured} events are too few to measure a rate")
        drilled.rate = options.rate or (drilled.max_rate or 0.0) / 2
        print(f"flat out {drilled.max_rate} lists/s; from now on {drilled.rate:.0f} events/s", flush=True)
        # In a process of its own, as events come from elsewhere.
        what = [settings.bootstrap, settings.events_topic, str(drilled.rate), str(filled)]
        sender = start(stack, ["tests.drill.sender", *what], folder / "sender.log")
        conductor.wait(lambda: len(reader.lists) > filled, START_SECONDS)
        conductor.wait(lambda: False, SETTLE_SECONDS)
        fresh = Fresh(settings, items, reader)
        fresh.start()
        conductor.rest(options.calm, CALM_BEFORE)
        drilled.usage.append(serving.usage())
        conductor.run(plan(goods, bads, options.swaps))
        conductor.rest(options.calm, CALM_AFTER)
        drilled.usage.append(serving.usage())
        if sender.poll() is not None:
            raise Fatal(f"the sender ended with status {sender.returncode}: {folder / 'sender.log'}")
        fresh.stop()
        drilled.fresh = fresh.seconds
        stop(sender)
        ends, stamps = accounts.events(settings)
        conductor.wait(lambda: len(reader.lists) >= len(stamps), DRAIN_SECONDS)
        drilled.refused = serving.refused()
        if (status := serving.end()) != 0:
            drilled.wrong.append(f"serve ended with status {status}")
        reader.stop()
        account = accounts.account(settings, ends)
        drilled.wrong += accounts.unreadable(settings)
    verdict = check(account)
    if [(one.partition, one.offset, one.event) for one in sorted(reader.lists)] != sorted(
        (one.partition, one.offset, one.event) for one in account.lists
    ):
        drilled.wrong.append("the lists read back are not those that came while the stream ran")
    drilled.wrong += [f"{name} came into no list" for name, seconds in drilled.fresh.items() if seconds is None]
    _judge(drilled, serving, reader, bads)
    report = summary(drilled, Times(reader.lists, stamps)) | {
        "warnings": dict(serving.levels("warning")),
        "events": len(stamps), "lost": len(verdict.lost), "duplicated": len(verdict.duplicated),
        "reordered": len(verdict.reordered), "planned": {"swaps": options.swaps, "refusals": len(bads)},
        "partitions": options.partitions, "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    return report, [*drilled.wrong, *_lines(verdict)]


def _publish(
    registry: Registry, at: Path, folder: Path, options: Options, texts: list[str]
) -> tuple[list[Good], list[bundles.Bad]]:
    made = folder / "bundles"
    made.mkdir(exist_ok=True)
    shipped = Bundle.open(shipped_bundle(Console(stderr=True)))
    goods = []
    for name in options.models:
        print(f"making {name} ...", flush=True)
        goods.append((name, registry.publish(bundles.good(name, made, shipped, texts).path)))
    if not (options.bad and options.swaps):
        return goods, []
    print("making bad ones ...", flush=True)
    return goods, bundles.bad(registry, at / MODELS, made, shipped, texts)


def _settings(bootstrap: str, registry: Path, partitions: int) -> Settings:
    settings = Settings(
        app_id="drill", bootstrap=bootstrap, events_topic="drill-events", items_topic="drill-items",
        registry=str(registry), follow_seconds=0.2,
    )  # fmt: skip
    wanted = topics.wanted_by(settings, partitions)
    for topic in wanted:
        if topic.name in (settings.recommendations_topic, settings.interests_topic):
            # The checker wants them all.
            topic.configs.update({"cleanup.policy": "delete", "retention.ms": "-1"})
    client = topics.admin(bootstrap)
    topics.create(client, wanted)
    deadline = time.monotonic() + topics.TIMEOUT_SECONDS
    while topics.differences(client, wanted) and time.monotonic() < deadline:
        time.sleep(0.1)  # created, and not yet known to everybody
    return settings


def _judge(drilled: Drilled, serving: Serving, reader: Reader, bads: list[bundles.Bad]) -> None:
    """Hold what `serve` said against what was done, and each list's model against what served."""
    versions = [version for _, version in drilled.reigns]
    drilled.wrong += strays(reader.lists, versions)
    swapped = serving.lines("swapped")
    drilled.pauses_ms = [line["pause_ms"] for line in swapped]
    if [line["model"] for line in swapped] != versions[1:]:
        drilled.wrong.append(f"serve says that it swapped to {[line['model'] for line in swapped]}, not {versions[1:]}")
    refused = [line["model"] for line in serving.lines("model refused")]
    for bad in bads:
        if refused.count(bad.version) != 1:
            drilled.wrong.append(f"{bad.kind} ({bad.version}) has {refused.count(bad.version)} lines in the log, not 1")
    for said, times in serving.levels("error", "critical").items():
        if not said.startswith("model refused"):
            drilled.wrong.append(f"serve said {times} times: {said}")


def _lines(verdict: Verdict) -> list[str]:
    return [f"{kind}: {line}" for kind, lines in vars(verdict).items() for line in lines]
