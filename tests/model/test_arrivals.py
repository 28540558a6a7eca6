"""An item that came late is not held to have been passed over for all the time that it was not there."""

import zlib
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from model import arrivals as module
from model.arrivals import STEP, UNKNOWN, Arrivals, Base
from model.evaluate import prepare
from model.events import Click, Event, Item
from model.fold import Fold, FoldSettings
from model.fold_state import ARRIVED_BYTES, _Delta
from model.kernels import LIKED_SHARE, LOG_LIKED, NEW, PASSED_OVER
from model.tables import Fact
from tests.model.conftest import WordEncoder
from tests.model.test_fold import clicks, run


def put(fold: Fold, encoder: WordEncoder, *items: Item) -> None:
    for item in items:
        fold.put_item(item, encoder.encode([item.content()])[0])


def alone(fold: Fold, row: int, *items: str) -> list[float]:
    return [float(fold.tables.alone[row, fold.catalogue.index[item]]) for item in items]


def snapshot(fold: Fold, sequence: int) -> list[bytes]:
    head, blocks = fold.begin_snapshot()
    return [head, *(fold.snapshot_rows(block, sequence) for block in blocks)]


def test_counts_are_stretched_by_what_an_average_item_had_meanwhile() -> None:
    """The posterior mean of a rate, with a Gamma prior worth one engagement: by hand."""
    arrivals = Arrivals(8)
    for item in range(4):
        arrivals.came(item)
    for n in range(3 * STEP):
        if n == 2 * STEP:
            arrivals.came(4)
            assert arrivals.stretch[4] == pytest.approx((2000 + 4) / (0 + 4))
        looked = arrivals.count(liked=n % 2 == 0)
        assert looked == ((n + 1) % STEP == 0)
    assert arrivals.base == Base(3000, 5, 1500)
    assert arrivals.liked_share == 0.5
    assert arrivals.stretch[:4].tolist() == [1, 1, 1, 1]
    expected = (3000 + 5) / (1000 + 5)
    assert arrivals.stretch[4] == pytest.approx(expected)
    engaged = 7
    prior = 1 / 5  # an average item's share of the engagements
    rate = (engaged + 1) / (1000 + 1 / prior)
    assert engaged * expected + expected - 1 == pytest.approx(rate * (3000 + 1 / prior) - 1)


def test_what_was_there_from_the_beginning_is_counted_as_it_is(items: list[Item], encoder: WordEncoder) -> None:
    """To the last digit, whoever comes late."""
    fold, other = (prepare(items, encoder, FoldSettings()) for _ in range(2))
    for each in (fold, other):
        run(each, encoder, clicks(700))
    put(fold, encoder, Item(item="late", title="love part9"))
    for each in (fold, other):
        run(each, encoder, clicks(800, seed=1)[700:] + clicks(3000, seed=2)[800:])
    names = [item.item for item in items]
    assert fold.tables.arrivals.base.total >= STEP
    for row in range(len(fold.tables.alone)):
        assert alone(fold, row, *names) == alone(other, row, *names)
    engaged = fold.tables.engaged[: len(names)]
    assert alone(fold, NEW, *names) == alone(fold, PASSED_OVER, *names) == (1 / (1 + engaged * 0.5)).tolist()


def test_a_late_item_begins_as_an_average_one_and_comes_to_stand_for_itself(
    items: list[Item], encoder: WordEncoder
) -> None:
    fold = prepare(items, encoder, FoldSettings(daily_cap=10**9))
    run(fold, encoder, clicks(2 * STEP))
    put(fold, encoder, Item(item="late", title="love part9"), Item(item="unwanted", title="war part9"))
    mean = fold.tables.engaged.sum() / 40
    assert alone(fold, PASSED_OVER, "late") == pytest.approx([1 / (1 + mean / 2)], rel=0.01)
    assert alone(fold, LOG_LIKED, "late") == pytest.approx([np.log1p(mean)], rel=0.01)
    assert alone(fold, LIKED_SHARE, "late") == pytest.approx([mean / (mean + 3)], rel=0.01)
    assert alone(fold, NEW, "late") == [1.0]  # what text, tags and pairs count for goes by what is known of it
    later = [
        Click(id=f"l{n}", user=f"v{n}", at_ms=10**8 + n, item="late" if n % 20 == 0 else f"i{n % 40}")
        for n in range(10 * STEP)
    ]
    run(fold, encoder, later)
    ours, unwanted = (fold.catalogue.index[item] for item in ("late", "unwanted"))
    assert fold.tables.engaged[ours] == 500
    whole = fold.tables.arrivals.total / (10 * STEP)
    assert alone(fold, LOG_LIKED, "late") == pytest.approx([np.log1p(500 * whole)], rel=0.02)
    assert alone(fold, PASSED_OVER, "late") == pytest.approx([1 / (1 + 500 * whole / 2)], rel=0.02)
    assert fold.tables.engaged[unwanted] == 0
    assert alone(fold, PASSED_OVER, "unwanted")[0] > 0.8
    assert alone(fold, LOG_LIKED, "unwanted")[0] < 0.3


def test_in_an_old_stream_a_new_item_comes_right_after_what_is_wanted(
    encoder: WordEncoder, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most items were never wanted, and the ranker has learnt that; nobody searches for the new one."""
    items = [Item(item=f"i{n}", title=f"{'love wedding' if n % 2 else 'war tank'} part{n}") for n in range(200)]
    dice = np.random.default_rng(0)
    events: list[Event] = [
        Click(id=f"e{n}", user=f"u{n // 4}", at_ms=1000 * n, item=f"i{2 * int(dice.integers(20)) + n // 4 % 2}")
        for n in range(4 * STEP)
    ]

    def place() -> tuple[int, int]:
        """Return how many come before the new item, for a user whom it is for, and for another."""
        fold = prepare(items, encoder, FoldSettings(whole=whole))
        run(fold, encoder, events)
        put(fold, encoder, Item(item="late", title="love wedding part500"))
        ranks = []
        for kind in (1, 0):
            past = [Click(id=f"p{kind}-{n}", user=f"x{kind}", at_ms=10**8, item=f"i{6 * n + kind}") for n in range(2)]
            run(fold, encoder, past)
            view, _ = fold._look(f"x{kind}", fold.profiles[f"x{kind}"], fold.catalogue.index["late"])
            ranks.append(view.rank(0.5))
        return ranks[0], ranks[1]

    ours, others = place()
    assert ours <= 30  # of its kind are 20 wanted ones
    if whole:
        assert others > ours
    monkeypatch.setattr(Arrivals, "_stretch", lambda self, items: None)
    unstretched, _ = place()
    assert unstretched > ours + 40


def test_a_restored_fold_goes_on_to_the_last_digit_whoever_came_late(
    items: list[Item], encoder: WordEncoder, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a snapshot and what follows, or from deltas alone; items that came before, between and after."""
    monkeypatch.setattr(module, "STEP", 70)
    late = [Item(item=f"late{n}", title=f"love part{n}") for n in range(4)]
    live = prepare(items, encoder, FoldSettings(whole=whole))
    copies = [prepare([*items, *late], encoder, FoldSettings(whole=whole)) for _ in range(2)]
    events: Sequence[Event] = clicks(900)
    deltas, held, at = [], [], 0
    for number, event in enumerate(events[:530]):
        if number % 150 == 75:
            put(live, encoder, late[number // 150])
        if number % 50 == 20 and number > 100:
            event = msgspec.structs.replace(event, item=f"late{(number - 75) // 150}")
        run(live, encoder, [event])
        if number % 10 == 9:
            deltas.append(live.take_delta())
            if number == 309:
                held, at = snapshot(live, len(deltas)), len(deltas)
    copies[0].load_snapshot(held)
    for copy, missing in zip(copies, (deltas[at:], deltas), strict=True):
        for sequence, delta in enumerate(missing, len(deltas) - len(missing) + 1):
            copy.tables.open_rows(sequence)
            copy.load_delta(delta)
        for user in live.profiles:
            copy.load_user(user, live.dump_user(user) or b"")
        copy.loaded()
        for item in late:
            places = live.catalogue.index[item.item], copy.catalogue.index[item.item]
            assert live.tables.arrivals.since[places[0]] == copy.tables.arrivals.since[places[1]] > 0
    expected = run(live, encoder, events[530:])
    for copy in copies:
        assert run(copy, encoder, events[530:]) == expected
        assert copy.ranker.dump() == live.ranker.dump()


def test_what_came_while_nobody_counted_came_at_the_restart(items: list[Item], encoder: WordEncoder) -> None:
    fold = prepare(items, encoder, FoldSettings())
    run(fold, encoder, clicks(300))
    held = snapshot(fold, 0)
    again = prepare([*items, Item(item="late", title="love part9")], encoder, FoldSettings())
    again.load_snapshot(held)
    again.load_delta(fold.take_delta())
    again.loaded()
    arrivals, places = again.tables.arrivals, again.catalogue.index
    assert arrivals.since[places["late"]] == arrivals.total > 0
    assert not arrivals.since[[places[item.item] for item in items]].any()
    assert UNKNOWN not in arrivals.since
    assert msgspec.msgpack.decode(again.take_delta(), type=_Delta).arrived == {"late": arrivals.total}


def test_a_state_from_before_it_goes_on(items: list[Item], encoder: WordEncoder) -> None:
    """Of what it knows, all counts as there from the beginning."""
    old, fold = (prepare(items, encoder, FoldSettings()) for _ in range(2))
    run(old, encoder, clicks(1500))
    head, *rows = snapshot(old, 0)
    chunk = zlib.compress(msgspec.msgpack.encode(msgspec.msgpack.decode(zlib.decompress(head))[:3]))
    record = msgspec.msgpack.decode(old.take_delta())
    fold.load_snapshot([chunk, *rows])
    fold.load_delta(msgspec.msgpack.encode([2, *record[1:5]]))
    for user in old.profiles:
        fold.load_user(user, old.dump_user(user) or b"")
    fold.loaded()
    assert not fold.tables.arrivals.since.any()
    put(fold, encoder, Item(item="late", title="love part9"))
    run(fold, encoder, clicks(1600, seed=3)[1500:])
    assert fold.tables.arrivals.base.total > 0
    assert fold.tables.arrivals.stretch[fold.catalogue.index["late"]] > 10


def test_a_whole_catalogue_that_comes_late_is_told_in_small_records(items: list[Item], encoder: WordEncoder) -> None:
    fold = prepare(items, encoder, FoldSettings())
    run(fold, encoder, clicks(100))
    many = [Item(item=f"{'x' * 200}-{n}", title="war") for n in range(3000)]
    put(fold, encoder, *many)
    told: dict[str, int] = {}
    records = 0
    while fold.tables.arrivals.fresh:
        delta = fold.take_delta()
        assert len(delta) < ARRIVED_BYTES + 64 * 1024
        told |= msgspec.msgpack.decode(delta, type=_Delta).arrived
        records += 1
    assert records == 3
    assert told == dict.fromkeys((item.item for item in many), fold.tables.arrivals.total)


def test_an_item_first_heard_of_by_another_partitions_users_came_then(fold: Fold, encoder: WordEncoder) -> None:
    run(fold, encoder, clicks(100))
    before = fold.tables.arrivals.total
    fold.merge([Fact("foreign", True, ["i1"], ["i1"])])
    assert fold.tables.arrivals.since[fold.catalogue.index["foreign"]] == before > 0
    run(fold, encoder, clicks(150)[100:])
    put(fold, encoder, Item(item="foreign", title="war"))
    assert fold.tables.arrivals.since[fold.catalogue.index["foreign"]] == before
