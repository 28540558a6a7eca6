"""Counts of pairs: the sparse form holds what the dense one does, and a row that is full loses what counts least."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import model.pairs
from model.pairs import TABLES, DensePairs, SparsePairs

ITEMS = 30
SEEDS = st.integers(0, 2**32 - 1)


def count(pairs: DensePairs | SparsePairs, seed: int, engagements: int = 200) -> None:
    """Let a few users engage and like items; some rows do not count, as while a snapshot is loaded."""
    dice = np.random.default_rng(seed)
    opened = dice.random(ITEMS) < 0.9
    for _ in range(engagements):
        before, liked = (dice.integers(0, ITEMS, dice.integers(0, 11)) for _ in range(2))
        pairs.add(int(dice.integers(0, ITEMS)), before, liked, opened, lots(ITEMS))


def lots(count: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.random.default_rng(0).permutation(count).astype(np.uint32)


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_both_forms_count_the_same(seed: int) -> None:
    dense, sparse = DensePairs(ITEMS), SparsePairs(ITEMS)
    count(dense, seed)
    count(sparse, seed)
    turned = SparsePairs.of(dense, 2 * ITEMS, lots(2 * ITEMS))
    for name in TABLES:
        assert np.array_equal(sparse.matrix(name, ITEMS), dense.matrix(name, ITEMS))
        assert np.array_equal(turned.matrix(name, ITEMS), dense.matrix(name, ITEMS))
    count(turned, seed + 1)
    count(dense, seed + 1)
    for number, name in enumerate(TABLES):
        assert np.array_equal(turned.matrix(name, ITEMS), dense.matrix(name, ITEMS))
        one, other = turned.cells(5, 20, ITEMS)[number], dense.cells(5, 20, ITEMS)[number]
        assert np.array_equal(one.rows, other.rows)
        assert np.array_equal(one.columns, other.columns)
        assert np.array_equal(one.values, other.values)
    assert (turned.sizes[:ITEMS] >= dense.sizes).all()


def test_a_row_that_is_full_loses_what_is_counted_least() -> None:
    """All items follow item 0, the first ten of them five times: those stay, whoever else comes."""
    most = model.pairs.MAX_NEIGHBOURS
    n = most + 100
    pairs, opened, drawn = SparsePairs(n), np.ones(n, np.bool_), lots(n)
    before, none = np.zeros(1, np.int64), np.zeros(0, np.int64)
    for item in range(1, n):
        for _ in range(5 if item <= 10 else 1):
            pairs.add(item, before, none, opened, drawn)
        assert pairs.length[0] <= most
    row = pairs.matrix("together", n)[0]
    assert (row[1:11] == 5).all()
    assert (row > 0).sum() == pairs.length[0] > most // 2
    # The ones that were put out are those of the lowest lots among the first to be there.
    first = np.arange(11, most + 1)
    gone = first[row[first] == 0]
    kept = first[row[first] > 0]
    assert len(gone) == most // 4
    assert drawn[gone].max() < drawn[kept].min()


def test_a_row_that_is_too_long_to_be_loaded_keeps_what_counts_most() -> None:
    n = model.pairs.MAX_NEIGHBOURS + 500
    dense = DensePairs(n)
    dense.together[7, :n] = 1
    dense.together[7, 100:200] = 2
    dense.sizes[7] = n
    row = SparsePairs.of(dense, n, lots(n)).matrix("together", n)[7]
    assert (row[100:200] == 2).all()
    assert (row > 0).sum() == model.pairs.MAX_NEIGHBOURS * 3 // 4
