"""Counts of pairs of items: how often two were engaged or liked by one user, and how often one followed the other.

Here in dense matrices, where the catalogue is small: a user's features are then sums of rows that a compiled loop reads
from end to end. The same in sparse rows, for large ones, is in `model.sparse_pairs`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from model.content import grown

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
Lots = NDArray[np.uint32]
Mask = NDArray[np.bool_]

TABLES = ("together", "liked_together", "followed")
"""Engaged by one user within 10 engagements (symmetric); both liked (symmetric); [a, b]: b came after a."""
TOGETHER, LIKED_TOGETHER, FOLLOWED = range(3)
SUCCESSORS = 3
"""What came after counts 1 / distance, up to so many steps."""


class Cells(NamedTuple):
    """Cells that are not 0, in each of `TABLES`; rows and columns are indices of items."""

    rows: Indices
    columns: Indices
    values: Array


class DensePairs:
    """One matrix a table, shape (capacity, capacity)."""

    def __init__(self, capacity: int) -> None:
        self.together, self.liked_together, self.followed = (np.zeros((capacity, capacity), np.float32) for _ in TABLES)
        self.sizes: Indices = np.zeros(capacity, np.int64)
        """Cells that are not 0 in each row, in all tables."""

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` items."""
        for name in TABLES:
            setattr(self, name, grown(getattr(self, name), (capacity, capacity)))
        self.sizes = grown(self.sizes, (capacity,))

    def add(self, item: int, before: Indices, liked_before: Indices, opened: Mask, lots: Lots) -> None:
        """Count `item` with the user's earlier ones, newest first; `liked_before` is empty where it was not liked.

        Only rows that are `opened` change. (`lots` are for the sparse form.)
        """
        _count_dense(
            self.together, self.liked_together, self.followed, self.sizes, opened, item, before, liked_before
        )  # fmt: skip

    def cells(self, start: int, stop: int, n: int) -> list[Cells]:
        """Return, for each of `TABLES`, the cells of some rows, ordered by row and column, of the first n columns."""
        found = []
        for name in TABLES:
            block: Array = np.ascontiguousarray(getattr(self, name)[start:stop, :n]).ravel()
            places = np.flatnonzero(block)  # several times as fast as nonzero() in two dimensions
            rows, columns = np.divmod(places, max(n, 1))
            found.append(Cells(rows + start, columns, block[places]))
        return found

    def put(self, tables: Sequence[Cells], lots: Lots) -> None:
        """Set whole rows that were empty before, in each of `TABLES`."""
        for name, (rows, columns, values) in zip(TABLES, tables, strict=True):
            getattr(self, name)[rows, columns] = values
            np.add.at(self.sizes, rows, 1)

    def matrix(self, name: str, n: int) -> Array:
        """Return one of `TABLES`, shape (n, n)."""
        matrix: Array = getattr(self, name)[:n, :n]
        return matrix


@njit(cache=True)
def _count(table: Array, row: int, column: int, amount: np.float32, sizes: Indices) -> None:
    sizes[row] += table[row, column] == 0
    table[row, column] += amount


@njit(cache=True)
def _count_dense(
    together: Array, liked_together: Array, followed: Array, sizes: Indices, opened: Mask, item: int, before: Indices,
    liked_before: Indices,
) -> None:  # fmt: skip
    for k in range(len(before)):
        if opened[before[k]]:
            _count(together, before[k], item, np.float32(1), sizes)
            if k < SUCCESSORS:
                _count(followed, before[k], item, np.float32(1) / np.float32(1 + k), sizes)
        if opened[item]:
            _count(together, item, before[k], np.float32(1), sizes)
    for k in range(len(liked_before)):
        if opened[liked_before[k]]:
            _count(liked_together, liked_before[k], item, np.float32(1), sizes)
        if opened[item]:
            _count(liked_together, item, liked_before[k], np.float32(1), sizes)
