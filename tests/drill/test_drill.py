"""The drill's own parts: events without end, who is promoted when, latencies in windows, models out of turn."""

import math
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from model.events import Click, Event
from tests.drill.__main__ import parser
from tests.drill.bundles import Bad
from tests.drill.conductor import plan
from tests.drill.reader import Seen
from tests.drill.report import CALM_AFTER, CALM_BEFORE, REFUSAL, SWAP, Drilled, Times, Window, strays, summary
from tests.drill.run import Options, drill
from tests.drill.sender import stream
from tests.drill.serving import Usage

EVENTS: list[Event] = [Click(id=f"e{n}", user=f"u{n % 3}", item="i", at_ms=1000 + 10 * n) for n in range(10)]


def test_events_without_end_are_each_there_once_and_time_goes_on() -> None:
    found = list(islice(stream(EVENTS, 0, lambda: False), 35))
    assert len({event.id for event in found}) == 35
    assert len({event.user for event in found}) == 3 * 4
    assert [event.at_ms for event in found] == sorted({event.at_ms for event in found})
    assert list(islice(stream(EVENTS, 7, lambda: False), 28)) == found[7:]
    assert not list(stream(EVENTS, 0, lambda: True))


def test_bad_models_are_spread_evenly_and_all_of_them_are_promoted() -> None:
    goods = [("a", "1"), ("b", "2"), ("c", "3")]
    bads = [Bad(f"bad{n}", str(n), "files") for n in range(4)]
    planned = plan(goods, bads, 8)
    assert [step for step in planned if not isinstance(step, Bad)] == [goods[n % 3] for n in range(1, 9)]
    assert [step for step in planned if isinstance(step, Bad)] == bads
    assert [n for n, step in enumerate(planned) if isinstance(step, Bad)] == [2, 5, 8, 11]
    assert [step for step in plan(goods, bads, 1) if isinstance(step, Bad)] == bads
    assert plan(goods, bads, 0) == []


def test_a_window_has_the_events_that_were_under_way_in_it() -> None:
    stamps = {"early": 0, "into": 90, "within": 150, "out of": 190, "late": 210}
    lists = [Seen(0, n, event, "m", stamps[event] + 20.0 + n) for n, event in enumerate(stamps)]
    assert Times(lists, stamps).within([Window(SWAP, "a", 100.0, 200.0)]) == [21.0, 22.0, 23.0]
    assert Times(lists, stamps).within([]) == []
    assert Times([], {}).within([Window(SWAP, "a", 0.0, 1.0)]) == []


@pytest.mark.parametrize(
    ("models", "out_of_turn"),
    [("aabbcc", ""), ("aacc", ""), ("abcab", ""), ("cac", "c"), ("ababa", "a"), ("aax", "x"), ("bc", "")],
)
def test_models_out_of_turn(models: str, out_of_turn: str) -> None:
    """What serves is a, b, c, a, and b again."""
    lists = [Seen(1, offset, "", model, 0.0) for offset, model in enumerate(models)]
    lists += [Seen(0, offset, "", "a", 0.0) for offset in range(3)]
    found = strays(lists[::-1], "abcab")
    assert [line.split()[5] for line in found] == list(out_of_turn)


def test_the_summary_keeps_calm_swaps_and_refusals_apart() -> None:
    drilled = Drilled(
        max_rate=1000.0,
        rate=500.0,
        windows=[
            Window(CALM_BEFORE, "a", 0, 99),
            Window(SWAP, "b", 100, 199, 150),
            Window(REFUSAL, "nan", 200, 299),
            Window(SWAP, "a", 300, 399, 310),
            Window(CALM_AFTER, "a", 400, 499),
        ],
        reigns=[("a", "1"), ("b", "2"), ("a", "1")],
        usage=[Usage(100.0 + n, 40, 2, n) for n in range(3)],
        pauses_ms=[3.0, 5.0],
        refused=Counter({"files": 1}),
        fresh={"fresh-0": 0.25, "fresh-1": 1.5, "fresh-2": 0.5, "fresh-3": None},
    )
    latency = {0: 5.0, 1: 20.0, 2: 10.0, 3: 30.0, 4: 6.0}
    lists = [Seen(0, n, str(n), "", 100.0 * n + 50 + latency[n]) for n in latency]
    found = summary(drilled, Times(lists, {str(n): 100 * n + 50 for n in latency}))
    assert found["p50_ms"] == {"before": 5.0, "during": 30.0, "refusals": 10.0, "after": 6.0}
    assert found["swaps"] == 2
    assert found["seconds_to_live"] == {"p50": 0.03, "max": 0.05}
    assert found["pause_ms"]["max"] == 5.0
    assert found["by_model"]["b"]["pause_ms_max"] == 3.0
    assert found["by_model"]["a"]["p99_ms"] == 30.0
    assert found["refused"] == {"files": 1}
    assert found["item_to_list_seconds"] == {"p50": 0.5, "max": 1.5}


def test_nothing_that_was_measured_gives_no_figures_rather_than_wrong_ones() -> None:
    found = summary(Drilled(), Times([], {}))
    assert found["p99_ms"] == dict.fromkeys(("before", "during", "refusals", "after"))
    assert found["pause_ms"]["max"] is None
    assert found["item_to_list_seconds"]["max"] is None


def test_the_command_line_wants_two_models_to_swap() -> None:
    assert parser().parse_args(["--models", "shallow,plain"]).models == ("shallow", "plain")
    for wrong in ("plain", "plain,plain", "plain,deep"):
        with pytest.raises(SystemExit):
            parser().parse_args(["--models", wrong])


@pytest.mark.timeout(300)
def test_a_short_drill(tmp_path: Path) -> None:
    options = Options(swaps=2, every=1.0, rate=200.0, calm=3.0, models=("plain", "carried"), bad=False)
    report, wrong = drill(tmp_path, options)
    assert not wrong
    assert report["swaps"] == 2
    assert report["lost"] == report["duplicated"] == 0
    taken = report["item_to_list_seconds"]
    assert 0 < taken["p50"] <= taken["max"] < math.inf
