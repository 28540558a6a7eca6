"""A linear softmax ranker that learns from every choice: multinomial logit by AdaGrad, running normalisation.

The choice model is McFadden's conditional logit (1974); the step is AdaGrad (Duchi et al. 2011).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.choosing import softmax_step

Array = NDArray[np.float32]


class Prior(NamedTuple):
    """How a feature begins that most events say nothing of: it is normalised by those alone that do."""

    weight: float
    variance: float
    squares: float = 1.0
    """Sum of squared gradients, as if learnt from already: the greater, the slower the weight moves."""


class SoftmaxRanker:
    """Scores candidates by `weights @ (x - mean) / deviation` and learns which one was chosen."""

    def __init__(self, size: int, rate: float = 0.3, priors: Mapping[int, Prior] | None = None) -> None:
        """Features that `priors` say nothing of begin without weight, and with variance 1."""
        self.rate = np.float32(rate)
        self.weights: Array = np.zeros(size, np.float32)
        self.mean: Array = np.zeros(size, np.float32)
        self.variance: Array = np.ones(size, np.float32)
        self.gradients: Array = np.ones(size, np.float32)
        self._rare: Array = np.zeros(size, np.float32)
        self.steps = 0
        for feature, prior in (priors or {}).items():
            self.weights[feature], self.variance[feature], self.gradients[feature] = prior
            self._rare[feature] = 1
        self._fold()

    def _fold(self) -> None:
        """Fold normalisation into the weights, so that scoring is one product: `slopes @ x + bias`."""
        self.slopes: Array = self.weights / np.sqrt(self.variance + np.float32(1e-6))
        self._centre()

    def _centre(self) -> None:
        # The same sum after a step as after a restart: one that adds in another order gives another last digit.
        self.bias = np.float32(-(self.slopes @ self.mean))

    def learn(self, features: Array, scores: Array, there: Array, chosen: int) -> float:
        """Take one step towards `chosen` and return the probability that it had before.

        `features`, shape (size, n); `scores`, shape (n,), are theirs, -inf for what could not be shown; `there` is 1
        for items that are available at all, else 0.
        """
        self.steps += 1
        odds = np.exp(scores - scores.max())
        pace = np.float32(max(1.0 / self.steps, 0.001))
        probability = softmax_step(
            features,
            odds,
            there,
            chosen,
            self.rate,
            pace,
            self.weights,
            self.mean,
            self.variance,
            self.gradients,
            self._rare,
            self.slopes,
        )
        self._centre()
        return float(probability)

    def follow(self, other: "SoftmaxRanker", but: int) -> None:
        """Take over the parameters of another ranker of the same features, all but those of feature `but`."""
        shared = np.arange(len(self.weights)) != but
        for name in ("weights", "mean", "variance", "gradients"):
            getattr(self, name)[shared] = getattr(other, name)[shared]
        self.steps = other.steps
        self._fold()

    def probability(self, scores: Array, chosen: int) -> float:
        """Return the probability of a choice among `scores`, shape (n,)."""
        odds = np.exp(scores - scores.max())
        return float(odds[chosen] / odds.sum())

    def dump(self) -> tuple[int, bytes]:
        """Return the number of steps and the parameters as little-endian float32."""
        return self.steps, np.stack([self.weights, self.mean, self.variance, self.gradients]).astype("<f4").tobytes()

    def load(self, steps: int, parameters: bytes, later: Sequence[int] = ()) -> None:
        """Take over what `dump` gave; raises ValueError for another number of features.

        Features that came `later` are not in it, and stay as they are.
        """
        known = np.delete(np.arange(len(self.weights)), later)
        table = np.frombuffer(parameters, "<f4").reshape(4, len(known))
        self.steps = steps
        for own, row in zip((self.weights, self.mean, self.variance, self.gradients), table, strict=True):
            own[known] = row
        self._fold()
