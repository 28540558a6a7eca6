"""The compiled kernels against plain numpy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.kernels import moments, place, strongest_parts


def test_pasts_that_are_alike_and_unlike_do_not_blow_each_other_up() -> None:
    contributions = np.array([[2.0], [0.5]], np.float32)  # content, and a feature that stands for itself
    contents = np.array([[0.50], [-0.61]], np.float32)  # nearly cancel out, decayed
    none, empty = np.zeros(0, np.int64), np.zeros((1, 1), np.float32)
    sources, values = np.zeros((1, 3), np.int64), np.zeros((1, 3), np.float32)
    family, items = np.array([2, 3]), np.zeros(1, np.int64)
    strongest_parts(contributions, family, items, none, none, contents, empty, empty, sources, values)
    assert sources[0, :2].tolist() == [0, 2]  # the event that is alike, then the feature
    assert values[0].tolist() == [2.0, 0.5, 0.0]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_moments_and_places_are_those_of_numpy(seed: int) -> None:
    dice = np.random.default_rng(seed)
    x, scores = dice.random((5, 40), np.float32), dice.standard_normal(40).astype(np.float32)
    scores[dice.integers(0, 40, 8)] = -np.inf
    scores[0] = 1.0
    weight = np.exp(scores - scores.max())
    weight /= weight.sum()
    expected, mean, square = np.empty((3, 5), np.float32)
    moments(x, weight, expected, mean, square)
    assert np.allclose(expected, x @ weight, atol=1e-5)
    assert np.allclose(mean, x.mean(axis=1), atol=1e-5)
    assert np.allclose(square, (x * x).mean(axis=1), atol=1e-5)
    shown = scores > -np.inf
    assert place(scores, scores, 0) == ((scores[shown] > 1.0).sum(), (scores[shown] == 1.0).sum())
