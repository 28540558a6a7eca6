"""Heads: linear layers on a text's vector that say which of some labels it has, such as whether it is positive."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.encoding import Vectors

SENTIMENT = "sentiment"
"""The head that judges reviews without a value."""
POSITIVE = "positive"
"""Its label that is a liking."""


@dataclass(frozen=True, eq=False)
class Head:
    """Labels and the linear layer whose softmax gives their probabilities."""

    labels: tuple[str, ...]
    weights: Vectors
    """Float32, shape (labels, dim)."""
    bias: Vectors
    """Float32, shape (labels,)."""

    def __post_init__(self) -> None:
        """Raise ValueError, which says why, where this is no head."""
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"needs two labels or more, each once, not {list(self.labels)}")
        if self.weights.ndim != 2 or len(self.weights) != len(self.labels) or self.bias.shape != (len(self.labels),):
            raise ValueError(f"{len(self.labels)} labels, but shapes {self.weights.shape} and {self.bias.shape}")
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise ValueError("not a number in it")

    @property
    def dim(self) -> int:
        """Length of the vectors it reads."""
        return int(self.weights.shape[1])

    def probabilities(self, vectors: Vectors) -> Vectors:
        """Return probabilities, shape (n, labels), rows summing to 1, of unit vectors, shape (n, dim)."""
        logits = vectors @ self.weights.T + self.bias
        shares: Vectors = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return shares

    def probability(self, label: str, vector: Vectors) -> float:
        """Return one label's probability for one unit vector, shape (dim,)."""
        return float(self.probabilities(vector[None])[0, self.labels.index(label)])

    @staticmethod
    def of(labels: Sequence[str], weights: object, bias: object) -> "Head":
        """Return a head from nested sequences or arrays of numbers; raises ValueError where they are none."""
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as such
            return Head(tuple(labels), np.asarray(weights, np.float32), np.asarray(bias, np.float32))
