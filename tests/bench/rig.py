"""One system in one scenario: topics of its own, filled before it starts; flat out, then paced for the latency."""

import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from rich.console import Console

from consumer import topics
from consumer.demo_process import free_port, last_line, spawn, start, stop
from consumer.demo_watch import rate_after
from consumer.replay import Replay, send_events, send_items
from consumer.shipped import shipped_bundle
from model.errors import Fatal
from model.events import Event, Item
from tests.bench.clock import cpu_seconds
from tests.bench.figures import quantile
from tests.bench.lists import Lists, stamps

SOURCE = "ml-100k"
SETTLE_SECONDS = 3.0
"""Of the paced phase, at its beginning: not counted."""


@dataclass(frozen=True)
class Scenario:
    """How the events come."""

    what: str
    interleave: bool = False
    fresh_text: float = 0.0
    """Percent of the events."""


@dataclass(frozen=True)
class Load:
    """How much is sent: events that warm up, events measured flat out, seconds measured at half of that rate."""

    warm: int = 3000
    measured: int = 10_000
    seconds: float = 12.0


@dataclass(frozen=True)
class Run:
    """What one system did in one scenario; rates in lists/s, times in ms."""

    rate: float
    cpu_rate: float
    """Lists per CPU second of the service's process."""
    p50: float
    p99: float


class Rig:
    """A broker with everything needed to run one system after another, each with names of its own."""

    def __init__(
        self, bootstrap: str, folder: Path, items: Sequence[Item], events: Sequence[Event], load: Load
    ) -> None:
        self._bootstrap, self._folder, self._items, self._events, self._load = bootstrap, folder, items, events, load
        self._numbers = count()

    def run(self, ours: bool, scenario: Scenario) -> Run:
        """Start `serve` or the usual service, measure, stop it; raises `Fatal` with its last words if it ends."""
        load, bootstrap = self._load, self._bootstrap
        app = f"bench{next(self._numbers)}"
        events, items = f"{app}.events", f"{app}.items"
        topics.create(topics.admin(bootstrap), topics.wanted(app, events=events, items=items))
        send_items(bootstrap, items, self._items)
        before = load.warm + load.measured
        job = Replay(
            source=SOURCE, bootstrap=bootstrap, events_topic=events, items_topic=items, only="events", events=before,
            interleave=scenario.interleave, fresh_text=scenario.fresh_text, seed=0,
        )  # fmt: skip
        send_events(bootstrap, events, job.select(self._events))
        log = self._folder / f"{app}.log"
        with ExitStack() as stack:
            lists = stack.enter_context(closing(Lists(bootstrap, f"{app}.recommendations")))
            service = self._serve(stack, app, log) if ours else self._usual(stack, app, scenario, log)

            def must_live() -> None:
                if service.poll() is not None:
                    raise Fatal(f"the service ended with status {service.returncode}: {last_line(log)}")

            lists.wait(load.warm, must_live)
            first, spent = len(lists.seen), cpu_seconds(service.pid)
            lists.wait(before, must_live)
            spent, done = cpu_seconds(service.pid) - spent, before - first
            rate = rate_after(lists.seen, load.warm)
            if rate is None:
                raise Fatal(f"{before} events are too few to measure a rate: they came in one transaction")
            paced = max(10, int(rate / 2 * (load.seconds + SETTLE_SECONDS)))
            paced = min(paced, len(self._events) - before)
            self._pace(stack, app, scenario, before, paced, rate / 2)
            lists.wait(before + paced, must_live)
            stop(service)
        sent, key = stamps(bootstrap, events, before, paced)
        # With one partition the n-th list answers the n-th event.
        if key != lists.last_key or len(lists.seen) != before + paced:
            raise Fatal(f"{len(lists.seen)} lists for {before + paced} events: not one for each, in order")
        settled = sent[0] + min(SETTLE_SECONDS, (sent[-1] - sent[0]) / 2)
        times = [(at - put) * 1000 for put, at in zip(sent, lists.seen[before:], strict=True) if put >= settled]
        p50, p99 = (round(quantile(times, share), 1) for share in (0.5, 0.99))
        return Run(rate, round(done / max(spent, 0.01), 1), p50, p99)

    def _serve(self, stack: ExitStack, app: str, log: Path) -> "subprocess.Popen[bytes]":
        settings = {
            "app_id": app, "bootstrap": self._bootstrap, "bundle": str(shipped_bundle(Console(stderr=True))),
            "events_topic": f"{app}.events", "items_topic": f"{app}.items", "http_port": str(free_port()),
            "coalesce": "false", "reasons": "3",
        }  # fmt: skip
        return spawn(stack, ["serve"], log, os.environ | {f"PENCHANT_{k.upper()}": v for k, v in settings.items()})

    def _usual(self, stack: ExitStack, app: str, scenario: Scenario, log: Path) -> "subprocess.Popen[bytes]":
        text = ["--text"] if scenario.fresh_text else []
        names = [self._bootstrap, f"{app}.events", f"{app}.recommendations"]
        return start(stack, ["tests.bench.usual_service", *names, *text], log, {**os.environ, "OMP_NUM_THREADS": "1"})

    def _pace(self, stack: ExitStack, app: str, scenario: Scenario, skip: int, events: int, rate: float) -> None:
        # In a process of its own, as events come from elsewhere; another seed, so that its texts are fresh, too.
        names = ["--bootstrap", self._bootstrap, "--events-topic", f"{app}.events", "--items-topic", f"{app}.items"]
        how = ["--skip", str(skip), "--events", str(events), "--rate", str(rate), "--only", "events", "--seed", "1"]
        how += ["--interleave"] * scenario.interleave + ["--fresh-text", str(scenario.fresh_text)]
        spawn(stack, ["replay", SOURCE, *names, *how], self._folder / f"{app}.replay.log")
