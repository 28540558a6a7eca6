"""How well vectors alone foretell what is chosen next: for choosing among trained models, never for the gate."""

import numpy as np
from numpy.typing import NDArray

from model.encoding import Vectors
from model.training.nextitem import Encoded, Indices

BEST = 0.3
"""How much the nearest of the past counts beside their mean, about as the ranker weighs the two features."""
_CELLS = 4_000_000
"""Scores at once: 16 MB an array, however many items there are."""


def reciprocal_ranks(vectors: Vectors, examples: Encoded, columns: Indices) -> NDArray[np.float64]:
    """Return 1 / (1 + rank) of what each example chose, which is among the items `columns`, but for the consumed.

    Ranked by the weighted mean of the cosines to the past and by the highest of them, each less what texts have in
    common, as `model.content` has it. `vectors`, shape (texts, dim), are of unit length; `columns` ascend.
    """
    catalogue = vectors[columns]
    middle = catalogue.mean(axis=0)
    common = catalogue @ middle - (middle @ middle) / 2
    place = np.full(len(vectors), -1, np.int64)
    place[columns] = np.arange(len(columns))
    found, at_once = [], max(1, _CELLS // len(columns))
    for start in range(0, len(examples), at_once):
        rows = slice(start, start + at_once)
        past, weights = examples.past[rows], examples.weights[rows]
        scores = np.full((len(past), len(columns)), -np.inf, np.float32)
        mean = np.zeros_like(scores)
        for k in range(past.shape[1]):
            there = past[:, k] >= 0
            cosines = vectors[past[there, k]] @ catalogue.T
            mean[there] += weights[there, k, None] * cosines
            scores[there] = np.maximum(scores[there], cosines)
        scores = mean + np.float32(BEST) * scores - (1 + BEST) * common
        for at, numbers in enumerate(examples.consumed[rows]):
            scores[at, place[numbers][place[numbers] >= 0]] = -np.inf
        own = scores[np.arange(len(past)), place[examples.target[rows]]]
        found.append(1 / (1 + (scores > own[:, None]).sum(axis=1)))
    return np.concatenate(found) if found else np.zeros(0)
