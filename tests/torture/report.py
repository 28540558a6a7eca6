"""The report of a run: what was sent and done, what is wrong, how long others took over."""

import statistics
from collections import Counter
from dataclasses import asdict
from typing import Any

from tests.torture.checker import Account, Verdict
from tests.torture.faults import Diary


def report_of(account: Account, found: Verdict, diary: Diary, stored: int, took: float, seed: int) -> dict[str, Any]:
    answered = [(killed, killed.ended - killed.at) for killed in diary.killed if killed.ended is not None]
    alone = [seconds for killed, seconds in answered if _was_alone(killed.at, killed.at + seconds, diary)]
    return {
        "events": len(account.sent),
        "faults": dict(sorted(Counter(done.fault.kind for done in diary.done).items())),
        **{kind: len(lines) for kind, lines in asdict(found).items()},
        "takeover_s": _seconds([seconds for _, seconds in answered]),
        "takeover_alone_s": _seconds(alone),
        "repeated_events": len(account.sent) - len({one.event or one[:2] for one in account.sent}),
        "dead_letters": len(account.letters),
        "lists": len(account.lists),
        "lists_aborted": stored - len(account.lists),
        "sightings": len(account.sightings),
        "ended_by_themselves": diary.ended,
        "seconds": round(took, 1),
        "seed": seed,
    }


def _was_alone(began: float, ended: float, diary: Diary) -> bool:
    """Say whether no other fault fell into a takeover; its own begins just before it."""
    return sum(done.began < ended and done.ended > began for done in diary.done) <= 1


def _seconds(values: list[float]) -> dict[str, float | int | None]:
    if not values:
        return {"p50": None, "max": None, "count": 0}
    return {"p50": round(statistics.median(values), 2), "max": round(max(values), 2), "count": len(values)}
