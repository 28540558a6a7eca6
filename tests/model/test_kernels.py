"""The compiled kernels against plain numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.choosing import place, softmax_step, strongest_parts
from model.lists import best

SEEDS = st.integers(0, 2**32 - 1)


def test_pasts_that_are_alike_and_unlike_do_not_blow_each_other_up() -> None:
    x = np.array([[2.0], [0.5]], np.float32)  # content, and a feature that stands for itself
    searched = np.array([[0.50], [-0.61]], np.float32)  # nearly cancel out, decayed
    none, empty = np.zeros(0, np.int64), np.zeros((1, 1), np.float32)
    sources, values = np.zeros((1, 3), np.int64), np.zeros((1, 3), np.float32)
    family, items, contents = np.array([2, 3]), np.zeros(1, np.int64), np.array([-1, -2])
    slopes = np.ones(2, np.float32)
    strongest_parts(
        x, slopes, family, items, none, none, contents, -1, np.zeros(2, np.float32), empty, empty, empty, searched,
        empty[0], sources, values,
    )  # fmt: skip
    assert sources[0, :2].tolist() == [0, 2]  # the event that is alike, then the feature
    assert values[0].tolist() == [2.0, 0.5, 0.0]


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_places_are_those_of_numpy(seed: int) -> None:
    dice = np.random.default_rng(seed)
    scores = dice.integers(0, 9, 40).astype(np.float32)
    scores[dice.integers(1, 40, 8)] = -np.inf
    shown = scores > -np.inf
    assert place(scores, scores, 0) == ((scores[shown] > scores[0]).sum(), (scores[shown] == scores[0]).sum())


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_a_step_is_that_of_adagrad_on_the_multinomial_logit(seed: int) -> None:
    dice = np.random.default_rng(seed)
    x = dice.random((5, 40), np.float32)
    scores = dice.standard_normal(40).astype(np.float32)
    scores[dice.integers(1, 40, 8)] = -np.inf
    weights, mean, variance, gradients = dice.random((4, 5), np.float32) + 0.5
    odds = np.exp(scores - scores.max())
    there = (scores > -np.inf).astype(np.float32)
    shown = x[:, there == 1]
    share = odds / odds.sum()
    gradient = (x[:, 0] - x @ share) / np.sqrt(variance + 1e-6)
    squares = gradients + gradient**2
    learnt = weights + 0.3 * gradient / np.sqrt(squares)
    centre = mean + 0.1 * (shown.mean(axis=1) - mean)
    spread = variance + 0.1 * (shown.var(axis=1) + (shown.mean(axis=1) - centre) ** 2 - variance)
    slopes, rare = np.zeros((2, 5), np.float32)
    probability = softmax_step(
        x, odds, there, 0, np.float32(0.3), np.float32(0.1), weights, mean, variance, gradients, rare, slopes
    )
    assert np.isclose(probability, share[0], rtol=1e-4)
    for ours, theirs in ((weights, learnt), (gradients, squares), (mean, centre), (variance, spread)):
        assert np.allclose(ours, theirs, atol=1e-4)
    assert np.allclose(slopes, learnt / np.sqrt(spread + 1e-6), atol=1e-3)


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 50))
def test_the_best_are_those_of_a_sort_ties_by_id(seed: int, count: int) -> None:
    dice = np.random.default_rng(seed)
    scores = dice.integers(-3, dice.integers(-2, 60), 40).astype(np.float32)
    scores[dice.integers(0, 40, 12)] = -np.inf
    ids = [f"i{n}" for n in dice.permutation(40)]
    shown = [i for i in range(40) if scores[i] > -np.inf]
    assert best(scores, ids.__getitem__, count) == sorted(shown, key=lambda i: (-scores[i], ids[i]))[:count]


def test_a_rare_feature_is_normalised_by_what_speaks_and_keeps_its_prior_at_first() -> None:
    """Silence leaves all as it was, and one event at the very beginning, of items that are all alike, nearly so."""
    row, there = np.full(4, 0.5, np.float32), np.ones(4, np.float32)
    for speaks in (0, 1):
        x = np.stack([row * speaks] * 2)
        weights, slopes, mean = np.ones(2, np.float32), np.zeros(2, np.float32), np.full(2, 0.5, np.float32)
        variance, gradients, rare = np.full(2, 0.01, np.float32), np.ones(2, np.float32), np.array([0, 1], np.float32)
        softmax_step(
            x, there, there, 0, np.float32(0.3), np.float32(1), weights, mean, variance, gradients, rare, slopes
        )
        assert (mean[0], variance[0]) == (0.5 * speaks, 0)  # the first step's, at a pace of 1
        assert mean[1] == 0.5
        assert variance[1] == pytest.approx(0.01 * (0.999 if speaks else 1))
