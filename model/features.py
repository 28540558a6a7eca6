"""What the ranker sees of every item for one user, and which past event each part of it comes from.

A personal feature is a weighted sum over the user's past events, mostly under a square root (which tames the counts and
costs a tenth of a logarithm). So a feature's contribution splits over those events by their share of the sum, exactly.
"""

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

    recent: list[int]
    """Items engaged."""
    liked: list[int]
    """Items liked."""
    contents: Array
    """Cosine to every item of what was liked or searched, shape (up to 10, n)."""
    tags: Array
    """Affinity to each tag, shape (512,)."""


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
        x[0] = tables.log_liked[:n]
        x[1] = tables.log_recent[:n]
        if history.recent:
            items = history.recent
            weights = _TOGETHER[:, : len(items)].copy()
            weights[1] *= _SCALE / np.sqrt(engaged[items] + 5)
            x[2:5] = weights @ tables.together.take(items, axis=0)[:, :n]
            x[3] /= np.sqrt(engaged + 10)
            near = items[:3]
            x[5] = (20 * _DECAY[: len(near)] / (engaged[near] + 10)) @ tables.followed.take(near, axis=0)[:, :n]
        if history.liked:
            items = history.liked
            rows = tables.liked_together.take(items, axis=0)[:, :n]
            x[6] = rows.sum(axis=0)
            x[7] = (_SCALE * _DECAY[: len(items)] / np.sqrt(liked[items] + 5)) @ rows
            x[7] /= np.sqrt(liked + 5)
        np.sqrt(x[2:8], out=x[2:8])
        if len(history.contents):
            rows = history.contents
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

    def parts(self, history: History, items: NDArray[np.int64]) -> tuple[Array, Array, Array]:
        """Return each past event's part in the sums behind `items` (indices, shape (m,)), family by family.

        The families are: engaged together, liked together, content; each of shape (events, m).
        """
        tables, recent, liked = self.tables, np.array(history.recent, np.int64), np.array(history.liked, np.int64)
        return (
            tables.together[recent[:, None], items] * _DECAY[: len(recent), None],
            tables.liked_together[liked[:, None], items] * _DECAY[: len(liked), None],
            history.contents[:, items] * _DECAY[: len(history.contents), None],
        )
