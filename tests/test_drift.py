"""Drift over real ratings and the real encoder: a planted shift is found, without one nothing is.

`python -m tests.test_drift` prints what is found in all of MovieLens-100K, as it is and altered from the middle on, and
how many false alarms there are in resamples of its blocks.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest
from rich.console import Console

from consumer.datasets import load
from consumer.drift import REFERENCE, Detection, Drift
from consumer.shipped import shipped_bundle
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from model.encoding import Encoder
from model.evaluate import prepare, shuffled
from model.events import Event, Interests, Item
from model.fold import FoldSettings
from model.outcome import Evaluation

pytestmark = pytest.mark.timeout(600)
EVENTS = 40_000
Found = list[tuple[int, Detection]]


def detections(
    items: Sequence[Item], events: Sequence[Event], encoder: Encoder
) -> tuple[Found, list[Evaluation], list[Interests]]:
    """Return what is detected, with the number of the event, and all that the detectors were shown."""
    fold, drift = prepare(items, encoder, FoldSettings()), Drift(200)
    found: Found = []
    all_evaluations: list[Evaluation] = []
    all_interests: list[Interests] = []
    for number, event in enumerate(events):
        texts = fold.texts(event)
        outcome = fold.apply(event, dict(zip(texts, encoder.encode(texts), strict=True)) if texts else {})
        evaluations = [] if outcome.evaluation is None else [outcome.evaluation]
        interests = [] if outcome.interests is None else [outcome.interests]
        found += [(number, one) for one in drift.observe(evaluations, interests, encoder.version)]
        all_evaluations += evaluations
        all_interests += interests
    return found, all_evaluations, all_interests


def false_alarms(evaluations: Sequence[Evaluation], interests: Sequence[Interests], run: int) -> dict[str, float]:
    """Return detections per 1,000 blocks, by signal and detector, in 30 resamples of the blocks of the last two thirds.

    They are drawn in runs of `run` as they came; 1: in any order.
    """
    drift, dice = Drift(200), np.random.default_rng(0)
    blocks = {
        "log_loss": list(drift._losses.add(one.log_loss for one in evaluations)),
        "new_items": list(drift._new.add(float(one.new_item) for one in evaluations)),
        "interests": list(drift._mixes.add(interests)),
    }
    rates: dict[str, float] = {}
    for signal, values in blocks.items():
        drawn = values[len(values) // 3 :]
        for _ in range(30):
            fresh = Drift(200)._signals[signal]
            for start in dice.integers(0, len(drawn) - run + 1, size=(1000 + REFERENCE) // run):
                for value in drawn[start : start + run]:
                    if (one := fresh.update(value)) is not None:
                        rates[f"{signal} {one.detector}"] = rates.get(f"{signal} {one.detector}", 0.0) + 1 / 30
    return rates


def in_any_order(events: Sequence[Event], seed: int) -> list[Event]:
    """Return the events in an order by chance, at the times of the old order: nothing changes, but what is learnt."""
    order = np.random.default_rng(seed).permutation(len(events))
    return [msgspec.structs.replace(events[i], at_ms=old.at_ms) for i, old in zip(order, events, strict=True)]


def renamed(events: Sequence[Event], seed: int) -> list[Event]:
    """Return the events with the items' names permuted: other items are now liked by those who liked these."""
    names = sorted({name for event in events if (name := getattr(event, "item", None)) is not None})
    others = dict(zip(names, np.random.default_rng(seed).permutation(names).tolist(), strict=True))
    return [msgspec.structs.replace(event, item=others[getattr(event, "item", "")]) for event in events]


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder(Bundle.open(shipped_bundle(Console(quiet=True))))


@pytest.mark.parametrize("alter", [renamed, shuffled], ids=["renamed", "shuffled"])
def test_a_shift_from_the_middle_on_is_found_soon(
    encoder: OnnxEncoder, alter: Callable[[Sequence[Event], int], list[Event]]
) -> None:
    items, events = load("ml-100k")
    before, after = events[: EVENTS // 2], events[EVENTS // 2 : EVENTS]
    found, _, _ = detections(items, [*before, *alter(after, 1)], encoder)
    assert found
    first, detection = found[0]
    assert EVENTS // 2 <= first < EVENTS // 2 + 5000
    assert detection.after > detection.before
    assert "log_loss" in {one.signal for _, one in found}


@pytest.mark.parametrize("alter", [None, in_any_order], ids=["as it is", "in any order"])
def test_where_nothing_is_planted_nothing_is_found(
    encoder: OnnxEncoder, alter: Callable[[Sequence[Event], int], list[Event]] | None
) -> None:
    items, events = load("ml-100k")
    some = events[:EVENTS] if alter is None else alter(events[:EVENTS], 1)
    assert detections(items, some, encoder)[0] == []


def main() -> None:
    """Print what is found in MovieLens-100K."""
    items, events = load("ml-100k")
    encoder = OnnxEncoder(Bundle.open(shipped_bundle(Console(stderr=True))))
    half, anyhow = len(events) // 2, [in_any_order(events, seed) for seed in range(3)]
    streams = {
        "as it is": events,
        **{f"in any order, seed {seed}": some for seed, some in enumerate(anyhow)},
        "as it is, then renamed": [*events[:half], *renamed(events[half:], 1)],
        "as it is, then shuffled": [*events[:half], *shuffled(events[half:], 1)],
        "in any order, then renamed": [*anyhow[0][:half], *renamed(anyhow[0][half:], 1)],
        "in any order, then shuffled": [*anyhow[0][:half], *shuffled(anyhow[0][half:], 1)],
    }
    for name, stream in streams.items():
        found, evaluations, interests = detections(items, stream, encoder)
        print(f"{name}: {len(found)} found; {len(evaluations)} evaluations, {len(interests)} interests", flush=True)
        for number, one in found:
            print(f"  {number:6} {one.signal} {one.detector} {one.before:.4f} -> {one.after:.4f} (n {one.n})")
        if stream is events:  # the others' loss goes on falling: their blocks, mixed, would rise and fall
            for run in (1, 8):
                print(f"  resampled in runs of {run}, per 1,000 blocks: {false_alarms(evaluations, interests, run)}")


if __name__ == "__main__":
    main()
