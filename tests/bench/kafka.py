"""Kafka to Kafka: serve beside a plain poll loop, on the same broker, the same events, one after the other."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from rich.console import Console

from consumer.broker import EmbeddedBroker
from consumer.demo_process import terminable
from model.events import Event, Item
from tests.bench.figures import Figure, Section
from tests.bench.rig import SETTLE_SECONDS, Load, Rig, Run, Scenario

SYSTEMS = ("ours", "usual")
SCENARIOS = (
    Scenario("real order"),
    Scenario("interleaved", interleave=True),
    Scenario("5% fresh texts", fresh_text=5.0),
)


def bench(items: Sequence[Item], events: Sequence[Event], load: Load, rounds: int, console: Console) -> Section:
    """Run all scenarios on a broker started for them; the order of the two systems changes with every round."""
    figures: list[Figure] = []
    with ExitStack() as stack:
        stack.enter_context(terminable())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penchant-bench-")))
        bootstrap = stack.enter_context(EmbeddedBroker.start(folder / "kafka")).bootstrap
        rig = Rig(bootstrap, folder, items, events, load)
        for scenario in SCENARIOS:
            runs: dict[str, list[Run]] = {name: [] for name in SYSTEMS}
            for number in range(rounds):
                for name in SYSTEMS if number % 2 == 0 else reversed(SYSTEMS):
                    runs[name].append(rig.run(name == "ours", scenario))
                    console.print(f"  {scenario.what}, {name}: {runs[name][-1]}", highlight=False)
            for what, unit, value in _MEASURES:
                ours, usual = (median(value(run) for run in runs[name]) for name in SYSTEMS)
                figures.append(Figure(f"{scenario.what}: {what}", unit, ours, usual))
    return Section(
        "Kafka to Kafka",
        figures,
        [
            f"Ours: 'penchant serve', coalesce off, 3 reasons an item. The first {load.warm:,} lists (start-up, JIT) "
            f"are not counted, then {load.measured:,} flat out from a topic filled before, then {load.seconds:g} s at "
            f"half of its own measured rate, after {SETTLE_SECONDS:g} s to settle. Latency: record timestamp to seen "
            "by a read_committed reader, which counts and does not decode. The broker runs on the same machine.",
            "Usual: a confluent-kafka poll loop, numpy, fixed weights, PyTorch padded to 128 for texts; it commits "
            "every 100 events, at least once: no transactions, no reasons, no weights learnt, no interests, no state "
            "kept. Its paced phase is at half of its own rate, too.",
            f"Rounds: {rounds}; the order of the two changes with each, and the median is shown.",
        ],
    )


_MEASURES: tuple[tuple[str, str, Callable[[Run], float]], ...] = (
    ("flat out", "lists / s", lambda run: run.rate),
    ("flat out, the service alone", "lists / CPU s", lambda run: run.cpu_rate),
    ("half rate, p50", "ms", lambda run: run.p50),
    ("half rate, p99", "ms", lambda run: run.p99),
)
