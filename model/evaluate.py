"""The evaluation protocol of docs/evaluation.md: the same fold, without Kafka, measured before it learns."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.encoding import Encoder
from model.events import Event, Item, ItemEvent
from model.fold import Fold, FoldSettings
from model.heads import Head
from model.outcome import Evaluation
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


class Difference(NamedTuple):
    """How much better a fold did than the same fold with features silenced, over the same targets.

    The intervals are of the differences, paired: a resample of users takes their targets from both folds. `relative_*`
    are shares of the silenced fold's figure, None where that is 0.
    """

    hr_at_10: float
    ndcg_at_10: float
    relative_hr_at_10: float | None
    relative_ndcg_at_10: float | None
    ci95_hr_at_10: list[float]
    ci95_ndcg_at_10: list[float]


class Judged(msgspec.Struct, frozen=True):
    """One target: who chose it, and where each ranker had it."""

    user: str
    item: str
    evaluation: Evaluation


def prepare(items: Sequence[Item], encoder: Encoder, settings: FoldSettings, sentiment: Head | None = None) -> Fold:
    """Return a fold that knows the items and nothing else."""
    fold = Fold(settings, encoder, Taxonomy(Taxonomy.read(), encoder), sentiment)
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
    return judge_apart([fold], events, encoder, lambda user: 0, 0, progress)


def judge_apart(
    folds: Sequence[Fold],
    events: Iterable[Event],
    encoder: Encoder,
    place: Callable[[str], int],
    merge_every: int,
    progress: Callable[[], None] = lambda: None,
) -> list[Judged]:
    """Run the events through several folds, as partitions do; `place` says which of them is a user's.

    After every `merge_every` events (0: never) each fold is told what the others counted.
    """
    judged = []
    for number, event in enumerate(events, 1):
        fold = folds[place(event.user)]
        texts = fold.texts(event)
        vectors = dict(zip(texts, encoder.encode(texts), strict=True)) if texts else {}
        outcome = fold.apply(event, vectors)
        if outcome.evaluation is not None and isinstance(event, ItemEvent):
            judged.append(Judged(event.user, event.item, outcome.evaluation))
        if merge_every and number % merge_every == 0:
            told = [each.take_facts() for each in folds]
            for own, each in enumerate(folds):
                for other, facts in enumerate(told):
                    if other != own:
                        each.merge(facts)
        progress()
    return judged


def measures(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return hit, NDCG and reciprocal rank of each target, shape (3, n)."""
    hit = (ranks >= 0) & (ranks < 10)
    reciprocal = np.where(ranks >= 0, 1 / (1 + np.maximum(ranks, 0)), 0.0)
    return np.stack([hit, np.where(hit, 1 / np.log2(np.maximum(ranks, 0) + 2), 0.0), reciprocal])


def interval(values: NDArray[np.float64], users: NDArray[np.str_], seed: int) -> list[float]:
    """Return the 95% interval of the mean, by resampling users with all their targets."""
    if not len(values):
        return [0.0, 0.0]
    _, owner = np.unique(users, return_inverse=True)
    count = int(owner.max()) + 1
    sums, sizes = np.bincount(owner, values, count), np.bincount(owner, minlength=count)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), SAMPLES)
    low, high = np.percentile((draws @ sums) / np.maximum(draws @ sizes, 1), [2.5, 97.5])
    return [round(float(low), 5), round(float(high), 5)]


def _slices(judged: Sequence[Judged]) -> dict[str, NDArray[np.bool_]]:
    """Return which targets belong to each slice, masks of shape (n,)."""
    return {
        "all": np.ones(len(judged), np.bool_),
        "last_half": np.arange(len(judged)) >= len(judged) // 2,
        "cold_users": np.array([one.evaluation.cold_user for one in judged], np.bool_),
        "new_items": np.array([one.evaluation.new_item for one in judged], np.bool_),
    }


def _measured(judged: Sequence[Judged], ranker: str) -> NDArray[np.float64]:
    return measures(np.array([one.evaluation.ranks[ranker] for one in judged], np.int64))


def _mean(values: NDArray[np.float64]) -> float:
    return round(float(values.mean()), 5) if len(values) else 0.0


def report(judged: Sequence[Judged], seed: int = 0) -> dict[str, dict[str, Measured]]:
    """Return how each ranker did on each slice of the targets."""
    users = np.array([one.user for one in judged])
    measures = {ranker: _measured(judged, ranker) for ranker in RANKERS}
    result: dict[str, dict[str, Measured]] = {}
    for name, chosen in _slices(judged).items():
        result[name] = {}
        for ranker in RANKERS:
            hit, ndcg, reciprocal = measures[ranker][:, chosen]
            ci95 = interval(hit, users[chosen], seed)
            result[name][ranker] = Measured(len(hit), _mean(hit), _mean(ndcg), _mean(reciprocal), ci95)
    return result


def difference(full: Sequence[Judged], silenced: Sequence[Judged], seed: int = 0) -> dict[str, Difference]:
    """Return, for each slice, by how much Penchant did better in `full` than in `silenced`.

    Raises:
        ValueError: the two did not judge the same targets; their difference would be one of targets, too.
    """
    slices = _slices(full)
    same = [one.user for one in full] == [one.user for one in silenced]
    if not same or any((mask != slices[name]).any() for name, mask in _slices(silenced).items()):
        raise ValueError("two runs can be compared only over the same targets")
    users = np.array([one.user for one in full])
    with_, without = _measured(full, "penchant"), _measured(silenced, "penchant")
    result = {}
    for name, chosen in slices.items():
        gain = with_[:, chosen] - without[:, chosen]
        hr, ndcg = _mean(gain[0]), _mean(gain[1])
        of_hr, of_ndcg = _mean(without[0, chosen]), _mean(without[1, chosen])
        result[name] = Difference(
            hr,
            ndcg,
            round(hr / of_hr, 4) if of_hr else None,
            round(ndcg / of_ndcg, 4) if of_ndcg else None,
            interval(gain[0], users[chosen], seed),
            interval(gain[1], users[chosen], seed),
        )
    return result
