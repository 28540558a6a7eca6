"""Films that come one by one while MovieLens goes on: who finds them, with their age counted and without."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from export.encoder import OnnxEncoder
from model.evaluate import measures, prepare
from model.events import Event, Item, ItemEvent
from model.fold import FoldSettings
from tests.bench.figures import Figure, Section

SHARE, START = 0.05, 0.3
"""Of the items that come late, and of the events before the first of them."""
EVERY = 700
"""Events from one late item to the next."""
FEW = 20
DRAWS = 3


@dataclass
class Found:
    """Ranks of what was chosen once the first late item was there, and what was shown of the late ones."""

    all: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    early: list[int] = field(default_factory=list)
    """Of `late`, those at one of the item's first engagements."""
    never: float = 0.0
    """Share of the late items that were in no list."""


def stream(
    items: Sequence[Item], events: Sequence[Event], encoder: OnnxEncoder, late: Sequence[Item], aged: bool
) -> Found:
    """Run the events; those of an item that is not there yet are left out."""
    names, waiting = {item.item for item in late}, list(late)
    fold = prepare([item for item in items if item.item not in names], encoder, FoldSettings())
    if not aged:
        fold.tables.came = lambda item: None  # type: ignore[method-assign]  # nothing is late, then
    rows = encoder.encode([item.content() for item in late])
    vectors = {item.item: row for item, row in zip(late, rows, strict=True)}
    found, shown, begin = Found(), set[str](), int(START * len(events))
    for number, event in enumerate(events):
        if number >= begin and (number - begin) % EVERY == 0 and waiting:
            item = waiting.pop(0)
            fold.put_item(item, vectors[item.item])
        if not isinstance(event, ItemEvent) or event.item not in fold.catalogue.index:
            continue
        out = fold.apply(event, {})
        if number < begin:
            continue
        if out.recommendation is not None:
            shown |= names & {slot.item for slot in out.recommendation.items}
        if out.evaluation is not None:
            rank = out.evaluation.ranks["penchant"]
            found.all.append(rank)
            if event.item in names:
                found.late.append(rank)
                if out.evaluation.item_events < FEW:
                    found.early.append(rank)
    found.never = 1 - len(shown) / max(1, len(late) - len(waiting))
    return found


def bench(items: Sequence[Item], events: Sequence[Event], encoder: OnnxEncoder) -> Section:
    """Compare over several draws of the items that come late; figures are means of the draws."""
    both: tuple[list[Found], list[Found]] = ([], [])
    for seed in range(DRAWS):
        chosen = np.random.default_rng(seed).permutation(len(items))[: int(SHARE * len(items))]
        late = [items[place] for place in chosen]
        for aged, runs in zip((True, False), both, strict=True):
            runs.append(stream(items, events, encoder, late, aged))

    def figure(what: str, unit: str, kind: str) -> Figure:
        ours, usual = (
            float(np.mean([_measure(getattr(run, kind), unit == "NDCG@10") for run in runs])) for runs in both
        )
        return Figure(what, unit, ours, usual)

    rows = [
        figure(what, unit, kind)
        for what, kind in (
            ("all choices", "all"), ("late items", "late"), (f"late items, first {FEW} times", "early"),
        )
        for unit in ("HR@10", "NDCG@10")
    ]  # fmt: skip
    never = [float(np.mean([run.never for run in runs])) for runs in both]
    return Section(
        "Items that come late",
        [*rows, Figure("late items in no list", "share", *never)],
        [
            f"{DRAWS} draws of {SHARE:.0%} of the items; from {START:.0%} of the events on one comes every {EVERY}. "
            f"Choices: {', '.join(f'{len(run.all)} ({len(run.late)} of late items)' for run in both[0])}."
        ],
        ("aged", "not"),
        {"draws": [[_measure(run.late, False) for run in runs] for runs in both]},
    )


def _measure(ranks: Sequence[int], ndcg: bool) -> float:
    return float(measures(np.array(ranks, np.int64))[int(ndcg)].mean()) if ranks else 0.0
