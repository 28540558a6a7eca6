"""Penchant in river's clothes: river's own checks, the fold's own scores, and nothing changed by looking."""

import copy
import importlib
import pickle
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pytest

from model.errors import Fatal
from model.events import Click, Item, Rating
from model.fold import Fold, FoldSettings
from model.river import PenchantRanker
from model.river_choice import ChoiceClassifier, HitRate
from model.taxonomy import Taxonomy
from tests.model.conftest import WordEncoder
from tests.model.test_fold import clicks
from tests.model.test_learnt import TwoParts

# River is typed in part; what comes in this way is not typed at all.
checks, evaluate, metrics, reco, stream = (
    importlib.import_module(f"river.{name}") for name in ("checks", "evaluate", "metrics", "reco", "stream")
)
Row = tuple[str, str, float]


def ratings(count: int) -> list[Row]:
    """Choices of users who stay with one kind of item; every fifth is not liked."""
    rows = [(e.user, e.item, 5.0 if n % 5 else 2.0) for n, e in enumerate(clicks(count)) if isinstance(e, Click)]
    assert len(rows) == count
    return rows


def taught(rows: list[Row], **parameters: Any) -> PenchantRanker:
    model = PenchantRanker(threshold=4, **parameters)
    for user, item, stars in rows:
        model.learn_one(user, item, stars)
    return model


def estimators() -> list[Any]:
    return [PenchantRanker(), ChoiceClassifier(PenchantRanker(), repeat=True)]


@pytest.mark.parametrize(
    ("model", "check"),
    [(m, c) for m in estimators() for c in checks.yield_checks(m)],
    ids=lambda value: value.__class__,
)
def test_river_s_own_checks(model: Any, check: Callable[[Any], None]) -> None:
    assert check.__name__ not in model._unit_test_skips() or not isinstance(model, PenchantRanker)
    check(model.clone())


def test_the_checks_are_those_that_are_meant() -> None:
    """River's checks on data come with the classifier: for a ranker of any make it has none (but the routine)."""
    ranker, classifier = ({c.__name__ for c in checks.yield_checks(m)} for m in estimators())
    assert ranker == {c.__name__ for c in checks.yield_checks(reco.BiasedMF())}
    assert "check_reco_routine" in ranker
    assert classifier > {"check_predict_one_pure", "check_bounded_memory_growth", "check_no_state_aliasing_with_input"}


def test_scores_are_the_fold_s_to_the_last_bit() -> None:
    """Ranks measured by a fold run without river, before each learning, are those of the ranker's scores."""
    rows, model = ratings(300), PenchantRanker(threshold=4)
    fold = Fold(FoldSettings(), WordEncoder(), Taxonomy(Taxonomy.read(), WordEncoder()))
    compared = 0
    for n, (user, item, stars) in enumerate(rows):
        model.describe(item)
        if item not in fold.catalogue.index:
            fold.put_item(Item(item=item), np.zeros(WordEncoder.dim, np.float32))
        scores = model.score_many(user, model.candidates(user))
        evaluation = fold.apply(Rating(id=f"{n}", user=user, at_ms=n, item=item, value=stars), {}).evaluation
        if evaluation is not None:
            above = sum(score > scores[item] for score in scores.values())
            equal = sum(score == scores[item] for score in scores.values())
            assert above <= evaluation.ranks["penchant"] < above + equal
            compared += equal == 1
        model.learn_one(user, item, stars)
    assert compared > 100
    assert model.fold.ranker.dump() == fold.ranker.dump()


def test_looking_changes_nothing() -> None:
    model = taught(ratings(60))
    before = pickle.dumps(model)
    for user in ("u1", "nobody"):
        for item in ("i1", "unheard-of"):
            assert isinstance(model.predict_one(user, item, {"text": "words", "tags": ["new"]}), float)
        model.rank(user, {"i1", "i2", "unheard-of"}, {"at_ms": 5})
        model.score_many(user, model.candidates(user, repeat=True))
    assert pickle.dumps(model) == before


def test_one_score_is_that_of_many_and_rank_goes_by_it() -> None:
    model = taught(ratings(200))
    items: list[Hashable] = [*model.candidates("u1", repeat=True), "unheard-of", "either"]
    scores = model.score_many("u1", items)
    assert scores == {item: model.predict_one("u1", item) for item in items}
    ranked = model.rank("u1", set(items))
    assert set(ranked) == set(items)
    assert [scores[item] for item in ranked] == sorted(scores.values(), reverse=True)
    assert len(set(scores.values())) > 20
    assert ranked.index("either") + 1 == ranked.index("unheard-of")


def test_an_unknown_item_scores_as_one_of_which_nothing_is_known() -> None:
    model = taught(ratings(200))
    guessed = model.predict_one("u1", "unheard-of")
    assert guessed != 0
    model.describe("unheard-of")
    assert model.predict_one("u1", "unheard-of") == guessed
    assert "unheard-of" in model.candidates("u1")


def test_an_item_that_was_no_candidate_teaches_that_it_is_there_and_no_more() -> None:
    """Else being new would be what speaks most for an item: on real ratings that costs a third of the hits."""
    model = PenchantRanker()
    for n in range(20):
        model.learn_one(f"u{n}", f"i{n}", True)
    assert model.fold.ranker.steps == 0
    assert model.fold.tables.liked.sum() == 20
    assert len(model.candidates("u0")) == 19
    model.learn_one("u0", "i1", True)
    assert model.fold.ranker.steps == 1


def test_equals_keep_the_order_in_which_they_became_known() -> None:
    model = PenchantRanker()
    for item in ("c", "a", "b"):
        model.describe(item)
    assert model.rank("u", {"z", "a", "y", "b", "c"}) == ["c", "a", "b", "y", "z"]


def test_names_are_whatever_can_be_hashed_and_never_confused() -> None:
    model = PenchantRanker()
    names: list[Hashable] = [1, "1", ("1",), None, frozenset({1})]
    for name in names:
        model.learn_one(name, name, True)
    assert model.candidates("new") == names
    assert all(name not in model.candidates(name) for name in names)
    assert model.candidates(1.0) == model.candidates(1)  # equal and of one hash, as in a dict


def test_below_the_threshold_is_history_and_no_liking() -> None:
    model = PenchantRanker(threshold=4)
    for n in range(200):
        model.learn_one(n, ("good", "bad")[n % 2], (4, 3.9)[n % 2])
    assert model.rank("new", {"good", "bad"}) == ["good", "bad"]
    position = model.fold.catalogue.index
    good, bad = (position[model._items[name].item] for name in ("good", "bad"))
    assert model.fold.tables.liked[[good, bad]].tolist() == [100, 0]
    assert model.fold.tables.engaged[[good, bad]].tolist() == [100, 100]
    model.mutate({"threshold": 3})
    model.learn_one("late", "bad", 3.9)
    assert model.fold.tables.liked[bad] == 1


def test_a_clone_knows_nothing_and_a_copy_goes_on_alike(encoder: WordEncoder) -> None:
    rows = ratings(120)
    model = taught(rows[:80], encoder=encoder, daily_cap=50, without=("tags",))
    clone = model.clone()
    assert (clone.threshold, clone.daily_cap, clone.without) == (4, 50, ("tags",))
    assert clone.candidates("u1") == []
    assert clone.predict_one("u1", "i1") == 0
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for user, item, stars in rows[80:]:
        for one in (model, *copies):
            one.learn_one(user, item, stars)
    items = model.candidates("u1", repeat=True)
    assert model.score_many("u1", items) == copies[0].score_many("u1", items) == copies[1].score_many("u1", items)


def test_words_place_an_item_that_nobody_touched(encoder: WordEncoder) -> None:
    kinds = ["space alien robot ship", "love wedding kiss couple"]

    def first(model: PenchantRanker) -> tuple[float, float]:
        for n in range(40):
            model.describe(f"i{n}", {"title": f"{kinds[n % 2]} part{n}"})
        for user, item, _ in ratings(300):
            model.learn_one(user, item, True)
        for kind in (0, 1):
            model.describe(("robots", "love")[kind], {"text": kinds[kind]})
        return model.predict_one("u1", "robots"), model.predict_one("u1", "love")  # u1 likes odd items: love

    robots, love = first(PenchantRanker(encoder=encoder))
    assert love > robots
    robots, love = first(PenchantRanker())
    assert love == robots


def test_tags_count_without_an_encoder_and_may_be_one_string() -> None:
    model = PenchantRanker()
    for n in range(300):
        model.learn_one(n % 30, f"{n % 2}-{n % 7}-{n // 30}", True, {"tags": ("scifi", "romance")[n % 2]})
    model.describe("a", {"tags": ["scifi"]})
    model.describe("b", {"tags": ["romance"]})
    assert model.rank(0, {"a", "b"}) == ["a", "b"]
    assert model.rank(1, {"a", "b"}) == ["b", "a"]


def test_what_x_said_is_kept_copied_and_replaced(encoder: WordEncoder) -> None:
    model = PenchantRanker(encoder=encoder)
    x = {"title": "Alien", "tags": ["scifi"], "at_ms": 86_400_000}
    model.learn_one("u", "i", True, x)
    before = pickle.dumps(model)
    x["tags"].append("horror")  # type: ignore[attr-defined]
    assert pickle.dumps(model) == before
    model.learn_one("v", "i", True)
    assert model._items["i"].tags == ["scifi"]
    assert model.fold.stream_ms == 86_400_000
    model.describe("i", {"text": "a ship"})
    assert (model._items["i"].content(), model._items["i"].tags) == ("a ship", [])


def test_the_daily_cap_needs_the_time() -> None:
    capped = PenchantRanker(daily_cap=3)
    for n in range(10):
        capped.learn_one("bot", f"i{n}", True, {"at_ms": n * 86_400_000 // 5})  # five a day
    assert capped.fold.tables.liked.sum() == 6
    free = taught([("bot", f"i{n}", 5.0) for n in range(1500)])
    assert free.fold.tables.liked.sum() == 1500


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(Fatal, match="no feature"):
        PenchantRanker(without=("magic",))
    assert PenchantRanker(without=()).clone().without is None


def hits(model: Any, rows: list[Row]) -> float:
    """Return HR@5 over first choices in the last half, in a loop of river's that tells the truth 3 events later."""
    known: list[Hashable] = [f"i{n}" for n in range(40)]
    if isinstance(model, PenchantRanker):
        for item in known:
            model.describe(item)
    seen: dict[str, set[str]] = {}
    metric: Any = HitRate(5)
    count = 0
    questions: dict[int, dict[Hashable, float]] = {}
    data = (({"user": user, "item": item}, stars) for user, item, stars in rows)
    for number, x, y in stream.simulate_qa(data, moment=None, delay=3):
        user, item = x["user"], x["item"]
        if y is None:
            left = [name for name in known if name not in seen.setdefault(user, set())]
            seen[user].add(item)
            if item in left:
                questions[number] = {name: model.predict_one(user, name) for name in left}
        else:
            if number in questions and y >= 4 and number >= len(rows) // 2:
                count += 1
                metric.update(item, questions[number])
            model.learn_one(user, item, y)
    assert count > 200
    return float(metric.get())


def test_a_planted_preference_is_found_in_river_s_loop_and_better_than_by_river_s_rankers() -> None:
    """No user has more than some ten events: who likes what must be learnt from others."""
    rows = [(f"{user}-{n // 120}", item, stars) for n, (user, item, stars) in enumerate(ratings(1200))]
    ours = hits(PenchantRanker(threshold=4), rows)
    assert ours > 0.25
    for other in (reco.RandomNormal(seed=1), reco.Baseline(), reco.BiasedMF(seed=1)):
        assert ours > 1.3 * hits(other, rows)


def test_river_evaluates_choices() -> None:
    choices = [({"user": user}, item) for user, item, _ in ratings(600)]
    metric = evaluate.progressive_val_score(choices, ChoiceClassifier(PenchantRanker(), repeat=True), HitRate(20))
    assert metric.get() > 0.7  # the items of the user's kind are 20 of 40
    assert "HitRate" in str(metric)
    # What is certain is no surprise: the probabilities are those of a model that learnt, not just an order.
    learnt = evaluate.progressive_val_score(
        choices, ChoiceClassifier(PenchantRanker(), repeat=True), metrics.CrossEntropy()
    )
    assert 0 < learnt.get() < 3.689  # ln 40: all items equally probable


def test_a_hit_among_equals_counts_in_part_and_what_is_no_candidate_is_a_miss() -> None:
    def rate(k: int, chosen: str, probabilities: dict[str, float]) -> float:
        metric: Any = HitRate(k)
        metric.update(chosen, probabilities)
        return float(metric.get())

    assert rate(2, "c", {"a": 0.4, "b": 0.2, "c": 0.2, "d": 0.2}) == pytest.approx(1 / 3)
    assert rate(1, "a", {"a": 0.4, "b": 0.2}) == 1
    assert rate(1, "b", {"a": 0.4, "b": 0.2}) == 0
    assert rate(1, "z", {"a": 0.4}) == 0


def test_river_itself_cannot_evaluate_rankers_yet() -> None:
    """When this fails, `ChoiceClassifier` may no longer be needed."""
    choice = [({"a": 1}, 3.0, {"user": "u", "item": "i"})]
    with pytest.raises(ValueError, match="not compatible"):
        evaluate.progressive_val_score(choice, reco.Baseline(), metrics.MAE())


def test_a_tuned_encoder_s_two_parts_are_taken() -> None:
    model = taught(ratings(60), encoder=TwoParts(paired=True))
    assert model.fold.catalogue.content.learnt is not None
    assert len(model.rank("u1", {"i1", "i2"})) == 2
