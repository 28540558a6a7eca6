"""The items of highest count, found anew only when they may be others than before."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
Lots = NDArray[np.uint32]


def by_lot(items: Indices, lots: Lots, count: int) -> Indices:
    """Return `count` of the items, or all if they are fewer: those of the highest lots, which nobody can choose."""
    if len(items) <= count:
        return items
    chosen: Indices = (
        items[np.argpartition(lots[items], len(items) - count)[len(items) - count :]] if count else items[:0]
    )
    return chosen


def strongest(items: Indices, values: Array, lots: Lots, count: int) -> Indices:
    """Return the `count` items of highest `values` (in their order), or all if they are fewer; ties by lot."""
    if len(items) <= count:
        return items
    limit = np.partition(values, len(values) - count)[len(values) - count]
    above = items[values > limit]
    return np.concatenate([above, by_lot(items[values == limit], lots, count - len(above))])


class Leaders:
    """Those of highest count among items that are available; at most `size`, none that was never counted."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: Indices = np.zeros(0, np.int64)
        self._members: set[int] = set()
        self._least = 0.0
        """No item outside has more."""
        self._stale, self._changes = True, -1

    def counted(self, item: int, value: float) -> None:
        """Take note of an item's new count."""
        if item in self._members:
            self._stale |= value <= self._least
        else:
            self._stale |= value >= self._least

    def items(self, values: Array, there: Array, lots: Lots, changes: int) -> Indices:
        """Return them, of all `values`; `there` is 1 for available ones, and unchanged as long as `changes` is."""
        if self._stale or changes != self._changes:
            known = np.flatnonzero(values * there)
            self._items = strongest(known, values[known], lots, self._size)
            self._members = set(self._items.tolist())
            self._least = float(values[self._items].min()) if len(known) > self._size else 0.0
            self._stale, self._changes = False, changes
        return self._items
