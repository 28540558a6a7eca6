"""What all users together did: counts of items and of pairs, and the facts from which they can be rebuilt."""

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.content import grown
from model.kernels import count_pairs, refresh

RECENT = 5000
"""Engagements in the window of recent popularity."""
PAIRS = ("together", "liked_together", "followed")
CHUNK_BYTES = 256 * 1024
CELL_BYTES = 6
"""Of a cell in a snapshot: its column and its value."""


class Fact(msgspec.Struct, frozen=True, array_like=True):
    """One engagement: an item, whether it was liked, and the user's items before it, newest first."""

    item: str
    liked: bool
    before: list[str]
    liked_before: list[str]


class Tables:
    """Counts over items (vectors of length n) and over pairs of items (n x n, dense)."""

    def __init__(self, capacity: int = 256) -> None:
        zeros = np.zeros
        self.engaged = zeros(capacity, np.float32)
        self.liked = zeros(capacity, np.float32)
        self.recent = zeros(capacity, np.float32)
        self.alone = zeros((6, capacity), np.float32)
        """What is known of each item alone (`model.kernels.refresh`): computing it for every event would cost most."""
        self.window: deque[int] = deque()
        self.together = zeros((capacity, capacity), np.float32)
        """Engaged by one user within 10 engagements; symmetric."""
        self.liked_together = zeros((capacity, capacity), np.float32)
        self.followed = zeros((capacity, capacity), np.float32)
        """[a, b]: b came after a, weighed by 1 / distance, up to 3 steps."""
        self.filled = zeros(capacity, np.int64)
        """Cells that are not 0 in each row of the three."""
        self._opened = np.ones(capacity, np.bool_)
        """Rows that count; all of them but while a snapshot is being loaded."""
        self._since: dict[int, int] = {}
        """Of the rows of such a snapshot: the sequence that they hold everything up to."""
        self._refresh(range(capacity))

    def _refresh(self, items: Iterable[int]) -> None:
        for item in items:
            refresh(self.alone, self.engaged, self.liked, self.recent, item)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` items."""
        known = len(self.engaged)
        if capacity > known:
            for name in ("engaged", "liked", "recent"):
                setattr(self, name, grown(getattr(self, name), (capacity,)))
            self.alone = grown(self.alone, (6, capacity))
            self._refresh(range(known, capacity))
            self.filled = np.concatenate([self.filled, np.zeros(capacity - known, np.int64)])
            self._opened = np.concatenate([self._opened, np.ones(capacity - known, np.bool_)])
            for name in PAIRS:
                setattr(self, name, grown(getattr(self, name), (capacity, capacity)))

    def add(self, item: int, liked: bool, before: NDArray[np.int64], liked_before: NDArray[np.int64]) -> None:
        """Count one engagement; `before` are the user's earlier items, newest first."""
        self.engaged[item] += 1
        self.recent[item] += 1
        self.window.append(item)
        if len(self.window) > RECENT:
            oldest = self.window.popleft()
            self.recent[oldest] -= 1
            refresh(self.alone, self.engaged, self.liked, self.recent, oldest)
        if liked:
            self.liked[item] += 1
        refresh(self.alone, self.engaged, self.liked, self.recent, item)
        count_pairs(
            self.together,
            self.followed,
            self.liked_together,
            self.filled,
            self._opened,
            item,
            before,
            liked_before if liked else liked_before[:0],
        )

    # -- A snapshot is fuzzy, as a database's (Mohan et al., ARIES, 1992): counts of items first, then rows of the pair
    # -- tables, block by block while counting goes on. Each block names the sequence that it holds everything up to;
    # -- what was counted since then is counted again when it is loaded. So no snapshot stops the stream.

    def blocks(self, n: int) -> list[tuple[int, int]]:
        """Return the first n rows in blocks (start, stop), each of which makes a chunk well below 1 MB."""
        sizes = self.filled[:n] * CELL_BYTES
        found, start = [], 0
        while start < n:
            fitting = max(1, int(np.searchsorted(np.cumsum(sizes[start:]), CHUNK_BYTES, "right")))
            found.append((start, start + fitting))
            start += fitting
        return found

    def dump_counts(self, ids: Sequence[str]) -> bytes:
        """Return the chunk of what is counted of each item alone; `ids` are the items' in the order of rows."""
        n = len(ids)
        counts = np.stack([self.engaged[:n], self.liked[:n]])
        return _zip([list(ids), counts.astype("<f4").tobytes(), np.fromiter(self.window, "<i4").tobytes()])

    def dump_rows(self, start: int, stop: int, sequence: int, later: Sequence[str], n: int) -> bytes:
        """Return a chunk of rows, with columns up to n; `later` are the ids of items that came since `dump_counts`."""
        tables = []
        for name in PAIRS:
            block: NDArray[np.float32] = np.ascontiguousarray(getattr(self, name)[start:stop, :n]).ravel()
            cells = np.flatnonzero(block)  # several times as fast as nonzero() in two dimensions
            rows, columns = np.divmod(cells, max(n, 1))
            lengths = np.bincount(rows, minlength=stop - start)
            tables.append(
                [lengths.astype("<i4").tobytes(), columns.astype("<u2").tobytes(), block[cells].astype("<f4").tobytes()]
            )
        return _zip([sequence, start, list(later), tables])

    def load(self, counts: bytes, rows: Sequence[bytes], intern: Callable[[str], int]) -> None:
        """Take over a snapshot; `intern` makes room for an item and gives its row (rows may differ from the writer's).

        To be followed by `open_rows` before each delta, and by `open_all`.
        """
        ids, both, window = _unzip(counts)
        place = np.array([intern(item) for item in ids], np.int64)
        self.engaged[place], self.liked[place] = np.frombuffer(both, "<f4").reshape(2, -1)
        for old in np.frombuffer(window, "<i4"):
            self.window.append(int(place[old]))
            self.recent[place[old]] += 1
        self._refresh(range(len(self.engaged)))
        for chunk in rows:
            sequence, start, later, tables = _unzip(chunk)
            where = np.concatenate([place, np.array([intern(item) for item in later], np.int64)])
            for name, (lengths, columns, values) in zip(PAIRS, tables, strict=True):
                sizes = np.frombuffer(lengths, "<i4")
                owners = where[np.repeat(np.arange(start, start + len(sizes)), sizes)]
                getattr(self, name)[owners, where[np.frombuffer(columns, "<u2")]] = np.frombuffer(values, "<f4")
                np.add.at(self.filled, where[start : start + len(sizes)], sizes)
                self._since.update(dict.fromkeys(where[start : start + len(sizes)].tolist(), sequence))

    def open_rows(self, sequence: int) -> None:
        """Let those rows count that do not hold what `sequence` counted yet."""
        for row, since in self._since.items():
            self._opened[row] = since < sequence

    def open_all(self) -> None:
        """Let every row count: everything is loaded."""
        self._since.clear()
        self._opened[:] = True


def _zip(body: object) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(body), 1)


def _unzip(chunk: bytes) -> Any:
    return msgspec.msgpack.decode(zlib.decompress(chunk))
