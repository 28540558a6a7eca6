"""The counts of `model.pairs` in sparse rows: in a large catalogue only what was counted takes memory."""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from model.content import grown
from model.pairs import (
    FOLLOWED,
    LIKED_TOGETHER,
    SUCCESSORS,
    TABLES,
    TOGETHER,
    Array,
    Cells,
    DensePairs,
    Indices,
    Lots,
    Mask,
)

Columns = NDArray[np.int32]
MAX_NEIGHBOURS = 4096
"""Of one item. Where a row is full, the quarter of it that is counted least makes room."""
_KEPT = MAX_NEIGHBOURS * 3 // 4
_LEAST_ROOM = 8
_LEAST_ARENA = 1 << 10


class SparsePairs:
    """Rows of neighbours in one arena; a row that is full moves to where there is twice the room.

    Row i is `columns[start[i] : start[i] + length[i]]`, ascending, and the same of `values`, shape (3, arena), where
    each of `TABLES` has a row.
    """

    def __init__(self, capacity: int) -> None:
        self.start: Indices = np.zeros(capacity, np.int64)
        self.length: Indices = np.zeros(capacity, np.int64)
        self._room: Indices = np.zeros(capacity, np.int64)
        self.columns: Columns = np.empty(_LEAST_ARENA, np.int32)
        self.values: Array = np.empty((len(TABLES), _LEAST_ARENA), np.float32)
        self._ends: Indices = np.zeros(2, np.int64)
        """End of what is used of the arena, and how much below it belongs to no row any more."""

    @classmethod
    def of(cls, dense: DensePairs, capacity: int, lots: Lots) -> "SparsePairs":
        """Return the same counts in this form."""
        pairs = cls(capacity)
        n, step = len(dense.sizes), 256
        for start in range(0, n, step):
            pairs.put(dense.cells(start, min(start + step, n), n), lots)
        return pairs

    @property
    def sizes(self) -> Indices:
        """An upper bound of the cells that are not 0 in each row, in all tables."""
        return self.length * len(TABLES)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` items."""
        self.start, self.length, self._room = (
            grown(each, (capacity,)) for each in (self.start, self.length, self._room)
        )

    def add(self, item: int, before: Indices, liked_before: Indices, opened: Mask, lots: Lots) -> None:
        """Count as `DensePairs.add`; of neighbours that are counted least, those of lower `lots` make room first."""
        # In one step a row of another item doubles once at most; the item's own may double until it is full.
        rooms = self._room[before].sum() + self._room[liked_before].sum()
        self._make_room(2 * int(rooms) + _LEAST_ROOM * (len(before) + len(liked_before)) + 2 * MAX_NEIGHBOURS)
        _count_sparse(
            self.start, self.length, self._room, self.columns, self.values, self._ends, opened, lots, item, before,
            liked_before,
        )  # fmt: skip

    def cells(self, start: int, stop: int, n: int) -> list[Cells]:
        """Return as `DensePairs.cells`; all columns are below n."""
        lengths = self.length[start:stop]
        rows = np.repeat(np.arange(start, stop), lengths)
        first = np.cumsum(lengths) - lengths
        places = np.arange(len(rows)) - np.repeat(first - self.start[start:stop], lengths)
        columns = self.columns[places].astype(np.int64)
        found = []
        for values in self.values[:, places]:
            filled = np.flatnonzero(values)
            found.append(Cells(rows[filled], columns[filled], values[filled]))
        return found

    def put(self, tables: Sequence[Cells], lots: Lots) -> None:
        """Set whole rows that were empty before, in each of `TABLES`; what is more than a row holds is left out."""
        keys = np.concatenate([(each.rows << 32) | each.columns for each in tables])
        unique, place = np.unique(keys, return_inverse=True)
        values = np.zeros((len(TABLES), len(unique)), np.float32)
        which = np.repeat(np.arange(len(TABLES)), [len(each.rows) for each in tables])
        values[which, place] = np.concatenate([each.values for each in tables])
        columns = (unique & 0xFFFFFFFF).astype(np.int32)
        rows, first, lengths = np.unique(unique >> 32, return_index=True, return_counts=True)
        self._make_room(len(unique))
        at = int(self._ends[0])
        self.columns[at : at + len(unique)] = columns
        self.values[:, at : at + len(unique)] = values
        self.start[rows], self.length[rows], self._room[rows] = at + first, lengths, lengths
        self._ends[0] += len(unique)
        for row in rows[lengths > MAX_NEIGHBOURS]:
            self.length[row] = _thin(int(self.start[row]), int(self.length[row]), self.columns, self.values, lots)

    def matrix(self, name: str, n: int) -> Array:
        """Return one of `TABLES`, shape (n, n): for tests."""
        matrix = np.zeros((n, n), np.float32)
        rows, columns, values = self.cells(0, n, n)[TABLES.index(name)]
        matrix[rows, columns] = values
        return matrix

    def _make_room(self, need: int) -> None:
        """See that `need` places are free at the end; close the gaps that rows left behind where they moved."""
        used, gaps = self._ends.tolist()
        if used + need <= len(self.columns):
            return
        size = len(self.columns)
        while size < 2 * (used - gaps) + need:
            size *= 2
        columns, values = np.empty(size, np.int32), np.empty((len(TABLES), size), np.float32)
        self._ends[:] = _move(self.start, self.length, self._room, self.columns, self.values, columns, values), 0
        self.columns, self.values = columns, values


@njit(cache=True)
def _count_sparse(
    start: Indices, length: Indices, room: Indices, columns: Columns, values: Array, ends: Indices, opened: Mask,
    lots: Lots, item: int, before: Indices, liked_before: Indices,
) -> None:  # fmt: skip
    one = np.float32(1)
    for k in range(len(before)):
        other = before[k]
        if opened[other]:
            at = _place(start, length, room, columns, values, ends, lots, other, item)
            values[TOGETHER, at] += one
            if k < SUCCESSORS:
                values[FOLLOWED, at] += one / np.float32(1 + k)
        if opened[item]:
            values[TOGETHER, _place(start, length, room, columns, values, ends, lots, item, other)] += one
    for k in range(len(liked_before)):
        other = liked_before[k]
        if opened[other]:
            values[LIKED_TOGETHER, _place(start, length, room, columns, values, ends, lots, other, item)] += one
        if opened[item]:
            values[LIKED_TOGETHER, _place(start, length, room, columns, values, ends, lots, item, other)] += one


@njit(cache=True)
def _place(
    start: Indices, length: Indices, room: Indices, columns: Columns, values: Array, ends: Indices, lots: Lots,
    row: int, column: int,
) -> int:  # fmt: skip
    """Return where in the arena a cell is, making it (0) if it is not there; there is room at the end."""
    at = _find(columns, start[row], length[row], column)
    if at < start[row] + length[row] and columns[at] == column:
        return at
    if length[row] >= MAX_NEIGHBOURS:
        length[row] = _thin(start[row], length[row], columns, values, lots)
        at = _find(columns, start[row], length[row], column)
    if length[row] == room[row]:
        old, new = start[row], ends[0]
        ends[1] += room[row]
        room[row] = max(2 * room[row], _LEAST_ROOM)
        ends[0] += room[row]
        columns[new : new + length[row]] = columns[old : old + length[row]]
        values[:, new : new + length[row]] = values[:, old : old + length[row]]
        start[row] = new
        at += new - old
    end = start[row] + length[row]
    for k in range(end, at, -1):
        columns[k] = columns[k - 1]
    columns[at] = column
    for t in range(len(values)):
        for k in range(end, at, -1):
            values[t, k] = values[t, k - 1]
        values[t, at] = np.float32(0)
    length[row] += 1
    return at


@njit(cache=True)
def _find(columns: Columns, low: int, length: int, wanted: int) -> int:
    """Return where in a row `wanted` is, or would be."""
    high = low + length
    while low < high:
        middle = (low + high) // 2
        if columns[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _thin(start: int, length: int, columns: Columns, values: Array, lots: Lots) -> int:
    """Keep the most counted neighbours of a row, and return how many; ties do not depend on the order of items."""
    sums = np.empty(length, np.float32)
    for k in range(length):
        sums[k] = values[0, start + k] + values[1, start + k] + values[2, start + k]
    least = np.sort(sums)[length - _KEPT]
    above = np.sum(sums > least)
    drawn = np.empty(np.sum(sums == least), np.uint32)
    at = 0
    for k in range(length):
        if sums[k] == least:
            drawn[at] = lots[columns[start + k]]
            at += 1
    limit = np.sort(drawn)[len(drawn) - (_KEPT - above)]
    kept = 0
    for k in range(length):
        if sums[k] > least or (sums[k] == least and lots[columns[start + k]] >= limit):
            columns[start + kept] = columns[start + k]
            for t in range(len(values)):
                values[t, start + kept] = values[t, start + k]
            kept += 1
    return kept


@njit(cache=True)
def _move(
    start: Indices, length: Indices, room: Indices, columns: Columns, values: Array, to_columns: Columns,
    to_values: Array,
) -> int:  # fmt: skip
    """Move all rows, with the room that they have, one behind the other into another arena; return where they end."""
    end = 0
    for i in range(len(start)):
        stop = end + length[i]
        to_columns[end:stop] = columns[start[i] : start[i] + length[i]]
        to_values[:, end:stop] = values[:, start[i] : start[i] + length[i]]
        start[i] = end
        end += room[i]
    return end
