"""How long it took until somebody answered for the partitions of an instance that was killed."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.torture import said
from tests.torture.faults import Diary, Killed

SLACK_SECONDS = 3.0


class Takeover(NamedTuple):
    """From a SIGKILL to the first list that was made after it on the last of its partitions; seconds."""

    seconds: float
    alone: bool
    """By the other instance, while nothing else went wrong."""
    caught: bool
    """The killed one left a transaction open, which must time out first."""
    given: float = 0.0
    """Where alone, by the other instance's log: when the partitions were given to it, after the SIGKILL."""
    restored: tuple[float, ...] = ()
    """When it had restored one after the other: these, and those of its own that it had to restore as well."""

    @property
    def restore(self) -> float:
        """How much of it was restoring.

        Where a transaction was left open, the first of the restores is mostly waiting for its end; it counts as long
        as the others took, which come after it.
        """
        if not self.restored:
            return 0.0
        if not self.caught:
            return self.restored[-1] - self.given
        count = len(self.restored)
        return (self.restored[-1] - self.restored[0]) / (count - 1) * count if count > 1 else 0.0


def takeovers(diary: Diary, logs: Mapping[int, Path]) -> list[Takeover]:
    """Return those that came to an end, with what the other instance's log says of those that nothing disturbed."""
    found = []
    for killed in diary.killed:
        if killed.waiting:
            continue
        seconds = (killed.answered_ms - killed.wall_ms) / 1000
        alone = killed.away and _was_alone(killed, seconds, diary)
        taking = None
        if alone:
            others = [log for ordinal, log in logs.items() if ordinal != killed.ordinal]
            taking = next(filter(None, (said.taking(log, killed.owned, killed.wall_ms) for log in others)), None)
        given, restored = taking or (killed.wall_ms, [])
        found.append(
            Takeover(
                seconds,
                alone,
                killed.caught,
                (given - killed.wall_ms) / 1000,
                tuple((at - killed.wall_ms) / 1000 for at in restored),
            )
        )
    return found


def _was_alone(killed: Killed, seconds: float, diary: Diary) -> bool:
    """Say whether no other fault fell into a takeover; its own begins just before it."""
    began, ended = killed.at, killed.at + seconds
    return sum(done.began < ended and done.ended > began for done in diary.done) <= 1


def summary(
    found: Sequence[Takeover], unanswered: int, session_seconds: int, transaction_seconds: int
) -> dict[str, Any]:
    """Return what the report says of takeovers.

    One that is alone is late where it took longer than the longer of the two time-outs, the restore and a slack.
    """
    alone = [one for one in found if one.alone]
    bound = max(session_seconds, transaction_seconds) + SLACK_SECONDS
    return {
        "takeover_s": spread([one.seconds for one in found]),
        "takeover_alone_s": spread([one.seconds for one in alone]),
        "takeover_alone_in_transaction_s": spread([one.seconds for one in alone if one.caught]),
        "given_alone_s": spread([one.given for one in alone]),
        "restore_alone_s": spread([one.restore for one in alone]),
        "takeover_bound_s": bound,
        "takeover_late": [round(one.seconds, 2) for one in alone if one.seconds > bound + one.restore],
        "never_taken_over": unanswered,
    }


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Return median, maximum and number."""
    if not values:
        return {"p50": None, "max": None, "count": 0}
    return {"p50": round(statistics.median(values), 2), "max": round(max(values), 2), "count": len(values)}
