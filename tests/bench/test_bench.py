"""The benchmarks' own parts: laps, turns, the baselines, the rate of lists that come in lumps."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from consumer.demo_watch import rate_after
from model.events import Click, Event
from tests.bench.__main__ import parser
from tests.bench.clock import in_turns
from tests.bench.figures import Figure, Section, quantile, write
from tests.bench.flat import LAPS, laps
from tests.bench.usual import NumpyRanker, PlainRanker, Ranker

ITEMS = [f"i{n}" for n in range(20)]
CHOICES = [("u1", "i1"), ("u1", "i2"), ("u2", "i1"), ("u2", "i3"), ("u3", "i1")]


def test_laps_repeat_the_events_with_users_of_their_own_and_time_goes_on() -> None:
    events: list[Event] = [Click(id=f"e{n}", user=f"u{n % 3}", item="i", at_ms=n * 10) for n in range(100)]
    found = list(laps(events, 50))
    assert [len(lap) for lap in found] == [5] * LAPS
    flat = [event for lap in found for event in lap]
    assert len({event.id for event in flat}) == 50
    assert len({event.user for event in flat}) == 3 * LAPS
    assert [event.at_ms for event in flat] == sorted({event.at_ms for event in flat})
    assert sum(len(lap) for lap in laps(events, 2000)) == 2000


def test_jobs_in_turns_each_get_everything() -> None:
    seen: dict[str, list[int]] = {"one": [], "other": []}

    def job(name: str, chosen: Sequence[int]) -> None:
        seen[name] += chosen
        sum(range(100_000))  # some CPU time, or there is no rate

    rates = in_turns(range(25), 10, lambda c: job("one", c), lambda c: job("other", c))
    assert seen == {"one": list(range(25)), "other": list(range(25))}
    assert all(rate > 0 for rate in rates)


@pytest.mark.parametrize("ranker", [PlainRanker(ITEMS), NumpyRanker(ITEMS, np.eye(20, dtype=np.float32))])
def test_the_usual_rankers_recommend_what_went_together_and_nothing_seen(ranker: Ranker) -> None:
    for user, item in CHOICES:
        ranked = [name for name, _ in ranker.choose(user, item)]
    assert set(ranked[:2]) == {"i2", "i3"}
    assert "i1" not in ranked
    assert len(ranked) == 10


def test_sections_become_json_with_ratios(tmp_path: Path) -> None:
    section = Section("Fold", [Figure("all", "s", 3.0, 2.0), Figure("alone", "s", 1.0)], ["a note"])
    write(tmp_path / "new" / "bench.json", {"fold": section})
    found = json.loads((tmp_path / "new" / "bench.json").read_text())["fold"]
    assert [row["ratio"] for row in found["figures"]] == [1.5, None]
    assert found["notes"] == ["a note"]


def test_quantiles() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_a_rate_counts_from_the_end_of_a_lump_or_from_anywhere_in_a_stream() -> None:
    lumps = [n // 100 + (n % 100) / 10_000 for n in range(1000)]
    assert rate_after(lumps, 250) == pytest.approx(100, rel=0.01)
    stream = [n / 500 for n in range(1000)]
    assert rate_after(stream, 250) == pytest.approx(500, rel=0.01)
    assert rate_after([1.0], 0) is None
    assert rate_after([], 0) is None


def test_the_command_line_takes_subjects_in_their_order() -> None:
    assert parser().parse_args(["--only", "flat,fold"]).only == ("fold", "flat")
    with pytest.raises(SystemExit):
        parser().parse_args(["--only", "nonsense"])
    with pytest.raises(SystemExit):
        parser().parse_args(["--events", "0"])
