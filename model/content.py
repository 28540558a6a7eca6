"""What one encoder says of the items: their vectors, and how alike any two of them are."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from model.encoding import Vectors

Array = NDArray[np.float32]


def grown(array: Array, shape: tuple[int, ...]) -> Array:
    """Return a zero-padded copy of `array` in a larger shape."""
    larger = np.zeros(shape, array.dtype)
    larger[tuple(slice(0, n) for n in array.shape)] = array
    return larger


class Content:
    """Vectors and cosines by the catalogue's indices; another encoder's take the place of this as a whole."""

    def __init__(self, dim: int, capacity: int) -> None:
        self.vectors: Vectors = np.zeros((capacity, dim), np.float32)
        self.similarity: Array = np.zeros((capacity, capacity), np.float32)
        """Cosine of the content of two items; the diagonal is 0."""
        self._alike: NDArray[np.float64] = np.zeros(capacity)
        """Sums of the rows of `similarity`."""
        self._there: Array = np.zeros(capacity, np.float32)
        """1 where an item has a vector, else 0."""
        self._count = 0
        self.common: Array = np.zeros(capacity, np.float32)
        """How like an item is to all others in the mean, less half of what any two have in common.

        All films are alike in being films: `similarity[i, j] - common[i] - common[j]` is how alike two items are beyond
        that. It is the product of their content vectors less the mean vector of all items. 0 for what has no vector.
        """

    @classmethod
    def of(cls, vectors: Vectors, there: Collection[int], capacity: int) -> "Content":
        """Return the content of all items at once; `vectors`, shape (n, dim), are 0 but for those that are `there`."""
        n = len(vectors)
        content = cls(vectors.shape[1], 0)
        content.vectors = grown(vectors, (capacity, vectors.shape[1]))
        similarity = np.zeros((capacity, capacity), np.float32)
        np.matmul(vectors, vectors.T, out=similarity[:n, :n])
        np.fill_diagonal(similarity, 0.0)
        content.similarity = similarity
        content._alike = similarity.sum(axis=1, dtype=np.float64)
        content._there = np.zeros(capacity, np.float32)
        content._there[list(there)] = 1
        content._count = len(there)
        content.common = np.zeros(capacity, np.float32)
        content._centre(n)
        return content

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.vectors.shape[1])

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` items."""
        known = len(self.common)
        if capacity > known:
            self.vectors = grown(self.vectors, (capacity, self.dim))
            self.similarity = grown(self.similarity, (capacity, capacity))
            self._alike = np.concatenate([self._alike, np.zeros(capacity - known)])
            self.common = grown(self.common, (capacity,))
            self._there = grown(self._there, (capacity,))

    def put(self, i: int, n: int, vector: Array) -> None:
        """Set the vector of item `i` of `n`."""
        self._count += not self._there[i]
        self._there[i] = 1
        self.vectors[i] = vector
        before = self.similarity[i, :n].copy()
        relate(self.similarity, self.vectors[:n], i)
        change = self.similarity[i, :n].astype(np.float64) - before
        self._alike[:n] += change
        self._alike[i] += change.sum()
        self._centre(n)

    def drop(self, i: int, n: int) -> None:
        """Forget the vector of item `i` of `n`."""
        if self._there[i]:
            self.put(i, n, np.zeros(self.dim, np.float32))
            self._there[i] = 0
            self._count -= 1
            self._centre(n)

    def related(self, vector: Array) -> Array:
        """Return the cosine of a text to every item, shape (capacity,), less what the text shares with all of them."""
        row: Array = self.vectors @ vector
        row -= np.float32(row.sum(dtype=np.float64) / max(1, self._count) - self._half())
        return row

    def _centre(self, n: int) -> None:
        self.common[:n] = (self._alike[:n] / max(1, self._count) - self._half()) * self._there[:n]

    def _half(self) -> float:
        return float(self._alike.sum()) / 2 / max(1, self._count) ** 2


def relate(similarity: Array, vectors: Array, i: int) -> None:
    """Fill row and column `i` of a table of cosines, the diagonal 0; `vectors`, shape (n, dim), have length 1 or 0."""
    n = len(vectors)
    row = vectors @ vectors[i]
    row[i] = 0.0
    similarity[i, :n] = row
    similarity[:n, i] = row
