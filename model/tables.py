"""What all users together did: counts of items and of pairs, and the facts from which they can be rebuilt."""

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.catalogue import grown
from model.kernels import count_pairs, refresh

RECENT = 5000
"""Engagements in the window of recent popularity."""
PAIRS = ("together", "liked_together", "followed")
CHUNK_BYTES = 256 * 1024


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
            self.together, self.followed, self.liked_together, item, before, liked_before if liked else liked_before[:0]
        )

    def snapshot(self, ids: Sequence[str]) -> list[bytes]:
        """Return everything in compressed chunks, each well below 1 MB."""
        n = len(ids)
        counts = np.stack([self.engaged[:n], self.liked[:n]])
        head = [list(ids), counts.astype("<f4").tobytes(), np.fromiter(self.window, "<i4").tobytes()]
        chunks = [zlib.compress(msgspec.msgpack.encode(["counts", head]), 1)]
        for name in PAIRS:
            table: NDArray[np.float32] = np.ascontiguousarray(getattr(self, name)[:n, :n]).ravel()
            cells = np.flatnonzero(table)  # several times as fast as nonzero() in two dimensions
            rows, columns = np.divmod(cells, max(n, 1))
            ends = np.cumsum(np.bincount(rows, minlength=n))
            columns, values = columns.astype("<u2"), table[cells].astype("<f4")
            start = first = 0
            while start < n:
                stop = max(start + 1, int(np.searchsorted(ends, first + CHUNK_BYTES // 6, "right")))
                last = int(ends[stop - 1])
                lengths = np.diff(ends[start:stop], prepend=first).astype("<i4")
                body = [name, start, lengths.tobytes(), columns[first:last].tobytes(), values[first:last].tobytes()]
                chunks.append(zlib.compress(msgspec.msgpack.encode(["pairs", body]), 1))
                start, first = stop, last
        return chunks

    def load(self, chunks: Sequence[bytes], intern: Callable[[str], int], capacity: Callable[[], int]) -> None:
        """Take over a snapshot; `intern` gives the index of an item id (indices may differ from the writer's)."""
        parts = [msgspec.msgpack.decode(zlib.decompress(chunk)) for chunk in chunks]
        place = np.zeros(0, np.int64)
        for kind, body in sorted(parts, key=lambda part: str(part[0])):  # "counts" sorts before "pairs"
            if kind == "counts":
                place = np.array([intern(item) for item in body[0]], np.int64)
                self.reserve(capacity())
                self.engaged[place], self.liked[place] = np.frombuffer(body[1], "<f4").reshape(2, -1)
                for old in np.frombuffer(body[2], "<i4"):
                    self.window.append(int(place[old]))
                    self.recent[place[old]] += 1
                self._refresh(range(len(self.engaged)))
            else:
                name, start, lengths, columns, values = body
                counts = np.frombuffer(lengths, "<i4")
                rows = np.repeat(np.arange(start, start + len(counts)), counts)
                getattr(self, name)[place[rows], place[np.frombuffer(columns, "<u2")]] = np.frombuffer(values, "<f4")
