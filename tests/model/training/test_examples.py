"""Examples are the fold's own targets, and what is held out stays out."""

import msgspec
import pytest

from model.evaluate import judge, prepare
from model.events import Click, Event, Forget, Item, Search
from model.fold import FoldSettings
from model.training.examples import (
    Example,
    Examples,
    Leak,
    Past,
    collect_all,
    held_out,
    refuse_leaks,
    texts_of,
    training_part,
)
from tests.model.conftest import WordEncoder


def stream(count: int) -> list[Event]:
    """Return clicks of five users on forty items, and now and then a search."""
    made: list[Event] = []
    for n in range(count):
        user = f"user-{n % 5}"
        if n % 11 == 3:
            made.append(Search(id=f"e{n}", user=user, at_ms=n * 1000, text=f"robot love {n}"))
        else:
            made.append(Click(id=f"e{n}", user=user, at_ms=n * 1000, item=f"i{(n * 7 + n // 5) % 40}"))
    return made


USERS_1 = {event.item for event in stream(60) if isinstance(event, Click) and event.user == "user-1"}
NEW = [n for n in range(40) if f"i{n}" not in USERS_1]


def collected(items: list[Item], encoder: WordEncoder, events: list[Event]) -> list[Example]:
    return collect_all(prepare(items, encoder, FoldSettings()), events, encoder.encode)


def test_they_are_what_the_fold_evaluates(items: list[Item], encoder: WordEncoder) -> None:
    events = stream(150)
    examples = collected(items, encoder, events)
    targets = judge(prepare(items, encoder, FoldSettings()), events, encoder)
    firsts = {f"user-{n}" for n in (0, 1, 2, 4)}  # user-3 searched first; of the others nothing was liked before
    with_past = []
    for target in targets:
        if target.user in firsts:
            firsts.discard(target.user)
        else:
            with_past.append(target.item)
    assert [one.item for one in examples] == with_past
    assert len(examples) > 40
    for one in examples:
        assert one.item not in one.consumed
        assert all(past.item != one.item for past in one.past)
    assert any(past.text is not None for one in examples for past in one.past)


def test_the_past_is_newest_first(items: list[Item], encoder: WordEncoder) -> None:
    clicks = [Click(id=f"e{n}", user="u", at_ms=n, item=f"i{n}") for n in range(14)]
    last = collected(items, encoder, list(clicks))[-1]
    assert last.past == [Past(item=f"i{n}") for n in range(12, 2, -1)]


def test_what_was_really_shown_and_not_chosen_is_passed(items: list[Item], encoder: WordEncoder) -> None:
    fold = prepare(items, encoder, FoldSettings())
    collect_all(fold, stream(60), encoder.encode)
    clicks = [
        Click(id=f"c{n}", user="user-1", at_ms=61_000 + n, item=f"i{n}", recommendation=name)
        for n, name in ((NEW[0], "shown"), (NEW[1], "lost"))
    ]
    shown = {"shown": ["i1", f"i{NEW[0]}", "i2"]}
    assert [one.passed for one in collect_all(fold, clicks, encoder.encode, shown)] == [["i1", "i2"], []]


def test_who_is_forgotten_leaves_nothing_and_nobody_is_named(items: list[Item], encoder: WordEncoder) -> None:
    """Whether it is asked for within the events that are learnt from, or later."""
    events = stream(100)
    before = collected(items, encoder, events)
    others = {event.at_ms for event in events if event.user != "user-1"}
    within = collected(items, encoder, [*events, Forget(id="f", user="user-1", at_ms=10**6)])
    later = collect_all(prepare(items, encoder, FoldSettings()), events, encoder.encode, forgotten={"user-1"})
    assert within == later == [one for one in before if one.at_ms in others]
    assert 0 < len(within) < len(before)
    assert b"user-" not in Examples({}, before).encoded()


def test_an_items_text_is_what_the_encoder_reads(items: list[Item]) -> None:
    assert texts_of(items[:2]) == {"i0": items[0].content(), "i1": items[1].content()}
    assert "scifi" in texts_of(items)["i0"]


def test_what_is_held_out_depends_on_no_other_item() -> None:
    names = [f"i{n}" for n in range(2000)]
    test, dev = (held_out(names, 0.1, 3, part) for part in ("test", "dev"))
    assert not test & dev
    assert 150 < len(test) < 250
    assert 150 < len(dev) < 250
    assert held_out(names[:500], 0.1, 3, "test") == test & set(names[:500])
    assert held_out(names, 0.1, 4, "test") != test


SOUND = Example(50, "a", [Past(item="b"), Past(text="words")], ["b"], ["c"])


def test_the_training_part_touches_nothing_held_out() -> None:
    late = msgspec.structs.replace(SOUND, at_ms=100)
    only = msgspec.structs.replace(SOUND, past=[Past(item="b")])
    chosen = msgspec.structs.replace(SOUND, item="c", passed=[])
    kept = training_part([SOUND, late, only, chosen], 100, frozenset("bc"))
    assert kept == [msgspec.structs.replace(SOUND, past=[Past(text="words")], passed=[])]
    refuse_leaks(kept, 100, frozenset("bc"))


@pytest.mark.parametrize(
    "planted",
    [
        {"at_ms": 100},
        {"item": "z"},
        {"past": [Past(item="z")]},
        {"passed": ["z"]},
        {"past": [Past(item="a")]},
        {"consumed": ["a"]},
    ],
)
def test_a_planted_leak_is_caught(planted: dict[str, object]) -> None:
    refuse_leaks([SOUND], 100, frozenset("z"))
    with pytest.raises(Leak):
        refuse_leaks([SOUND, msgspec.structs.replace(SOUND, **planted)], 100, frozenset("z"))
