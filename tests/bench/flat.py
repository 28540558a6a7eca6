"""Flatness: the millionth event must cost what the first thousands cost, and memory must not grow with events."""

import time
from collections.abc import Iterator, Sequence

import msgspec

from export.encoder import OnnxEncoder
from model.evaluate import prepare
from model.events import Event, Item
from model.fold import Fold, FoldSettings
from tests.bench.clock import rss_mb
from tests.bench.figures import Figure, Section

LAPS = 10
WINDOW = 10_000
BLOCK = 1000
"""Events between two deltas, as in a full transaction of serve."""


def laps(events: Sequence[Event], count: int) -> Iterator[list[Event]]:
    """Yield about `count` events in laps of the same events: `LAPS` of them, more where there are too few events.

    Each lap has users and ids of its own and goes on where the time of the lap before ended: to the fold it is new
    people who do what real ones did.
    """
    size = max(2, min(len(events), count // LAPS))
    chosen = events[:size]
    span = chosen[-1].at_ms - chosen[0].at_ms + 1
    for lap in range(max(1, count // size)):
        yield [
            msgspec.structs.replace(e, id=f"{e.id}@{lap}", user=f"{e.user}@{lap}", at_ms=e.at_ms + lap * span)
            for e in chosen
        ]


def bench(items: Sequence[Item], events: Sequence[Event], encoder: OnnxEncoder, count: int) -> Section:
    """Run `count` events through a fold and compare the CPU time of windows of at most `WINDOW` events."""
    spend(prepare(items, encoder, FoldSettings()), events[:WINDOW])  # compiled, and memory as with every code path used
    fold = prepare(items, encoder, FoldSettings())
    start_mb, done = rss_mb(), 0
    heads, bodies, tails, lap_mb = list[float](), list[float](), list[float](), list[float]()
    for lap in laps(events, count):
        window = min(WINDOW, len(lap) // 2)
        heads.append(spend(fold, lap[:window]))
        bodies.append(spend(fold, lap[window:-window]))
        tails.append(spend(fold, lap[-window:]))
        lap_mb.append(rss_mb())
        done += len(lap)
    micros = 1e6 / window
    unit = "CPU us / event"
    return Section(
        f"Flatness over {done:,} events",
        [
            Figure(f"{window:,} events at the end, at the start", unit, tails[-1] * micros, heads[0] * micros),
            Figure("the same events by others: last lap, first lap", unit, heads[-1] * micros, heads[0] * micros),
            Figure("all events", unit, sum(heads + bodies + tails) * 1e6 / done),
            Figure("resident memory", "MB", lap_mb[-1], start_mb),
        ],
        [
            f"{len(fold.profiles):,} users at the end: their profiles are what may grow, not what an event costs. "
            "Memory is of the whole process: encoder, data set and benchmark included.",
        ],
        ("end", "start"),
        {"events": done, "window": window, "users": len(fold.profiles), "rss_mb_by_lap": lap_mb},
    )


def spend(fold: Fold, events: Sequence[Event]) -> float:
    """Return the CPU seconds that the fold needs for the events (ratings: no texts)."""
    start = time.process_time()
    for place in range(0, len(events), BLOCK):
        for event in events[place : place + BLOCK]:
            fold.apply(event, {})
        fold.take_delta()
    return time.process_time() - start
