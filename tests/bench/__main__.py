"""`make bench`: fold, encoder, Kafka to Kafka, loop, changelog, flatness, many items, late ones; most with comparison.

Figures are reported, never asserted. What a core gives is in CPU seconds; where two are compared within a process they
take turns, so that what else runs on the machine disturbs both.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from consumer.datasets import load
from consumer.shipped import shipped_bundle
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from tests.bench import encoder, flat, fold, kafka, large, late, loop, state
from tests.bench.figures import Section, write
from tests.bench.rig import Load

SUBJECTS = ("fold", "encoder", "kafka", "loop", "state", "flat", "large", "late")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    usage = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usage.add_argument("--only", type=_subjects, default=SUBJECTS, help=f"some of {','.join(SUBJECTS)}")
    usage.add_argument("--json", type=Path, help="write all figures there, too")
    usage.add_argument("--events", type=_count, default=100_000, help="of the flatness run (default %(default)s)")
    usage.add_argument("--fold-events", type=_count, default=10_000, help="of the fold alone (default %(default)s)")
    usage.add_argument("--texts", type=_count, default=128, help="of each length (default %(default)s)")
    usage.add_argument("--kafka-events", type=_count, default=10_000, help="measured flat out (default %(default)s)")
    usage.add_argument("--loop-events", type=_count, default=200_000, help="of the loop alone (default %(default)s)")
    usage.add_argument("--state-events", type=_count, default=100_000, help="of the changelog (default %(default)s)")
    usage.add_argument("--items", type=_count, default=100_000, help="of the large catalogue (default %(default)s)")
    usage.add_argument("--users", type=_count, default=5_000, help="restored, at least (default %(default)s)")
    usage.add_argument("--seconds", type=float, default=12.0, help="at half rate (default %(default)s)")
    usage.add_argument("--rounds", type=_count, default=1, help="of Kafka; medians are shown (default %(default)s)")
    return usage


def main(arguments: list[str] | None = None) -> None:
    """Print every figure asked for; with --json write them after every subject, so that a crash loses only its own."""
    given = parser().parse_args(arguments)
    console = Console()
    items, events = load("ml-100k")
    bundle = Bundle.open(shipped_bundle(console))
    amount = Load(measured=given.kafka_events, seconds=given.seconds)
    jobs: dict[str, Callable[[], Section]] = {
        "fold": lambda: fold.bench(items, events[: given.fold_events + fold.WARM], OnnxEncoder(bundle)),
        "encoder": lambda: encoder.bench(items, bundle, given.texts),
        "kafka": lambda: kafka.bench(items, events, amount, given.rounds, console),
        "loop": lambda: loop.bench(events, OnnxEncoder(bundle), given.loop_events, given.rounds),
        "state": lambda: state.bench(items, events[: given.state_events], OnnxEncoder(bundle), given.users),
        "flat": lambda: flat.bench(items, events, OnnxEncoder(bundle), given.events),
        "large": lambda: large.bench(items, events, OnnxEncoder(bundle), given.items),
        "late": lambda: late.bench(items, events, OnnxEncoder(bundle)),
    }
    found: dict[str, Section] = {}
    for name in given.only:
        found[name] = jobs[name]()
        found[name].show(console)
        if given.json is not None:
            write(given.json, found)


def _subjects(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if not set(chosen) <= set(SUBJECTS):
        raise argparse.ArgumentTypeError(f"choose from {','.join(SUBJECTS)}")
    return tuple(name for name in SUBJECTS if name in chosen)


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    main()
