"""The faults of a run, planned from a seed, and the diary of what was done and seen."""

import json
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

BROKER = -1
"""Target of a fault; else the ordinal of an instance."""
KILL, STOP, TERM, TWIN = "kill", "stop", "term", "twin"
"""SIGKILL; SIGSTOP, then SIGCONT; SIGTERM; SIGSTOP, a second one with the same ordinal, SIGCONT of the first."""
AWAY = "kill_away"
"""SIGKILL in a calm, and away for so long that the other instance has to take over."""
STORM_SECONDS = 26.0
GAP_SECONDS = (0.6, 2.4)
"""Between two faults of a storm."""
BROKER_SECONDS = 18.0
"""At least, between two faults of the broker: where it is away all the time nothing else can be seen to go wrong."""
LONG_SECONDS = (12.0, 16.0)
"""Past the time-outs of transactions (10 s) and of the torture's sessions (6 s)."""
AWAY_SECONDS = (20.0, 22.0)
"""Past both, and the restore, and the slack that a takeover is given."""
WITHIN_SHARE = 0.5
"""Of kills and stops: aimed at an open transaction, which is open for milliseconds only."""


class Fault(NamedTuple):
    """What to do to whom, when, and for how long (seconds)."""

    act: int
    """Storms are even, the calms after them odd; an act begins when all faults of the one before are over."""
    at: float
    """After the act began."""
    target: int
    how: str
    lasts: float
    after: float | None = None
    """So long after an instance has restored its partitions, where it had not; None: whatever it is doing."""
    within: bool = False
    """To be done within an open transaction of an instance, if one can be caught."""

    @property
    def kind(self) -> str:
        """Name in the report."""
        return f"{'broker' if self.target == BROKER else 'serve'}_{self.how}"


class Done(NamedTuple):
    """A fault that was done; times of the monotonic clock."""

    fault: Fault
    began: float
    ended: float
    caught: bool
    """Whether a transaction was open at that moment."""

    @property
    def kind(self) -> str:
        """Name in the report."""
        return self.fault.kind + ("_in_transaction" if self.caught else "")


@dataclass
class Killed:
    """An instance that was killed, and the partitions of it that nobody has answered for since."""

    ordinal: int
    wall_ms: float
    at: float
    owned: frozenset[int]
    caught: bool
    """Whether it left a transaction open."""
    away: bool
    """Whether it stayed away, in a calm."""
    waiting: set[int] = field(init=False)
    answered_ms: float = 0.0
    """When the newest of the first lists since was made."""

    def __post_init__(self) -> None:
        self.waiting = set(self.owned)


@dataclass
class Diary:
    """What was done and seen; appended to by many threads."""

    done: list[Done] = field(default_factory=list)
    killed: list[Killed] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """Last words of instances that ended though nobody had asked them to."""
    restarted_to_drain: int = 0
    """How often the broker was started again after the last fault, because the group did not move any more."""
    unquiet: int = 0
    """Calms in which the instances were not ready in time, so that nobody was killed."""
    log: Path | None = None
    """Where each fault is written, too, as JSON, with the times of the clock that the other logs go by."""

    def note(self, done: Done) -> None:
        """Note a fault that is over."""
        self.done.append(done)
        if self.log is not None:
            ahead = time.time() - time.monotonic()
            times = [datetime.fromtimestamp(at + ahead, UTC).isoformat() for at in (done.began, done.ended)]
            told = {"began": times[0], "ended": times[1], "kind": done.kind, **done.fault._asdict()}
            with self.log.open("a") as log:
                log.write(json.dumps(told) + "\n")


def plan(seed: int, seconds: float) -> list[Fault]:
    """Return the faults of a run that is at most so long: storms, and in the calm after each a kill.

    >>> plan(1, 60) == plan(1, 60)
    True
    """
    dice, faults = random.Random(seed), list[Fault]()
    for act in range(0, 2 * (int(seconds / STORM_SECONDS) + 1), 2):
        at, broker_at = dice.uniform(*GAP_SECONDS), -BROKER_SECONDS
        while at < STORM_SECONDS:
            fault = _fault(dice, act, at, at - broker_at >= BROKER_SECONDS)
            if fault.target == BROKER:
                broker_at = at
            faults.append(fault)
            at += dice.uniform(*GAP_SECONDS)
        lasts = dice.uniform(*AWAY_SECONDS)
        faults.append(Fault(act + 1, 0.0, dice.randrange(2), AWAY, lasts, within=dice.random() < 1 / 3))
    return faults


def _fault(dice: random.Random, act: int, at: float, broker_too: bool) -> Fault:
    within = dice.random() < WITHIN_SHARE
    if broker_too and dice.random() < 0.3:
        how = dice.choice((KILL, STOP))
        lasts = dice.uniform(0, 4) if how == KILL else dice.choice((2.0, 6.0, 13.0))
        return Fault(act, at, BROKER, how, lasts, within=within)
    how = dice.choices((KILL, STOP, TERM, TWIN), (5, 3, 1, 1))[0]
    # Mostly short; now and then past the time-outs.
    long = dice.random() < (0.5 if how == TWIN else 0.1)
    lasts = dice.uniform(*LONG_SECONDS) if long else dice.uniform(0.2, 4)
    after = dice.uniform(0.1, 1.5) if within or dice.random() < 0.75 else None
    return Fault(act, at, dice.randrange(2), how, lasts, after, within and how in (KILL, STOP))
