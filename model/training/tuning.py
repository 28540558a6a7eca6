"""Fine-tuning for recommendation: a projection first, then as much of the encoder as asked for.

The projection is trained on fixed vectors, which takes seconds; only then does the encoder move (linear probing, then
fine-tuning: Kumar et al., "Fine-tuning can distort pretrained features", 2022). The stock model's vector
stays beside it.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.encoding import Vectors
from model.errors import Fatal
from model.training.adaptation import Method, check
from model.training.examples import Example, refuse_leaks, training_part
from model.training.masking import read_masked
from model.training.moving import move
from model.training.nextitem import Encoded, Indices, Objective, Texts
from model.training.pretrained import PooledEncoder, Pretrained
from model.training.running import best_precision
from model.training.twopart import Projected, TwoPart

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how many steps of how many."""
LEAST = 100
"""Examples below which nothing can be learnt that would hold."""
MLM_BATCH, MLM_RATE = 32, 5e-5
"""Texts a step of guessing masked tokens, and its learning rate."""
RIDGE = 5e-3
"""Times the squared weights of the projection: without it, items are learnt by heart (docs/tuning.md)."""


@dataclass(frozen=True)
class Tuning:
    """How to tune; the defaults are those measured in docs/tuning.md."""

    method: Method = Method("last", 0)  # noqa: RUF009 (frozen, too)
    steps: int = 200
    """Of the projection."""
    batch: int = 512
    """Examples a step of the projection."""
    learning_rate: float = 1e-3
    """Of the projection."""
    mlm_epochs: int = 0
    """Of guessing masked tokens of the texts that may be trained on, before all else, by all of the encoder."""
    epochs: int = 10
    """Of the encoder: passes over all texts."""
    seed: int = 0


@dataclass(frozen=True)
class Window:
    """What there is to learn from, and what must stay unseen."""

    texts: dict[str, str]
    """By item."""
    examples: Sequence[Example]
    dev_from_ms: int
    """Events since then choose between trained models..."""
    until_ms: int
    """...and those since then are for the gate alone."""
    dev_items: frozenset[str]
    """Held out to choose by."""
    test_items: frozenset[str]
    """Held out for the gate."""
    replayed: Sequence[Example] = ()
    """Of earlier runs; nothing in them is held out (`replay.drawn`)."""

    @property
    def untrained(self) -> frozenset[str]:
        """Items that nothing is trained on."""
        return self.dev_items | self.test_items


@dataclass(frozen=True)
class Tuned:
    """What came of it."""

    stock: Pretrained
    trained: Projected
    examples: int
    losses: list[float]
    """Of the projection, a mean for each tenth of the steps."""
    mlm_losses: list[float]
    """Of guessing masked tokens, by epoch."""
    trainable_share: float

    def model(self) -> TwoPart:
        """Return what is exported."""
        own = {name: getattr(self.stock, name) for name in self.stock.__dataclass_fields__}
        return TwoPart(**own, trained=self.trained)


def tune(
    stock: Pretrained, stock_vectors: Vectors, window: Window, tuning: Tuning, work: Path, told: Progress
) -> Tuned:
    """Train on the window; `stock_vectors`, shape (texts, dim), are the stock model's of `texts_of(window)`.

    Checkpoints of the encoder are in `work`: called again with the same arguments, it goes on after the last.

    Raises:
        Leak: held out is not held out.
        Fatal: too little to learn from.
        PenchantError: the model has fewer layers than the method is to train.
    """
    check(stock.body, tuning.method)
    torch.manual_seed(tuning.seed)
    # Else threads add gradients of gathered rows in the order in which they come by.
    torch.use_deterministic_algorithms(True, warn_only=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    texts = texts_of(window)
    training = training_part(window.examples, window.dev_from_ms, window.untrained)
    training += window.replayed
    refuse_leaks(training, window.dev_from_ms, window.untrained)
    objective = Objective(Encoded.of(training, texts), texts, window.untrained, device)
    if len(objective) < LEAST:
        raise Fatal(f"{len(objective)} examples to learn from, at least {LEAST} are needed: a longer window")
    begin, vectors, mlm_losses = stock, stock_vectors, list[float]()
    if tuning.mlm_epochs:
        begin = replace(stock, body=copy.deepcopy(stock.body))
        mlm_losses = _read(begin, window, training, tuning, work / "mlm", told)
        vectors = begin.embed(texts.texts)
    trained = Projected(PooledEncoder(begin.body, stock.pooling), vectors.shape[1]).to(device)
    losses = _fit_projection(trained, torch.from_numpy(vectors).to(device), objective, tuning, told)
    trainable = sum(one.numel() for one in (trained if tuning.mlm_epochs else trained.change).parameters())
    if tuning.method != Method("last", 0):
        trained, moved = move(
            begin,
            trained,
            objective,
            texts,
            *_judges(window, texts),
            tuning.method,
            tuning.epochs,
            tuning.seed,
            work,
            told,
        )  # fmt: skip
        trainable += 0 if tuning.mlm_epochs else moved
    stock.body.cpu()
    trained = trained.cpu().eval()
    whole = sum(one.numel() for one in trained.parameters())
    return Tuned(stock, trained, len(objective), losses, mlm_losses, trainable / whole)


def texts_of(window: Window) -> Texts:
    """Return all texts of a window, numbered."""
    return Texts(window.texts, [*window.examples, *window.replayed])


def _read(
    begin: Pretrained, window: Window, training: Sequence[Example], tuning: Tuning, work: Path, told: Progress
) -> list[float]:
    """Let an encoder guess masked tokens of what may be trained on: no item that is held out, no search of later."""
    items = [text for item, text in window.texts.items() if item not in window.untrained]
    searches = [past.text for one in training for past in one.past if past.text is not None]
    return read_masked(
        begin, list(dict.fromkeys([*items, *searches])), epochs=tuning.mlm_epochs, batch=MLM_BATCH,
        learning_rate=MLM_RATE, longest=begin.max_length, precision=best_precision(), report_to="tensorboard",
        seed=tuning.seed, work=work, told=lambda done, of: told("masked words", done, of),
    )  # fmt: skip


def _fit_projection(
    trained: Projected, vectors: Any, objective: Objective, tuning: Tuning, told: Progress
) -> list[float]:
    rng = np.random.default_rng(tuning.seed)
    optimizer = torch.optim.Adam(trained.change.parameters(), lr=tuning.learning_rate)
    losses = []
    for step in range(tuning.steps):
        rows = rng.integers(len(objective), size=tuning.batch)
        loss = objective.loss(trained.project(vectors), rows, rng)
        optimizer.zero_grad()
        (loss + RIDGE * trained.change.weight.square().sum()).backward()
        optimizer.step()
        losses.append(loss.item())
        told("projection", step + 1, tuning.steps)
    return [round(float(np.mean(part)), 4) for part in np.array_split(losses, min(10, len(losses)))]


def _judges(window: Window, texts: Texts) -> tuple[tuple[Encoded, Encoded], Indices]:
    """Return dev examples that choose warm items and such that choose items held out for that, and all they may choose.

    What the gate judges by is in none of it.
    """
    dev = [one for one in window.examples if window.dev_from_ms <= one.at_ms < window.until_ms]
    held = [one for one in window.examples if one.at_ms < window.until_ms and one.item in window.dev_items]
    warm, unseen = (
        Encoded.of(training_part(part, window.until_ms, barred), texts)
        for part, barred in ((dev, window.untrained), (held, window.test_items))
    )
    columns = [number for name, number in texts.of_item.items() if name not in window.test_items]
    return (warm, unseen), np.array(columns, np.int64)
