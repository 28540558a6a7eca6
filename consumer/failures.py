"""Events that are left out: those that make the fold fail, and dead letters; too many of either end the process."""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from consumer import kafka
from consumer.batch import FoldFailed, Work
from consumer.settings import Settings
from consumer.state import PartitionState
from model.errors import Fatal

log = structlog.get_logger("penchant.failures")
CALM_EVENTS = 100
"""After so many events without one that makes the fold fail, failures are counted anew."""
WINDOW = 1000
"""Of so many records of a partition, the newest, the share of dead letters is limited."""


_NOTE = re.compile(r"dead (\d{1,18}) (\d{1,4}) ([0-9a-f]{1,250})(?: (\S{1,100}))?")


def bundle_of(note: str | None) -> str | None:
    """Return the bundle that a partition used when it committed this note beside its offset."""
    found = _NOTE.fullmatch(note or "")
    return found[4] if found else None


class Tally(NamedTuple):
    """What became of a partition's newest records, up to an offset."""

    offset: int
    """The first that is not counted."""
    run: int = 0
    """Dead letters without another record between, the newest."""
    records: int = 0
    """How many are counted, at most `WINDOW`."""
    bits: int = 0
    """Of each of them whether it is a dead letter, the newest lowest."""

    def add(self, dead: bool) -> "Tally":
        """Return the tally with one more record."""
        bits = (self.bits << 1 | dead) & (1 << WINDOW) - 1
        return Tally(self.offset, self.run + 1 if dead else 0, min(self.records + 1, WINDOW), bits)

    def note(self, bundle: str) -> str:
        """Return what is committed beside the offset, so that a restart counts on; and which bundle is in use."""
        return f"dead {self.run} {self.records} {self.bits:x} {bundle}"

    @staticmethod
    def read(offset: int, note: str | None) -> "Tally":
        """Return the tally that a note describes; an empty one if it is none of ours."""
        found = _NOTE.fullmatch(note or "")
        return Tally(offset, int(found[1]), min(int(found[2]), WINDOW), int(found[3], 16)) if found else Tally(offset)


class Failures:
    """What failed and why, by place, and how many dead letters there were lately, by partition."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = self._calm = 0
        self.skip: dict[tuple[int, int], str] = {}
        """Partition and offset of what is to be left out, until that is committed."""
        self._tallies: dict[int, Tally] = {}
        self._judged: dict[int, Tally] = {}
        """What they will be once the poll is committed; one that is read again is not counted twice."""

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

    def judge(self, work: Work, states: Mapping[int, PartitionState], consumer: Consumer, settings: Settings) -> None:
        """Look whether dead letters are more than poison among good records; to be called before the commit.

        Record by record, for each partition alone, across restarts: polls decide how much is committed before the
        record that is one too many, never which one that is.

        Raises:
            Fatal: they are; nothing of this poll was committed.
        """
        self._judged = {}
        for partition, end in work.offsets.items():
            position = states[partition].position.offset
            tally = self._tallies.get(partition)
            if tally is None or tally.offset != position:  # taken over
                tally = _noted(consumer, TopicPartition(settings.events_topic, partition), position)
            for offset, dead in work.read.get(partition, {}).items():
                tally = tally.add(dead)
                if not dead:
                    continue
                if 0 < settings.max_dead_run < tally.run:
                    raise _flood(f"{tally.run} records in a row", "max_dead_run", partition, offset, work)
                share = tally.bits.bit_count() / WINDOW if tally.records == WINDOW else 0.0
                if 0 < settings.max_dead_share < share:
                    what = f"{tally.bits.bit_count()} of {WINDOW} records"
                    raise _flood(what, "max_dead_share", partition, offset, work)
            # What was drained while a limit was off does not count against those that come once it is on again.
            run = tally.run if settings.max_dead_run else 0
            newest = (tally.records, tally.bits) if settings.max_dead_share else (0, 0)
            self._judged[partition] = Tally(end, run, *newest)

    def offsets(self, topic: str, bundle: str) -> list[TopicPartition]:
        """Return what is to be committed of the poll judged last: offsets, and beside them what was counted."""
        return [TopicPartition(topic, place, tally.offset, tally.note(bundle)) for place, tally in self._judged.items()]

    def committed(self, folded: int, states: Mapping[int, PartitionState], pending: Collection[int]) -> None:
        """Note that what was judged last is committed, so many events of it folded well; forget what lies behind."""
        self._calm += folded
        self._tallies |= self._judged
        self._judged = {}
        for partition, offset in list(self.skip):
            state = states.get(partition)
            if partition not in pending and (state is None or offset < state.position.offset):
                del self.skip[partition, offset]


def _noted(consumer: Consumer, here: TopicPartition, position: int) -> Tally:
    """Return what was counted up to `position` by whoever had the partition before."""
    try:
        committed = consumer.committed([here], kafka.TIMEOUT_SECONDS)[0]
    except KafkaException as exception:
        log.warning("dead letters are counted anew", partition=here.partition, error=exception.args[0].str())
        return Tally(position)
    return Tally.read(position, committed.metadata if committed.offset == position else None)


def _flood(what: str, setting: str, partition: int, offset: int, work: Work) -> Fatal:
    reasons = ", ".join(f"{reason} {count}" for reason, count in work.dead.most_common(3))
    return Fatal(
        f"{what} would be dead letters, the last at partition {partition}, offset {offset} (in this poll: {reasons}); "
        "the poll is not committed: look with 'penchant check', mend what writes them or the mapping, or go back to "
        f"the version that worked; if it is the records that are bad, raise {setting} (0: no limit)"
    )
