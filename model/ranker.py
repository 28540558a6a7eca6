"""A linear softmax ranker that learns from every choice: multinomial logit by AdaGrad, running normalisation.

The choice model is McFadden's conditional logit (1974); the step is AdaGrad (Duchi et al. 2011).
"""

import numpy as np
from numpy.typing import NDArray

from model.kernels import moments

Array = NDArray[np.float32]


class SoftmaxRanker:
    """Scores candidates by `weights @ (x - mean) / deviation` and learns which one was chosen."""

    def __init__(self, size: int, rate: float = 0.3) -> None:
        self.rate = np.float32(rate)
        self.weights: Array = np.zeros(size, np.float32)
        self.mean: Array = np.zeros(size, np.float32)
        self.variance: Array = np.ones(size, np.float32)
        self.gradients: Array = np.ones(size, np.float32)
        self.steps = 0
        self._fold()

    def _fold(self) -> None:
        """Fold normalisation into the weights, so that scoring is one product."""
        self.deviation = np.sqrt(self.variance + np.float32(1e-6))
        self.slopes: Array = self.weights / self.deviation
        self.bias = -float(self.slopes @ self.mean)

    def score(self, features: Array) -> Array:
        """Return scores, shape (n,), of features, shape (size, n)."""
        scores: Array = self.slopes @ features + np.float32(self.bias)
        return scores

    def learn(self, features: Array, scores: Array, chosen: int) -> None:
        """Take one step towards `chosen`; candidates that could not be shown have a score of -inf."""
        self.steps += 1
        probabilities = np.exp(scores - scores.max())
        probabilities /= probabilities.sum()
        expected, mean, square = np.empty((3, len(self.weights)), np.float32)
        moments(features, probabilities, expected, mean, square)
        gradient = (features[:, chosen] - expected) / self.deviation
        self.gradients += gradient * gradient
        self.weights += self.rate * gradient / np.sqrt(self.gradients)
        variance = square - mean * mean
        pace = np.float32(max(1.0 / self.steps, 0.001))
        self.mean += pace * (mean - self.mean)
        self.variance += pace * (np.maximum(variance, 0) + (mean - self.mean) ** 2 - self.variance)
        self._fold()

    def dump(self) -> tuple[int, bytes]:
        """Return the number of steps and the parameters as little-endian float32."""
        return self.steps, np.stack([self.weights, self.mean, self.variance, self.gradients]).astype("<f4").tobytes()

    def load(self, steps: int, parameters: bytes) -> None:
        """Take over what `dump` gave; raises ValueError for another number of features."""
        table = np.frombuffer(parameters, "<f4").reshape(4, len(self.weights)).astype(np.float32)
        self.steps = steps
        self.weights, self.mean, self.variance, self.gradients = (row.copy() for row in table)
        self._fold()
