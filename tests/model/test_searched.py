"""A search counts at once, whatever was learnt of anything else, and as much as it then proves to be worth."""

import copy

import msgspec
import numpy as np
import pytest

from model.errors import Fatal
from model.evaluate import prepare
from model.events import Click, Event, Item, Request, Search
from model.explain import sentence
from model.features import PRIORS
from model.fold import Fold, FoldSettings
from model.fold_state import _Delta
from model.gate import CONTENT_ALONE
from tests.model.conftest import WordEncoder
from tests.model.test_fold import clicks, run

FEATURE = "searched"


def weight(fold: Fold) -> float:
    return float(fold.ranker.weights[fold.features.names.index(FEATURE)])


def slope(fold: Fold, **values: float) -> None:
    """Set what a unit of a feature adds to a score."""
    for name, value in values.items():
        place = fold.features.names.index(name)
        fold.ranker.weights[place] = value * np.sqrt(fold.ranker.variance[place])
    fold.ranker._fold()


def search(fold: Fold, encoder: WordEncoder, text: str, user: str = "searcher", number: int = 0) -> list[str]:
    event = Search(id=f"q{user}{number}", user=user, at_ms=fold.stream_ms, text=text)
    (outcome,) = run(fold, encoder, [event])
    assert outcome.recommendation is not None
    return [slot.item for slot in outcome.recommendation.items]


def searches(meant: bool) -> list[Event]:
    """Users search for what they then click on, or for anything."""
    dice = np.random.default_rng(0)
    events: list[Event] = []
    for one in clicks(1200, users=120):
        assert isinstance(one, Click)
        said = one.item[1:] if meant else dice.integers(40)
        events.append(Search(id=f"s{one.id}", user=one.user, at_ms=one.at_ms, text=f"part{said}."))
        events.append(one)
    return events


def test_a_new_item_is_found_by_its_words_though_new_ones_are_disliked(
    items: list[Item], encoder: WordEncoder, whole: int
) -> None:
    fold = prepare(items, encoder, FoldSettings(whole=whole))
    run(fold, encoder, clicks(600))
    slope(fold, new=-1.7, new_content=-6, content=0.5)  # as on MovieLens after a long run of choices, none of them new
    fresh = Item(item="fresh", title="zeppelin harbour")
    fold.put_item(fresh, encoder.encode([fresh.content()])[0])
    assert search(fold, encoder, "zeppelin harbour")[0] == "fresh"
    assert search(fold, encoder, "zeppelin", user="u1")[0] == "fresh"  # who has a history, too
    slope(fold, searched=0)
    view, _ = fold._look("searcher", fold.profiles["searcher"], fold.catalogue.index["fresh"])
    assert view.rank(0) >= 10  # by all the other features it is in no list


def test_whatever_was_learnt_a_search_finds_what_it_says(items: list[Item], encoder: WordEncoder, whole: int) -> None:
    """In an old stream what is new is what nobody ever wanted: no weight of text outdoes that (docs/adr/0010)."""
    fold = prepare(items, encoder, FoldSettings(whole=whole))
    run(fold, encoder, clicks(600))
    slope(fold, new=-100)
    fresh = Item(item="fresh", title="zeppelin harbour")
    fold.put_item(fresh, encoder.encode([fresh.content()])[0])
    (outcome,) = run(fold, encoder, [Search(id="q", user="u1", at_ms=fold.stream_ms, text="zeppelin harbour")])
    assert outcome.recommendation is not None
    slots = outcome.recommendation.items
    assert len({slot.item for slot in slots}) == len(slots) == 10
    assert next(slot.item for slot in slots if slot.moved_by == "search") == "fresh"
    scores = [slot.score for slot in slots if slot.moved_by is None]
    assert scores == sorted(scores, reverse=True)
    assert [slot.moved_by for slot in slots[: len(scores)]] == [None] * len(scores)  # they have the last places
    later = run(fold, encoder, [Click(id="c", user="u1", at_ms=fold.stream_ms, item="i39")])[0].recommendation
    assert later is not None
    assert all(slot.moved_by is None for slot in later.items)  # it is for the answer alone


def test_an_item_of_the_very_words_is_the_most_like_them(encoder: WordEncoder, whole: int) -> None:
    """Also beside some that are less like them, but have less in common with everything."""
    fold = prepare([], encoder, FoldSettings(whole=whole))
    slope(fold, new=-100, searched=0)
    vectors = {f"i{n}": [1.0, 0.0] for n in range(40)}
    vectors |= {"fresh": [0.8, 0.6]} | {f"r{n}": [0.3, 0.95] for n in range(3)}
    for name, vector in vectors.items():
        fold.put_item(Item(item=name), np.array(vector + [0.0] * 62, np.float32))
    for n in range(40):
        fold.apply(Click(id=f"c{n}", user=f"u{n}", at_ms=n, item=f"i{n}"), {})
    said = np.array([0.8, 0.6] + [0.0] * 62, np.float32)
    outcome = fold.apply(Search(id="q", user="u", at_ms=50, text="fresh"), {"fresh": said})
    assert outcome.recommendation is not None
    assert next(one.item for one in outcome.recommendation.items if one.moved_by) == "fresh"


def test_a_search_lets_nothing_in_that_cannot_be_shown(items: list[Item], encoder: WordEncoder) -> None:
    fold = prepare(items, encoder, FoldSettings())
    run(fold, encoder, [Click(id="c", user="u", at_ms=1, item="i7")])
    fold.drop_item("i9")
    for number, text in enumerate(("part7.", "part9.")):
        assert not {"i7", "i9"} & set(search(fold, encoder, text, user="u", number=number))


def test_words_that_nobody_can_read_say_nothing(fold: Fold, encoder: WordEncoder) -> None:
    """Neither let anything in, nor change what else is shown."""
    run(fold, encoder, clicks(200))
    before = search(fold, encoder, "love part4", "u1", 1)
    profile = fold.profiles["u1"]
    event = Search(id="mute", user="u1", at_ms=fold.stream_ms, text="???")
    outcome = fold.apply(event, {"???": np.zeros(encoder.dim, np.float32)})
    assert outcome.recommendation is not None
    assert profile.liked[0].text == "???"
    view, _ = fold._look("u1", profile)
    assert all(slot.moved_by is None for slot in outcome.recommendation.items)
    assert len(set(before) & {slot.item for slot in outcome.recommendation.items}) >= 7
    assert view.x[fold.features.names.index(FEATURE)].any()  # the search before is still the latest that says something


def test_it_is_the_latest_search_that_counts_and_fades(fold: Fold, encoder: WordEncoder) -> None:
    def value(item: str) -> float:
        view, _ = fold._look("u", fold.profiles["u"], fold.catalogue.index[item])
        return float(view.x[fold.features.names.index(FEATURE), view.target])

    run(
        fold,
        encoder,
        [Search(id="s1", user="u", at_ms=1, text="part3."), Search(id="s2", user="u", at_ms=2, text="part8.")],
    )
    at_once = value("i8")
    assert at_once > 0.2 > 0.1 > value("i3")  # but for chance, they share no word
    run(fold, encoder, [Click(id="c1", user="u", at_ms=3, item="i0")])
    assert value("i8") == pytest.approx(0.8 * at_once, rel=1e-5)
    run(fold, encoder, [Click(id=f"d{n}", user="u", at_ms=4 + n, item=f"i{n + 10}") for n in range(9)])
    assert value("i8") == 0  # ten likings later it is forgotten here


def test_the_reason_is_the_search(fold: Fold, encoder: WordEncoder) -> None:
    run(fold, encoder, clicks(200))
    fresh = Item(item="fresh", title="zeppelin harbour")
    fold.put_item(fresh, encoder.encode([fresh.content()])[0])
    (outcome,) = run(fold, encoder, [Search(id="q", user="u1", at_ms=fold.stream_ms, text="zeppelin")])
    assert outcome.recommendation is not None
    best = outcome.recommendation.items[0]
    assert best.item == "fresh"
    assert (best.because[0].event, best.because[0].text) == ("q", "zeppelin")
    assert 'its text is close to "zeppelin"' in sentence(best.because[0], {})
    assert best.because[0].contribution + sum(r.contribution for r in best.because[1:]) + best.rest == pytest.approx(
        best.score, rel=1e-5
    )


@pytest.mark.parametrize("meant", [True, False])
def test_the_weight_is_learnt(fold: Fold, encoder: WordEncoder, meant: bool) -> None:
    run(fold, encoder, searches(meant))
    prior = PRIORS[FEATURE].weight
    assert weight(fold) > prior if meant else weight(fold) < 0.05 * prior


def test_silence_changes_nothing_of_it(fold: Fold, encoder: WordEncoder) -> None:
    place = fold.features.names.index(FEATURE)
    before = [fold.ranker.weights[place], fold.ranker.variance[place], fold.ranker.mean[place]]
    run(fold, encoder, clicks(500))
    assert fold.ranker.steps > 100
    assert [fold.ranker.weights[place], fold.ranker.variance[place], fold.ranker.mean[place]] == before


def test_a_state_from_before_it_goes_on(items: list[Item], encoder: WordEncoder) -> None:
    settings = FoldSettings(modalities=("image",))
    old = prepare(items, encoder, settings)
    run(old, encoder, clicks(300))
    record = msgspec.msgpack.decode(old.take_delta(), type=_Delta)
    later = [old.features.names.index(name) for name in PRIORS]
    table = np.delete(np.frombuffer(record.parameters, "<f4").reshape(4, -1), later, axis=1)
    before = msgspec.structs.replace(record, format=1, parameters=table.tobytes())

    fold = prepare(items, encoder, settings)
    fold.load_delta(msgspec.msgpack.encode(before))
    assert np.array_equal(fold.ranker.weights, old.ranker.weights)
    assert weight(fold) == PRIORS[FEATURE].weight
    assert np.array_equal(fold.ranker.slopes, old.ranker.slopes)
    with pytest.raises(Fatal, match="of other features"):
        fold.load_delta(msgspec.msgpack.encode(msgspec.structs.replace(before, format=2)))


@pytest.mark.parametrize("silent", ["searched", "content"])
def test_a_prior_does_not_speak_where_it_is_silenced(
    items: list[Item], encoder: WordEncoder, whole: int, silent: str
) -> None:
    fold = prepare(items, encoder, FoldSettings(whole=whole, without=frozenset({silent})))
    run(fold, encoder, [*clicks(100), Search(id="s", user="new", at_ms=10**6, text="part8.")])
    assert weight(fold) == PRIORS[FEATURE].weight
    view, _ = fold._look("new", fold.profiles["new"])
    shown = view.scores > -np.inf
    assert shown.sum() > 20
    told = fold.ranker.slopes @ view.x[:, shown] + fold.ranker.bias
    assert view.scores[shown] == pytest.approx(told, abs=1e-5)


def test_words_that_no_encoder_can_read_say_nothing(fold: Fold, encoder: WordEncoder) -> None:
    """As those in a history that only the model before could embed: they are zeros then, and zeros are like nothing."""
    run(fold, encoder, [*clicks(300), *(Click(id=f"c{n}", user="u", at_ms=n, item=f"i{n}") for n in range(5))])
    run(fold, encoder, [Search(id="s", user="u", at_ms=10**6, text="part8.")])
    twins = fold, copy.deepcopy(fold)
    twins[1].apply(Search(id="t", user="u", at_ms=10**6, text="?"), {"?": np.zeros(encoder.dim, np.float32)})
    request = Request(id="r", user="u", at_ms=10**6)
    (one,), (other,) = (run(each, encoder, [request]) for each in twins)
    assert one.recommendation is not None
    assert one.recommendation == other.recommendation


def test_all_that_it_adds_is_the_search_s(fold: Fold, encoder: WordEncoder) -> None:
    """Other things that were liked have no part in it, and where it speaks against an item, that is said, too."""
    run(fold, encoder, clicks(200))
    slope(fold, **dict.fromkeys(fold.features.names, 0.0) | {FEATURE: 5.0})
    (outcome,) = run(fold, encoder, [Search(id="q", user="u1", at_ms=fold.stream_ms, text="part3. part7.")])
    assert outcome.recommendation is not None
    view, _ = fold._look("u1", fold.profiles["u1"])
    place, columns = fold.features.names.index(FEATURE), {view.position(n): n for n in range(view.x.shape[1])}
    for slot in outcome.recommendation.items:
        (reason,) = slot.because
        assert reason.event == "q"
        added = 5.0 * view.x[place, columns[fold.catalogue.index[slot.item]]]
        assert reason.contribution == pytest.approx(added, rel=1e-3)


def test_text_alone_in_the_gate_has_it(items: list[Item], encoder: WordEncoder) -> None:
    fold = prepare(items, encoder, FoldSettings(without=CONTENT_ALONE))
    assert search(fold, encoder, "part31.")[0] == "i31"  # nothing was learnt yet: by the prior
