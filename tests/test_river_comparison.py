"""Penchant against river's own recommenders on real choices, in one loop: who had the next film in its first ten?

`python -m tests.test_river_comparison` prints hit rates and speed.
"""

import importlib
import subprocess
import sys
import time
from collections.abc import Hashable
from typing import Any, NamedTuple

import pytest

from consumer.datasets import load
from model.events import Rating
from model.river import PenchantRanker
from model.river_choice import HitRate

reco = importlib.import_module("river.reco")  # in this way, as river is typed in part
EVENTS = 3000


class Result(NamedTuple):
    """HR@10 over `targets`, and the seconds that scoring every candidate and learning took."""

    hr_at_10: float
    targets: int
    scoring: float
    learning: float


def rankers() -> dict[str, Any]:
    return {
        "PenchantRanker": PenchantRanker(threshold=4),
        "RandomNormal": reco.RandomNormal(seed=1),
        "Baseline": reco.Baseline(),
        "BiasedMF": reco.BiasedMF(seed=1),
    }


def progressive(model: Any, first: int = EVENTS) -> Result:
    """Run the protocol of docs/evaluation.md: every film that the user has not rated is a candidate.

    Nobody is told anything of a film that nobody has rated. Ties count in part, as likely as a lot would make a hit.
    """
    items, events = load("ml-100k")
    known: list[Hashable] = [item.item for item in items]
    rated: dict[str, set[Hashable]] = {}
    metric: Any = HitRate(10)
    targets, scoring, learning = 0, 0.0, 0.0
    for event in events[:first]:
        assert isinstance(event, Rating)
        seen = rated.setdefault(event.user, set())
        if event.value >= 4 and event.item not in seen:
            candidates = [item for item in known if item not in seen]
            start = time.perf_counter()
            if isinstance(model, PenchantRanker):
                scores = model.score_many(event.user, candidates)
            else:
                scores = {item: model.predict_one(event.user, item) for item in candidates}
            scoring += time.perf_counter() - start
            targets += 1
            metric.update(event.item, scores)
        seen.add(event.item)
        start = time.perf_counter()
        model.learn_one(event.user, event.item, event.value)
        learning += time.perf_counter() - start
    return Result(float(metric.get()), targets, scoring, learning)


@pytest.mark.timeout(300)
def test_better_than_river_s_rankers_on_real_ratings() -> None:
    found = {name: progressive(model) for name, model in rankers().items()}
    assert len({result.targets for result in found.values()}) == 1
    ours = found.pop("PenchantRanker").hr_at_10
    assert ours > 0.1
    for result in found.values():
        assert ours > 1.5 * result.hr_at_10


def test_what_serves_does_not_import_river() -> None:
    code = "import sys, consumer.serve, consumer.loop, consumer.evaluation; print('river' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


if __name__ == "__main__":
    for name, ranker in rankers().items():
        r = progressive(ranker)
        print(
            f"{name:15} HR@10 {r.hr_at_10:.4f} ({r.targets} targets); "
            f"a target's candidates scored in {1e3 * r.scoring / r.targets:.2f} ms; "
            f"an event learnt in {1e6 * r.learning / EVENTS:.0f} us"
        )
