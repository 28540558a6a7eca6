"""A model that does not serve ranks beside the one that does: with what is shared, and with what only it learnt."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from model.encoding import Vectors
from model.evaluate import prepare
from model.events import Click, Event, Item, Request, Search
from model.fold import Fold, FoldSettings
from model.gate import CONTENT_ALONE
from model.outcome import Evaluation, Outcome
from model.rival import LEARNT, Rival
from tests.model.conftest import WordEncoder
from tests.model.test_fold import clicks, run
from tests.model.test_learnt import TwoParts, adopt, pairs, visits

__all__ = ["pairs"]

STOCK = WordEncoder()
ROLE = "apprentice"


class Words(dict[str, np.ndarray]):
    """Vectors of any text, whenever they are asked for."""

    def __init__(self, encoder: WordEncoder) -> None:
        super().__init__()
        self._encoder = encoder

    def __missing__(self, text: str) -> np.ndarray:
        vector: np.ndarray = self._encoder.encode([text])[0]
        return vector


def compare(fold: Fold, items: list[Item], encoder: WordEncoder, share: float = 1.0) -> Rival:
    vectors = dict(zip((i.item for i in items), encoder.encode([i.content() for i in items]), strict=True))
    content = fold.catalogue.embedded(vectors, encoder)
    rival = fold.rivals[ROLE] = Rival(encoder.version, content, Words(encoder), share, fold.ranker)
    return rival


def stock(items: list[Item], hasty: bool = True, whole: int = 4096) -> Fold:
    """Return a fold that ranks by text alone, which says nothing of which two go together."""
    fold = prepare(items, STOCK, FoldSettings(without=CONTENT_ALONE, whole=whole))
    if hasty:
        fold.ranker.gradients[LEARNT] = 1000  # some thousand choices would do it, else
    return fold


def ranked(outcomes: list[Outcome]) -> list[Evaluation]:
    return [out.evaluation for out in outcomes if out.evaluation is not None and ROLE in out.evaluation.rivals]


def hits(evaluations: list[Evaluation]) -> tuple[float, float]:
    """Return how often the chosen item was among ten: by what serves, and by its rival."""
    both = np.array([(one.ranks["penchant"], one.rivals[ROLE]) for one in evaluations])
    mine, its = ((both >= 0) & (both < 10)).mean(axis=0)
    return float(mine), float(its)


@pytest.mark.parametrize("paired", [True, False])
def test_it_finds_out_what_is_worth_that_only_it_learnt(pairs: list[Item], paired: bool, whole: int) -> None:
    fold = stock(pairs, whole=whole)
    rival = compare(fold, pairs, TwoParts(paired))
    evaluations = ranked(run(fold, STOCK, visits(1500)))
    mine, its = hits(evaluations[len(evaluations) // 2 :])
    if paired:
        assert rival.ranker.weights[LEARNT] > 0.3
        assert its > mine + 0.2
    else:
        assert rival.ranker.weights[LEARNT] < 0.05
        assert its < mine + 0.05


def test_what_serves_is_as_if_it_were_alone(pairs: list[Item], whole: int) -> None:
    alone, watched = stock(pairs, whole=whole), stock(pairs, whole=whole)
    compare(watched, pairs, TwoParts(paired=True), share=0.7)
    events = visits(200)
    one, other = run(alone, STOCK, events), run(watched, STOCK, events)
    assert ranked(other)
    for mine, its in zip(one, other, strict=True):
        if its.evaluation is not None:
            its = msgspec.structs.replace(its, evaluation=msgspec.structs.replace(its.evaluation, rivals={}))
        assert mine == its
    assert alone.ranker.dump() == watched.ranker.dump()


def test_it_gets_as_far_by_a_share_of_the_events(pairs: list[Item]) -> None:
    found = []
    for share in (1.0, 0.2):
        fold = stock(pairs, hasty=False)
        rival = compare(fold, pairs, TwoParts(paired=True), share)
        run(fold, STOCK, visits(1500))
        found.append(float(rival.ranker.weights[LEARNT]))
    assert found[1] == pytest.approx(found[0], rel=0.25)


def test_beside_the_same_model_it_ranks_alike(pairs: list[Item], whole: int) -> None:
    """Whatever the ranker learns meanwhile: both bring what it weighs, and there is one weight."""
    two = TwoParts(paired=True)
    fold = prepare(pairs, two, FoldSettings(whole=whole))
    compare(fold, pairs, two, share=0.5)
    evaluations = ranked(run(fold, two, [*visits(200), *clicks(100)]))
    assert len(evaluations) > 100
    assert fold.ranker.weights[LEARNT] != 0
    assert all(one.ranks["penchant"] == one.rivals[ROLE] for one in evaluations)


def test_all_but_what_it_learnt_is_weighed_as_by_what_serves(items: list[Item], whole: int) -> None:
    fold = prepare(items, STOCK, FoldSettings(whole=whole))
    rival = compare(fold, items, TwoParts(paired=True), share=0.3)
    rival.ranker.gradients[LEARNT] = 1e30  # it does not move
    before = fold.ranker.slopes.copy()
    evaluations = ranked(run(fold, STOCK, clicks(1000)))
    assert np.abs(fold.ranker.slopes - before).max() > 0.1
    assert len(evaluations) > 50
    same = [one.ranks["penchant"] == one.rivals[ROLE] for one in evaluations]
    assert np.mean(same) > 0.97  # but for what lies closer together than the last digits of two products


def test_a_choice_that_was_none_of_its_candidates_teaches_nothing() -> None:
    many = [Item(item=f"i{n}", title=f"thing {n}") for n in range(1200)]
    fold = stock(many, whole=0)
    rival = compare(fold, many, TwoParts(paired=True))
    history: list[Event] = [Click(id=f"h{n}", user="u", at_ms=n, item=f"i{n}") for n in range(5)]
    run(fold, STOCK, history)
    missed = 0
    for n in range(100, 300):
        before = float(rival.ranker.weights[LEARNT])
        (one,) = ranked(run(fold, STOCK, [Click(id=f"e{n}", user="u", at_ms=n, item=f"i{n}")]))
        if one.rivals[ROLE] == -1:
            missed += 1
            assert rival.ranker.weights[LEARNT] == before
    assert 0 < missed < 200


class Hasty(WordEncoder):
    """Reads half of each text."""

    version = "hasty"

    def encode(self, texts: Sequence[str]) -> Vectors:
        return super().encode([text[: len(text) // 2 + 1] for text in texts])


@pytest.mark.parametrize("mmr", [0.0, 0.5])
@pytest.mark.parametrize("other", [TwoParts(paired=True), Hasty()], ids=["two parts", "hasty"])
def test_it_tells_the_lists_that_it_would_have_shown(
    items: list[Item], whole: int, mmr: float, other: WordEncoder
) -> None:
    """As the list that it sends once it serves, without reasons: another model's, made in the same way."""
    beside, serving = (prepare(items, STOCK, FoldSettings(whole=whole, mmr=mmr)) for _ in range(2))
    for fold in (beside, serving):
        run(fold, STOCK, clicks(200))
        fold.ranker.weights[fold.features.names.index("searched")] = -5  # so that the rule has to let in what is sought
        fold.ranker._fold()
    rival = compare(beside, items, other)
    asked: list[Event] = [Request(id="a", user="u1", at_ms=10**6)]
    assert not any(out.beside for out in run(beside, STOCK, asked))  # it was not told to
    rival.lists = True
    said: list[Event] = [
        Search(id="s", user="u1", at_ms=10**6, text="part7. part8"),
        Request(id="r", user="u2", at_ms=10**6 + 1),
    ]
    adopt(serving, items, other)
    lists = zip(run(beside, STOCK, said), run(serving, other, said), strict=True)
    moved = set()
    for one, expected in lists:
        assert expected.recommendation is not None
        its, theirs = one.beside[ROLE], expected.recommendation
        assert (its.event, its.user, its.model) == (theirs.event, theirs.user, theirs.model)
        assert [slot.item for slot in its.items] == [slot.item for slot in theirs.items]
        for mine, slot in zip(its.items, theirs.items, strict=True):
            assert mine.score == pytest.approx(slot.score, abs=1e-4)
            assert mine.moved_by == slot.moved_by
            moved.add(slot.moved_by)
    assert "search" in moved
    assert "diversity" in moved or not mmr


def test_it_tells_its_lists_at_its_share_of_the_events(items: list[Item]) -> None:
    fold = prepare(items, STOCK, FoldSettings())
    compare(fold, items, STOCK, share=0.3).lists = True
    found = [ROLE in out.beside for out in run(fold, STOCK, clicks(300)) if out.recommendation is not None]
    assert 0.2 < np.mean(found) < 0.4


def test_back_at_a_model_that_learnt_nothing_the_one_before_keeps_what_it_was_worth(pairs: list[Item]) -> None:
    fold = stock(pairs)
    adopt(fold, pairs, two := TwoParts(paired=True))
    run(fold, two, visits(1500))
    adopt(fold, pairs, STOCK)
    compare(fold, pairs, two)
    mine, its = hits(ranked(run(fold, STOCK, visits(100, seed=1))))
    assert its > mine + 0.2
