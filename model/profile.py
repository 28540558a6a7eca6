"""What is kept of one user: a bounded history of references, never vectors (those belong to one encoder)."""

from hashlib import blake2b
from typing import TypeVar

import msgspec

T = TypeVar("T")
HISTORY = 10
"""Past engagements that speak for a candidate."""
LIKED = 40
"""Past likings that speak for an interest."""
MAX_CONSUMED = 2000
MAX_LISTS = 5
SEEN = 32
"""Latest event ids of a user by which a repeated event is known."""
FORMAT = 1


class Reference(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A past event: the item that it engaged, or the words that it searched."""

    event: str
    at_ms: int
    weight: float
    item: str | None = None
    text: str | None = None


class Shown(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A list that was published: what a later event may answer."""

    id: str
    items: list[str]
    at_ms: int = 0
    seen: bool = False
    """An impression said so."""


class Profile(msgspec.Struct, array_like=True):
    """One user; everything here is what the changelog holds. Fields are only ever added, at the end."""

    format: int = FORMAT
    events: int = 0
    engagements: int = 0
    heard_ms: int = 0
    """Stream time at the last event, which may itself have been late."""
    day: int = 0
    day_engagements: int = 0
    recent: list[Reference] = []
    """Newest first, at most 10: engagements."""
    liked: list[Reference] = []
    """Newest first, at most 40: likings and searches."""
    consumed: dict[str, int] = {}
    """Item -> when; insertion order is age."""
    tags: dict[str, float] = {}
    lists: list[Shown] = []
    """Newest first, at most 5."""
    seen: list[int] = []
    """Digests of the latest event ids, newest first, at most 32."""


def digest(event_id: str) -> int:
    """Return 56 bits of an event's id: two of a user's last 32 are taken for one in 1 of 10^15 events."""
    return int.from_bytes(blake2b(event_id.encode(), digest_size=7).digest(), "big")


def remember(history: list[T], newest: T, limit: int) -> None:
    """Put the newest first and let the oldest beyond `limit` go."""
    history.insert(0, newest)
    del history[limit:]
