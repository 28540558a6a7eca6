"""Penchant as a recommender of river (`river.reco`): the very fold that serves, behind river's interface.

No Kafka is needed, nor an encoder. Nothing that serves imports this module, as river takes a second to load.
"""

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from river import reco

from model.encoding import Encoder, Vectors
from model.events import Click, Item, Rating
from model.features import Features
from model.fold import Fold, FoldSettings
from model.profile import Profile
from model.ranker import SoftmaxRanker
from model.taxonomy import Taxonomy, TopicWords

Array = NDArray[np.float32]
Context = Mapping[Any, Any]
NEVER = 2**62


class _Liked(Click, frozen=True, kw_only=True, tag="click"):
    """A liking that wants no list in answer: making one, with reasons, would cost half of the time."""

    lists = False


class _Passed(Rating, frozen=True, kw_only=True, tag="rating"):
    """An engagement without liking; wants no list either."""

    lists = False


class _Constant:
    """Gives every text one vector: for the topics that a fold must have, and that nobody here asks about."""

    version = "none"

    def __init__(self, dim: int, learnt: int = 0) -> None:
        self.dim, self.learnt = dim, learnt

    def encode(self, texts: Iterable[str]) -> Vectors:
        """Return the same unit vector for each text, shape (len(texts), dim)."""
        return np.full((len(list(texts)), self.dim), 1 / math.sqrt(self.dim), np.float32)


class PenchantRanker(reco.base.Ranker):
    """Learns from every choice with the fold that `penchant serve` runs, and ranks with its scores.

    A score is the utility of a choice, not a rating: it orders the items of one user, may be negative, and is no
    estimate of `y`. It is deterministic; before anything was learnt all scores are 0.

    Users and items are whatever can be hashed. An item is known from its first event, or from `describe`; one that is
    not known has the score of an item of which nothing is known, and the choice that makes it known teaches only the
    counts, as it could not have been ranked.
    Unlike in `penchant serve`, what the user had before may be ranked (the caller names the candidates), and nobody is
    forgotten for having been away.

    Parameters
    ----------
    threshold
        The least `y` that is a liking; the default suits clicks (True or False, 1 or 0), 4 suits stars. What is below
        counts as engaged without being liked: history, but nothing to aim for. Show the ranker no pairs in which a
        user never engaged the item.
    encoder
        Embeds the items' texts (`model.encoding.Encoder`). With none, as by default, every item's content is the zero
        vector: title and text say nothing, and the features of content are 0; the tags still count. `clone`, pickling
        and deep copies take the encoder along, so it must allow that.
    daily_cap
        Engagements of one user in a day that shared counts take in, as a guard against bots; with none all count.
    without
        Features silenced (names in `model.features.NAMES`, or "content"), for ablation.

    Examples
    --------
    Two kinds of users, each with films of their kind; then somebody who has liked one film:

    >>> model = PenchantRanker(threshold=4)
    >>> kinds = [["Alien", "Solaris", "Dune"], ["Grease", "Evita", "Hair"]]
    >>> for user in range(40):
    ...     for film in kinds[user % 2]:
    ...         model.learn_one(user, film, 5)
    >>> model.learn_one("Dee", "Evita", 4)
    >>> model.rank("Dee", {"Alien", "Grease", "Solaris", "Hair"})[:2]
    ['Hair', 'Grease']
    >>> model.predict_one("Dee", "Hair") > model.predict_one("Dee", "Solaris")
    True
    """

    def __init__(
        self,
        threshold: float = 0.5,
        encoder: Encoder | None = None,
        daily_cap: int | None = None,
        without: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(seed=0)  # river's random numbers, of which none is drawn
        self.threshold, self.encoder, self.daily_cap = threshold, encoder, daily_cap
        self.without = without or None  # river cannot clone an empty tuple
        self.fold = self._new_fold()
        self._users: dict[Hashable, str] = {}
        self._items: dict[Hashable, Item] = {}
        self._events = 0
        # No user's history says anything of an item without counts, tags and text: to all it scores as this one does.
        self._stranger = self._new_fold()
        self._stranger.put_item(Item(item="0"), np.zeros(self._dim, np.float32))

    @property
    def _dim(self) -> int:
        return 1 if self.encoder is None else self.encoder.dim

    def _new_fold(self) -> Fold:
        settings = FoldSettings(
            daily_cap=NEVER if self.daily_cap is None else self.daily_cap,
            interests_every=NEVER,
            ttl_days=NEVER,
            without=frozenset(self.without or ()),
        )
        encoder = _Constant(self._dim) if self.encoder is None else self.encoder
        taxonomy = Taxonomy([TopicWords("all", ["all"])], _Constant(encoder.dim, encoder.learnt))
        return Fold(settings, encoder, taxonomy)

    @property
    def is_contextual(self) -> bool:
        """Whether `learn_one` looks at `x`: yes."""
        return True

    @property
    def _mutable_attributes(self) -> set[str]:
        return {"threshold"}

    def describe(self, item: Hashable, x: Context | None = None) -> None:
        """Make an item known before anyone touches it, or say anew what it is.

        Of `x` it reads "title" and "text" (strings, for the encoder) and "tags" (a string or several); if it has none
        of the three, what was said before stays.
        """
        x = x or {}
        known = self._items.get(item)
        if known is not None and not x.keys() & {"title", "text", "tags"}:
            return
        tags = x.get("tags") or ()
        said = Item(
            item=str(len(self._items)) if known is None else known.item,
            title=str(x.get("title") or ""),
            text=str(x.get("text") or ""),
            tags=[tags] if isinstance(tags, str) else [str(tag) for tag in tags],
        )
        if said != known:
            self.fold.put_item(said, self._vector(said.content()))
            self._items[item] = said

    def _vector(self, content: str) -> Array:
        if self.encoder is None or not content:
            return np.zeros(self._dim, np.float32)
        vector: Array = self.encoder.encode([content])[0]
        return vector

    def learn_one(self, user: Hashable, item: Hashable, y: Any, x: Context | None = None) -> None:
        """Fold one event: `user` engaged `item`, and liked it if `y` (a number or bool) reaches the threshold.

        `x` may describe the item (see `describe`) and say when it was: "at_ms", milliseconds since 1970. That is
        needed with `daily_cap` alone; without it, it is as late as the event before.
        """
        stranger = item not in self._items
        self.describe(item, x)
        known = self._items[item]
        if stranger:
            # It was no candidate: that it was chosen over those that were known teaches nothing but its being new.
            self.fold.put_item(replace(known, available=False), self._vector(known.content()))
        name = self._users.setdefault(user, str(len(self._users)))
        at_ms = int((x or {}).get("at_ms", self.fold.stream_ms))
        number = str(self._events)
        self._events += 1
        if y >= self.threshold:
            self.fold.apply(_Liked(id=number, user=name, at_ms=at_ms, item=known.item), {})
        else:
            self.fold.apply(_Passed(id=number, user=name, at_ms=at_ms, item=known.item, value=0), {})
        if stranger:
            self.fold.put_item(known, self._vector(known.content()))

    def predict_one(self, user: Hashable, item: Hashable, x: Context | None = None) -> float:  # type: ignore[override]
        """Return the ranker's score of `item` for `user`, from what was learnt so far; changes nothing.

        `x` is not looked at: use `describe` to tell of an item's text before it is ranked.
        """
        # (The override is ignored because river says `numbers.Number`, which no type checker takes a float for.)
        return self.score_many(user, (item,))[item]

    def score_many(self, user: Hashable, items: Iterable[Hashable]) -> dict[Hashable, float]:
        """Return `predict_one` of each item: they cost about as much together as one alone."""
        index = self.fold.catalogue.index
        known = {item: self._items.get(item) for item in items}
        places = [index[one.item] for one in known.values() if one is not None]
        scores = iter(_scores(self.fold, self.fold.ranker, self._users.get(user, ""), places))
        unknown = _scores(self._stranger, self.fold.ranker, "", [0])[0]
        return {item: unknown if one is None else next(scores) for item, one in known.items()}

    def candidates(self, user: Hashable, repeat: bool = False) -> list[Hashable]:
        """Return the known items that `user` has not engaged, in the order in which they became known.

        With `repeat`, all known items. Of what a user engaged the last 2,000 are remembered.
        """
        profile = None if repeat else self.fold.profiles.get(self._users.get(user, ""))
        engaged = () if profile is None else profile.consumed
        return [item for item, known in self._items.items() if known.item not in engaged]

    def rank(self, user: Hashable, items: Iterable[Hashable], x: Context | None = None) -> list[Hashable]:
        """Return `items`, the best for `user` first; equal scores in the order in which the items became known.

        Items that are not known come last among their equals, by their `repr`. `x` is not looked at.
        """
        index = self.fold.catalogue.index

        def place(scored: tuple[Hashable, float]) -> tuple[float, float, str]:
            item, score = scored
            known = self._items.get(item)
            return (-score, math.inf, repr(item)) if known is None else (-score, index[known.item], "")

        return [item for item, _ in sorted(self.score_many(user, items).items(), key=place)]


def _scores(fold: Fold, ranker: SoftmaxRanker, user: str, places: list[int]) -> list[float]:
    """Return what items of `fold`, by index, score for `user` by `ranker`; a stranger has no history.

    `Features` of their own: the fold's keep what they computed last.
    """
    features = Features(fold.catalogue, fold.tables, fold.settings.without)
    history = features.history(fold.profiles.get(user) or Profile(), fold.search_vectors)
    among = np.array(places, np.int64)
    view = features.look(history, ranker, (), among=among)
    scores: list[float] = (view.scores if view.items is not None else view.scores[among]).tolist()
    return scores
