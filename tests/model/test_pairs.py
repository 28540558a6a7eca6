"""Counts of pairs: the sparse form holds what the dense one does, and a row that is full loses what counts least."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import model.sparse_pairs
from model.pairs import TABLES, Cells, DensePairs
from model.sparse_pairs import MAX_NEIGHBOURS, SparsePairs
from model.tables import Tables

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
    most = MAX_NEIGHBOURS
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
    n = MAX_NEIGHBOURS + 500
    dense = DensePairs(n)
    dense.together[7, :n] = 1
    dense.together[7, 100:200] = 2
    dense.sizes[7] = n
    row = SparsePairs.of(dense, n, lots(n)).matrix("together", n)[7]
    assert (row[100:200] == 2).all()
    assert (row > 0).sum() == MAX_NEIGHBOURS * 3 // 4


def test_a_snapshot_tells_apart_more_items_than_two_bytes_can() -> None:
    capacity, n = 1 << 17, 70_000
    ids = [str(number) for number in range(n)]
    drawn, index = lots(capacity), {name: number for number, name in enumerate(ids)}
    written, read = Tables(capacity), Tables(capacity)
    for item, past in ((n - 1, 3), (3, n - 2), (n - 2, n - 1)):
        written.add(item, True, np.array([past]), np.array([past]), drawn)
    chunks = [written.dump_rows(*block, 1, [], n) for block in written.blocks(n)]
    read.load(written.dump_counts(ids), chunks, index.__getitem__, lambda: drawn)
    for mine, its in zip(read.pairs.cells(0, n, n), written.pairs.cells(0, n, n), strict=True):
        for name in Cells._fields:
            assert np.array_equal(getattr(mine, name), getattr(its, name))
        assert mine.columns.max() == n - 1


def test_a_restored_row_loses_the_same_neighbours_when_it_is_full() -> None:
    """Half of its counts come from a snapshot, written while counting went on, and items arrive in another order."""
    n = MAX_NEIGHBOURS + 900
    ids, drawn, none = [str(number) for number in range(n)], lots(n), np.zeros(0, np.int64)
    place = np.random.default_rng(1).permutation(n)
    here = np.empty(n, np.uint32)
    here[place] = drawn
    live, back = Tables(n), Tables(n)
    for item in range(1, MAX_NEIGHBOURS):
        live.add(item, False, np.zeros(1, np.int64), none, drawn)
    head, blocks = live.dump_counts(ids), live.blocks(n)
    later = np.random.default_rng(2).permutation(np.arange(1, n)).tolist()
    for item in later[:600]:  # counted while the snapshot is written: row 0 holds them, and must not count them again
        live.add(item, False, np.zeros(1, np.int64), none, drawn)
    chunks = [live.dump_rows(*block, 1, [], n) for block in blocks]
    for item in later[600:]:
        live.add(item, False, np.zeros(1, np.int64), none, drawn)
    back.load(head, chunks, lambda item: int(place[int(item)]), lambda: here)
    for sequence, part in ((1, later[:600]), (2, later[600:])):
        back.open_rows(sequence)
        for item in part:
            back.add(int(place[item]), False, place[:1], none, here)
    back.open_all()
    mine, its = back.pairs.matrix("together", n)[place[0]][place], live.pairs.matrix("together", n)[0]
    assert np.array_equal(mine, its)
    assert (its > 0).sum() < n - 1


def test_rows_never_leave_the_arena_nor_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code writes wherever it is told to: room has to be made before."""
    monkeypatch.setattr(model.sparse_pairs, "_LEAST_ARENA", 16)
    n, dice = 400, np.random.default_rng(0)
    pairs, opened = SparsePairs(n), np.ones(n, np.bool_)
    for _ in range(1500):
        pairs.add(int(dice.integers(n)), dice.integers(0, n, 10), dice.integers(0, n, 10), opened, lots(n))
        assert pairs._ends[0] <= len(pairs.columns)
    order = np.argsort(pairs.start, kind="stable")
    order = order[pairs.length[order] > 0]
    assert (pairs.start[order[1:]] >= (pairs.start + pairs._room)[order[:-1]]).all()
    assert (pairs.length <= pairs._room).all()
    assert all((np.diff(pairs.columns[a : a + k]) > 0).all() for a, k in zip(pairs.start, pairs.length, strict=True))
