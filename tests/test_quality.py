"""Honest evaluation on real ratings and the real encoder: better than baselines, chance where nothing is to learn."""

from collections.abc import Sequence

import numpy as np
import pytest
from rich.console import Console

from consumer.datasets import load
from consumer.shipped import shipped_bundle
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from model.evaluate import Measured, judge, prepare, report, shuffled
from model.events import Event, Item
from model.fold import FoldSettings
from model.taxonomy import Taxonomy

pytestmark = pytest.mark.timeout(600)
EVENTS = 12_000
Report = dict[str, dict[str, Measured]]


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder(Bundle.open(shipped_bundle(Console(quiet=True))))


@pytest.fixture(scope="module")
def data() -> tuple[list[Item], list[Event]]:
    items, events = load("ml-100k")
    return items, events[:EVENTS]


def run(items: Sequence[Item], events: Sequence[Event], encoder: OnnxEncoder, settings: FoldSettings) -> Report:
    return report(judge(prepare(items, encoder, settings), events, encoder))


@pytest.fixture(scope="module")
def plain(data: tuple[list[Item], list[Event]], encoder: OnnxEncoder) -> Report:
    return run(*data, encoder, FoldSettings())


def test_better_than_every_baseline(plain: Report) -> None:
    ours = plain["last_half"]["penchant"]
    assert ours.hr_at_10 > 0.18
    for baseline in ("popularity", "recent_popularity", "covisitation"):
        assert ours.ndcg_at_10 > 1.1 * plain["last_half"][baseline].ndcg_at_10


def test_shuffled_labels_fall_to_popularity(data: tuple[list[Item], list[Event]], encoder: OnnxEncoder) -> None:
    items, events = data
    control = run(items, shuffled(events, 1), encoder, FoldSettings())["last_half"]
    assert control["penchant"].hr_at_10 < 1.25 * control["popularity"].hr_at_10
    assert control["penchant"].hr_at_10 < 0.12


def test_ties_decide_nothing(plain: Report, data: tuple[list[Item], list[Event]], encoder: OnnxEncoder) -> None:
    other = run(*data, encoder, FoldSettings(seed=99))
    assert other["all"]["penchant"].hr_at_10 == pytest.approx(plain["all"]["penchant"].hr_at_10, abs=0.002)


def test_text_helps_where_nothing_else_is_known(
    plain: Report, data: tuple[list[Item], list[Event]], encoder: OnnxEncoder
) -> None:
    without = run(*data, encoder, FoldSettings(without=frozenset({"content"})))
    assert plain["new_items"]["penchant"].ndcg_at_10 > without["new_items"]["penchant"].ndcg_at_10


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.arange(1, len(scores) + 1)
    count = positive.sum()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(scores) - count)))


def test_interests_are_right_about_genres_from_titles_alone(
    data: tuple[list[Item], list[Event]], encoder: OnnxEncoder
) -> None:
    items = data[0]
    taxonomy = Taxonomy(Taxonomy.read(), encoder)
    shares = taxonomy.share(encoder.encode([item.title for item in items]))
    genres = {"Children's": "children", "Sci-Fi": "science fiction", "Musical": "music"}
    areas = []
    for genre in sorted({tag for item in items for tag in item.tags}):
        topic = genres.get(genre, genre.lower())
        if topic in taxonomy.names:
            positive = np.array([genre in item.tags for item in items])
            areas.append(auc(shares[:, taxonomy.names.index(topic)], positive))
    assert len(areas) >= 15
    assert np.mean(areas) > 0.67
