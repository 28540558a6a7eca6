"""Events that make the fold fail: left out when read again, and too many of them close together end the process."""

from collections.abc import Collection, Mapping

import structlog

from consumer.batch import FoldFailed
from consumer.state import PartitionState
from model.errors import Fatal

log = structlog.get_logger("penchant.failures")
CALM_EVENTS = 100
"""After so many events without one that makes the fold fail, failures are counted anew."""


class Failures:
    """What failed and why, by place; every failure costs a restore, so their number is limited."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = self._calm = 0
        self.skip: dict[tuple[int, int], str] = {}
        """Partition and offset of what is to be left out, until that is committed."""

    def note(self, failed: FoldFailed) -> None:
        """Leave the event out from now on.

        Raises:
            Fatal: too many failed; nothing of this poll was committed, not even as dead letters.
        """
        self._count = 1 if self._calm >= CALM_EVENTS else self._count + 1
        self._calm = 0
        if self._count > self._limit:
            raise Fatal(
                f"the fold failed at {self._count} events close together, the last at partition {failed.place[0]}, "
                f"offset {failed.place[1]} ({failed}); it is not committed: go back to the version that worked, or, "
                "if it is the events that are bad, raise max_failures, and they become dead letters"
            ) from failed
        log.error("the fold failed; the event goes to the dead letters", place=failed.place, exc_info=failed)
        self.skip[failed.place] = str(failed)

    def committed(self, folded: int, states: Mapping[int, PartitionState], pending: Collection[int]) -> None:
        """Note that so many events were folded well, and forget the places that lie behind the states."""
        self._calm += folded
        for partition, offset in list(self.skip):
            state = states.get(partition)
            if partition not in pending and (state is None or offset < state.position.offset):
                del self.skip[partition, offset]
