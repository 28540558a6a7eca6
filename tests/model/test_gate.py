"""The gate: equal models are equal, a better one is seen, and each reason to refuse refuses."""

from collections import Counter

import msgspec
import numpy as np
import pytest

from model.evaluate import Judged, judge, prepare
from model.events import Click, Event, Item
from model.fold import Fold, FoldSettings
from model.gate import CONTENT_ALONE, Compared, Margins, by_age, compare, compared, decide
from model.outcome import Evaluation
from tests.model.conftest import WordEncoder

GOOD = Compared(
    n=1000,
    users=100,
    before=0.1,
    after=0.11,
    popularity=0.05,
    difference=0.01,
    ci95=[0.005, 0.015],
    smallest_detectable=0.007,
)


def stream(count: int, seed: int) -> list[Event]:
    """Return clicks of users who each keep to one of the two kinds of items."""
    rng = np.random.default_rng(seed)
    made: list[Event] = []
    for n in range(count):
        user = int(rng.integers(60))
        item = f"i{2 * int(rng.integers(20)) + user % 2}"
        made.append(Click(id=f"{seed}-{n}", user=f"{seed}-u{user}", at_ms=n * 1000, item=item))
    return made


class Blind(WordEncoder):
    """Gives every text a direction of its own: it knows of no kinds."""

    version = "blind"

    def encode(self, texts: "list[str]") -> np.ndarray:  # type: ignore[override]
        return super().encode([text.replace(" ", "") for text in texts])


def taken_over(fold: Fold, encoder: WordEncoder, items: list[Item]) -> None:
    vectors = dict(zip((i.item for i in items), encoder.encode([i.content() for i in items]), strict=True))
    fold.adopt(encoder.version, fold.taxonomy, fold.catalogue.embedded(vectors, encoder), {}, None)


@pytest.mark.parametrize(("serving", "candidate", "sign"), [(WordEncoder, WordEncoder, 0), (Blind, WordEncoder, 1)])
def test_equal_models_are_equal_and_a_better_one_is_seen(
    items: list[Item], serving: type[WordEncoder], candidate: type[WordEncoder], sign: int
) -> None:
    old, new = serving(), candidate()
    fold = prepare(items, old, FoldSettings(without=CONTENT_ALONE))
    judge(fold, stream(300, 1), old)
    steps, engaged = fold.ranker.steps, fold.tables.engaged.copy()
    before, after = compare(fold, stream(400, 2), old, new, lambda other: taken_over(other, new, items))
    found = compared(before, after, {"i3", "i4"})
    assert np.sign(found["all"].difference) == sign
    assert (found["all"].ci95[0] > 0) == (sign > 0)
    assert found["all"].n == len(before)
    assert found["held_out_items"].n == sum(one.item in {"i3", "i4"} for one in before)
    assert found["unseen"].n >= found["held_out_items"].n
    assert fold.ranker.steps == steps
    np.testing.assert_array_equal(fold.tables.engaged, engaged)


def test_other_targets_cannot_be_compared(items: list[Item], encoder: WordEncoder) -> None:
    judged = judge(prepare(items, encoder, FoldSettings()), stream(50, 1), encoder)
    with pytest.raises(ValueError, match="same targets"):
        compared(judged, judged[1:], ())


def judged(user: str, item: str, new: bool, penchant: int) -> Judged:
    return Judged(user, item, Evaluation({"penchant": penchant, "popularity": 2}, cold_user=False, new_item=new))


def test_each_slice_has_its_own_figures() -> None:
    # NDCG@10 is 1 at rank 0, 1/2 at rank 2, 0 from rank 10 on.
    before = [
        judged("u", "a", False, 2),
        judged("u", "b", True, 10),
        judged("v", "c", False, 0),
        judged("u", "d", False, 2),
    ]
    after = [
        judged("u", "a", False, 0),
        judged("u", "b", True, 2),
        judged("v", "c", False, 2),
        judged("u", "d", False, 10),
    ]
    found = compared(before, after, {"c"})
    assert {name: one.n for name, one in found.items()} == {
        "all": 4, "warm": 2, "held_out_items": 1, "new_items": 1, "unseen": 2,
    }  # fmt: skip
    assert {name: (one.before, one.after, one.difference) for name, one in found.items()} == {
        "all": (0.5, 0.5, 0.0), "warm": (0.5, 0.5, 0.0), "held_out_items": (1.0, 0.5, -0.5),
        "new_items": (0.0, 0.5, 0.5), "unseen": (0.5, 0.5, 0.0),
    }  # fmt: skip
    assert all(one.popularity == 0.5 for one in found.values())
    assert found["held_out_items"].ci95 == [-0.5, -0.5]
    # Users are drawn with all their targets: of u's warm ones, one gained what the other lost, whoever is drawn.
    assert found["warm"].ci95 == [0.0, 0.0]
    assert found["all"].ci95 == [-0.5, pytest.approx(1 / 6, abs=1e-4)]
    # Found 4 times of 5: 1.96 + 0.84 standard errors, where half the interval is 1.96 of them.
    assert found["all"].smallest_detectable == pytest.approx(2.8016 / 1.96 / 3, abs=1e-3)


def test_each_target_is_of_one_age_and_both_models_have_the_same_bins(items: list[Item], encoder: WordEncoder) -> None:
    def aged(ages: list[int], rank: int) -> list[Judged]:
        return [
            msgspec.structs.replace(one, evaluation=msgspec.structs.replace(one.evaluation, item_events=age))
            for age in ages
            for one in [judged("u", "a", age < 5, rank)]
        ]

    ages = [0, 1, 4, 5, 19, 20, 99, 100, 10**6]
    found = by_age(aged(ages, 2), aged(ages, 0))
    assert {name: one.n for name, one in found.items()} == {"0": 1, "1-4": 2, "5-19": 2, "20-99": 2, "100+": 2}
    assert {(one.before, one.after) for one in found.values()} == {(0.5, 1.0)}
    # The fold's own count: how often the item was engaged before.
    fold, seen = prepare(items, encoder, FoldSettings()), Counter[str]()
    for event in stream(100, 1):
        assert isinstance(event, Click)
        for one in judge(fold, [event], encoder):
            assert one.evaluation.item_events == seen[event.item]
        seen[event.item] += 1
    assert max(seen.values()) > 1


def test_each_reason_to_refuse_refuses() -> None:
    bad = msgspec.structs.replace(GOOD, after=0.099, difference=-0.001, ci95=[-0.004, 0.002])
    odd = msgspec.structs.replace(
        GOOD, after=0.2, ci95=[-0.003, 0.203]
    )  # a margin of what serves, not of the candidate
    none = msgspec.structs.replace(GOOD, n=1, users=1, ci95=[0.0, 0.0])
    missed = msgspec.structs.replace(GOOD, before=0.0, after=0.0, ci95=[0.0, 0.0])
    assert decide({"all": GOOD, "unseen": GOOD}, 1.0, Margins()).promote
    assert decide({"all": bad, "unseen": bad}, 1.0, Margins(everything=0.05)).promote
    for figures, cost, said in (
        ({"all": bad, "unseen": GOOD}, 1.0, "does not exclude a loss of 2%"),
        ({"all": odd, "unseen": GOOD}, 1.0, "does not exclude a loss of 2%"),
        ({"all": GOOD, "unseen": msgspec.structs.replace(bad, ci95=[-0.006, 0.0])}, 1.0, "a loss of 5%"),
        ({"all": GOOD, "unseen": none}, 1.0, "1 targets of 1 users"),
        ({"all": GOOD, "unseen": missed}, 1.0, "has no hit"),
        ({"all": GOOD, "unseen": GOOD}, 2.6, "2.60 times as long"),
    ):
        decision = decide(figures, cost, Margins())
        assert not decision.promote
        assert len(decision.reasons) == 1
        assert said in decision.reasons[0]
