"""Honest evaluation on real ratings and the real encoder: better than baselines, chance where nothing is to learn."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from consumer.datasets import load
from consumer.evaluation import Run, evaluate
from consumer.shipped import shipped_bundle
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from model.evaluate import Judged, Measured, difference, judge, prepare, report, shuffled
from model.events import Event, Item
from model.fold import FoldSettings
from model.taxonomy import Taxonomy

pytestmark = pytest.mark.timeout(600)
EVENTS = 20_000
Report = dict[str, dict[str, Measured]]


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder(Bundle.open(shipped_bundle(Console(quiet=True))))


@pytest.fixture(scope="module")
def data() -> tuple[list[Item], list[Event]]:
    items, events = load("ml-100k")
    return items, events[:EVENTS]


def judged(
    items: Sequence[Item], events: Sequence[Event], encoder: OnnxEncoder, settings: FoldSettings
) -> list[Judged]:
    return judge(prepare(items, encoder, settings), events, encoder)


@pytest.fixture(scope="module")
def full(data: tuple[list[Item], list[Event]], encoder: OnnxEncoder) -> list[Judged]:
    return judged(*data, encoder, FoldSettings())


@pytest.fixture(scope="module")
def plain(full: list[Judged]) -> Report:
    return report(full)


def test_better_than_every_baseline(plain: Report) -> None:
    ours = plain["last_half"]["penchant"]
    assert ours.hr_at_10 > 0.18
    for baseline in ("popularity", "recent_popularity", "covisitation"):
        assert ours.ndcg_at_10 > 1.1 * plain["last_half"][baseline].ndcg_at_10


def test_shuffled_labels_fall_to_popularity(data: tuple[list[Item], list[Event]], encoder: OnnxEncoder) -> None:
    items, events = data
    control = report(judged(items, shuffled(events, 1), encoder, FoldSettings()))["last_half"]
    assert control["penchant"].hr_at_10 < 1.25 * control["popularity"].hr_at_10
    assert control["penchant"].hr_at_10 < 0.12


def test_ties_decide_nothing(plain: Report, data: tuple[list[Item], list[Event]], encoder: OnnxEncoder) -> None:
    other = report(judged(*data, encoder, FoldSettings(seed=99)))
    assert other["all"]["penchant"].hr_at_10 == pytest.approx(plain["all"]["penchant"].hr_at_10, abs=0.002)


def test_text_helps_where_nothing_else_is_known(
    full: list[Judged], data: tuple[list[Item], list[Event]], encoder: OnnxEncoder
) -> None:
    silenced = judged(*data, encoder, FoldSettings(without=frozenset({"content"})))
    gain = difference(full, silenced)["new_items"]
    assert gain.ndcg_at_10 > 0
    assert gain.hr_at_10 > 0


def test_an_ablation_is_reported_beside_the_whole(
    data: tuple[list[Item], list[Event]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items, events = data
    output = tmp_path / "report.json"
    evaluate(items, events[:400], Run(without=frozenset({"content"}), output=output))
    report = json.loads(output.read_bytes())
    slices = {"all", "last_half", "cold_users", "new_items"}
    assert report.keys() == slices | {"without", "difference"}
    assert report["without"].keys() == report["difference"].keys() == slices
    whole, silenced, gain = (part["all"] for part in (report, report["without"], report["difference"]))
    assert gain["hr_at_10"] == pytest.approx(whole["penchant"]["hr_at_10"] - silenced["penchant"]["hr_at_10"], abs=2e-5)
    assert gain["ci95_hr_at_10"][0] <= gain["hr_at_10"] <= gain["ci95_hr_at_10"][1]
    assert whole["popularity"] == silenced["popularity"]
    assert whole["penchant"]["mrr"] != silenced["penchant"]["mrr"]
    assert "without content" in capsys.readouterr().out


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
    assert np.mean(areas) > 0.70
