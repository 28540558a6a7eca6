"""The changelog: how many bytes an event costs there, and how quickly a partition is restored from it."""

import time
from collections.abc import Iterable, Sequence

from consumer.replay import interleave
from consumer.settings import Settings
from consumer.state import FORMAT, PartitionState, Position, restore
from export.encoder import OnnxEncoder
from model.evaluate import prepare
from model.events import Event, Item
from model.fold import FoldSettings
from tests.bench.figures import Figure, Section
from tests.bench.flat import laps

TRANSACTIONS = (20, 100, 500)
"""Events a transaction."""


def bench(items: Sequence[Item], events: Sequence[Event], encoder: OnnxEncoder, users: int) -> Section:
    """Fold the events, in their own order and interleaved; restore a state of at least as many users."""
    figures = []
    for order, chosen in (("real order", events), ("interleaved", interleave(events))):
        for size in TRANSACTIONS:
            written, _ = changelog(items, chosen, encoder, size)
            figures.append(Figure(f"{order}, {size} events a transaction", "bytes / event", written / len(chosen)))
    known = len({event.user for event in events})
    several = [event for lap in laps(events, len(events) * -(-users // known)) for event in lap]
    _, table = changelog(items, several, encoder, 500)
    began = time.process_time()
    state = restore(0, prepare(items, encoder, FoldSettings()), table)
    spent = time.process_time() - began
    assert state is not None
    count = len(state.fold.profiles)
    figures.append(Figure(f"restore of {count:,} users", "users / CPU s", count / spent))
    return Section(
        f"Changelog, {len(events):,} events",
        figures,
        [
            "Keys and values of every record: profiles, deltas, snapshots, positions; before Kafka compresses them. "
            "The restore is from the latest value of each key, all deltas since the last snapshot included, without "
            "the reading from Kafka.",
        ],
    )


def changelog(
    items: Sequence[Item], events: Sequence[Event], encoder: OnnxEncoder, size: int
) -> tuple[int, dict[bytes, bytes]]:
    """Return the bytes that are written for the events (ratings: no texts), and the latest value of every key."""
    defaults = Settings()
    state = PartitionState(0, prepare(items, encoder, FoldSettings()), Position(FORMAT, 0, 0, "", [], ""))
    written, table = 0, dict[bytes, bytes]()
    for start in range(0, len(events), size):
        block = events[start : start + size]
        for event in block:
            state.fold.apply(event, {})
        users: Iterable[str] = dict.fromkeys(event.user for event in block)
        changes = state.changes(
            start + len(block), len(block), users, [0], defaults.snapshot_every, defaults.delta_ring
        )
        for key, value in changes:
            written += len(key) + len(value or b"")
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value
    return written, table
