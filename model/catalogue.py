"""The items that can be recommended: ids, tags, vectors of modalities, and what the encoder says of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.content import Content, grown, relate
from model.encoding import Vectors
from model.errors import BadEvent, Fatal
from model.events import Item

MAX_ITEMS = 8192
"""Tables over pairs of items are dense: 4 tables x 8192^2 x 4 bytes = 1 GiB at the limit."""
MAX_TAGS = 512
Array = NDArray[np.float32]


class Catalogue:
    """Items by index, in the order of their first arrival; an index is never given to another item."""

    def __init__(self, dim: int, capacity: int = 256, modalities: Sequence[str] = ()) -> None:
        self.ids: list[str] = []
        self.index: dict[str, int] = {}
        self.titles: list[str] = []
        self.capacity = capacity
        self.content = Content(dim, capacity)
        """What the encoder says of them."""
        self.modalities = tuple(modalities)
        """Further vectors that items may bring (image, audio, ...); one feature each."""
        self.modal: Array = np.zeros((len(self.modalities), capacity, capacity), np.float32)
        """Cosine of two items in each modality; 0 where one of them lacks it, and on the diagonal."""
        self._modal_vectors: dict[str, Array] = {}
        self.tags: Array = np.zeros((MAX_TAGS, capacity), np.float32)
        """Shape (512, capacity): unit columns over the tags seen so far; tags beyond the first 512 are left out."""
        self.tag_index: dict[str, int] = {}
        self.tags_of: list[dict[str, float]] = []
        """What the columns of `tags` hold, by item."""
        self.offsets: Array = np.full(capacity, -np.inf, np.float32)
        """Added to every score: 0, or -inf where an item is not available."""
        self.there: Array = np.zeros(capacity, np.float32)
        """1 where an item is available, else 0: what features are normalised over."""

    def __len__(self) -> int:
        return len(self.ids)

    def available(self, position: int) -> bool:
        """Say whether the item at an index can be shown."""
        return bool(self.offsets[position] == 0)

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
            self._grow()
        self.index[item_id] = position
        self.ids.append(item_id)
        self.titles.append("")
        self.tags_of.append({})
        return position

    def _grow(self) -> None:
        known = self.capacity
        self.capacity *= 2
        self.content.grow(self.capacity)
        self.tags = grown(self.tags, (MAX_TAGS, self.capacity))
        self.modal = grown(self.modal, (len(self.modalities), self.capacity, self.capacity))
        for name, vectors in self._modal_vectors.items():
            self._modal_vectors[name] = grown(vectors, (self.capacity, vectors.shape[1]))
        self.offsets = grown(self.offsets, (self.capacity,))
        self.offsets[known:] = -np.inf
        self.there = grown(self.there, (self.capacity,))

    def put(self, item: Item, vector: Array) -> None:
        """Add an item or replace it; `vector` is its content, shape (dim,), unit length.

        Raises:
            BadEvent: a vector of a modality is of another length than earlier items'; nothing has changed then.
            Fatal: as `intern`.
        """
        modal = self._check(item)
        i, n = self.intern(item.item), len(self.ids)
        self.titles[i] = item.title or item.item
        self.content.put(i, n, vector)
        for number, name in enumerate(self.modalities):
            if name in modal:
                known = self._modal_vectors.setdefault(name, np.zeros((self.capacity, len(modal[name])), np.float32))
                known[i] = modal[name]
                relate(self.modal[number], known[:n], i)
            elif name in self._modal_vectors:  # it may have had one before
                self._modal_vectors[name][i] = 0
                relate(self.modal[number], self._modal_vectors[name][:n], i)
        self._tag(i, item.tags)
        self.offsets[i] = 0 if item.available else -np.inf
        self.there[i] = item.available

    def embedded(self, vectors: Mapping[str, Array], dim: int) -> Content:
        """Return what another encoder says of the items that are there now: its vectors by item, each of shape (dim,).

        May take its time in another thread: an index is never given to another item. What is put meanwhile is missing
        until it is put again, after `adopt`.
        """
        ids = list(self.ids)
        there = [i for i, name in enumerate(ids) if name in vectors]
        rows: Vectors = np.zeros((len(ids), dim), np.float32)
        for i in there:
            rows[i] = vectors[ids[i]]
        return Content.of(rows, there, self.capacity)

    def adopt(self, content: Content) -> None:
        """Let another encoder's content take the place of what is there."""
        content.grow(self.capacity)
        self.content = content

    def _check(self, item: Item) -> dict[str, Array]:
        """Return the item's unit vectors in the modalities that count."""
        found = {}
        for name, values in (item.vectors or {}).items():
            if name in self.modalities:
                vector = np.array(values, np.float32)
                known = self._modal_vectors.get(name)
                if known is not None and len(vector) != known.shape[1]:
                    raise BadEvent("vector", f"{name} of {item.item} has {len(vector)} values, not {known.shape[1]}")
                norm = np.linalg.norm(vector)
                found[name] = vector / norm if norm > 0 else vector
        return found

    def _tag(self, i: int, tags: Sequence[str]) -> None:
        kept = [tag for tag in dict.fromkeys(tags) if tag in self.tag_index or self._has_room(tag)]
        weight = float(np.float32(1 / np.sqrt(max(1, len(kept)))))
        self.tags_of[i] = dict.fromkeys(kept, weight)
        self.tags[:, i] = 0.0
        for tag in kept:
            self.tags[self.tag_index[tag], i] = weight

    def _has_room(self, tag: str) -> bool:
        if len(self.tag_index) >= MAX_TAGS:
            return False
        self.tag_index[tag] = len(self.tag_index)
        return True

    def drop(self, item_id: str) -> None:
        """Take an item out of all lists; what was learnt with it stays, what it was is forgotten as by a restart."""
        i, n = self.index.get(item_id), len(self.ids)
        if i is None:
            return
        self.offsets[i] = -np.inf
        self.there[i] = 0
        self.titles[i] = ""
        self.content.drop(i, n)
        for number, name in enumerate(self.modalities):
            if name in self._modal_vectors:
                self._modal_vectors[name][i] = 0
                relate(self.modal[number], self._modal_vectors[name][:n], i)
        self._tag(i, ())
