"""The fold: one event after another, scored, then learnt from, then answered with a list and its reasons.

No clock, no network, no randomness but what is seeded by (seed, event id): the outcome is a function of the events.
"""

import zlib
from array import array
from collections.abc import Mapping, Sequence
from math import log

import msgspec
import numpy as np
from numpy.typing import NDArray

from model import profile as profiles
from model.choosing import place
from model.content import Content
from model.encoding import Encoder
from model.events import (
    Dismiss,
    Event,
    Forget,
    Impression,
    Interests,
    Item,
    ItemEvent,
    Recommendation,
    Recommended,
    Review,
    Search,
    liking,
)
from model.explain import Explainer
from model.features import History, View
from model.fold_state import FoldSettings, FoldState
from model.heads import POSITIVE, Head
from model.interests import topics
from model.lists import choose
from model.outcome import Evaluation, Outcome, answered
from model.profile import Profile, Reference, Shown, remember
from model.rival import Rival
from model.tables import Fact
from model.taxonomy import Taxonomy

__all__ = ["Fold", "FoldSettings"]

DAY_MS = 86_400_000
COLD_USER = 5
NEW_ITEM = 5
MAX_SEARCHES = 50_000
"""Vectors of searched words that are kept; those of a user who comes back are embedded anew."""
Array = NDArray[np.float32]


class Fold(FoldState):
    """The state of one partition and the step that takes it from event to event."""

    def __init__(
        self, settings: FoldSettings, encoder: Encoder, taxonomy: Taxonomy, sentiment: Head | None = None
    ) -> None:
        super().__init__(settings, encoder)
        self.version, self.taxonomy, self.sentiment = encoder.version, taxonomy, sentiment
        self._explainer = Explainer(self.features, self.ranker, settings.reasons)
        self.search_vectors: dict[str, Array] = {}
        """Vectors of the words in users' histories, by text, oldest first; belong to one encoder."""
        self.rivals: dict[str, Rival] = {}
        """By role: models that do not serve, whose ranks are compared. Nothing depends on them."""
        self.faults: list[tuple[str, str]] = []
        """Roles of rivals that failed, and why: they are let go."""

    # -- items

    def put_item(self, item: Item, vector: Array) -> None:
        """Add or replace an item; `vector` is its content's, shape (dim,). Raises as `Catalogue.put`."""
        known = item.item in self.catalogue.index
        self.catalogue.put(item, vector)
        if not known:
            self._hidden.clear()  # a restored profile may have consumed it before it was known here
            self._arrive(self.catalogue.index[item.item])
        for role in list(self.rivals):
            self.put_rival_item(role, item)

    def put_rival_item(self, role: str, item: Item) -> None:
        """Let a rival know an item as it is now."""
        rival = self.rivals[role]
        try:
            rival.content.grow(self.catalogue.capacity)
            rival.put(self.catalogue.index[item.item], len(self.catalogue), item.content())
        except Exception as error:
            self._let_go(role, error)

    def _let_go(self, role: str, error: Exception) -> None:
        """Rank no more by what fails: it must not harm what serves, whatever is wrong with it."""
        del self.rivals[role]
        self.faults.append((role, f"{type(error).__name__}: {error}"))

    def drop_item(self, item_id: str) -> None:
        """Take an item out of all lists, and forget what it was: after a restart nobody could know."""
        self.catalogue.drop(item_id)
        if item_id in self.catalogue.index:
            for rival in self.rivals.values():
                rival.content.grow(self.catalogue.capacity)  # the item may be known by facts alone
                rival.content.drop(self.catalogue.index[item_id], len(self.catalogue))

    def adopt(
        self,
        version: str,
        taxonomy: Taxonomy,
        content: Content,
        words: Mapping[str, Array],
        sentiment: Head | None,
    ) -> None:
        """Go over to another encoder: its `content` of the items, and vectors of `words` in users' histories.

        Profiles hold references, so they need nothing; other words in them are embedded when they are needed. What was
        counted and the ranker's weights stay: features mean the same, and the ranker goes on learning. So does what
        `sentiment` decided before: references keep their weights.
        """
        self.version, self.taxonomy, self.sentiment = version, taxonomy, sentiment
        self.catalogue.adopt(content)
        self.search_vectors = {word: words[word] for word in self.search_vectors if word in words}

    # -- one event

    def texts(self, event: Event) -> Sequence[str]:
        """Return the texts whose vectors `apply` needs: the event's words and those of a restored history."""
        judged = self._judged(event)
        return self._searched(event) if judged is None else [judged, *self._searched(event)]

    def _judged(self, event: Event) -> str | None:
        """Return the words of a review that the head is to judge, None where there is nothing to judge or no head."""
        if self.sentiment is None or not isinstance(event, Review) or event.value is not None:
            return None
        return event.text

    def _liking(self, event: Event, vectors: Mapping[str, Array]) -> float:
        judged = self._judged(event)
        if judged is None or self.sentiment is None or not (vector := vectors[judged]).any():
            return liking(event)  # zeros are words that the encoder cannot read
        return liking(event, self.sentiment.probability(POSITIVE, vector))

    def _searched(self, event: Event) -> list[str]:
        texts = [event.text] if isinstance(event, Search) else []
        profile = self.profiles.get(event.user)
        if profile is not None:
            texts += [r.text for r in profile.liked if r.text is not None and r.text not in self.search_vectors]
        return texts

    def apply(self, event: Event, vectors: Mapping[str, Array]) -> Outcome:
        """Score, learn, answer. `vectors` holds at least those of `texts(event)`, each of shape (dim,)."""
        if isinstance(event, Forget):
            self._drop(event.user)
            return Outcome()
        self.stream_ms = max(self.stream_ms, event.at_ms)
        profile = self.profiles.get(event.user)
        if profile is not None and self._expired(profile):
            self._drop(event.user)
            profile = None
        if profile is None:
            profile = Profile()
        else:
            del self.profiles[event.user]
        self.profiles[event.user] = profile  # at the end: the dictionary is in the order of last events
        seen = profiles.digest(event.id)
        if seen in profile.seen:
            return Outcome(problem="duplicate")
        remember(profile.seen, seen, profiles.SEEN)
        self._keep(event, profile, vectors)
        profile.events += 1
        profile.heard_ms = self.stream_ms
        evaluation = answer = problem = None
        told = False
        if isinstance(event, ItemEvent):
            answer = answered(profile.lists, event, self.settings.reward_window_ms)
            if event.item not in self.catalogue.index:
                problem = "unknown_item"
            elif isinstance(event, Dismiss):
                self._consume(profile, event)
            else:
                evaluation = self._engage(profile, event, self._liking(event, vectors))
                told = (profile.engagements - 1) % self.settings.interests_every == 0
        elif isinstance(event, Search):
            remember(profile.liked, Reference(event.id, event.at_ms, 1.0, text=event.text), profiles.LIKED)
            told = True
        elif isinstance(event, Impression):
            profile.lists = [
                msgspec.structs.replace(shown, seen=True) if shown.id == event.recommendation else shown
                for shown in profile.lists
            ]
        interests = self._interests(event, profile) if told and profile.liked else None
        recommendation = self._list(event, profile) if event.lists else None
        beside = self._beside(event, profile) if self.rivals and recommendation is not None else {}
        return Outcome(recommendation, interests, evaluation, answer, problem, beside)

    def collect(self, limit: int = 100) -> list[str]:
        """Drop users who were last heard of longer than the TTL ago, at most `limit` of them, and name them.

        When it is called changes no outcome: to `apply`, a user who expired is a new one anyway.
        """
        expired: list[str] = []
        for user, profile in self.profiles.items():
            if len(expired) == limit or not self._expired(profile):
                break
            expired.append(user)
        for user in expired:
            self._drop(user)
        return expired

    def _expired(self, profile: Profile) -> bool:
        return self.stream_ms - profile.heard_ms > self.settings.ttl_days * DAY_MS

    def _drop(self, user: str) -> None:
        profile = self.profiles.pop(user, None)
        self._hidden.pop(user, None)
        for reference in profile.liked if profile else ():
            # Another user's same words are asked for again by `texts`.
            self.search_vectors.pop(reference.text or "", None)

    def _keep(self, event: Event, profile: Profile, vectors: Mapping[str, Array]) -> None:
        """Take over the vectors that an event needs; of those that it does not, the oldest make room."""
        for text in self._searched(event):
            self.search_vectors[text] = vectors[text]
        surplus = len(self.search_vectors) - MAX_SEARCHES
        if surplus > 0:
            needed = {event.text if isinstance(event, Search) else None, *(r.text for r in profile.liked)}
            for text in list(self.search_vectors)[: surplus + MAX_SEARCHES // 10]:
                if text not in needed:
                    del self.search_vectors[text]

    def _engage(self, profile: Profile, event: ItemEvent, weight: float) -> Evaluation | None:
        index = self.catalogue.index
        item = index[event.item]
        evaluation = None
        if weight > 0 and event.item not in profile.consumed and self.catalogue.available(item):
            evaluation = self._score_then_learn(profile, event, item)
        if event.at_ms // DAY_MS > profile.day:  # late events count into the latest day: the cap is none else
            profile.day, profile.day_engagements = event.at_ms // DAY_MS, 0
        profile.day_engagements += 1
        if profile.day_engagements <= self.settings.daily_cap:
            self._count(
                Fact(
                    event.item,
                    weight > 0,
                    [r.item for r in profile.recent if r.item in index],
                    [r.item for r in profile.liked if r.item in index][: profiles.HISTORY],
                )
            )
        profile.engagements += 1
        self._consume(profile, event)
        reference = Reference(event.id, event.at_ms, weight, item=event.item)
        remember(profile.recent, reference, profiles.HISTORY)
        if weight > 0:
            remember(profile.liked, reference, profiles.LIKED)
            self._like_tags(profile, item)
        return evaluation

    def _consume(self, profile: Profile, event: ItemEvent) -> None:
        if event.item not in profile.consumed and event.user in self._hidden:
            self._hidden[event.user].append(self.catalogue.index[event.item])
        consumed = profile.consumed
        consumed.pop(event.item, None)  # to the end: the order is that of the latest engagements
        consumed[event.item] = event.at_ms
        oldest = next(iter(consumed))
        while len(consumed) > profiles.MAX_CONSUMED or event.at_ms - consumed[oldest] > self.settings.ttl_days * DAY_MS:
            del consumed[oldest]
            self._hidden.pop(event.user, None)
            oldest = next(iter(consumed))

    def _like_tags(self, profile: Profile, item: int) -> None:
        """Let the affinity to tags fade by 5% and add the liked item's."""
        affinity = {tag: value * 0.95 for tag, value in profile.tags.items() if value > 1e-4}
        for tag, weight in self.catalogue.tags_of(item).items():
            affinity[tag] = affinity.get(tag, 0.0) + 0.05 * weight
        profile.tags = affinity

    def _look(self, user: str, profile: Profile, target: int = -1) -> tuple[View, History]:
        """Return the candidates as the ranker sees them, and the history that they are seen from."""
        history = self.features.history(profile, self.search_vectors)
        return self.features.look(history, self.ranker, self._consumed(user, profile), target), history

    def _consumed(self, user: str, profile: Profile) -> "array[int]":
        hidden = self._hidden.get(user)
        if hidden is None:
            index = self.catalogue.index
            hidden = self._hidden[user] = array("q", [index[item] for item in profile.consumed if item in index])
        return hidden

    def _score_then_learn(self, profile: Profile, event: Event, item: int) -> Evaluation:
        lot = zlib.crc32(f"{self.settings.seed}:{event.id}".encode()) / 2**32
        hidden, rivals = self._consumed(event.user, profile), {}
        for role, rival in list(self.rivals.items()):
            if rival.drawn(event.id):
                try:
                    rivals[role] = rival.rank(self.features, self.ranker, profile, hidden, item, lot)
                except Exception as error:
                    self._let_go(role, error)
        view, _ = self._look(event.user, profile, item)
        n, ranks, shown = len(self.catalogue), {"penchant": view.rank(lot)}, view.shown()
        for name, values in (
            ("popularity", self.tables.liked[:n]),
            ("recent_popularity", self.tables.recent[:n]),
            ("covisitation", view.everywhere(self.features.names.index("together"))),
        ):
            above, equal = place(values, shown, item)
            ranks[name] = above + int(lot * equal)
        new = bool(self.tables.engaged[item] < NEW_ITEM)
        age = int(self.tables.engaged[item])
        if view.proposed:
            probability = self.ranker.learn(view.x, view.scores, view.there, view.target)
        else:  # chosen although it was not to be had here: that says nothing of how the candidates compare
            probability = self.ranker.probability(view.scores, view.target)
        return Evaluation(ranks, profile.engagements < COLD_USER, new, -log(max(probability, 1e-30)), rivals, age)

    # -- answers

    def _list(self, event: Event, profile: Profile) -> Recommendation | None:
        settings, catalogue = self.settings, self.catalogue
        if not len(catalogue):
            return None
        view, history = self._look(event.user, profile)
        searched = isinstance(event, Search) and bool(self.search_vectors[event.text].any())
        chosen, moved = choose(view, catalogue.ids, catalogue.content, settings.length, settings.mmr, searched)
        if not chosen:
            return None
        slots = self._explainer.slots(view, history, chosen, moved)
        identity = f"{event.id}.r"
        profile.lists.insert(0, Shown(identity, [slot.item for slot in slots], event.at_ms))
        del profile.lists[profiles.MAX_LISTS :]
        return Recommendation(
            identity, event.user, event.at_ms, event.id, self.version, self.ranker.steps, "greedy", slots
        )

    def _beside(self, event: Event, profile: Profile) -> dict[str, Recommendation]:
        """Return what those of the rivals would have shown that tell it, by role."""
        found: dict[str, Recommendation] = {}
        settings, catalogue = self.settings, self.catalogue
        for role, rival in list(self.rivals.items()):
            if not (rival.lists and rival.drawn(event.id)):
                continue
            try:
                view = rival.look(self.features, self.ranker, profile, self._consumed(event.user, profile))
                searched = isinstance(event, Search) and bool(rival.words[event.text].any())
                chosen, moved = choose(view, catalogue.ids, rival.content, settings.length, settings.mmr, searched)
            except Exception as error:
                self._let_go(role, error)
                continue
            scores = [float(view.scores[column]) for column in chosen]
            slots = [
                Recommended(catalogue.ids[view.position(column)], score, 1.0, [], score, moved.get(column))
                for column, score in zip(chosen, scores, strict=True)
            ]
            found[role] = Recommendation(
                f"{event.id}.{role}",
                event.user,
                event.at_ms,
                event.id,
                rival.version,
                self.ranker.steps,
                "greedy",
                slots,
            )
        return found

    def _interests(self, event: Event, profile: Profile) -> Interests:
        found = topics(profile.liked, self.catalogue, self.search_vectors, self.taxonomy)
        return Interests(event.user, event.at_ms, self.version, found)
