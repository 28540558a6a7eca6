"""The gate: is a candidate model as good as the one that serves, on what neither it nor its training has seen?

Both go through the same fold: it serves with the present model up to the hold-out, and there one copy of it goes over
to the candidate, just as a live swap does. What the two then rank is compared target by target.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.encoding import Encoder, Vectors
from model.evaluate import Judged, interval, judge, measures
from model.events import Event
from model.features import NAMES
from model.fold import Fold
from model.heads import Head
from model.taxonomy import Taxonomy

CONTENT_ALONE = frozenset(NAMES) - {"content", "content_best", "searched", "learnt"}
"""Features to silence, so that text alone ranks."""
AGES = {"0": (0, 0), "1-4": (1, 4), "5-19": (5, 19), "20-99": (20, 99), "100+": (100, 2**62)}
"""Engagements of the item so far, the first and the last of each bin."""
LEAST_USERS = 30
"""Fewer cannot stand for others: an interval from resampling a handful is far too narrow."""
_POWER = (1.959964 + 0.841621) / 1.959964
"""From half an interval to the difference that would be found 4 times of 5 (two-sided test at 5%, power 80%)."""


class Compared(msgspec.Struct, frozen=True):
    """NDCG@10 of one slice of the targets; the difference is after minus before, its interval paired by user."""

    n: int
    users: int
    before: float
    after: float
    popularity: float
    difference: float
    ci95: list[float]
    smallest_detectable: float
    """A difference smaller than that would more likely than not go unnoticed in so few targets."""


class Margins(msgspec.Struct, frozen=True):
    """How much of the serving model's NDCG@10 may be lost at most, and how much dearer the candidate may be."""

    everything: float = 0.02
    unseen: float = 0.05
    """On items that are new or were held out from training: there are far fewer of them."""
    cost: float = 2.5
    """CPU time of embedding the same texts, as a ratio."""


class Decision(msgspec.Struct, frozen=True):
    """What the gate says, and why."""

    promote: bool
    reasons: list[str]
    """Why not; empty where it may be promoted."""
    forced: bool = False
    """Promoted though the gate said no."""


def compare(
    fold: Fold,
    events: Sequence[Event],
    serving: Encoder,
    candidate: Encoder,
    adopt: Callable[[Fold], None],
    progress: Callable[[], None] = lambda: None,
) -> tuple[list[Judged], list[Judged]]:
    """Return the targets of the hold-out `events` as the serving model and as the candidate rank them.

    `fold` has seen everything before them; `adopt` lets a fold go over to the candidate. It is not changed.
    """
    before = copy.deepcopy(fold)
    after = copy.deepcopy(fold)
    adopt(after)
    return judge(before, events, serving, progress), judge(after, events, candidate, progress)


def go_over(
    fold: Fold, encoder: Encoder, items: Mapping[str, Vectors], taxonomy: Taxonomy, sentiment: Head | None
) -> None:
    """Let a fold go over to another encoder, whose vectors of the items, shape (dim,), are `items`, by item."""
    words = list(fold.search_vectors)
    content = fold.catalogue.embedded(items, encoder)
    fold.adopt(encoder.version, taxonomy, content, dict(zip(words, encoder.encode(words), strict=True)), sentiment)


def slices(judged: Sequence[Judged], held_out: Collection[str]) -> dict[str, NDArray[np.bool_]]:
    """Return which targets belong to each slice, masks of shape (n,); `held_out` items were not trained on."""
    new = np.array([one.evaluation.new_item for one in judged], np.bool_)
    held = np.array([one.item in held_out for one in judged], np.bool_)
    return {
        "all": np.ones(len(judged), np.bool_),
        "warm": ~new & ~held,
        "held_out_items": held,
        "new_items": new,
        "unseen": new | held,
    }


def compared(
    before: Sequence[Judged], after: Sequence[Judged], held_out: Collection[str], seed: int = 0
) -> dict[str, Compared]:
    """Return how the two did on each slice.

    Raises:
        ValueError: they did not judge the same targets.
    """
    return _compared(before, after, slices(before, held_out), seed)


def by_age(before: Sequence[Judged], after: Sequence[Judged], seed: int = 0) -> dict[str, Compared]:
    """Return how the two did by how often the item had been engaged until then; raises as `compared`."""
    events = np.array([one.evaluation.item_events for one in before], np.int64)
    masks = {name: (events >= first) & (events <= last) for name, (first, last) in AGES.items()}
    return _compared(before, after, masks, seed)


def _compared(
    before: Sequence[Judged], after: Sequence[Judged], masks: Mapping[str, NDArray[np.bool_]], seed: int
) -> dict[str, Compared]:
    if [(one.user, one.item) for one in before] != [(one.user, one.item) for one in after]:
        raise ValueError("two models can be compared only over the same targets")
    users = np.array([one.user for one in before], np.str_)
    ndcg = [_ndcg(each, "penchant") for each in (before, after)]
    popularity = _ndcg(before, "popularity")
    found = {}
    for name, mask in masks.items():
        gain = ndcg[1][mask] - ndcg[0][mask]
        ci95 = interval(gain, users[mask], seed)
        found[name] = Compared(
            n=int(mask.sum()),
            users=len(np.unique(users[mask])),
            before=_mean(ndcg[0][mask]),
            after=_mean(ndcg[1][mask]),
            popularity=_mean(popularity[mask]),
            difference=_mean(gain),
            ci95=ci95,
            smallest_detectable=round(_POWER * (ci95[1] - ci95[0]) / 2, 5),
        )
    return found


def decide(figures: Mapping[str, Compared], cost: float, margins: Margins) -> Decision:
    """Return whether the candidate may serve: only if each interval excludes a loss beyond its margin.

    `cost` is the candidate's CPU time of embedding over that of the serving model.
    """
    reasons = []
    for name, margin in (("all", margins.everything), ("unseen", margins.unseen)):
        one = figures[name]
        if one.users < LEAST_USERS or not one.before:
            reasons.append(
                f"{name}: {one.n} targets of {one.users} users, NDCG@10 {one.before:.4f} -> {one.after:.4f}: nothing "
                f"can be shown with fewer than {LEAST_USERS} users, or where what serves has no hit: a longer window"
            )
        elif one.ci95[0] < -margin * one.before:
            reasons.append(
                f"{name}: NDCG@10 {one.before:.4f} -> {one.after:.4f}, and the interval of the difference, "
                f"{one.ci95[0]:+.4f} to {one.ci95[1]:+.4f}, does not exclude a loss of {margin:.0%} "
                f"({one.n} targets; the smallest difference they can show is {one.smallest_detectable:.4f})"
            )
    if cost > margins.cost:
        reasons.append(f"embedding takes {cost:.2f} times as long, at most {margins.cost:g} times is allowed")
    return Decision(not reasons, reasons)


def _ndcg(judged: Sequence[Judged], ranker: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = measures(np.array([one.evaluation.ranks[ranker] for one in judged], np.int64))[1]
    return values


def _mean(values: NDArray[np.float64]) -> float:
    return round(float(values.mean()), 5) if len(values) else 0.0
