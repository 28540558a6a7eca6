"""What the ranker sees of every item for one user, and which past event each part of it comes from.

A personal feature is a weighted sum over the user's past events, mostly under a square root (which tames the counts and
costs a tenth of a logarithm). So a feature's contribution splits over those events by their share of the sum, exactly.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.catalogue import Catalogue
from model.tables import Tables

Array = NDArray[np.float32]

NAMES = (
    "popularity",
    "recent_popularity",
    "together",
    "together_cosine",
    "together_latest",
    "followed",
    "liked_together",
    "liked_together_cosine",
    "tags",
    "content",
    "content_best",
    "liked_share",
    "new",
    "new_content",
    "new_content_best",
    "new_tags",
)
FEATURE = {name: number for number, name in enumerate(NAMES)}
CONTENT = ("content", "content_best", "new_content", "new_content_best")
"""Features that read text: `--without content` silences them."""

_DECAY = np.array([0.8**k for k in range(10)], np.float32)
_TOGETHER = np.stack([np.ones(10), _DECAY, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]]).astype(np.float32)
_SCALE = np.float32(10)


class History(NamedTuple):
    """A user's past as indices, newest first, at most 10 of each."""

    recent: Sequence[int]
    """Items engaged."""
    liked: Sequence[int]
    """Items liked, those that count for co-liking."""
    contents: Sequence[Array]
    """Similarity rows, shape (capacity,), of what was liked or searched."""
    tags: Array
    """Affinity to each tag, shape (512,)."""


class Parts(NamedTuple):
    """Per past event and candidate, how much each family of features owes to the event: shares that sum to 1."""

    recent: Array
    liked: Array
    contents: Array


class Features:
    """Computes the matrix; holds the columns that no user changes, kept up to date item by item."""

    def __init__(self, catalogue: Catalogue, tables: Tables, without: frozenset[str] = frozenset()) -> None:
        self.catalogue, self.tables = catalogue, tables
        self.silent = [FEATURE[name] for name in without]

    def matrix(self, history: History) -> Array:
        """Return features, shape (len(NAMES), n), of all n items."""
        n, tables = len(self.catalogue), self.tables
        x = np.zeros((len(NAMES), n), np.float32)
        engaged, liked = tables.engaged[:n], tables.liked[:n]
        np.log1p(liked, out=x[0])
        np.log1p(tables.recent[:n], out=x[1])
        if history.recent:
            items = list(history.recent)
            weights = _TOGETHER[:, : len(items)].copy()
            weights[1] *= _SCALE / np.sqrt(engaged[items] + 5)
            x[2:5] = weights @ tables.together[items, :n]
            x[3] /= np.sqrt(engaged + 10)
            near = items[:3]
            x[5] = (20 * _DECAY[: len(near)] / (engaged[near] + 10)) @ tables.followed[near, :n]
        if history.liked:
            items = list(history.liked)
            rows = tables.liked_together[items, :n]
            x[6] = rows.sum(axis=0)
            x[7] = (_SCALE * _DECAY[: len(items)] / np.sqrt(liked[items] + 5)) @ rows
            x[7] /= np.sqrt(liked + 5)
        np.sqrt(x[2:8], out=x[2:8])
        if history.contents:
            rows = np.stack([row[:n] for row in history.contents])
            weight = _DECAY[: len(rows)]
            x[9] = (weight / weight.sum()) @ rows
            x[10] = rows.max(axis=0)
        width = len(self.catalogue.tag_index)
        x[8] = self.catalogue.tags[:n, :width] @ history.tags[:width]
        np.divide(liked, engaged + 3, out=x[11])
        new = 1 / (1 + engaged / 2)
        x[12] = new
        np.multiply(x[9:11], new, out=x[13:15])
        np.multiply(x[8], new, out=x[15])
        if self.silent:
            x[self.silent] = 0
        return x

    def parts(self, history: History, items: Array) -> Parts:
        """Return each past event's share in the sums behind the features of `items` (indices, shape (m,))."""
        tables = self.tables

        def shares(values: Array) -> Array:
            total = values.sum(axis=0)
            return np.divide(values, total, out=np.zeros_like(values), where=total != 0)

        recent, liked = list(history.recent), list(history.liked)
        by_recent = tables.together[np.ix_(recent, items)] * _DECAY[: len(recent), None]
        by_liked = tables.liked_together[np.ix_(liked, items)] * _DECAY[: len(liked), None]
        contents = (
            np.stack([row[items] for row in history.contents]) * _DECAY[: len(history.contents), None]
            if history.contents
            else np.zeros((0, len(items)), np.float32)
        )
        return Parts(shares(by_recent), shares(by_liked), shares(contents))
