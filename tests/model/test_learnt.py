"""What an encoder learnt is a part of its own, which the ranker believes as far as it proves itself."""

from collections.abc import Sequence

import numpy as np
import pytest

from model.catalogue import WHOLE
from model.content import Content, split
from model.encoding import Vectors
from model.evaluate import judge, prepare, report
from model.events import Click, Event, Item, Search
from model.explain import sentence
from model.fold import Fold, FoldSettings
from model.gate import CONTENT_ALONE, go_over
from model.taxonomy import Taxonomy
from tests.model.conftest import WordEncoder
from tests.model.test_fold import clicks, run

PAIRS = 60


class TwoParts(WordEncoder):
    """What words say, and beside it a direction for each pair of numbers, or for each number alone."""

    dim, learnt = 64 + 16, 16

    def __init__(self, paired: bool) -> None:
        self.version, self._paired = f"two-{paired}", paired

    def encode(self, texts: Sequence[str]) -> Vectors:
        said = WordEncoder.encode(WordEncoder(), texts)
        rows = np.zeros((len(texts), self.learnt), np.float32)
        for row, text in zip(rows, texts, strict=True):
            digits = "".join(filter(str.isdigit, text))
            number = int(digits or 0) // 2 if self._paired else int(digits or 0)
            row[:] = np.random.default_rng(number).standard_normal(self.learnt)
            row /= np.linalg.norm(row)
        return np.hstack([said[:, :64], rows]).astype(np.float32) * np.float32(0.5**0.5)


@pytest.fixture
def pairs() -> list[Item]:
    """Items of which two go together, though their words do not say so."""
    return [Item(item=f"i{n}", title=f"thing {n}") for n in range(2 * PAIRS)]


def visits(count: int, seed: int = 0) -> list[Event]:
    """Each user once: an item, then the one that goes with it."""
    dice = np.random.default_rng(seed)
    events: list[Event] = []
    for n in range(count):
        first = int(dice.integers(2 * PAIRS))
        for m, item in enumerate((first, first ^ 1)):
            events.append(Click(id=f"e{seed}-{n}-{m}", user=f"u{seed}-{n}", at_ms=1000 * n + m, item=f"i{item}"))
    return events


def adopt(fold: Fold, items: list[Item], encoder: WordEncoder) -> None:
    vectors = dict(zip((i.item for i in items), encoder.encode([i.content() for i in items]), strict=True))
    go_over(fold, encoder, vectors, Taxonomy(Taxonomy.read(), encoder), None)


def weight(fold: Fold) -> float:
    return float(fold.ranker.weights[fold.features.names.index("learnt")])


@pytest.mark.parametrize("mmr", [0.0, 0.5])
def test_going_over_changes_nothing_at_first(items: list[Item], encoder: WordEncoder, whole: int, mmr: float) -> None:
    """Neither what is listed nor interests: the ranker has yet to see that what was learnt is worth anything."""
    stock, tuned = (prepare(items, encoder, FoldSettings(whole=whole, mmr=mmr)) for _ in range(2))
    for fold in (stock, tuned):
        run(fold, encoder, clicks(300))
    two = TwoParts(paired=True)
    adopt(tuned, items, two)
    said = Search(id="s", user="u1", at_ms=10**6, text="love wedding")
    ((one,), (other,)) = run(stock, encoder, [said]), run(tuned, two, [said])
    assert one.recommendation is not None
    assert other.recommendation is not None
    assert [slot.item for slot in one.recommendation.items] == [slot.item for slot in other.recommendation.items]
    for mine, its in zip(one.recommendation.items, other.recommendation.items, strict=True):
        assert mine.score == pytest.approx(its.score, abs=1e-4)
    assert one.interests is not None
    assert other.interests is not None
    assert [topic.topic for topic in one.interests.topics] == [topic.topic for topic in other.interests.topics]


@pytest.mark.parametrize("paired", [True, False])
def test_the_ranker_believes_what_proves_itself(pairs: list[Item], paired: bool) -> None:
    """Here text alone ranks, as in the gate, so that only what was learnt can tell which item goes with which."""
    two = TwoParts(paired)
    fold = prepare(pairs, two, FoldSettings(without=CONTENT_ALONE))
    fold.ranker.gradients[fold.features.names.index("learnt")] = 1000  # some thousand choices would do it, else
    judged = judge(fold, visits(1500), two)
    found = report(judged)["last_half"]["penchant"]
    if paired:
        assert weight(fold) > 0.3
        assert found.ndcg_at_10 > 0.25  # half of the choices are the first ones, and by chance
    else:
        assert weight(fold) < 0.05
        assert found.ndcg_at_10 < 0.1


def test_small_and_large_catalogues_see_the_same(items: list[Item]) -> None:
    two, seen = TwoParts(paired=True), []
    for whole in (WHOLE, 0):
        fold = prepare(items, two, FoldSettings(whole=whole))
        run(fold, two, [*clicks(200), Search(id="s", user="u1", at_ms=10**6, text="love part7")])
        history = fold.features.history(fold.profiles["u1"], fold.search_vectors)
        view = fold.features.look(history, fold.ranker, (), 7)
        columns = range(40) if view.items is None else view.items.tolist()
        row = view.x[fold.features.names.index("learnt")]
        seen.append(dict(zip(columns, row.tolist(), strict=True)))
    assert np.ptp(list(seen[0].values())) > 0.1
    assert len(seen[1]) > 20
    assert seen[1] == pytest.approx({column: seen[0][column] for column in seen[1]}, abs=1e-5)


def test_it_is_the_weighted_mean_of_cosines_of_the_second_part(items: list[Item]) -> None:
    two = TwoParts(paired=True)
    fold = prepare(items, two, FoldSettings())
    run(fold, two, [Click(id="a", user="u", at_ms=1, item="i3"), Search(id="b", user="u", at_ms=2, text="kiss part9")])
    history = fold.features.history(fold.profiles["u"], fold.search_vectors)
    row = fold.features.look(history, fold.ranker, (), 0).x[fold.features.names.index("learnt")]
    vectors = two.encode([item.content() for item in items])[:, 64:] * 2**0.5
    past = two.encode(["kiss part9", items[3].content()])[:, 64:] * 2**0.5
    expected = np.array([1, 0.8]) / 1.8 @ (past - vectors.mean(axis=0)) @ (vectors - vectors.mean(axis=0)).T
    others = np.arange(40) != 3
    assert np.ptp((row[:40] - expected)[others]) < 1e-4  # but for what is the same for all items


def test_it_is_a_reason_and_all_add_up(pairs: list[Item]) -> None:
    two = TwoParts(paired=True)
    fold = prepare(pairs, two, FoldSettings(reasons=100))
    place = fold.features.names.index("learnt")
    fold.ranker.weights[place] = 1
    fold.ranker._fold()
    (outcome,) = run(fold, two, [Click(id="c", user="u", at_ms=1, item="i6")])
    assert outcome.recommendation is not None
    best = outcome.recommendation.items[0]
    assert best.item == "i7"
    reason = next(one for one in best.because if one.feature == "learnt")
    assert reason.contribution > 1
    assert sum(one.contribution for one in best.because) + best.rest == pytest.approx(best.score, rel=1e-5)
    assert "chooses such texts" in sentence(reason, {})


def test_back_to_the_stock_model_it_is_silent_and_its_weight_is_kept(items: list[Item], encoder: WordEncoder) -> None:
    two = TwoParts(paired=True)
    fold = prepare(items, two, FoldSettings())
    run(fold, two, clicks(300))
    kept = weight(fold)
    assert kept != 0
    adopt(fold, items, encoder)
    run(fold, encoder, clicks(300, seed=1))
    assert weight(fold) == kept
    assert fold.catalogue.content.learnt is None


@pytest.mark.parametrize("paired", [None, True])
def test_a_restored_fold_goes_on_to_the_last_digit(
    items: list[Item], encoder: WordEncoder, whole: int, paired: bool | None
) -> None:
    """With searches among the events, and for an encoder of one part or of two."""
    one = encoder if paired is None else TwoParts(paired)
    dice = np.random.default_rng(0)
    events: list[Event] = []
    for event in clicks(400):
        if dice.random() < 0.3:
            said = f"part{dice.integers(40)}"
            events.append(Search(id=f"s{event.id}", user=event.user, at_ms=event.at_ms, text=said))
        events.append(event)
    fold, back = (prepare(items, one, FoldSettings(whole=whole)) for _ in range(2))
    for number, event in enumerate(events[:250]):
        run(fold, one, [event])
        if number % 10 == 9:
            back.load_delta(fold.take_delta())
    for user in fold.profiles:
        back.load_user(user, fold.dump_user(user) or b"")
    back.loaded()
    assert run(back, one, events[250:]) == run(fold, one, events[250:])
    assert back.ranker.dump() == fold.ranker.dump()


def test_its_weight_moves_slowly(pairs: list[Item]) -> None:
    """By its prior: what fits one user's next choices by chance is not believed at once."""
    two, found = TwoParts(paired=True), []
    for squares in (None, 1):
        fold = prepare(pairs, two, FoldSettings(without=CONTENT_ALONE))
        if squares is not None:
            fold.ranker.gradients[fold.features.names.index("learnt")] = squares
        judge(fold, visits(50), two)
        found.append(weight(fold))
    assert 0 < found[0] < 0.2 * found[1]


def test_what_is_dropped_is_dropped_from_both_parts(items: list[Item]) -> None:
    two = TwoParts(paired=True)
    vectors = two.encode([item.content() for item in items])
    content = Content.of(vectors, range(40), two.learnt, 64, 64)
    for i in range(10):
        content.drop(i, 40)
    left = vectors.copy()
    left[:10] = 0
    expected = Content.of(left, range(10, 40), two.learnt, 64, 64)
    for ours, theirs in zip(content.parts, expected.parts, strict=True):
        assert np.array_equal(ours.vectors, theirs.vectors)
        assert ours.mean == pytest.approx(theirs.mean, abs=1e-6)
        assert ours.similarity == pytest.approx(theirs.similarity, abs=1e-6)


def test_words_that_no_encoder_can_read_are_zeros_in_both_parts() -> None:
    for part in split(np.zeros((2, 80), np.float32), 16):
        assert not part.any()


def test_without_content_it_is_silent(items: list[Item], whole: int) -> None:
    two = TwoParts(paired=True)
    fold = prepare(items, two, FoldSettings(whole=whole, without=frozenset({"content"})))
    run(fold, two, [*clicks(50), Search(id="s", user="u1", at_ms=10**6, text="love part7")])
    view, _ = fold._look("u1", fold.profiles["u1"])
    for name in ("content", "content_best", "new_content", "new_content_best", "searched", "learnt"):
        assert not view.x[fold.features.names.index(name)].any()
