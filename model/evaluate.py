"""The evaluation protocol of docs/evaluation.md: the same fold, without Kafka, measured before it learns."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.encoding import Encoder
from model.events import Event, Item
from model.fold import Evaluation, Fold, FoldSettings
from model.taxonomy import Taxonomy

RANKERS = ("penchant", "popularity", "recent_popularity", "covisitation")
SAMPLES = 500
"""Bootstrap resamples of users."""


class Measured(NamedTuple):
    """How well a ranker did over `n` targets; `ci95` is the interval of `hr_at_10`, clustered by user."""

    n: int
    hr_at_10: float
    ndcg_at_10: float
    mrr: float
    ci95: list[float]


class Judged(msgspec.Struct, frozen=True):
    """One target: who chose it, and where each ranker had it."""

    user: str
    evaluation: Evaluation


def prepare(items: Sequence[Item], encoder: Encoder, settings: FoldSettings) -> Fold:
    """Return a fold that knows the items and nothing else."""
    fold = Fold(settings, encoder.dim, encoder.version, Taxonomy(Taxonomy.read(), encoder))
    for item, vector in zip(items, encoder.encode([item.content() for item in items]), strict=True):
        fold.put_item(item, vector)
    return fold


def shuffled(events: Sequence[Event], seed: int) -> list[Event]:
    """Return the events with their items permuted: the control in which nothing can be learnt but popularity."""
    order = np.random.default_rng(seed).permutation(len(events))
    names = [getattr(events[i], "item", None) for i in order]
    return [
        msgspec.structs.replace(event, item=name) if name is not None and hasattr(event, "item") else event
        for event, name in zip(events, names, strict=True)
    ]


def judge(
    fold: Fold, events: Iterable[Event], encoder: Encoder, progress: Callable[[], None] = lambda: None
) -> list[Judged]:
    """Run the events through the fold and return every target's ranks, in order."""
    judged = []
    for event in events:
        texts = fold.texts(event)
        vectors = dict(zip(texts, encoder.encode(texts), strict=True)) if texts else {}
        outcome = fold.apply(event, vectors)
        if outcome.evaluation is not None:
            judged.append(Judged(event.user, outcome.evaluation))
        progress()
    return judged


def _measures(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return hit, NDCG and reciprocal rank of each target, shape (3, n)."""
    hit = (ranks >= 0) & (ranks < 10)
    reciprocal = np.where(ranks >= 0, 1 / (1 + np.maximum(ranks, 0)), 0.0)
    return np.stack([hit, np.where(hit, 1 / np.log2(np.maximum(ranks, 0) + 2), 0.0), reciprocal])


def interval(values: NDArray[np.float64], users: Sequence[str], seed: int) -> list[float]:
    """Return the 95% interval of the mean, by resampling users with all their targets."""
    if not len(values):
        return [0.0, 0.0]
    _, owner = np.unique(np.array(users), return_inverse=True)
    count = int(owner.max()) + 1
    sums, sizes = np.bincount(owner, values, count), np.bincount(owner, minlength=count)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), SAMPLES)
    low, high = np.percentile((draws @ sums) / np.maximum(draws @ sizes, 1), [2.5, 97.5])
    return [round(float(low), 5), round(float(high), 5)]


def report(judged: Sequence[Judged], seed: int = 0) -> dict[str, dict[str, Measured]]:
    """Return how each ranker did on each slice of the targets."""
    half = len(judged) // 2
    slices = {
        "all": list(judged),
        "last_half": list(judged[half:]),
        "cold_users": [one for one in judged if one.evaluation.cold_user],
        "new_items": [one for one in judged if one.evaluation.new_item],
    }
    result: dict[str, dict[str, Measured]] = {}
    for name, chosen in slices.items():
        users = [one.user for one in chosen]
        result[name] = {}
        for ranker in RANKERS:
            measures = _measures(np.array([one.evaluation.ranks[ranker] for one in chosen], np.int64))
            hr, ndcg, mrr = (round(float(row.mean()), 5) if len(row) else 0.0 for row in measures)
            ci95 = interval(measures[0], users, seed)
            result[name][ranker] = Measured(len(chosen), hr, ndcg, mrr, ci95)
    return result
