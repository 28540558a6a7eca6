"""Says when nothing is going on: the moment for a kill whose takeover is measured."""

import time
from collections.abc import Callable, Sequence

from tests.torture.instance import Instance

SETTLED_SECONDS = 2.0
"""All must be well for so long: rebalances come in two steps."""


class Quiet:
    """Whether the instances have restored all partitions between them, and are up to date, for a while now."""

    def __init__(self, instances: Sequence[Instance], partitions: int, up_to_date: Callable[[], bool]) -> None:
        self._instances, self._partitions, self._up_to_date = instances, partitions, up_to_date
        self._since: float | None = None

    def __call__(self) -> bool:
        """Ask again and again: it takes a while to say so."""
        well = self._up_to_date() and all(one.works() for one in self._instances)
        if not well or sorted(set[int]().union(*(one.owned() for one in self._instances))) != list(
            range(self._partitions)
        ):
            self._since = None
            return False
        now = time.monotonic()
        self._since = self._since or now
        return now - self._since >= SETTLED_SECONDS
