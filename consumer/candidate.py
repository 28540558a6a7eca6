"""A tuned bundle beside the one that serves: what both rank in the gate's folds, and what an embedding costs."""

import time
from collections.abc import Callable, Sequence

import torch

from export.bundle import Bundle
from export.encoder import OnnxEncoder
from export.sentences import PARITY
from model.events import Event
from model.fold import Fold
from model.gate import Compared, by_age, compare, compared, go_over
from model.heads import SENTIMENT
from model.taxonomy import Taxonomy, TopicWords
from model.training.tuning import Progress, Window


def judged(
    folds: Sequence[Fold],
    events: Sequence[Event],
    serving: OnnxEncoder,
    bundle: Bundle,
    window: Window,
    topics: Sequence[TopicWords],
    seed: int,
    told: Progress,
) -> list[tuple[dict[str, Compared], dict[str, Compared]]]:
    """Return, for each fold, what the gate compares over the hold-out `events`: by slice, and by age of the item."""
    candidate = OnnxEncoder(bundle, threads=torch.get_num_threads())
    taxonomy, sentiment = Taxonomy(topics, candidate), bundle.heads().get(SENTIMENT)
    vectors = dict(zip(window.texts, candidate.encode(list(window.texts.values())), strict=True))

    def adopt(fold: Fold) -> None:
        go_over(fold, candidate, vectors, taxonomy, sentiment)

    found = []
    done = counter(told, "gate", 2 * len(folds) * len(events))
    for fold in folds:
        before, after = compare(
            fold,
            events,
            serving,
            candidate,
            lambda other: go_over(other, candidate, vectors, taxonomy, sentiment),
            done,
        )
        found.append((compared(before, after, window.test_items, seed), by_age(before, after, seed)))
    return found


def cost(serving: Bundle, candidate: Bundle) -> float:
    """Return the candidate's CPU time over the serving model's, of embedding the same sentences; the best of rounds."""
    encoders = [OnnxEncoder(bundle, "cpu", cache_size=0) for bundle in (serving, candidate)]
    best = [float("inf")] * 2
    for _ in range(5):
        for at, encoder in enumerate(encoders):
            began = time.process_time()
            encoder.encode(PARITY)
            best[at] = min(best[at], time.process_time() - began)
    return best[1] / best[0]


def counter(told: Progress, what: str, of: int) -> Callable[[], None]:
    """Return what counts one by one, and tells every hundredth."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if done % 100 == 0 or done == of:
            told(what, done, of)

    return count
