"""The items that can be recommended: ids, tags, vectors of modalities, and what the encoder says of them."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.content import Content, grown, relate
from model.encoding import Encoder, Vectors
from model.errors import BadEvent
from model.events import Item

WHOLE = 4096
"""Up to so many items every one is ranked, from dense tables: 4 x 4096^2 x 4 bytes = 256 MiB."""
MAX_TAGS = 4096
ITEM_TAGS = 16
Array = NDArray[np.float32]
Indices = NDArray[np.int64]


class Catalogue:
    """Items by index, in the order of their first arrival; an index is never given to another item."""

    def __init__(
        self, dim: int, modalities: Sequence[str] = (), whole: int = WHOLE, capacity: int = 256, learnt: int = 0
    ) -> None:
        """Up to `whole` items (in fact, of `capacity`, which doubles) there are tables of all pairs.

        Of the `dim` of a vector the last `learnt` are a part of their own.
        """
        self.ids: list[str] = []
        self.index: dict[str, int] = {}
        self.titles: list[str] = []
        self.lots: NDArray[np.uint32] = np.zeros(capacity, np.uint32)
        """Drawn by id: what is counted alike is put in this order, which does not depend on who came first."""
        self.capacity, self._whole = capacity, whole
        self.content = Content.of(np.zeros((0, dim), np.float32), (), learnt, capacity, whole)
        """What the encoder says of them."""
        self.modalities = tuple(modalities)
        """Further vectors that items may bring (image, audio, ...); one feature each."""
        small = capacity if self.dense else 0
        self.modal: Array = np.zeros((len(self.modalities), small, small), np.float32)
        """Cosine of two items in each modality; 0 where one lacks it, and on the diagonal. Empty if not dense."""
        self._modal_vectors: dict[str, Array] = {}
        self._tags: NDArray[np.uint16] = np.zeros((ITEM_TAGS, capacity), np.uint16)
        self._most_tags = 1
        """Of one item."""
        self.tag_weights: Array = np.zeros(capacity, np.float32)
        """1 / sqrt(tags), so that an item's tags are a vector of length 1."""
        self.tag_index: dict[str, int] = {}
        """Number of each tag, from 1 on."""
        self._tag_names = [""]
        self.offsets: Array = np.full(capacity, -np.inf, np.float32)
        """Added to every score: 0, or -inf where an item is not available."""
        self.there: Array = np.zeros(capacity, np.float32)
        """1 where an item is available, else 0: what features are normalised over."""
        self.changes = 0
        """How often an item that was there went, or came back."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dense(self) -> bool:
        """Whether the catalogue is so small that there are tables of all pairs, and every item is ranked."""
        return self.capacity <= self._whole

    @property
    def tags(self) -> NDArray[np.uint16]:
        """Numbers of each item's tags, shape (most tags of an item, capacity), then 0.

        At most 16 of an item count, and at most 4,096 in all: the first to be seen.
        """
        return self._tags[: self._most_tags]

    def available(self, position: int) -> bool:
        """Say whether the item at an index can be shown."""
        return bool(self.offsets[position] == 0)

    def intern(self, item_id: str) -> int:
        """Return the index of an item, giving it one (unavailable until `put`) if it is new."""
        known = self.index.get(item_id)
        if known is not None:
            return known
        position = len(self.ids)
        if position >= self.capacity:
            self._grow()
        self.index[item_id] = position
        self.ids.append(item_id)
        self.titles.append("")
        self.lots[position] = zlib.crc32(item_id.encode())
        return position

    def _grow(self) -> None:
        known = self.capacity
        self.capacity *= 2
        self.content.grow(self.capacity)
        self.lots = grown(self.lots, (self.capacity,))
        self._tags = grown(self._tags, (ITEM_TAGS, self.capacity))
        self.tag_weights = grown(self.tag_weights, (self.capacity,))
        if self.dense:
            self.modal = grown(self.modal, (len(self.modalities), self.capacity, self.capacity))
        else:
            self.modal = np.zeros((len(self.modalities), 0, 0), np.float32)
        for name, vectors in self._modal_vectors.items():
            self._modal_vectors[name] = grown(vectors, (self.capacity, vectors.shape[1]))
        self.offsets = grown(self.offsets, (self.capacity,))
        self.offsets[known:] = -np.inf
        self.there = grown(self.there, (self.capacity,))

    def put(self, item: Item, vector: Array) -> None:
        """Add an item or replace it; `vector` is its content, shape (dim,), unit length.

        Raises:
            BadEvent: a vector of a modality is of another length than earlier items'; nothing has changed then.
        """
        modal = self._check(item)
        i, n = self.intern(item.item), len(self.ids)
        self.titles[i] = item.title or item.item
        self.content.put(i, n, vector)
        for number, name in enumerate(self.modalities):
            if name in modal:
                self._modal_vectors.setdefault(name, np.zeros((self.capacity, len(modal[name])), np.float32))
            if name in self._modal_vectors:
                self._set_modal(number, i, n, modal.get(name, 0))  # it may have had one before
        self._tag(i, item.tags)
        self.changes += bool(self.offsets[i] == 0) != item.available
        self.offsets[i] = 0 if item.available else -np.inf
        self.there[i] = item.available

    def embedded(self, vectors: Mapping[str, Array], encoder: Encoder) -> Content:
        """Return what another encoder says of the items that are there now: its `vectors` by item.

        May take its time in another thread: an index is never given to another item. What is put meanwhile is missing
        until it is put again, after `adopt`.
        """
        ids = list(self.ids)
        there = [i for i, name in enumerate(ids) if name in vectors]
        rows: Vectors = np.zeros((len(ids), encoder.dim), np.float32)
        for i in there:
            rows[i] = vectors[ids[i]]
        return Content.of(rows, there, encoder.learnt, self.capacity, self._whole)

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

    def _set_modal(self, number: int, i: int, n: int, vector: Array | float) -> None:
        vectors = self._modal_vectors[self.modalities[number]]
        vectors[i] = vector
        if self.dense:
            relate(self.modal[number], vectors[:n], i)

    def modal_cosines(self, past: Indices, items: Indices) -> Array:
        """Return cosines of `items` to those of the `past` in each modality, shape (modalities, past, items)."""
        cosines = np.zeros((len(self.modalities), len(past), len(items)), np.float32)
        for number, name in enumerate(self.modalities):
            if (vectors := self._modal_vectors.get(name)) is not None:
                np.matmul(vectors[past], vectors[items].T, out=cosines[number])
        cosines[:, past[:, None] == items] = 0
        return cosines

    def tags_of(self, i: int) -> dict[str, float]:
        """Return an item's tags that count, with their weight."""
        weight = float(self.tag_weights[i])
        return {self._tag_names[tag]: weight for tag in self._tags[:, i].tolist() if tag}

    def _tag(self, i: int, tags: Sequence[str]) -> None:
        kept = [tag for tag in dict.fromkeys(tags) if tag in self.tag_index or self._has_room(tag)][:ITEM_TAGS]
        self._tags[:, i] = 0
        self._tags[: len(kept), i] = [self.tag_index[tag] for tag in kept]
        self._most_tags = max(self._most_tags, len(kept))
        self.tag_weights[i] = 1 / np.sqrt(max(1, len(kept)))

    def _has_room(self, tag: str) -> bool:
        if len(self.tag_index) >= MAX_TAGS:
            return False
        self.tag_index[tag] = len(self._tag_names)
        self._tag_names.append(tag)
        return True

    def drop(self, item_id: str) -> None:
        """Take an item out of all lists; what was learnt with it stays, what it was is forgotten as by a restart."""
        i, n = self.index.get(item_id), len(self.ids)
        if i is None:
            return
        self.changes += 1
        self.offsets[i] = -np.inf
        self.there[i] = 0
        self.titles[i] = ""
        self.content.drop(i, n)
        for number, name in enumerate(self.modalities):
            if name in self._modal_vectors:
                self._set_modal(number, i, n, 0)
        self._tag(i, ())
