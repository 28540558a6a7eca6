"""What all users together did: counts of items and of pairs, and the facts from which they can be rebuilt."""

import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.arrivals import Arrivals, Base
from model.catalogue import WHOLE, Catalogue
from model.content import grown
from model.kernels import ROWS, refresh
from model.leaders import Leaders
from model.pairs import Cells, DensePairs, Lots
from model.sparse_pairs import SparsePairs

Indices = NDArray[np.int64]
RECENT = 5000
"""Engagements in the window of recent popularity."""
LEADERS = 100
"""Items that are the most liked, or the most popular now."""
CHUNK_BYTES = 256 * 1024
MANY = 65_536
"""More items than a column of two bytes can tell apart."""
CELL_BYTES = 6
"""Of a cell in a snapshot: its column and its value; a column takes two more where there are very many items."""


class Fact(msgspec.Struct, frozen=True, array_like=True):
    """One engagement: an item, whether it was liked, and the user's items before it, newest first."""

    item: str
    liked: bool
    before: list[str]
    liked_before: list[str]


class Tables:
    """Counts over items (vectors of length n) and over pairs of items."""

    def __init__(self, capacity: int = 256, whole: int = WHOLE) -> None:
        """Up to a `capacity` of `whole` items, pairs are counted in dense tables."""
        zeros = np.zeros
        self.engaged = zeros(capacity, np.float32)
        self.liked = zeros(capacity, np.float32)
        self.recent = zeros(capacity, np.float32)
        self.arrivals = Arrivals(capacity)
        self.alone = zeros((len(ROWS), capacity), np.float32)
        """What is known of each item alone (`model.kernels.refresh`): computing it for every event would cost most."""
        self.window: deque[int] = deque()
        self._most_liked, self._most_recent = Leaders(LEADERS), Leaders(LEADERS)
        self._whole = whole
        self.pairs: DensePairs | SparsePairs = DensePairs(capacity) if capacity <= whole else SparsePairs(capacity)
        self._opened = np.ones(capacity, np.bool_)
        """Rows that count; all of them but while a snapshot is being loaded."""
        self._since: Indices = np.full(capacity, -1, np.int64)
        """Of the rows of such a snapshot: the sequence that they hold everything up to; else -1."""
        self._refresh(np.arange(capacity))

    def _refresh(self, items: Indices) -> None:
        arrivals = self.arrivals
        refresh(self.alone, self.engaged, self.liked, self.recent, arrivals.stretch, arrivals.liked_share, items)

    def reserve(self, capacity: int, lots: Lots) -> None:
        """Make room for `capacity` items; `lots` are theirs."""
        known = len(self.engaged)
        if capacity > known:
            for name in ("engaged", "liked", "recent"):
                setattr(self, name, grown(getattr(self, name), (capacity,)))
            self.arrivals.reserve(capacity)
            self.alone = grown(self.alone, (len(ROWS), capacity))
            self._refresh(np.arange(known, capacity))
            self._opened = np.concatenate([self._opened, np.ones(capacity - known, np.bool_)])
            self._since = np.concatenate([self._since, np.full(capacity - known, -1, np.int64)])
            if isinstance(self.pairs, DensePairs) and capacity > self._whole:
                self.pairs = SparsePairs.of(self.pairs, capacity, lots)
            else:
                self.pairs.grow(capacity)

    def came(self, item: int) -> None:
        """Take note of an item that is there from now on; there has to be room for it."""
        self.arrivals.came(item)
        self._refresh(np.array([item]))

    def add(self, item: int, liked: bool, before: Indices, liked_before: Indices, lots: Lots) -> None:
        """Count one engagement; `before` are the user's earlier items, newest first."""
        self.engaged[item] += 1
        self.recent[item] += 1
        self.window.append(item)
        changed = [item]
        if len(self.window) > RECENT:
            oldest = self.window.popleft()
            self.recent[oldest] -= 1
            self._most_recent.counted(oldest, float(self.recent[oldest]))
            changed.append(oldest)
        if liked:
            self.liked[item] += 1
        if self.arrivals.count(liked):
            changed += self.arrivals.late.tolist()
        self._refresh(np.array(changed))
        self._most_recent.counted(item, float(self.recent[item]))
        self._most_liked.counted(item, float(self.liked[item]))
        self.pairs.add(item, before, liked_before if liked else liked_before[:0], self._opened, lots)

    def leaders(self, catalogue: Catalogue) -> tuple[Indices, Indices]:
        """Return the most liked of the available items, and those that are engaged most at the moment."""
        rest = (catalogue.there, catalogue.lots, catalogue.changes)
        return self._most_liked.items(self.liked, *rest), self._most_recent.items(self.recent, *rest)

    # -- A snapshot is fuzzy, as a database's (Mohan et al., ARIES, 1992): counts of items first, then rows of the pair
    # -- tables, block by block while counting goes on. Each block names the sequence that it holds everything up to;
    # -- what was counted since then is counted again when it is loaded. So no snapshot stops the stream.

    def blocks(self, n: int) -> list[tuple[int, int]]:
        """Return the first n rows in blocks (start, stop), each of which makes a chunk well below 1 MB."""
        ends = np.cumsum(self.pairs.sizes[:n]) * (CELL_BYTES if n <= MANY else CELL_BYTES + 2)
        found, start, done = [], 0, 0
        while start < n:
            stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK_BYTES, "right")))
            found.append((start, stop))
            start, done = stop, int(ends[stop - 1])
        return found

    def dump_counts(self, ids: Sequence[str]) -> bytes:
        """Return the chunk of what is counted of each item alone; `ids` are the items' in the order of rows."""
        n = len(ids)
        counts = np.stack([self.engaged[:n], self.liked[:n]])
        window, since = np.fromiter(self.window, "<i4"), self.arrivals.since[:n].astype("<i8")
        return _zip([list(ids), counts.astype("<f4").tobytes(), window.tobytes(), since.tobytes(), self.arrivals.base])

    def dump_rows(self, start: int, stop: int, sequence: int, later: Sequence[str], n: int) -> bytes:
        """Return a chunk of rows, with columns up to n; `later` are the ids of items that came since `dump_counts`."""
        tables, width = [], "<u2" if n <= MANY else "<u4"
        for rows, columns, values in self.pairs.cells(start, stop, n):
            lengths = np.bincount(rows - start, minlength=stop - start)
            tables.append(
                [lengths.astype("<i4").tobytes(), columns.astype(width).tobytes(), values.astype("<f4").tobytes()]
            )
        return _zip([sequence, start, list(later), tables])

    def load(
        self, counts: bytes, rows: Sequence[bytes], intern: Callable[[str], int], lots: Callable[[], Lots]
    ) -> None:
        """Take over a snapshot; `intern` makes room for an item and gives its row (rows may differ from the writer's).

        To be followed by `open_rows` before each delta, and by `open_all`.
        """
        ids, both, window, *ages = _unzip(counts)
        place = np.array([intern(item) for item in ids], np.int64)
        self.engaged[place], self.liked[place] = np.frombuffer(both, "<f4").reshape(2, -1)
        for old in np.frombuffer(window, "<i4"):
            self.window.append(int(place[old]))
            self.recent[place[old]] += 1
        since = np.frombuffer(ages[0], "<i8") if ages else np.zeros(len(ids), np.int64)
        total, liked = (int(counts.sum(dtype=np.float64)) for counts in (self.engaged, self.liked))
        self.arrivals.restore(place, since, Base(*ages[1]) if ages else Base(), total, liked)
        for chunk in rows:
            sequence, start, later, tables = _unzip(chunk)
            where = np.concatenate([place, np.array([intern(item) for item in later], np.int64)])
            found: list[Cells] = []
            for lengths, columns, values in tables:
                sizes = np.frombuffer(lengths, "<i4")
                owners = where[np.repeat(np.arange(start, start + len(sizes)), sizes)]
                width = "<u2" if 2 * len(columns) == len(values) else "<u4"
                found.append(Cells(owners, where[np.frombuffer(columns, width)], np.frombuffer(values, "<f4")))
                self._since[where[start : start + len(sizes)]] = sequence
            self.pairs.put(found, lots())

    def open_rows(self, sequence: int) -> None:
        """Let those rows count that do not hold what `sequence` counted yet."""
        np.less(self._since, sequence, out=self._opened)

    def open_all(self) -> None:
        """Let every row count: everything is loaded."""
        self._since[:] = -1
        self._opened[:] = True
        self.arrivals.settle()
        self._refresh(np.arange(len(self.engaged)))


def _zip(body: object) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(body), 1)


def _unzip(chunk: bytes) -> Any:
    return msgspec.msgpack.decode(zlib.decompress(chunk))
