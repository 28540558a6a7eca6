"""The items that can be recommended: ids, vectors, tags, and how alike any two of them are."""

import numpy as np
from numpy.typing import NDArray

from model.encoding import Vectors
from model.errors import Fatal
from model.events import Item

MAX_ITEMS = 8192
"""Tables over pairs of items are dense: 4 tables x 8192^2 x 4 bytes = 1 GiB at the limit."""
MAX_TAGS = 512


def grown(array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a zero-padded copy of `array` in a larger shape."""
    larger = np.zeros(shape, array.dtype)
    larger[tuple(slice(0, n) for n in array.shape)] = array
    return larger


class Catalogue:
    """Items by index, in the order of their first arrival; an index is never given to another item."""

    def __init__(self, dim: int, capacity: int = 256) -> None:
        self.ids: list[str] = []
        self.index: dict[str, int] = {}
        self.titles: list[str] = []
        self.capacity = capacity
        self.vectors: Vectors = np.zeros((capacity, dim), np.float32)
        self.similarity = np.zeros((capacity, capacity), np.float32)
        """Cosine of the content of two items; the diagonal is 0."""
        self.tags: NDArray[np.float32] = np.zeros((MAX_TAGS, capacity), np.float32)
        """Shape (512, capacity): unit columns over the tags seen so far; tags beyond the first 512 are left out."""
        self.tag_index: dict[str, int] = {}
        self.unavailable: set[int] = set()

    def __len__(self) -> int:
        return len(self.ids)

    def intern(self, item_id: str) -> int:
        """Return the index of an item, giving it one (unavailable until `put`) if it is new.

        Raises:
            Fatal: more items than the dense tables are made for.
        """
        known = self.index.get(item_id)
        if known is not None:
            return known
        position = len(self.ids)
        if position >= MAX_ITEMS:
            raise Fatal(f"more than {MAX_ITEMS} items: this version keeps dense tables, split the catalogue")
        if position >= self.capacity:
            self.capacity *= 2
            self.vectors = grown(self.vectors, (self.capacity, self.vectors.shape[1]))
            self.tags = grown(self.tags, (MAX_TAGS, self.capacity))
            self.similarity = grown(self.similarity, (self.capacity, self.capacity))
        self.index[item_id] = position
        self.ids.append(item_id)
        self.titles.append("")
        self.unavailable.add(position)
        return position

    def put(self, item: Item, vector: NDArray[np.float32]) -> None:
        """Add an item or replace it; `vector` is its content, shape (dim,), unit length."""
        i, n = self.intern(item.item), len(self.ids)
        self.titles[i] = item.title or item.item
        self.vectors[i] = vector
        row = self.vectors[:n] @ vector
        row[i] = 0.0
        self.similarity[i, :n] = row
        self.similarity[:n, i] = row
        self.tags[:, i] = 0.0
        for tag in item.tags:
            slot = (
                self.tag_index.setdefault(tag, len(self.tag_index))
                if len(self.tag_index) < MAX_TAGS
                else (self.tag_index.get(tag, -1))
            )
            if slot >= 0:
                self.tags[slot, i] = 1.0
        norm = float(np.sqrt(self.tags[:, i].sum()))
        if norm:
            self.tags[:, i] /= norm
        (self.unavailable.discard if item.available else self.unavailable.add)(i)

    def drop(self, item_id: str) -> None:
        """Take an item out of all lists; what was learnt with it stays."""
        i = self.index.get(item_id)
        if i is not None:
            self.unavailable.add(i)
