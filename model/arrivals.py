"""Since when each item is there, and what its counts would be had it always been (docs/adr/0012).

Time is counted in engagements, of anybody with anything. An item that came late had fewer chances. Its rate of
engagement is estimated with a Gamma prior, worth one engagement at the rate of an average item, and stands for the
whole time.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.content import grown

Indices = NDArray[np.int64]
STEP = 1000
"""Engagements between two looks at how long items are there."""
UNKNOWN = -1
"""Of an item that a restored state does not know: it came while nobody counted."""


class Base(NamedTuple):
    """What was counted at the last look; part of the state, so that a restart goes on with the same."""

    total: int = 0
    items: int = 0
    liked: int = 0


class Arrivals:
    """When items came, and the factor by which their counts are stretched."""

    def __init__(self, capacity: int) -> None:
        self.since: Indices = np.zeros(capacity, np.int64)
        """Engagements that had been counted when each item came; 0: it was there from the beginning."""
        self.stretch: NDArray[np.float32] = np.ones(capacity, np.float32)
        """By how much longer than an item counts have been taken; 1 for what was there from the beginning."""
        self.base = Base()
        self.total = self.liked = self.items = 0
        self.fresh: list[int] = []
        """Items that came since this was last told."""
        self._late: list[int] = []

    @property
    def late(self) -> Indices:
        """Items that were not there from the beginning."""
        return np.array(self._late, np.int64)

    @property
    def liked_share(self) -> np.float32:
        """Of the engagements counted at the last look, how many were likings."""
        return np.float32(self.base.liked / max(1, self.base.total))

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` items."""
        known = len(self.since)
        self.since, self.stretch = grown(self.since, (capacity,)), grown(self.stretch, (capacity,))
        self.stretch[known:] = 1

    def came(self, item: int) -> None:
        """Take note of an item that is there from now on."""
        self.items += 1
        self.since[item] = self.total
        if self.total:
            self.fresh.append(item)
            self._late.append(item)
            self._stretch(np.array([item]))

    def count(self, liked: bool) -> bool:
        """Count an engagement; say whether it was time for a look, so that what is late is stretched otherwise."""
        self.total += 1
        self.liked += liked
        if self.total < self.base.total + STEP:
            return False
        self.base = Base(self.total, self.items, self.liked)
        self._stretch(self.late)
        return True

    def _stretch(self, items: Indices) -> None:
        total, count, _ = self.base
        there = np.maximum(total - self.since[items], 0)
        self.stretch[items] = (total + count) / (there + count) if count else 1

    def restore(self, place: Indices, since: Indices, base: Base, total: int, liked: int) -> None:
        """Take over what a snapshot holds of the items at `place`; the others it does not know."""
        self.since[:] = UNKNOWN
        self.since[place] = since
        self.base, self.total, self.liked = base, total, liked

    def settle(self) -> None:
        """Go live: everything that the state holds is loaded. What it does not know came now."""
        unknown = np.flatnonzero(self.since[: self.items] == UNKNOWN)
        self.since[unknown] = self.total
        self.since[self.items :] = 0
        self.fresh += unknown.tolist()
        self._late = np.flatnonzero(self.since).tolist()
        self._stretch(self.late)
