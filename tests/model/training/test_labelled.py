"""Splits: no text in two parts, the same for one seed, and clear about too few texts."""

import numpy as np
import pytest

from model.errors import PenchantError
from model.training.labelled import Labelled, Split, key, split, split_together
from model.training.scores import scored
from tests.model.training.conftest import texts


def test_no_text_is_in_two_parts_however_it_is_repeated() -> None:
    once = texts(200)
    planted = [Labelled(f"  {one.text.upper()} !", one.label) for one in once]
    parts = split([*once, *planted], seed=0)
    keys = [key(one.text) for part in (parts.train, parts.dev, parts.test) for one in part]
    assert len(keys) == len(set(keys)) == 200
    assert parts.repeated == 200
    assert (len(parts.train), len(parts.dev), len(parts.test)) == (160, 20, 20)


def test_what_one_task_is_tested_with_no_other_trains_with() -> None:
    again = [Labelled(one.text.upper() + "!", "yes" if n % 3 else "no") for n, one in enumerate(texts(300)[100:])]
    more = [Labelled(f"more {n}", "yes" if n % 2 else "no") for n in range(100)]
    first, second = split_together([texts(200), [*again, *more]], seed=0)
    assert first == split(texts(200), seed=0)
    assert (len(second.train), len(second.dev), len(second.test)) == pytest.approx((240, 30, 30), abs=10)

    def keys(parts: Split) -> list[set[str]]:
        return [{key(one.text) for one in part} for part in (parts.train, parts.dev, parts.test)]

    for at, own in enumerate(keys(first)):
        for other, others in enumerate(keys(second)):
            assert bool(own & others) == (at == other)


def test_a_task_without_texts_of_its_own_may_be_left_without_a_part() -> None:
    trained = split(texts(200), seed=0).train
    with pytest.raises(PenchantError, match="texts of its own"):
        split_together([texts(200), trained], seed=0)


def test_a_text_with_two_labels_is_left_out() -> None:
    torn = Labelled("Well, well", "positive"), Labelled("well well", "negative")
    parts = split([*texts(60), *torn], seed=0)
    assert not any(one.text.startswith(("Well", "well")) for one in [*parts.train, *parts.dev, *parts.test])


def test_the_seed_decides() -> None:
    assert split(texts(100), 3) == split(texts(100), 3)
    assert split(texts(100), 3).test != split(texts(100), 4).test


@pytest.mark.parametrize("few", [texts(200)[::2], texts(30)])
def test_too_few_are_refused(few: list[Labelled]) -> None:
    with pytest.raises(PenchantError, match="two labels or more"):
        split(few, 0)


def test_scores_of_two_labels_are_the_seconds() -> None:
    found = scored(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0]), 2)
    assert (found.accuracy, found.n) == (0.6, 5)
    assert found.precision == found.recall == found.f1 == pytest.approx(2 / 3)
    assert found.ci95[0] < 0.6 < found.ci95[1]


def test_scores_of_more_labels_are_their_mean() -> None:
    found = scored(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1]), 3)
    assert found.precision == pytest.approx((1 + 0.5 + 1) / 3)
    assert found.recall == pytest.approx((1 + 1 + 0.5) / 3)
    assert scored(np.array([0, 1, 2]), np.array([0, 0, 0]), 3).f1 == pytest.approx(0.5 / 3)
