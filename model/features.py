"""What the ranker sees of every item for one user, and which past event each part of it comes from.

A personal feature is a weighted sum over the user's past events, mostly under a square root (which tames the counts and
costs a tenth of a logarithm). `model.explain` splits its contribution over those events (docs/adr/0003).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.candidates import Candidates
from model.catalogue import Catalogue
from model.choosing import place
from model.content import Part
from model.encoding import Vectors
from model.errors import Fatal
from model.kernels import DECAY, feature_matrix
from model.pairs import DensePairs
from model.profile import HISTORY, Profile, Reference
from model.ranker import Prior, SoftmaxRanker
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
    "searched",
    "learnt",
)
"""Followed by one feature for each further modality (image, audio, ...) that the catalogue is set up for."""
CONTENT = ("content", "content_best", "new_content", "new_content_best", "searched", "learnt")
"""Features that read text: `--without content` silences them."""


PRIORS = {
    # Who searches says what is wanted: the text counts from the first search on, and a new item that has it is found.
    "searched": Prior(weight=2.0, variance=0.01),
    # What was learnt has to prove itself, and slowly: by chance it fits one user's next choices, and costs others.
    "learnt": Prior(weight=0.0, variance=0.004, squares=1e6),
}
"""The variances are those of cosines over a catalogue: to one text, and to the mean of ten."""


class History(NamedTuple):
    """A user's past as indices, newest first, at most 10 of each."""

    recent: Indices
    """Items engaged."""
    liked: Indices
    """Items liked."""
    contents: Indices
    """What was liked or searched: an item, or -1 - k for row k of `words`."""
    latest: int
    """Place in `contents` of the latest search, -1 if there is none."""
    words: Vectors
    """Vectors of what was searched, shape (searches, dim)."""
    affinity: Array
    """To each of the catalogue's tags, by number."""
    past: list[Reference]
    """The references behind `recent`, `liked` and `contents`, in this order."""


class Likeness(NamedTuple):
    """How like the candidates are to `contents`, in one part of the vectors."""

    shifts: Array
    """What each of `contents` has in common with all items; empty where there is no such part."""
    similarity: Array
    searched: Array
    common: Array
    """What each candidate has in common with all items."""


_NOTHING = np.zeros((0, 0), np.float32)
NOTHING_LEARNT = Likeness(_NOTHING.ravel(), _NOTHING, _NOTHING, _NOTHING.ravel())


class Past(NamedTuple):
    """What a user's past says of the candidates: tables whose columns they are, and which of the rows are its."""

    recent: Indices
    """Rows of `together` and `followed`, newest first."""
    liked: Indices
    """Rows of `liked_together` and of each of `modal`."""
    contents: Indices
    """Rows of each `similarity`, or -1 - k for row k of `searched`."""
    together: Array
    liked_together: Array
    followed: Array
    text: Likeness
    learnt: Likeness
    modal: Array


class View(NamedTuple):
    """The candidates as the ranker sees them for one user; `x` is overwritten by the next view."""

    items: Indices | None
    """Index of each column's item; None where every item is a candidate, and the columns are the catalogue's."""
    x: Array
    """Features, shape (len(names), columns)."""
    scores: Array
    """Shape (columns,); -inf for what cannot be shown."""
    there: Array
    """1 for items that are available at all, else 0."""
    past: Past
    offsets: Array
    """-inf for items of the whole catalogue that are not available, else 0, shape (n,)."""
    hidden: Indices
    """What else cannot be shown, by the catalogue's index."""
    target: int
    """Column of the item that was asked for, else -1."""
    proposed: bool
    """Whether that item is a candidate: else it could not have been shown, and choosing it teaches nothing."""

    def rank(self, lot: float) -> int:
        """Return where the target is by score, 0 at the top, -1 if it is no candidate; ties are drawn by `lot`."""
        if not self.proposed:
            return -1
        above, equal = place(self.scores, self.scores, self.target)
        return above + int(lot * equal)

    def position(self, column: int) -> int:
        """Return the catalogue's index of a column's item."""
        return column if self.items is None else int(self.items[column])

    def shown(self) -> Array:
        """Return -inf for items of the whole catalogue that cannot be shown, and numbers for the others, shape (n,)."""
        if self.items is None:
            return self.scores
        shown = self.offsets.copy()
        shown[self.hidden] = -np.inf
        return shown

    def everywhere(self, feature: int) -> Array:
        """Return a feature of all n items, shape (n,): 0 for what is no candidate."""
        if self.items is None:
            row: Array = self.x[feature]
            return row
        values = np.zeros(len(self.offsets), np.float32)
        values[self.items] = self.x[feature]
        return values


class Features:
    """Computes features and scores from the catalogue, the shared tables and a user's history."""

    def __init__(
        self, catalogue: Catalogue, tables: Tables, without: frozenset[str] = frozenset(), least: int = 0
    ) -> None:
        """Features in `without` are silent; of a large catalogue at `least` so many items are candidates."""
        self.catalogue, self.tables = catalogue, tables
        self.names = (*NAMES, *catalogue.modalities)
        if len(set(self.names)) < len(self.names):
            raise Fatal(f"modalities {catalogue.modalities} must differ, and from the features {', '.join(NAMES)}")
        silent = without - {"content"} | (frozenset(CONTENT) if "content" in without else frozenset())
        unknown = silent - set(self.names)
        if unknown:
            raise Fatal(f"no feature {sorted(unknown)}; there are: content, {', '.join(self.names)}")
        self._silent = [self.names.index(name) for name in silent]
        self._candidates = Candidates(catalogue, tables, least)
        self._x: Array = np.zeros((len(self.names), 0), np.float32)

    def history(self, profile: Profile, search_vectors: Mapping[str, Array]) -> History:
        """Return a profile's past; `search_vectors` holds the words in it, each of shape (dim,)."""
        catalogue = self.catalogue
        index = catalogue.index
        recent = [r for r in profile.recent if r.item in index]
        liked = [r for r in profile.liked if r.item in index][:HISTORY]
        # Words that no encoder can read are zeros, and say nothing: less what all items share, zeros would.
        contents = [
            r for r in profile.liked[:HISTORY] if (r.item in index if r.text is None else search_vectors[r.text].any())
        ]
        words: list[Array] = []
        rows = []
        for reference in contents:
            if reference.text is None:
                rows.append(index[reference.item or ""])
            else:
                rows.append(-1 - len(words))
                words.append(search_vectors[reference.text])
        affinity = np.zeros(len(catalogue.tag_index) + 1, np.float32)
        for tag, weight in profile.tags.items():
            if tag in catalogue.tag_index:
                affinity[catalogue.tag_index[tag]] = weight
        return History(
            np.array([index[r.item or ""] for r in recent], np.int64),
            np.array([index[r.item or ""] for r in liked], np.int64),
            np.array(rows, np.int64),
            rows.index(-1) if words else -1,
            np.stack(words) if words else np.zeros((0, catalogue.content.dim), np.float32),
            affinity,
            recent + liked + contents,
        )

    def look(
        self, history: History, ranker: SoftmaxRanker, hidden: Sequence[int], target: int = -1,
        among: Indices | None = None,
    ) -> View:  # fmt: skip
        """Return the candidates, their features and scores; what is `hidden` cannot be shown.

        `target` is an item that is to have a column even if it is no candidate. `among` names the candidates, in a
        catalogue that is too large for all items to be.
        """
        catalogue, n = self.catalogue, len(self.catalogue)
        gone = np.array(hidden, np.int64)  # a copy: an array cannot grow while a view of it lives
        if catalogue.dense:
            past = self._whole(history)
            x, scores = self._score(history, ranker, past, slice(n))
            scores[gone] = -np.inf
            return View(None, x, scores, catalogue.there[:n], past, catalogue.offsets[:n], gone, target, True)
        parts = [(part, words, _vectors(part, history, words)) for part, words in self._parts(history)]
        text, _, vectors = parts[0]
        items = self._propose(history, text, vectors, gone) if among is None else among
        proposed = target < 0 or bool((items == target).any())
        if not proposed:
            items = np.append(items, target)
        past = self._some(history, parts, items)
        x, scores = self._score(history, ranker, past, items)
        column = -1 if target < 0 else int(np.flatnonzero(items == target)[0])
        return View(items, x, scores, catalogue.there[items], past, catalogue.offsets[:n], gone, column, proposed)

    def _score(
        self, history: History, ranker: SoftmaxRanker, past: Past, columns: slice | Indices
    ) -> tuple[Array, Array]:
        """Return features and scores of some items, for which `past` was made."""
        catalogue, tables = self.catalogue, self.tables
        offsets = catalogue.offsets[columns]
        if self._x.shape[1] != len(offsets):
            self._x = np.zeros((len(self.names), len(offsets)), np.float32)
        x, scores = self._x, np.empty(len(offsets), np.float32)
        slopes = ranker.slopes
        if self._silent:  # a prior, or a state that was learnt when it was not silent, would speak for it
            slopes = slopes.copy()
            slopes[self._silent] = 0
        feature_matrix(
            x,
            scores,
            slopes,
            ranker.bias,
            offsets,
            tables.alone if isinstance(columns, slice) else np.take(tables.alone, columns, 1),
            catalogue.tags if isinstance(columns, slice) else np.take(catalogue.tags, columns, 1),
            catalogue.tag_weights[columns],
            history.affinity,
            past.recent,
            tables.engaged[history.recent],
            past.liked,
            tables.liked[history.liked],
            past.contents,
            history.latest,
            past.text.shifts,
            past.together,
            past.liked_together,
            past.followed,
            past.text.similarity,
            past.text.searched,
            past.text.common,
            *past.learnt,
            past.modal,
        )
        if self._silent:
            x[self._silent] = 0
        return x, scores

    def _whole(self, history: History) -> Past:
        """Return a past over all items."""
        pairs = self.tables.pairs
        assert isinstance(pairs, DensePairs)
        likeness = [
            Likeness(_shifts(part, history, words), part.similarity, part.cosines_to_all(words), part.common)
            for part, words in self._parts(history)
        ]
        return Past(
            history.recent, history.liked, history.contents,
            pairs.together, pairs.liked_together, pairs.followed,
            likeness[0], likeness[-1] if len(likeness) > 1 else NOTHING_LEARNT, self.catalogue.modal,
        )  # fmt: skip

    def _some(self, history: History, parts: Sequence[tuple[Part, Vectors, Vectors]], items: Indices) -> Past:
        """Return a past over some items; with each part, vectors of what was searched, and of all of `contents`."""
        likeness = []
        for part, words, vectors in parts:
            similarity, common = part.cosines(vectors, items)
            similarity[history.contents[:, None] == items] = 0
            likeness.append(Likeness(_shifts(part, history, words), similarity, similarity[:0], common))
        return Past(
            np.arange(len(history.recent)), np.arange(len(history.liked)), np.arange(len(history.contents)),
            *self._candidates.rows(history.recent, history.liked, items),
            likeness[0], likeness[-1] if len(likeness) > 1 else NOTHING_LEARNT,
            self.catalogue.modal_cosines(history.liked, items),
        )  # fmt: skip

    def _parts(self, history: History) -> list[tuple[Part, Vectors]]:
        """Return the content's parts, each with its part of the vectors of what was searched."""
        content = self.catalogue.content
        return list(zip(content.parts, content.split(history.words), strict=True))

    def _propose(self, history: History, text: Part, vectors: Vectors, gone: Indices) -> Indices:
        """Return the candidates, ascending; `vectors`, shape (contents, dim), are of what was liked or searched."""
        sought = vectors[:0]
        if vectors.any():
            # By the feature `content`, a product with the mean of what was liked and searched; by the latest of it; and
            # by `searched`, as long as that speaks.
            weights = DECAY[: len(vectors)]
            wanted = [weights @ vectors / weights.sum()]
            if len(vectors) > 1:
                wanted.append(vectors[0])
            if history.latest > 0:
                wanted.append(vectors[history.latest])
            sought = np.stack(wanted) - text.mean
        return self._candidates.propose(history.recent, history.liked, sought, gone)


def _vectors(part: Part, history: History, words: Vectors) -> Vectors:
    """Return the vectors of what was liked or searched, shape (contents, dim)."""
    vectors: Vectors = part.vectors[history.contents]
    vectors[history.contents < 0] = words
    return vectors


def _shifts(part: Part, history: History, words: Vectors) -> Array:
    """Return what each of `contents` has in common with all items."""
    searched = history.contents < 0
    if not len(words):
        return part.common_of(history.contents)
    shifts = np.empty(len(searched), np.float32)
    shifts[~searched] = part.common_of(history.contents[~searched])
    shifts[searched] = part.common_with(words)
    return shifts
