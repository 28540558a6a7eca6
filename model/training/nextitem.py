"""The objective: of all items, which one does a user choose next, given the texts of what the user had liked?

Cross-entropy over the catalogue. How often an item is chosen at all is given (a prior on the logits, as in Menon et
al., "Long-tail learning via logit adjustment", 2021), so that vectors learn what goes together and not what is popular:
for popularity the ranker has counts, which are right from the first event on, and for new items, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.kernels import DECAY
from model.profile import HISTORY
from model.training.examples import Example

TEMPERATURE = 0.1
COLUMNS = 8192
"""Items that an example's softmax is over; of a larger catalogue so many are drawn for each step."""
PASSED = 3.0
"""An item that was shown and not chosen counts like so many others."""
Indices = NDArray[np.int64]


class Texts:
    """Every text of the examples by number: the items' first, then what was searched."""

    def __init__(self, items: dict[str, str], examples: Sequence[Example]) -> None:
        self.names = list(items)
        self.of_item = {name: number for number, name in enumerate(self.names)}
        words = dict.fromkeys(one.text for example in examples for one in example.past if one.text is not None)
        self._of_words = {text: len(items) + number for number, text in enumerate(words)}
        self.texts = [*items.values(), *words]

    def __len__(self) -> int:
        return len(self.texts)

    def number(self, item: str | None, text: str | None) -> int:
        """Return the number of something liked or searched for; -1 where the item is no longer known."""
        return self.of_item.get(item, -1) if item is not None else self._of_words[text or ""]


@dataclass(frozen=True)
class Encoded:
    """Examples as numbers of texts."""

    past: Indices
    """Shape (n, 10), newest first, -1 where there is none."""
    weights: NDArray[np.float32]
    """Shape (n, 10), rows summing to 1."""
    target: Indices
    consumed: list[Indices]
    passed: list[Indices]

    def __len__(self) -> int:
        return len(self.target)

    @staticmethod
    def of(examples: Sequence[Example], texts: Texts) -> "Encoded":
        """Return those examples of which the chosen item and some of the past are known."""
        rows, targets, consumed, passed = [], [], [], []
        for example in examples:
            known = [number for one in example.past if (number := texts.number(one.item, one.text)) >= 0]
            target = texts.of_item.get(example.item)
            if target is None or not known:
                continue
            rows.append(known + [-1] * (HISTORY - len(known)))
            targets.append(target)
            consumed.append(_numbers(example.consumed, texts))
            passed.append(_numbers(example.passed, texts))
        past = np.array(rows, np.int64).reshape(-1, HISTORY)
        weights = np.where(past >= 0, DECAY[:HISTORY], 0).astype(np.float32)
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
        return Encoded(past, weights, np.array(targets, np.int64), consumed, passed)


def _numbers(names: Sequence[str], texts: Texts) -> Indices:
    return np.array([texts.of_item[name] for name in names if name in texts.of_item], np.int64)


class Objective:
    """The loss of examples, given the vectors of all texts."""

    def __init__(self, examples: Encoded, texts: Texts, untrained: frozenset[str], device: torch.device) -> None:
        self._examples, self._device = examples, device
        count = len(texts.names)
        chosen = np.bincount(examples.target, minlength=count) + 1.0
        self._prior = torch.from_numpy(np.log(chosen / chosen.sum()).astype(np.float32)).to(device)
        trained = np.array([name not in untrained for name in texts.names], np.bool_)
        self._columns = np.flatnonzero(trained)

    def __len__(self) -> int:
        return len(self._examples)

    def loss(self, vectors: Any, rows: Indices, rng: np.random.Generator) -> Any:
        """Return the mean cross-entropy of the examples `rows`; `vectors` are of unit length, shape (texts, dim)."""
        examples, device = self._examples, self._device
        target = examples.target[rows]
        columns = self._columns
        if len(columns) > COLUMNS:
            passed = np.concatenate([examples.passed[row] for row in rows])
            columns = np.unique(np.concatenate([target, passed, rng.choice(columns, COLUMNS, replace=False)]))
        past = torch.from_numpy(np.maximum(examples.past[rows], 0)).to(device)
        weights = torch.from_numpy(examples.weights[rows]).to(device)
        users = (vectors[past] * weights[:, :, None]).sum(dim=1)
        numbers = torch.from_numpy(columns).to(device)
        logits = users @ vectors[numbers].T / TEMPERATURE + self._prior[numbers]
        logits = logits + torch.from_numpy(self._adjusted(rows, columns)).to(device)
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(np.searchsorted(columns, target)).to(device))

    def _adjusted(self, rows: Indices, columns: Indices) -> NDArray[np.float32]:
        """Return what is added to the logits: -inf for what could not be chosen, more for what was passed over."""
        added = np.zeros((len(rows), len(columns)), np.float32)
        for at, row in enumerate(rows):
            for numbers, value in (
                (self._examples.passed[row], np.log(PASSED)),
                (self._examples.consumed[row], -np.inf),
            ):
                where = np.searchsorted(columns, numbers)
                there = where < len(columns)
                where = where[there]
                added[at, where[columns[where] == numbers[there]]] = value
        return added
