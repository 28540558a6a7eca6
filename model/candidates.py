"""Which items of a large catalogue are ranked for a user: what sources propose that know the counts, or the texts.

A source is a function of the counts and the catalogue alone, and breaks ties by lots drawn by item id: an instance that
restarts, and may know its items in another order, proposes the same.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from model.catalogue import Catalogue
from model.content import SIGN_WORDS, Signs
from model.content import signs as signs_of
from model.encoding import Vectors
from model.kernels import DECAY, ENGAGED_NORM
from model.leaders import by_lot, strongest
from model.pairs import FOLLOWED, LIKED_TOGETHER, TOGETHER
from model.sparse_pairs import Columns, SparsePairs
from model.tables import Tables

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
Counts = NDArray[np.uint16]
Mask = NDArray[np.bool_]

PAIRED = 200
"""Counted most with the user's latest items, for their share of the candidate's own count."""
ALIKE = (150, 75, 50)
"""Nearest to what was liked and searched, by the signs of their vectors; to the latest of it alone; and to the latest
search, if that is not it."""
LEAST = 100
"""With fewer candidates, as on the first day, others are drawn by lot; more where lists are longer."""


class Candidates:
    """Proposes items, and reads the rows of the user's past at those items only."""

    def __init__(self, catalogue: Catalogue, tables: Tables, least: int = 0) -> None:
        """At `least` so many are proposed, where there are as many."""
        self._catalogue, self._tables, self._least = catalogue, tables, max(least, LEAST)
        self._place: Indices = np.full(0, -1, np.int64)
        """Column of each item while rows are read, else -1."""
        self._strength: Array = np.zeros(0, np.float32)
        """Of each item while candidates are looked for, else 0."""

    def propose(self, recent: Indices, liked: Indices, sought: Vectors, hidden: Indices) -> Indices:
        """Return the candidates, ascending: available, not `hidden`, and near the user's past or popular.

        `recent` and `liked` are the user's items, newest first; `sought`, shape (at most 3, dim), the directions that
        vectors of texts should have.
        """
        self._reserve()
        catalogue = self._catalogue
        free = catalogue.there[: len(catalogue)] > 0
        free[hidden] = False
        found = [*self._tables.leaders(catalogue), self._paired(recent, liked, free)]
        if len(sought):
            worded = free & catalogue.content.text.worded(len(catalogue))
            found += [self._alike(query, worded, count) for query, count in zip(signs_of(sought), ALIKE, strict=False)]
        items = np.sort(np.concatenate(found))  # np.unique takes three times as long for some hundreds
        items = items[free[items] & (np.diff(items, prepend=-1) > 0)]
        if len(items) < self._least:
            items = np.union1d(items, by_lot(np.flatnonzero(free), catalogue.lots, self._least))
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

    def _alike(self, query: Signs, free: Mask, count: int) -> Indices:
        catalogue = self._catalogue
        counts = np.empty(len(catalogue), np.uint16)
        differing(catalogue.content.signs, query, counts)
        near, tied, missing = least(counts, free, SIGN_WORDS * 64, count)
        return np.concatenate([near, by_lot(tied, catalogue.lots, missing)])

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
            share = weight * (values[TOGETHER, at] + values[FOLLOWED, at])
            count = _touch(strength, touched, count, columns[at], share)
    for k in range(len(liked)):
        row = liked[k]
        weight = DECAY[k] / np.sqrt(liked_counts[row] + np.float32(5))
        for at in range(start[row], start[row] + length[row]):
            count = _touch(strength, touched, count, columns[at], weight * values[LIKED_TOGETHER, at])
    return count


@njit(cache=True)
def _touch(strength: Array, touched: Indices, count: int, item: int, share: np.float32) -> int:
    """Add an item's share, and the item to those touched if it is not among them; return how many they are then."""
    if strength[item] == 0:
        touched[count] = item
        count += 1
    strength[item] += share + np.float32(1e-30)  # a little at least, so that it is touched once
    return count


@njit(cache=True)
def read_rows(
    start: Indices, length: Indices, columns: Columns, values: Array, place: Indices, table: int, past: Indices,
    block: Array,
) -> None:  # fmt: skip
    """Fill `block`, zeros of shape (past, candidates), with one table's counts; `place` is an item's column, or -1."""
    for k in range(len(past)):
        first = start[past[k]]
        for at in range(first, first + length[past[k]]):
            column = place[columns[at]]
            if column >= 0:
                block[k, column] = values[table, at]


@njit(cache=True)
def _bits(word: np.uint64) -> np.uint64:
    """Return how many bits are set: the compiler knows this form, and takes the processor's instructions."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(cache=True)
def differing(signs: Signs, query: Signs, counts: Counts) -> None:
    """Fill `counts`, shape (n,), with how many signs differ from those of `query`, shape (words,)."""
    for i in range(len(counts)):
        bits = np.uint64(0)
        for w in range(SIGN_WORDS):  # a constant, else the loop over items is not vectorised
            bits += _bits(signs[w, i] ^ query[w])
        counts[i] = bits


@njit(cache=True)
def least(counts: Counts, free: Mask, most: int, wanted: int) -> tuple[Indices, Indices, int]:
    """Return the items with the least of `counts` (none is above `most`), of those that are `free`.

    At most `wanted`; then those that tie for the rest, and how many that rest is.
    """
    sizes = np.zeros(most + 2, np.int64)
    for i in range(len(counts)):
        sizes[counts[i]] += free[i]
    limit, found = 0, 0
    while limit <= most and found + sizes[limit] <= wanted:
        found += sizes[limit]
        limit += 1
    first, tied = np.empty(found, np.int64), np.empty(sizes[limit], np.int64)
    a, b = 0, 0
    for i in range(len(counts)):
        if counts[i] <= limit and free[i]:
            if counts[i] < limit:
                first[a] = i
                a += 1
            else:
                tied[b] = i
                b += 1
    return first, tied, wanted - found
