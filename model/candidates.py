"""Which items of a large catalogue are ranked for a user: what sources propose that know the counts, or the texts.

A source is a function of the counts and the catalogue alone, and breaks ties by lots drawn by item id: an instance that
restarts, and may know its items in another order, proposes the same.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from model.catalogue import Catalogue
from model.content import Signs
from model.content import signs as signs_of
from model.kernels import DECAY, ENGAGED_NORM
from model.leaders import by_lot, strongest
from model.pairs import FOLLOWED, LIKED_TOGETHER, TOGETHER, Columns, SparsePairs
from model.tables import Tables

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

PAIRED = 200
"""Counted most with the user's latest items, for their share of the candidate's own count."""
ALIKE = (150, 75)
"""Nearest to what was liked and searched, by the signs of their vectors; and to the latest of it alone."""
LEAST = 100
"""With fewer candidates, as on the first day, others are drawn by lot."""


class Candidates:
    """Proposes items, and reads the rows of the user's past at those items only."""

    def __init__(self, catalogue: Catalogue, tables: Tables) -> None:
        self._catalogue, self._tables = catalogue, tables
        self._place: Indices = np.full(0, -1, np.int64)
        """Column of each item while rows are read, else -1."""
        self._strength: Array = np.zeros(0, np.float32)
        """Of each item while candidates are looked for, else 0."""

    def propose(self, recent: Indices, liked: Indices, sought: Sequence[Array], hidden: Indices) -> Indices:
        """Return the candidates, ascending: available, not `hidden`, and near the user's past or popular.

        `recent` and `liked` are the user's items, newest first; `sought` directions, shape (dim,), of the vectors that
        texts should have.
        """
        self._reserve()
        catalogue = self._catalogue
        free = catalogue.there > 0
        free[hidden] = False
        found = [*self._tables.leaders(catalogue), self._paired(recent, liked, free)]
        for direction, count in zip(sought, ALIKE, strict=False):
            near, tied, missing = nearest(catalogue.content.signs, signs_of(direction), free, count)
            found += [near, by_lot(tied, catalogue.lots, missing)]
        items = np.unique(np.concatenate(found))
        items = items[free[items]]
        if len(items) < LEAST:
            items = np.union1d(items, by_lot(np.flatnonzero(free), catalogue.lots, LEAST))
        return items

    def _paired(self, recent: Indices, liked: Indices, free: Mask) -> Indices:
        tables, strength = self._tables, self._strength
        pairs = tables.pairs
        assert isinstance(pairs, SparsePairs)
        touched = np.empty(int(pairs.length[recent].sum() + pairs.length[liked].sum()), np.int64)
        count = strengthen(
            pairs.start, pairs.length, pairs.columns, pairs.values, recent, tables.engaged, liked, tables.liked,
            strength, touched,
        )  # fmt: skip
        touched = touched[:count]
        paired = touched[free[touched]]
        shares = strength[paired] * tables.alone[ENGAGED_NORM, paired]
        strength[touched] = 0
        return strongest(paired, shares, self._catalogue.lots, PAIRED)

    def rows(self, recent: Indices, liked: Indices, items: Indices) -> tuple[Array, Array, Array]:
        """Return together, liked together and followed of the user's past and `items`, each shape (past, items)."""
        self._reserve()
        pairs = self._tables.pairs
        assert isinstance(pairs, SparsePairs)
        together, followed = np.zeros((2, len(recent), len(items)), np.float32)
        liked_together = np.zeros((len(liked), len(items)), np.float32)
        self._place[items] = np.arange(len(items))
        row = (pairs.start, pairs.length, pairs.columns, pairs.values, self._place)
        read_rows(*row, TOGETHER, recent, together)
        read_rows(*row, FOLLOWED, recent, followed)
        read_rows(*row, LIKED_TOGETHER, liked, liked_together)
        self._place[items] = -1
        return together, liked_together, followed

    def _reserve(self) -> None:
        if len(self._place) < self._catalogue.capacity:
            self._place = np.full(self._catalogue.capacity, -1, np.int64)
            self._strength = np.zeros(self._catalogue.capacity, np.float32)


@njit(cache=True)
def strengthen(
    start: Indices, length: Indices, columns: Columns, values: Array, recent: Indices, engaged: Array, liked: Indices,
    liked_counts: Array, strength: Array, touched: Indices,
) -> int:  # fmt: skip
    """Add up how strongly items are paired with a user's past; fill `touched` with them, and return how many they are.

    What was engaged and liked by many is paired with many, and says less: the weights are those of the features.
    """
    count = 0
    for k in range(len(recent)):
        row = recent[k]
        weight = DECAY[k] / np.sqrt(engaged[row] + np.float32(5))
        for at in range(start[row], start[row] + length[row]):
            if strength[columns[at]] == 0:
                touched[count] = columns[at]
                count += 1
            # A little, so that it is touched once, whatever table the cell is in.
            strength[columns[at]] += weight * (values[TOGETHER, at] + values[FOLLOWED, at]) + np.float32(1e-30)
    for k in range(len(liked)):
        row = liked[k]
        weight = DECAY[k] / np.sqrt(liked_counts[row] + np.float32(5))
        for at in range(start[row], start[row] + length[row]):
            if strength[columns[at]] == 0:
                touched[count] = columns[at]
                count += 1
            strength[columns[at]] += weight * values[LIKED_TOGETHER, at] + np.float32(1e-30)
    return count


@njit(cache=True)
def read_rows(
    start: Indices, length: Indices, columns: Columns, values: Array, place: Indices, table: int, past: Indices,
    block: Array,
) -> None:  # fmt: skip
    """Fill `block`, shape (past, candidates), zeros before, with one table's counts; `place` is an item's column, or -1."""
    for k in range(len(past)):
        first = start[past[k]]
        for at in range(first, first + length[past[k]]):
            column = place[columns[at]]
            if column >= 0:
                block[k, column] = values[table, at]


@njit(cache=True)
def _bits(word: np.uint64) -> np.int64:
    """Return how many bits are set: the compiler knows this form, and takes the processor's instruction."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True)
def nearest(
    signs: Signs, query: Signs, free: Mask, count: int
) -> tuple[Indices, Indices, int]:  # fmt: skip
    """Return the items with the fewest other signs than `query`, of those that are `free`.

    At most `count`; then those that tie for the rest, and how many that rest is.
    """
    far = 64 * signs.shape[1] + 1
    distances = np.full(len(signs), far, np.int64)
    sizes = np.zeros(far + 1, np.int64)
    for i in range(len(signs)):
        if free[i]:
            distance = np.int64(0)
            for w in range(signs.shape[1]):
                distance += _bits(signs[i, w] ^ query[w])
            distances[i] = distance
            sizes[distance] += 1
    limit, found = 0, 0
    while limit < far and found + sizes[limit] <= count:
        found += sizes[limit]
        limit += 1
    near = np.empty(found, np.int64)
    tied = np.empty(sizes[limit] if limit < far else 0, np.int64)
    a, b = 0, 0
    for i in range(len(signs)):
        if distances[i] < limit:
            near[a] = i
            a += 1
        elif distances[i] == limit and limit < far:
            tied[b] = i
            b += 1
    return near, tied, count - found
