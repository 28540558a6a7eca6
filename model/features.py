"""What the ranker sees of every item for one user, and which past event each part of it comes from.

A personal feature is a weighted sum over the user's past events, mostly under a square root (which tames the counts and
costs a tenth of a logarithm). `model.explain` splits its contribution over those events (docs/adr/0003).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.catalogue import Catalogue
from model.errors import Fatal
from model.kernels import feature_matrix
from model.profile import HISTORY, Profile, Reference
from model.ranker import SoftmaxRanker
from model.tables import Tables

Array = NDArray[np.float32]
Indices = NDArray[np.int64]

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
"""Followed by one feature for each further modality (image, audio, ...) that the catalogue is set up for."""
CONTENT = ("content", "content_best", "new_content", "new_content_best")
"""Features that read text: `--without content` silences them."""


class History(NamedTuple):
    """A user's past as indices, newest first, at most 10 of each."""

    recent: Indices
    """Items engaged."""
    liked: Indices
    """Items liked."""
    contents: Indices
    """What was liked or searched: an item, or -1 - k for row k of `searched`."""
    searched: Array
    """Cosine of searched words to every item, shape (searches, capacity), as `Content.related` gives it."""
    tag_slots: Indices
    tag_weights: Array
    """Affinity to the tags in `tag_slots`."""
    past: list[Reference]
    """The references behind `recent`, `liked` and `contents`, in this order."""


class Features:
    """Computes features and scores from the catalogue, the shared tables and a user's history."""

    def __init__(self, catalogue: Catalogue, tables: Tables, without: frozenset[str] = frozenset()) -> None:
        self.catalogue, self.tables = catalogue, tables
        self.names = (*NAMES, *catalogue.modalities)
        if len(set(self.names)) < len(self.names):
            raise Fatal(f"modalities {catalogue.modalities} must differ, and from the features {', '.join(NAMES)}")
        silent = without - {"content"} | (frozenset(CONTENT) if "content" in without else frozenset())
        unknown = silent - set(self.names)
        if unknown:
            raise Fatal(f"no feature {sorted(unknown)}; there are: content, {', '.join(self.names)}")
        self._silent = [self.names.index(name) for name in silent]
        self._x: Array = np.zeros((len(self.names), 0), np.float32)

    def history(self, profile: Profile, search_vectors: Mapping[str, Array]) -> History:
        """Return a profile's past; `search_vectors` holds the words in it, each of shape (dim,)."""
        catalogue = self.catalogue
        index = catalogue.index
        recent = [r for r in profile.recent if r.item in index]
        liked = [r for r in profile.liked if r.item in index][:HISTORY]
        contents = [r for r in profile.liked[:HISTORY] if r.text is not None or r.item in index]
        searched, rows = np.zeros((0, catalogue.capacity), np.float32), []
        for reference in contents:
            if reference.text is None:
                rows.append(index[reference.item or ""])
            else:
                rows.append(-1 - len(searched))
                searched = np.vstack([searched, catalogue.content.related(search_vectors[reference.text])])
        slots, weights = [], []
        for tag, weight in profile.tags.items():
            if tag in catalogue.tag_index:
                slots.append(catalogue.tag_index[tag])
                weights.append(weight)
        return History(
            np.array([index[r.item or ""] for r in recent], np.int64),
            np.array([index[r.item or ""] for r in liked], np.int64),
            np.array(rows, np.int64),
            searched,
            np.array(slots, np.int64),
            np.array(weights, np.float32),
            recent + liked + contents,
        )

    def scores(self, history: History, ranker: SoftmaxRanker, hidden: Sequence[int]) -> tuple[Array, Array]:
        """Return features, shape (len(names), n), and scores, shape (n,), of all n items.

        Scores of `hidden` items and of those not available are -inf. The features are overwritten by the next call.
        """
        tables, catalogue = self.tables, self.catalogue
        n = len(catalogue)
        if self._x.shape[1] != n:
            self._x = np.zeros((len(self.names), n), np.float32)
        x, scores = self._x, np.empty(n, np.float32)
        feature_matrix(
            x,
            scores,
            history.recent,
            history.liked,
            history.contents,
            history.searched,
            history.tag_slots,
            history.tag_weights,
            ranker.slopes,  # 0 for what is silent: it is 0 whenever the ranker learns
            ranker.bias,
            catalogue.offsets,
            tables.alone,
            tables.engaged,
            tables.liked,
            tables.together,
            tables.liked_together,
            tables.followed,
            catalogue.content.similarity,
            catalogue.content.common,
            catalogue.modal,
            catalogue.tags,
        )
        if self._silent:
            x[self._silent] = 0
        if hidden:
            # A copy: an array cannot grow while a view of it lives.
            scores[np.array(hidden)] = -np.inf
        return x, scores
