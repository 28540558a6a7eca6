"""The fold: one event after another, scored, then learnt from, then answered with a list and its reasons.

No clock, no network, no randomness but what is seeded by (seed, event id): the outcome is a function of the events.
"""

import zlib
from array import array
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from model import profile as profiles
from model.catalogue import Catalogue
from model.encoding import Vectors
from model.errors import Fatal
from model.events import (
    Dismiss,
    Event,
    Evidence,
    Forget,
    Impression,
    Interests,
    Item,
    ItemEvent,
    Recommendation,
    Search,
    Topic,
    liking,
)
from model.explain import explain
from model.features import CONTENT, NAMES, Features, History
from model.kernels import place
from model.profile import Profile, Reference, Shown, remember
from model.ranker import SoftmaxRanker
from model.tables import Fact, Tables
from model.taxonomy import Taxonomy

DAY_MS = 86_400_000
COLD_USER = 5
NEW_ITEM = 5
FORMAT = 1
Array = NDArray[np.float32]


class FoldSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the outcome depends on besides the events."""

    length: int = 10
    """Items in a list."""
    reasons: int = 3
    seed: int = 0
    daily_cap: int = 1000
    """Engagements of one user in a day that shared statistics count: one bot must not own popularity."""
    interests_every: int = 10
    """Engagements between two messages about a user's interests; the first is always told."""
    mmr: float = 0.0
    """Diversity: 0 keeps the ranker's order, 1 looks at difference alone (Carbonell & Goldstein 1998)."""
    without: frozenset[str] = frozenset()
    """Features silenced (ablation)."""


class Evaluation(msgspec.Struct, frozen=True):
    """Where each ranker had put the item that the user then chose; 0 is the top. Measured before learning."""

    ranks: dict[str, int]
    cold_user: bool
    new_item: bool


class Outcome(msgspec.Struct, frozen=True):
    """What one event leads to."""

    recommendation: Recommendation | None = None
    interests: Interests | None = None
    evaluation: Evaluation | None = None
    reward: bool | None = None
    """Whether the list that the event answers held its item; None where it answers none that is remembered."""
    problem: str | None = None


class _Delta(msgspec.Struct, array_like=True):
    format: int
    stream_ms: int
    steps: int
    parameters: bytes
    facts: list[Fact]


class Fold:
    """State of one partition and the step that takes it from event to event."""

    def __init__(self, settings: FoldSettings, dim: int, version: str, taxonomy: Taxonomy) -> None:
        self.settings, self.version, self.taxonomy = settings, version, taxonomy
        silent = settings.without - {"content"} | (frozenset(CONTENT) if "content" in settings.without else frozenset())
        unknown = silent - set(NAMES)
        if unknown:
            raise Fatal(f"no feature {sorted(unknown)}; there are: content, {', '.join(NAMES)}")
        self.catalogue = Catalogue(dim)
        self.tables = Tables(self.catalogue.capacity)
        self.features = Features(self.catalogue, self.tables, silent)
        self.ranker = SoftmaxRanker(len(NAMES))
        self.profiles: dict[str, Profile] = {}
        self.stream_ms = 0
        self.facts: list[Fact] = []
        self._hidden: dict[str, array[int]] = {}
        """Indices of what each user consumed: derived from the profile when missing, extended with it."""
        self.search_vectors: dict[str, Array] = {}
        """Vectors of the words in users' histories, by text; dropped with the encoder version."""

    # -- items

    def put_item(self, item: Item, vector: Array) -> None:
        """Add or replace an item; `vector` is its content's, shape (dim,)."""
        if item.item not in self.catalogue.index:
            self._hidden.clear()  # a restored profile may have consumed it before it was known here
        self.catalogue.put(item, vector)
        self.tables.reserve(self.catalogue.capacity)

    def drop_item(self, item_id: str) -> None:
        """Take an item out of all lists."""
        self.catalogue.drop(item_id)

    # -- one event

    def texts(self, event: Event) -> Sequence[str]:
        """Return the texts whose vectors `apply` needs: the event's words and those of a restored history."""
        texts = [event.text] if isinstance(event, Search) else []
        profile = self.profiles.get(event.user)
        if profile is not None:
            texts += [r.text for r in profile.liked if r.text is not None and r.text not in self.search_vectors]
        return texts

    def apply(self, event: Event, vectors: Mapping[str, Array]) -> Outcome:
        """Score, learn, answer. `vectors` holds at least those of `texts(event)`, each of shape (dim,)."""
        if isinstance(event, Forget):
            forgotten = self.profiles.pop(event.user, None)
            self._hidden.pop(event.user, None)
            for reference in forgotten.liked if forgotten else ():
                # Another user's same words are asked for again by `texts`.
                self.search_vectors.pop(reference.text or "", None)
            return Outcome()
        for text in self.texts(event):
            self.search_vectors.setdefault(text, vectors[text])
        self.stream_ms = max(self.stream_ms, event.at_ms)
        profile = self.profiles.get(event.user)
        if profile is None:
            profile = self.profiles[event.user] = Profile()
        profile.events += 1
        profile.last_ms = max(profile.last_ms, event.at_ms)
        evaluation = reward = problem = None
        told = False
        if isinstance(event, ItemEvent):
            reward = self._reward(profile, event)
            if event.item not in self.catalogue.index:
                problem = "unknown_item"
            elif isinstance(event, Dismiss):
                self._consume(profile, event)
            else:
                evaluation = self._engage(profile, event)
                told = profile.engagements % self.settings.interests_every == 1
        elif isinstance(event, Search):
            remember(profile.liked, Reference(event.id, event.at_ms, 1.0, text=event.text), profiles.LIKED)
            told = True
        elif isinstance(event, Impression):
            return Outcome()
        interests = self._interests(event, profile) if told and profile.liked else None
        recommendation = self._list(event, profile) if event.lists else None
        return Outcome(recommendation, interests, evaluation, reward, problem)

    def _reward(self, profile: Profile, event: ItemEvent) -> bool | None:
        for shown in profile.lists:
            if shown.id == event.recommendation:
                return event.item in shown.items and not isinstance(event, Dismiss)
        return None

    def _engage(self, profile: Profile, event: ItemEvent) -> Evaluation | None:
        item, weight = self.catalogue.index[event.item], liking(event)
        evaluation = None
        if weight > 0 and event.item not in profile.consumed and item not in self.catalogue.unavailable:
            evaluation = self._score_then_learn(profile, event, item)
        if profile.day != event.at_ms // DAY_MS:
            profile.day, profile.day_engagements = event.at_ms // DAY_MS, 0
        profile.day_engagements += 1
        if profile.day_engagements <= self.settings.daily_cap:
            self._count(
                Fact(
                    event.item,
                    weight > 0,
                    [r.item for r in profile.recent if r.item],
                    [r.item for r in profile.liked if r.item][: profiles.HISTORY],
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
        profile.consumed[event.item] = event.at_ms
        if len(profile.consumed) > profiles.MAX_CONSUMED:
            del profile.consumed[next(iter(profile.consumed))]
            self._hidden.pop(event.user, None)

    def _count(self, fact: Fact) -> None:
        index = self.catalogue.index
        item = index[fact.item]
        self.tables.add(item, fact.liked, [index[i] for i in fact.before], [index[i] for i in fact.liked_before])
        self.facts.append(fact)

    def _like_tags(self, profile: Profile, item: int) -> None:
        """Let the affinity to tags fade by 5% and add the liked item's."""
        affinity = self._tag_affinity(profile) * np.float32(0.95) + np.float32(0.05) * self.catalogue.tags[:, item]
        values = affinity.tolist()
        profile.tags = {tag: values[slot] for tag, slot in self.catalogue.tag_index.items() if values[slot] > 1e-4}

    def _tag_affinity(self, profile: Profile) -> Array:
        affinity = np.zeros(self.catalogue.tags.shape[0], np.float32)
        index = self.catalogue.tag_index
        for tag, value in profile.tags.items():
            if tag in index:
                affinity[index[tag]] = value
        return affinity

    def _history(self, profile: Profile) -> History:
        catalogue = self.catalogue
        index = catalogue.index
        recent = [index[r.item] for r in profile.recent if r.item in index]
        liked = [index[r.item] for r in profile.liked if r.item in index][: profiles.HISTORY]
        latest = profile.liked[: profiles.HISTORY]
        if all(r.item in index for r in latest):
            contents = catalogue.similarity.take(liked, axis=0)
        else:
            contents = np.zeros((len(latest), catalogue.capacity), np.float32)
            for row, reference in zip(contents, latest, strict=True):
                if reference.text is not None:
                    np.dot(catalogue.vectors, self.search_vectors[reference.text], out=row)
                elif reference.item in index:
                    row[:] = catalogue.similarity[index[reference.item]]
        return History(np.array(recent, np.int64), np.array(liked, np.int64), contents, self._tag_affinity(profile))

    def _mask(self, scores: Array, user: str) -> Array:
        """Give what cannot be shown to `user` a score of -inf, in place."""
        hidden = self._hidden.get(user)
        if hidden is None:
            index, consumed = self.catalogue.index, self.profiles[user].consumed
            hidden = self._hidden[user] = array("q", [index[item] for item in consumed if item in index])
        if hidden:
            # A copy: an array cannot grow while a view of it lives.
            scores[np.array(hidden)] = -np.inf
        if self.catalogue.unavailable:
            scores[list(self.catalogue.unavailable)] = -np.inf
        return scores

    def _score_then_learn(self, profile: Profile, event: Event, item: int) -> Evaluation:
        x = self.features.matrix(self._history(profile))
        scores = self._mask(self.ranker.score(x), event.user)
        lot = zlib.crc32(f"{self.settings.seed}:{event.id}".encode()) / 2**32
        n = len(self.catalogue)
        ranks = {}
        for name, values in (
            ("penchant", scores),
            ("popularity", self.tables.liked[:n]),
            ("recent_popularity", self.tables.recent[:n]),
            ("covisitation", x[2]),
        ):
            above, equal = place(values, scores, item)
            ranks[name] = above + int(lot * equal)
        evaluation = Evaluation(ranks, profile.engagements < COLD_USER, bool(self.tables.engaged[item] < NEW_ITEM))
        self.ranker.learn(x, scores, item)
        return evaluation

    # -- answers

    def _list(self, event: Event, profile: Profile) -> Recommendation | None:
        if not len(self.catalogue):
            return None
        history = self._history(profile)
        x = self.features.matrix(history)
        scores = self._mask(self.ranker.score(x), event.user)
        order = self._top(scores)
        if not len(order):
            return None
        chosen, moved = self._diversify(order, scores)
        items = explain(self, x, scores, history, profile, chosen, moved)
        identity = f"{event.id}.r"
        profile.lists.insert(0, Shown(identity, [self.catalogue.ids[i] for i in chosen]))
        del profile.lists[profiles.MAX_LISTS :]
        return Recommendation(
            identity, event.user, event.at_ms, event.id, self.version, self.ranker.steps, "greedy", items
        )

    def _top(self, scores: Array) -> list[int]:
        """Return the best items' indices, best first, exact ties by item id; longer than a list where MMR is on."""
        count = self.settings.length * (5 if self.settings.mmr else 1)
        if count < len(scores):
            threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
            pool = np.flatnonzero(scores >= max(threshold, np.finfo(np.float32).min))
        else:
            pool = np.flatnonzero(scores > -np.inf)
        ids, values = self.catalogue.ids, scores[pool].tolist()
        ranked = sorted(zip(values, pool.tolist(), strict=True), key=lambda pair: (-pair[0], ids[pair[1]]))
        return [i for _, i in ranked[:count]]

    def _diversify(self, order: list[int], scores: Array) -> tuple[list[int], dict[int, str]]:
        """Return the list after maximal marginal relevance, and what moved whom (positions only, never scores)."""
        length, trade = self.settings.length, self.settings.mmr
        if not trade:
            return order[:length], {}
        low, high = float(scores[order[-1]]), float(scores[order[0]])
        relevance = {i: (float(scores[i]) - low) / (high - low or 1.0) for i in order}
        chosen: list[int] = []
        nearest = dict.fromkeys(order, 0.0)
        while len(chosen) < length and nearest:
            best = max(nearest, key=lambda i: (1 - trade) * relevance[i] - trade * nearest[i])
            chosen.append(best)
            del nearest[best]
            for i in nearest:
                nearest[i] = max(nearest[i], float(self.catalogue.similarity[best, i]))
        return chosen, {i: "diversity" for place, i in enumerate(chosen) if order[place] != i}

    def _interests(self, event: Event, profile: Profile) -> Interests:
        index, catalogue = self.catalogue.index, self.catalogue
        references = [r for r in profile.liked if r.text is not None or r.item in index]
        vectors: Vectors = np.stack(
            [
                self.search_vectors[r.text] if r.text is not None else catalogue.vectors[index[r.item or ""]]
                for r in references
            ]
        )
        weights = np.array([r.weight for r in references], np.float32) * 0.9 ** np.arange(len(references))
        parts = self.taxonomy.share(vectors) * (weights / weights.sum())[:, None]
        total = parts.sum(axis=0)
        strongest = np.argsort(-parts, axis=0, kind="stable")[:3]
        shares = np.take_along_axis(parts, strongest, axis=0).astype(float).round(6).T.tolist()
        sources, totals = strongest.T.tolist(), total.astype(float).round(6).tolist()
        topics = []
        for topic in np.argsort(-total, kind="stable").tolist():
            evidence = [
                Evidence(references[source].event, share)
                for source, share in zip(sources[topic], shares[topic], strict=True)
                if share > 0
            ]
            topics.append(Topic(self.taxonomy.names[topic], totals[topic], evidence))
        return Interests(event.user, event.at_ms, self.version, topics)

    # -- state

    def dump_user(self, user: str) -> bytes | None:
        """Return the user's profile for the changelog, None if there is none (forgotten)."""
        profile = self.profiles.get(user)
        return None if profile is None else msgspec.msgpack.encode(profile)

    def load_user(self, user: str, state: bytes) -> None:
        """Take over a profile; raises `Fatal` if a newer version wrote it."""
        profile = msgspec.msgpack.decode(state, type=Profile)
        _refuse_newer(profile.format, profiles.FORMAT)
        self.profiles[user] = profile
        self._hidden.pop(user, None)

    def take_delta(self) -> bytes:
        """Return what changed in the shared tables since the last call, and the ranker as it is."""
        facts, self.facts = self.facts, []
        return msgspec.msgpack.encode(_Delta(FORMAT, self.stream_ms, *self.ranker.dump(), facts))

    def load_delta(self, delta: bytes) -> None:
        """Add one delta; to be called in order, after the snapshot that it follows."""
        record = msgspec.msgpack.decode(delta, type=_Delta)
        _refuse_newer(record.format, FORMAT)
        self.stream_ms = record.stream_ms
        self.ranker.load(record.steps, record.parameters)
        for fact in record.facts:
            for item in (fact.item, *fact.before, *fact.liked_before):
                self._intern(item)
            self._count(fact)
        self.facts.clear()

    def _intern(self, item: str) -> int:
        place = self.catalogue.intern(item)
        self.tables.reserve(self.catalogue.capacity)
        return place

    def snapshot(self) -> list[bytes]:
        """Return the shared tables and the ranker in chunks below 1 MB, independent of the order of items."""
        head = msgspec.msgpack.encode(_Delta(FORMAT, self.stream_ms, *self.ranker.dump(), []))
        return [head, *self.tables.snapshot(self.catalogue.ids)]

    def load_snapshot(self, chunks: Sequence[bytes]) -> None:
        """Take over what `snapshot` gave, into an empty fold (items may already be there)."""
        self.tables.load(chunks[1:], self._intern, lambda: self.catalogue.capacity)
        self.load_delta(chunks[0])


def _refuse_newer(found: int, known: int) -> None:
    if found > known:
        raise Fatal(f"state of format {found}, this version reads up to {known}: upgrade, or use a new app_id")
