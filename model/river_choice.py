"""River's own loops over Penchant's ranker: which item will a user choose, as a multi-class problem, and its HR@k."""

from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
from river import base, metrics

from model.river import PenchantRanker


class ChoiceClassifier(base.Classifier):
    """Which item will the user of `x` choose? As a multi-class problem, which `river.evaluate` can drive.

    As of 0.26, river has no metric that works with a `reco` ranker, and its loops pass `x` in the place of the user.
    Here a label is an item, and every example a liking. The probabilities are the choice model's own: a softmax of the
    ranker's scores over the user's candidates.

    Parameters
    ----------
    ranker
        What learns. It may be told of items (`describe`) and of what was not liked (`learn_one`) directly.
    user
        The name under which `x` has the user. All that lack it are one user.
    repeat
        Whether an item may be chosen again; else those that the user engaged are no candidates.

    Examples
    --------
    >>> from river import evaluate
    >>> choices = [({"user": n // 3}, 2 * (n % 3) + n // 3 % 2) for n in range(150)]  # one half of six items each
    >>> evaluate.progressive_val_score(choices, ChoiceClassifier(PenchantRanker()), HitRate(1)).get() > 0.6
    True
    """

    def __init__(self, ranker: PenchantRanker, user: str = "user", repeat: bool = False) -> None:
        self.ranker, self.user, self.repeat = ranker, user, repeat

    @property
    def _multiclass(self) -> bool:
        return True

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"ranker": PenchantRanker(), "repeat": True}  # river's checks choose one label again and again

    def learn_one(self, x: dict[Hashable, Any], y: Any) -> None:
        """Let the ranker learn that the user of `x` liked item `y`; `x` may describe it, and say when."""
        self.ranker.learn_one(x.get(self.user), y, self.ranker.threshold, x)

    def predict_proba_one(self, x: dict[Hashable, Any], **_: Any) -> dict[base.typing.ClfTarget, float]:
        """Return how probable each candidate is, best first; empty where there is none."""
        user = x.get(self.user)
        order: list[Any] = self.ranker.rank(user, self.ranker.candidates(user, self.repeat))
        if not order:
            return {}
        scores = np.array(list(self.ranker.score_many(user, order).values()))
        odds = np.exp(scores - scores[0])
        return dict(zip(order, (odds / odds.sum()).tolist(), strict=True))


class HitRate(metrics.base.MeanMetric, metrics.base.MultiClassMetric):
    """How often the label was among the `k` most probable (HR@k); what was no candidate is a miss.

    Where labels are equally probable, a hit is counted in part: as likely as it is if they are drawn by lot.

    Parameters
    ----------
    k
        Length of the list.

    Examples
    --------
    >>> metric = HitRate(2)
    >>> for chosen in ("a", "b", "c"):
    ...     metric.update(chosen, {"a": 0.6, "b": 0.2, "c": 0.2})
    >>> metric
    HitRate: 66.67%
    """

    def __init__(self, k: int = 10) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # river's
        self.k = k

    @property
    def requires_labels(self) -> bool:
        """Whether it wants labels: no, probabilities."""
        return False

    def _eval(self, y_true: Any, y_pred: dict[Any, float]) -> float:
        own = y_pred.get(y_true)
        if own is None:
            return 0.0
        above = sum(value > own for value in y_pred.values())
        equal = sum(value == own for value in y_pred.values())
        return min(max((self.k - above) / equal, 0.0), 1.0)
