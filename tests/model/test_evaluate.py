"""Ablations: the interval of a difference is paired, clustered by user, and covers what is really there."""

import numpy as np
import pytest

from model.evaluate import RANKERS, Judged, difference, judge, prepare, report
from model.events import Click, Item
from model.fold import FoldSettings
from model.outcome import Evaluation
from tests.model.conftest import WordEncoder

USERS, EACH, LOST = 150, 12, 0.2
HIT, MISS = 0, 50


def judged(users: list[str], ranks: np.ndarray) -> list[Judged]:
    return [
        Judged(user, f"i{n}", Evaluation(dict.fromkeys(RANKERS, int(rank)), n % 3 == 0, n % 2 == 0))
        for n, (user, rank) in enumerate(zip(users, ranks, strict=True))
    ]


def planted(seed: int) -> tuple[list[Judged], list[Judged], float]:
    """Return a run, the same one with hits lost, and the difference expected: users differ in hits and in losses."""
    rng = np.random.default_rng(seed)
    users = [f"u{n // EACH}" for n in range(USERS * EACH)]
    hit = rng.random(USERS * EACH) < np.repeat(rng.beta(1, 1, USERS), EACH)
    # Of every other user all the hits may be lost, together: what one user shows is far from EACH independent facts.
    lost = np.repeat(rng.random(USERS) < LOST, EACH)
    return judged(users, np.where(hit, HIT, MISS)), judged(users, np.where(hit & ~lost, HIT, MISS)), 0.5 * LOST


def test_the_interval_covers_the_difference_that_is_there() -> None:
    covered = 0
    for seed in range(60):
        full, silenced, true = planted(seed)
        gain = difference(full, silenced, seed)["all"]
        low, high = gain.ci95_hr_at_10
        covered += low <= true <= high
        assert low <= gain.hr_at_10 <= high
    assert covered >= 51, f"a 95% interval covered {covered} of 60"


def test_an_interval_of_the_difference_is_narrower_than_two_of_the_figures() -> None:
    full, silenced, _ = planted(0)
    few = [silenced[n] if n % 10 == 0 else one for n, one in enumerate(full)]
    low, high = difference(full, few)["all"].ci95_hr_at_10
    unpaired = [report(run)["all"]["penchant"].ci95 for run in (full, few)]
    assert high - low < 0.4 * np.linalg.norm([ci95[1] - ci95[0] for ci95 in unpaired])
    assert low > 0, "seen in the pairs, though the two figures' own intervals overlap"
    assert unpaired[1][1] > unpaired[0][0]


def test_no_difference_is_none() -> None:
    full, _, _ = planted(3)
    same = difference(full, full)["all"]
    assert (same.hr_at_10, same.relative_hr_at_10, same.ci95_hr_at_10, same.ci95_ndcg_at_10) == (0, 0, [0, 0], [0, 0])
    rng = np.random.default_rng(4)
    users = [one.user for one in full]
    one, other = (judged(users, np.where(rng.random(len(users)) < 0.3, HIT, MISS)) for _ in range(2))
    low, high = difference(one, other)["all"].ci95_hr_at_10
    assert low < 0 < high


def test_shares_are_of_the_silenced_fold() -> None:
    users = ["a", "b", "c", "d"]
    gains = difference(judged(users, np.array([0, 0, 2, 50])), judged(users, np.array([0, 2, 50, 50])))
    assert (gains["all"].hr_at_10, gains["all"].relative_hr_at_10) == (0.25, 0.5)
    # Ranks 0, 0, 2 against 0, 2, none: 2.5 against 1.5.
    assert gains["all"].ndcg_at_10 == 0.25
    assert gains["all"].relative_ndcg_at_10 == pytest.approx(1 / 1.5, abs=1e-4)
    assert (gains["last_half"].hr_at_10, gains["last_half"].relative_hr_at_10) == (0.5, None)
    assert gains["new_items"].hr_at_10 == 0.5
    empty = difference([], [])["all"]
    assert (empty.hr_at_10, empty.relative_hr_at_10, empty.ci95_hr_at_10) == (0, None, [0, 0])


def test_other_targets_are_refused() -> None:
    full, silenced, _ = planted(5)
    with pytest.raises(ValueError, match="same targets"):
        difference(full, silenced[:-1])
    with pytest.raises(ValueError, match="same targets"):
        difference(full, silenced[1:] + silenced[:1])


def test_a_fold_without_text_is_judged_on_the_same_targets(items: list[Item], encoder: WordEncoder) -> None:
    # Each user likes one kind, in an order of their own: the words of the titles say which.
    rng = np.random.default_rng(0)
    orders = [rng.permutation(np.arange(user % 2, 40, 2))[:8] for user in range(60)]
    events = [
        Click(id=f"e{n}", user=f"u{user}", item=f"i{orders[user][step]}", at_ms=n)
        for n, (step, user) in enumerate((step, user) for step in range(8) for user in range(60))
    ]
    full = judge(prepare(items, encoder, FoldSettings()), events, encoder)
    silenced = judge(prepare(items, encoder, FoldSettings(without=frozenset({"content"}))), events, encoder)
    gain = difference(full, silenced)["all"]
    figures = [report(run)["all"]["penchant"] for run in (full, silenced)]
    assert figures[0].n == figures[1].n == len(events)
    assert gain.hr_at_10 == pytest.approx(figures[0].hr_at_10 - figures[1].hr_at_10, abs=2e-5)
    assert gain.ci95_hr_at_10[0] < gain.ci95_hr_at_10[1]
