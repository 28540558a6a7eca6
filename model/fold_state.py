"""What a fold knows, and how it is kept: profiles, the shared tables and the ranker, as snapshots and deltas."""

from array import array
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from model import profile as profiles
from model.arrivals import Base
from model.catalogue import WHOLE, Catalogue
from model.encoding import Encoder
from model.errors import Fatal
from model.features import NAMES, PRIORS, Features
from model.profile import Profile
from model.ranker import SoftmaxRanker
from model.tables import Fact, Tables

FORMAT = 3
LATER = {1: [NAMES.index("searched"), NAMES.index("learnt")]}
"""By format of the state: features that it does not know."""
ARRIVED_BYTES = 256 * 1024
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
    ttl_days: int = 365
    """A user unheard of for so long, in stream time, is forgotten; an item engaged so long ago may be shown again."""
    reward_window_ms: int = 30 * 60 * 1000
    """An engagement that names no list answers the newest one that was seen (impression) so shortly before."""
    modalities: tuple[str, ...] = ()
    """Vectors of items that count besides their text: "image", "audio", ...; one feature each."""
    without: frozenset[str] = frozenset()
    """Features silenced (ablation)."""
    whole: int = WHOLE
    """Up to so many items (a power of two, 256 or more; 0: never) every one is ranked, above it only candidates."""


class _Delta(msgspec.Struct, array_like=True):
    format: int
    stream_ms: int
    steps: int
    parameters: bytes
    facts: list[Fact]
    arrived: dict[str, int] = {}
    """Items that came, and when; format 3."""
    base: Base = Base()


class FoldState:
    """State of one partition: what events change, and what a changelog holds of it."""

    def __init__(self, settings: FoldSettings, encoder: Encoder) -> None:
        """Nothing is known yet; of the `encoder` is kept what its vectors are like."""
        self.settings = settings
        self.catalogue = Catalogue(encoder.dim, settings.modalities, settings.whole, learnt=encoder.learnt)
        self.tables = Tables(self.catalogue.capacity, settings.whole)
        self.features = Features(self.catalogue, self.tables, settings.without, settings.length)
        names = self.features.names
        priors = {names.index(name): prior for name, prior in PRIORS.items()}
        self.ranker = SoftmaxRanker(len(names), priors=priors)
        self.profiles: dict[str, Profile] = {}
        """In the order of last events."""
        self.stream_ms = 0
        self.facts: list[Fact] = []
        """Counted of this partition's users, and not told yet."""
        self._snapshot_items = 0
        """Items known when the current snapshot began."""
        self._hidden: dict[str, array[int]] = {}
        """Indices of what each user consumed: derived from the profile when missing, extended with it."""

    def merge(self, facts: Sequence[Fact]) -> None:
        """Count what users of other partitions did. It is not told on: each partition tells of its own users."""
        for fact in facts:
            for item in (fact.item, *fact.before, *fact.liked_before):
                self._intern(item)
            self._add(fact)

    def _count(self, fact: Fact) -> None:
        self._add(fact)
        self.facts.append(fact)

    def _add(self, fact: Fact) -> None:
        index = self.catalogue.index
        before = np.array([index[item] for item in fact.before], np.int64)
        liked_before = np.array([index[item] for item in fact.liked_before], np.int64)
        self.tables.add(index[fact.item], fact.liked, before, liked_before, self.catalogue.lots)

    def _intern(self, item: str) -> int:
        if item not in self.catalogue.index:
            self._hidden.clear()  # a profile may have consumed it before it was known here
            place = self.catalogue.intern(item)
            self._arrive(place)
        return self.catalogue.index[item]

    def _arrive(self, place: int) -> None:
        """Make room for an item that was not known, and note when it came."""
        self.tables.reserve(self.catalogue.capacity, self.catalogue.lots)
        self.tables.came(place)

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
        ranker, arrivals = self.ranker.dump(), self.tables.arrivals
        delta = _Delta(FORMAT, self.stream_ms, *ranker, self.take_facts(), self._take_arrived(), arrivals.base)
        return msgspec.msgpack.encode(delta)

    def _take_arrived(self) -> dict[str, int]:
        """Return items that came since the last call, and when; what would make too large a record waits."""
        arrivals, ids, arrived, size = self.tables.arrivals, self.catalogue.ids, {}, 0
        while arrivals.fresh and size < ARRIVED_BYTES:
            item = arrivals.fresh.pop()
            arrived[ids[item]] = int(arrivals.since[item])
            size += len(ids[item].encode()) + 10
        return arrived

    def take_facts(self) -> list[Fact]:
        """Return what was counted of this partition's users since the last call."""
        facts, self.facts = self.facts, []
        return facts

    def load_delta(self, delta: bytes) -> None:
        """Add the delta of a transaction; in order, after the snapshot that it follows, and before `loaded`."""
        record = msgspec.msgpack.decode(delta, type=_Delta)
        _refuse_newer(record.format, FORMAT)
        self.stream_ms = record.stream_ms
        try:
            self.ranker.load(record.steps, record.parameters, LATER.get(record.format, ()))
        except ValueError:
            raise Fatal(
                f"the state is of other features than {', '.join(self.features.names)}: set modalities as they were, "
                "or use a new app_id"
            ) from None
        self.merge(record.facts)
        for item, since in record.arrived.items():
            self.tables.arrivals.since[self._intern(item)] = since
        self.tables.arrivals.base = record.base

    def begin_snapshot(self) -> tuple[bytes, list[tuple[int, int]]]:
        """Return the first chunk of a snapshot of the shared tables, and the blocks of rows that are to follow it."""
        n = self._snapshot_items = len(self.catalogue)
        return self.tables.dump_counts(self.catalogue.ids), self.tables.blocks(n)

    def snapshot_rows(self, block: tuple[int, int], sequence: int) -> bytes:
        """Return a block's chunk, as of now: after transaction `sequence`."""
        ids = self.catalogue.ids
        return self.tables.dump_rows(*block, sequence, ids[self._snapshot_items :], len(ids))

    def load_snapshot(self, chunks: Sequence[bytes]) -> None:
        """Take over all chunks of a snapshot, the first one first, into an empty fold (items may already be there)."""
        self.tables.load(chunks[0], chunks[1:], self._intern, lambda: self.catalogue.lots)

    def loaded(self) -> None:
        """Go live: snapshot, deltas and users are loaded."""
        self.tables.open_all()
        self.profiles = dict(sorted(self.profiles.items(), key=lambda pair: pair[1].heard_ms))


def _refuse_newer(found: int, known: int) -> None:
    if found > known:
        raise Fatal(f"state of format {found}, this version reads up to {known}: upgrade, or use a new app_id")
