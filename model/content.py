"""What one encoder says of the items: their vectors, and how alike any two of them are."""

from collections.abc import Collection
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.encoding import Vectors

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
Signs = NDArray[np.uint64]
AnyArray = TypeVar("AnyArray", bound=NDArray[Any])

SIGN_WORDS = 8
"""A vector's signs, 512 of them, in words of 64 bits."""
BLOCK = 4096
"""Vectors whose signs are found at once: each takes 2.5 KB meanwhile."""


def grown(array: AnyArray, shape: tuple[int, ...]) -> AnyArray:
    """Return a zero-padded copy of `array` in a larger shape."""
    larger = np.zeros(shape, array.dtype)
    larger[tuple(slice(0, n) for n in array.shape)] = array
    return larger  # type: ignore[return-value]


class Part:
    """Vectors by the catalogue's indices, and cosines.

    All films are alike in being films: the cosine of two items less what each has in `common` with all of them is how
    alike they are beyond that. It is the product of their vectors less the mean vector of all items.

    Up to a `limit` of items the cosines are in a table; above it they are computed where they are wanted.
    """

    def __init__(self, dim: int, capacity: int, limit: int) -> None:
        self._limit = limit
        small = capacity if capacity <= limit else 0
        self.vectors: Vectors = np.zeros((capacity, dim), np.float32)
        self.similarity: Array = np.zeros((small, small), np.float32)
        """Cosine of the content of two items; the diagonal is 0. Empty above the limit."""
        self._common: Array | None = None
        """Of all items, while no vector changed."""
        self._squares: Array = np.zeros(capacity, np.float32)
        """Squared lengths of the vectors: 1, or 0 where there is none."""
        self._there: Array = np.zeros(capacity, np.float32)
        """1 where an item has a vector, else 0."""
        self._sum: NDArray[np.float64] = np.zeros(dim)
        self._squared, self._count = 0.0, 0
        """Sums of vectors, of their squared lengths, and of `there`."""

    @classmethod
    def of(cls, vectors: Vectors, there: Collection[int], capacity: int, limit: int) -> "Part":
        """Return the part of all items at once; `vectors`, shape (n, dim), are 0 but for those that are `there`."""
        n = len(vectors)
        part = cls(vectors.shape[1], capacity, limit)
        part.vectors[:n] = vectors
        part._squares[:n] = np.einsum("ij,ij->i", vectors, vectors)
        part._there[list(there)] = 1
        part._sum, part._count = vectors.sum(axis=0, dtype=np.float64), len(there)
        part._squared = float(part._squares.sum(dtype=np.float64))
        if part.dense:
            np.matmul(vectors, vectors.T, out=part.similarity[:n, :n])
            np.fill_diagonal(part.similarity, 0.0)
        return part

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_common": None}  # what was asked of it is no part of what it is

    @property
    def dense(self) -> bool:
        """Whether there is a table of cosines."""
        return len(self._there) <= self._limit

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.vectors.shape[1])

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` items."""
        self._common = None
        self.vectors = grown(self.vectors, (capacity, self.dim))
        self._squares, self._there = grown(self._squares, (capacity,)), grown(self._there, (capacity,))
        self.similarity = grown(self.similarity, (capacity, capacity)) if self.dense else np.zeros((0, 0), np.float32)

    def put(self, i: int, n: int, vector: Array) -> None:
        """Set the vector of item `i` of `n`."""
        self._count += not self._there[i]
        self._there[i] = 1
        self._set(i, n, vector)

    def drop(self, i: int, n: int) -> None:
        """Forget the vector of item `i` of `n`."""
        if self._there[i]:
            self._count -= 1
            self._there[i] = 0
            self._set(i, n, np.zeros(self.dim, np.float32))

    def _set(self, i: int, n: int, vector: Array) -> None:
        square = np.float32(vector @ vector)
        self._sum += vector.astype(np.float64) - self.vectors[i]
        self._squared += float(square) - float(self._squares[i])
        self.vectors[i], self._squares[i], self._common = vector, square, None
        if self.dense:
            relate(self.similarity, self.vectors[:n], i)

    def worded(self, n: int) -> NDArray[np.bool_]:
        """Say of each of the first n items whether its vector says anything, that is, is not 0."""
        worded: NDArray[np.bool_] = self._squares[:n] > 0
        return worded

    @property
    def mean(self) -> Array:
        """The mean vector of all items, shape (dim,)."""
        mean: Array = (self._sum / max(1, self._count)).astype(np.float32)
        return mean

    @property
    def common(self) -> Array:
        """What each item has in common with all, shape (capacity,); 0 for what has no vector. For small catalogues."""
        if self._common is None:
            self._common = self._common_of(slice(None), self.vectors)
        return self._common

    def common_of(self, items: Indices) -> Array:
        """Return how like each of `items` is to all others in the mean, less half of what any two share."""
        return self.common[items] if self.dense else self._common_of(items, self.vectors[items])

    def cosines_to_all(self, words: Vectors) -> Array:
        """Return the cosines of `words`, vectors of shape (k, dim), to every item, shape (k, capacity)."""
        cosines: Array = words @ self.vectors.T if len(words) else np.zeros((0, len(self.vectors)), np.float32)
        return cosines

    def cosines(self, vectors: Vectors, items: Indices) -> tuple[Array, Array]:
        """Return the cosines of `vectors`, shape (k, dim), to some items, shape (k, items), and `common_of` these."""
        theirs = self.vectors[items]
        return vectors @ theirs.T, self._common_of(items, theirs)

    def _common_of(self, items: Indices | slice, vectors: Vectors) -> Array:
        alike = vectors @ self.mean - self._squares[items] / np.float32(max(1, self._count))
        common: Array = (alike - self._half()) * self._there[items]
        return common

    def common_with(self, words: Vectors) -> Array:
        """Return how like `words`, vectors of shape (k, dim), are to all items, less half of what any two share."""
        common: Array = words @ self.mean - self._half()
        return common

    def _half(self) -> np.float32:
        return np.float32((float(self._sum @ self._sum) - self._squared) / 2 / max(1, self._count) ** 2)


class Content:
    """What an encoder says of the items, in one part or two: what their texts say, and what it learnt that they say.

    The parts of a vector stand side by side, the one that was learnt last. Each is made a vector of length 1, so that
    `text` means the same in all models that began as one, whatever they learnt since.

    Above the `limit` vectors of `text` have `signs`: those of their products with fixed random directions, of which two
    vectors share the more, the smaller the angle between them (Charikar 2002). They depend on nothing else, so they
    need not be learnt or kept.
    """

    def __init__(self, text: Part, learnt: Part | None) -> None:
        self.text = text
        self.learnt = learnt
        """None where nothing was learnt."""
        self.signs: Signs = signs_by_word(text.vectors[: 0 if text.dense else None])
        """Word by word, shape (8, capacity): so compared fastest. Empty up to the limit."""

    @classmethod
    def of(cls, vectors: Vectors, there: Collection[int], learnt: int, capacity: int, limit: int) -> "Content":
        """Return the content of all items at once; `vectors`, shape (n, dim), are 0 but for those that are `there`.

        The last `learnt` of the dimensions are the part that was learnt.
        """
        parts = [Part.of(part, there, capacity, limit) for part in split(vectors, learnt)]
        return cls(parts[0], parts[1] if learnt else None)

    @property
    def parts(self) -> list[Part]:
        """One or two."""
        return [self.text] if self.learnt is None else [self.text, self.learnt]

    @property
    def dim(self) -> int:
        """Length of a whole vector."""
        return sum(part.dim for part in self.parts)

    def split(self, vectors: Vectors) -> list[Vectors]:
        """Return the parts of whole vectors, shape (..., dim)."""
        return split(vectors, 0 if self.learnt is None else self.learnt.dim)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` items."""
        if capacity <= len(self.text.vectors):
            return
        was_dense = self.text.dense
        for part in self.parts:
            part.grow(capacity)
        if not self.text.dense:
            self.signs = signs_by_word(self.text.vectors) if was_dense else grown(self.signs, (SIGN_WORDS, capacity))

    def put(self, i: int, n: int, vector: Array) -> None:
        """Set the vector of item `i` of `n`."""
        for part, own in zip(self.parts, self.split(vector), strict=True):
            part.put(i, n, own)
        self._sign(i)

    def drop(self, i: int, n: int) -> None:
        """Forget the vector of item `i` of `n`."""
        for part in self.parts:
            part.drop(i, n)
        self._sign(i)

    def _sign(self, i: int) -> None:
        if not self.text.dense:
            self.signs[:, i] = signs(self.text.vectors[i])


def split(vectors: Vectors, learnt: int) -> list[Vectors]:
    """Return the parts of vectors, shape (..., dim): all of it, or two of length 1, the second of `learnt` dimensions.

    >>> split(np.array([[3, 4, 0, 0, 2]], np.float32), 2)
    [array([[0.6, 0.8, 0. ]], dtype=float32), array([[0., 1.]], dtype=float32)]
    """
    if not learnt:
        return [vectors]
    found = []
    for part in (vectors[..., :-learnt], vectors[..., -learnt:]):
        length = np.maximum(np.linalg.norm(part, axis=-1, keepdims=True), 1e-9)  # zeros: words that no encoder can read
        found.append((part / length).astype(np.float32))
    return found


@cache
def _directions(dim: int) -> Array:
    normal = np.random.default_rng(dim).standard_normal((dim, SIGN_WORDS * 64)).astype(np.float32)
    return np.clip(np.rint(normal * 4) / 4, -4, 4)


def signs(vectors: Vectors) -> Signs:
    """Return the signs of vectors of length 2 at most, shape (..., dim), as words, shape (..., 8).

    Numbers are rounded so far that sums of products are exact in float32, in whatever order they are added: BLAS adds
    in another for one vector than for many, and a vector must have the same signs alone as among others.
    """
    rounded = np.rint(vectors * np.float32(4096)) / np.float32(4096)
    packed = np.packbits(rounded @ _directions(vectors.shape[-1]) > 0, axis=-1)
    words: Signs = packed.view(np.uint64)
    return words


def signs_by_word(vectors: Vectors) -> Signs:
    """Return the signs of many vectors, shape (n, dim), word by word, shape (8, n); in blocks, to save memory."""
    found = np.empty((SIGN_WORDS, len(vectors)), np.uint64)
    for start in range(0, len(vectors), BLOCK):
        found[:, start : start + BLOCK] = signs(vectors[start : start + BLOCK]).T
    return found


def relate(similarity: Array, vectors: Array, i: int) -> None:
    """Fill row and column `i` of a table of cosines, the diagonal 0; `vectors`, shape (n, dim), have length 1 or 0."""
    n = len(vectors)
    row = vectors @ vectors[i]
    row[i] = 0.0
    similarity[i, :n] = row
    similarity[:n, i] = row
