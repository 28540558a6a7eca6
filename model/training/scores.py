"""How well labels were told: accuracy with its interval, precision, recall, F1."""

from math import sqrt

import msgspec
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


class Scores(msgspec.Struct, frozen=True):
    """Over `n` texts. Of two labels, the others are those of the second (positive); of more, their mean (macro)."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    n: int
    ci95: tuple[float, float]
    """Of the accuracy, by Wilson (1927)."""


def scored(truth: Labels, told: Labels, labels: int) -> Scores:
    """Return the scores of labels that were told, as numbers, shape (n,), n > 0; what nobody told has precision 0."""
    rows = np.array([_of_one(truth == label, told == label) for label in range(labels)])
    precision, recall, f1 = rows[1] if labels == 2 else rows.mean(axis=0)
    right, n = int((truth == told).sum()), len(truth)
    return Scores(right / n, float(precision), float(recall), float(f1), n, wilson(right, n))


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share.

    >>> [round(end, 3) for end in wilson(80, 100)]
    [0.711, 0.867]
    """
    z, share = 1.959964, right / n
    middle = share + z * z / (2 * n)
    width = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - width) / (1 + z * z / n), (middle + width) / (1 + z * z / n)


def _of_one(true: NDArray[np.bool_], told: NDArray[np.bool_]) -> tuple[float, float, float]:
    both = int((true & told).sum())
    precision, recall = both / max(1, int(told.sum())), both / max(1, int(true.sum()))
    return precision, recall, 2 * precision * recall / (precision + recall) if both else 0.0
