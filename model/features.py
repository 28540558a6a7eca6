"""What the ranker sees of every item for one user, and which past event each part of it comes from.

A personal feature is a weighted sum over the user's past events, mostly under a square root (which tames the counts and
costs a tenth of a logarithm). `model.explain` splits its contribution over those events (docs/adr/0003).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.catalogue import Catalogue
from model.kernels import feature_matrix
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
    "new_together_cosine",
)
FEATURE = {name: number for number, name in enumerate(NAMES)}
CONTENT = ("content", "content_best", "new_content", "new_content_best")
"""Features that read text: `--without content` silences them."""


class History(NamedTuple):
    """A user's past as indices, newest first, at most 10 of each."""

    recent: NDArray[np.int64]
    """Items engaged."""
    liked: NDArray[np.int64]
    """Items liked."""
    contents: Array
    """Cosine to every item of what was liked or searched, shape (up to 10, capacity)."""
    tags: Array
    """Affinity to each tag, shape (512,)."""


class Features:
    """Computes the matrix from the catalogue, the shared tables and a user's history."""

    def __init__(self, catalogue: Catalogue, tables: Tables, without: frozenset[str] = frozenset()) -> None:
        self.catalogue, self.tables = catalogue, tables
        self.silent = [FEATURE[name] for name in without]

    def matrix(self, history: History) -> Array:
        """Return features, shape (len(NAMES), n), of all n items."""
        tables, catalogue = self.tables, self.catalogue
        x = np.zeros((len(NAMES), len(catalogue)), np.float32)
        feature_matrix(
            x,
            history.recent,
            history.liked,
            history.contents,
            catalogue.tags,
            history.tags[: len(catalogue.tag_index)],
            tables.engaged,
            tables.liked,
            tables.log_liked,
            tables.log_recent,
            tables.together,
            tables.liked_together,
            tables.followed,
        )
        if self.silent:
            x[self.silent] = 0
        return x
