"""What the drill's records come to: latencies in a calm and around swaps, models out of turn, one JSON object."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.bench.figures import quantile
from tests.drill.reader import Seen
from tests.drill.serving import Usage

CALM_BEFORE, CALM_AFTER = "calm before", "calm after"
SWAP, REFUSAL = "swap", "refusal"


class Window(NamedTuple):
    """A stretch of time, in ms since 1970."""

    kind: str
    model: str
    """Name of the bundle or, of a refusal, its kind."""
    began_ms: float
    ended_ms: float
    live_ms: float | None = None
    """When the first list of the model was seen."""


class Times:
    """When events were stamped and when their lists were seen, ms since 1970."""

    def __init__(self, lists: Iterable[Seen], stamps: Mapping[str, int]) -> None:
        both = [(stamps[one.event], one.at_ms) for one in lists if one.event in stamps]
        self._stamped, self._seen = np.array(both, np.float64).reshape(-1, 2).T

    def within(self, windows: Iterable[Window]) -> list[float]:
        """Return the latencies of events that were under way at any moment of the windows, which do not overlap."""
        chosen: NDArray[np.bool_] = np.zeros(len(self._seen), np.bool_)
        for window in windows:
            chosen |= (self._stamped <= window.ended_ms) & (self._seen >= window.began_ms)
        found: list[float] = (self._seen - self._stamped)[chosen].tolist()
        return found


@dataclass
class Drilled:
    """All that was written down while the drill ran."""

    max_rate: float | None = None
    """Lists a second, flat out; None where it was not measured."""
    rate: float = 0.0
    windows: list[Window] = field(default_factory=list)
    reigns: list[tuple[str, str]] = field(default_factory=list)
    """Name and version of what served, one after the other."""
    usage: list[Usage] = field(default_factory=list)
    """At the end of each reign, and once more at last."""
    pauses_ms: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    fresh: dict[str, float | None] = field(default_factory=dict)
    """Seconds from sending a new item to the first list that holds it; None where none does."""
    wrong: list[str] = field(default_factory=list)
    """Whatever must not be, as lines that name the culprit."""


def strays(lists: Sequence[Seen], reigns: Sequence[str]) -> list[str]:
    """Return where a partition's lists are of a model that does not serve, or does not serve any more, or not yet.

    >>> made = lambda models: [Seen(0, n, "", model, 0.0) for n, model in enumerate(models)]
    >>> strays(made("aabba"), "aba"), strays(made("aaa"), "aba")  # a swap may fall between two events
    ([], [])
    >>> strays(made("abab"), "ab")
    ['partition 0 goes over to a at 2, which is out of turn']
    """
    found = []
    ordered = sorted(lists, key=lambda one: (one.partition, one.offset))
    for partition, of_it in groupby(ordered, key=lambda one: one.partition):
        at = 0
        for model, run in groupby(of_it, key=lambda one: one.model):
            try:
                at = list(reigns).index(model, at) + 1
            except ValueError:
                found.append(f"partition {partition} goes over to {model} at {next(run).offset}, which is out of turn")
                break
    return found


def summary(drilled: Drilled, times: Times) -> dict[str, Any]:
    """Return what the report says, but for the checker's verdict."""
    swaps = [window for window in drilled.windows if window.kind == SWAP and window.live_ms is not None]
    lives = {
        name: [(window.live_ms - window.began_ms) / 1000 for window in of_it if window.live_ms is not None]
        for name, of_it in _by_model(swaps).items()
    }
    chosen = {
        "before": times.within(window for window in drilled.windows if window.kind == CALM_BEFORE),
        "during": times.within(swaps),
        "refusals": times.within(window for window in drilled.windows if window.kind == REFUSAL),
        "after": times.within(window for window in drilled.windows if window.kind == CALM_AFTER),
    }
    pauses: dict[str, list[float]] = {}
    for (name, _), pause in zip(drilled.reigns[1:], drilled.pauses_ms, strict=False):
        pauses.setdefault(name, []).append(pause)
    held = zip(("first", "middle", "last"), ends(drilled.usage, [name for name, _ in drilled.reigns]), strict=True)
    used = dict(held)
    return {
        "swaps": len(swaps),
        "max_rate": drilled.max_rate,
        "rate": round(drilled.rate, 1),
        "pause_ms": {"p50": _share(drilled.pauses_ms, 0.5), "max": max(drilled.pauses_ms, default=None)},
        "p50_ms": {name: _share(found, 0.5) for name, found in chosen.items()},
        "p99_ms": {name: _share(found, 0.99) for name, found in chosen.items()},
        "max_ms": {name: _share(found, 1.0) for name, found in chosen.items()},
        "seconds_to_live": _spread([seconds for found in lives.values() for seconds in found]),
        "item_to_list_seconds": _spread([seconds for seconds in drilled.fresh.values() if seconds is not None]),
        "rss_mb": {when: one.rss_mb for when, one in used.items()},
        "open_files": {when: one.open_files for when, one in used.items()},
        "mapped_files": {when: one.mapped for when, one in used.items()},
        "users": {when: one.users for when, one in used.items()},
        "refused": dict(drilled.refused),
        "by_model": {
            name: {
                "swaps": len(of_it),
                "seconds_to_live": _spread(lives[name]),
                "pause_ms_max": max(pauses.get(name, []), default=None),
                "p50_ms": _share(times.within(of_it), 0.5),
                "p99_ms": _share(times.within(of_it), 0.99),
                "seconds": round(sum(window.ended_ms - window.began_ms for window in of_it) / 1000, 1),
            }
            for name, of_it in _by_model(swaps).items()
        },
        "by_refusal": {
            name: {"p99_ms": _share(times.within(of_it), 0.99)}
            for name, of_it in _by_model(w for w in drilled.windows if w.kind == REFUSAL).items()
        },
        "usage_by_swap": [usage._asdict() for usage in drilled.usage],
    }


def ends(usage: Sequence[Usage], names: Sequence[str]) -> tuple[Usage, Usage, Usage]:
    """Return what was held once caches were full, after the third swap or a little later, half way, and at last.

    A smaller model holds less, so it is at the ends of reigns of the model that serves at last; `names` say which
    model served in which reign, the first one before any swap.

    >>> held = [Usage(float(n), 0, 0, 0) for n in range(9)]
    >>> [one.rss_mb for one in ends(held, "abcabcab")]
    [4.0, 7.0, 8.0]
    >>> [one.rss_mb for one in ends(held[:3], "ab")]
    [2.0, 2.0, 2.0]
    """
    last = usage[-1] if usage else Usage(0.0, 0, 0, 0)
    pairs = zip(usage, names, strict=False)
    same = [held for number, (held, name) in enumerate(pairs) if number >= 3 and name == names[-1]] or [last]
    return same[0], same[len(same) // 2], last


def _by_model(windows: Iterable[Window]) -> dict[str, list[Window]]:
    found: dict[str, list[Window]] = {}
    for window in windows:
        found.setdefault(window.model, []).append(window)
    return found


def _share(values: Sequence[float], share: float) -> float | None:
    return round(quantile(values, share), 1) if values else None


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "max": None}
    return {"p50": round(statistics.median(values), 2), "max": round(max(values), 2)}
