"""The faults of a run, planned from a seed, and the diary of what was done and seen."""

import random
from dataclasses import dataclass, field
from typing import NamedTuple

BROKER = -1
"""Target of a fault; else the ordinal of an instance."""
KILL, STOP, TERM, TWIN = "kill", "stop", "term", "twin"
"""SIGKILL; SIGSTOP, then SIGCONT; SIGTERM; SIGSTOP, a second one with the same ordinal, SIGCONT of the first."""
STORM_SECONDS, CALM_SECONDS = 26.0, 16.0
GAP_SECONDS = (0.6, 2.4)
"""Between two faults of a storm."""
BROKER_SECONDS = 18.0
"""At least, between two faults of the broker: where it is away all the time nothing else can be seen to go wrong."""


class Fault(NamedTuple):
    """What to do to whom, when, and for how long (seconds)."""

    at: float
    target: int
    how: str
    lasts: float
    after: float | None = None
    """So long after an instance has restored its partitions, where it had not; None: whatever it is doing."""

    @property
    def kind(self) -> str:
        """Name in the report."""
        return f"{'broker' if self.target == BROKER else 'serve'}_{self.how}"


class Done(NamedTuple):
    """A fault that was done; times of the monotonic clock."""

    fault: Fault
    began: float
    ended: float


@dataclass
class Killed:
    """An instance that was killed, and the partitions of it that nobody has answered for since."""

    wall_ms: float
    at: float
    waiting: set[int]
    ended: float | None = None
    """When the last of them had an answer; of the monotonic clock."""


@dataclass
class Diary:
    """What was done and seen; appended to by many threads."""

    done: list[Done] = field(default_factory=list)
    killed: list[Killed] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """Last words of instances that ended though nobody had asked them to."""


def plan(seed: int, seconds: float) -> list[Fault]:
    """Return the faults of a run: storms, with a calm after each.

    >>> plan(1, 60) == plan(1, 60)
    True
    """
    dice, faults, at, broker_at = random.Random(seed), list[Fault](), 1.0, -BROKER_SECONDS
    while at < seconds:
        if at % (STORM_SECONDS + CALM_SECONDS) > STORM_SECONDS:
            # The last of a storm is a kill, whose takeover nothing disturbs.
            faults.append(Fault(at, dice.randrange(2), KILL, dice.uniform(0.2, 2), 2.0))
            at += CALM_SECONDS
            continue
        fault = _fault(dice, at, at - broker_at >= BROKER_SECONDS)
        if fault.target == BROKER:
            broker_at = at
        faults.append(fault)
        at += dice.uniform(*GAP_SECONDS)
    return faults


def _fault(dice: random.Random, at: float, broker_too: bool) -> Fault:
    if broker_too and dice.random() < 0.3:
        how = dice.choice((KILL, STOP))
        return Fault(at, BROKER, how, dice.uniform(0, 4) if how == KILL else dice.choice((2.0, 6.0, 13.0)))
    how = dice.choices((KILL, STOP, TERM, TWIN), (5, 3, 1, 1))[0]
    # Mostly short; now and then past the time-outs of transactions (10 s) and of sessions (15 s).
    lasts = dice.uniform(16, 20) if dice.random() < (0.5 if how == TWIN else 0.1) else dice.uniform(0.2, 4)
    after = dice.uniform(0.1, 2.5) if dice.random() < 0.75 else None
    return Fault(at, dice.randrange(2), how, lasts, after)
