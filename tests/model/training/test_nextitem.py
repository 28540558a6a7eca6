"""The loss against a slow reference: prior, what cannot be chosen, what was passed over, words in the past."""

import numpy as np
import pytest
import torch

from model.training import nextitem
from model.training.examples import Example, Past
from model.training.nextitem import PASSED, TEMPERATURE, Encoded, Objective, Texts

ITEMS = {f"i{n}": f"text {n}" for n in range(12)}
UNTRAINED = frozenset({"i11"})


def examples() -> list[Example]:
    return [
        Example(1, "i0", [Past(item="i1"), Past(text="some words"), Past(item="i2")], ["i1", "i2"], ["i3", "i4"]),
        Example(2, "i5", [Past(item="i6")], ["i6", "gone"], []),
        Example(3, "i0", [Past(item="i5"), Past(item="i6"), Past(item="gone")], ["i5", "i6"], ["i7"]),
    ]


def reference(vectors: np.ndarray, texts: Texts, of: list[Example], among: set[str]) -> float:
    """Return the mean loss, one example and one item at a time, of a softmax over the items `among`."""
    chosen = np.ones(len(ITEMS))
    for one in examples():
        chosen[texts.of_item[one.item]] += 1
    losses = []
    for one in of:
        known = [past for past in one.past if past.item != "gone"]
        weights = np.array([0.8**k for k in range(len(known))])
        rows = [vectors[texts.number(past.item, past.text)] for past in known]
        user = (weights[:, None] * np.array(rows)).sum(axis=0) / weights.sum()
        odds = {}
        for name in ITEMS:
            if name not in among or name in one.consumed or name in UNTRAINED:
                continue
            number = texts.of_item[name]
            odds[name] = np.exp(user @ vectors[number] / TEMPERATURE) * chosen[number] / chosen.sum()
            odds[name] *= PASSED if name in one.passed else 1
        losses.append(-np.log(odds[one.item] / sum(odds.values())))
    return float(np.mean(losses))


def test_the_loss_is_that_of_the_definition() -> None:
    texts = Texts(ITEMS, examples())
    assert texts.texts[-1] == "some words"
    vectors = np.random.default_rng(0).normal(size=(len(texts), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    objective = Objective(Encoded.of(examples(), texts), texts, UNTRAINED, torch.device("cpu"))
    loss = objective.loss(torch.from_numpy(vectors), np.arange(3), np.random.default_rng(0))
    assert float(loss) == pytest.approx(reference(vectors, texts, examples(), set(ITEMS)), rel=1e-4)


def test_of_a_large_catalogue_some_items_are_drawn_and_the_chosen_one_is_among_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nextitem, "COLUMNS", 4)
    texts = Texts(ITEMS, examples())
    vectors = torch.nn.functional.normalize(torch.randn(len(texts), 8, generator=torch.Generator().manual_seed(0)))
    objective = Objective(Encoded.of(examples(), texts), texts, UNTRAINED, torch.device("cpu"))
    rng = np.random.default_rng(0)
    losses = [float(objective.loss(vectors, np.arange(3), rng)) for _ in range(20)]
    assert np.isfinite(losses).all()
    assert len(set(losses)) > 1
    # The chosen item and those passed over are among the columns; others can only make the loss larger.
    first = [float(objective.loss(vectors, np.arange(1), rng)) for _ in range(20)]
    assert min(first) >= reference(vectors.numpy(), texts, examples()[:1], {"i0", "i3", "i4"}) - 1e-5
    assert max(first) <= reference(vectors.numpy(), texts, examples()[:1], set(ITEMS)) + 1e-5


def test_an_example_without_anything_known_is_left_out() -> None:
    lost = [Example(1, "gone", [Past(item="i1")], [], []), Example(1, "i1", [Past(item="gone")], [], [])]
    assert len(Encoded.of(lost, Texts(ITEMS, lost))) == 0
