"""Training examples: what a user had liked, and what the user chose next; taken from the fold as it serves."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.errors import Fatal
from model.events import Event, Forget, Item, ItemEvent
from model.fold import Fold
from model.profile import HISTORY

SHARES = 1000


class Past(msgspec.Struct, frozen=True, array_like=True):
    """Something liked or searched for: an item, or words."""

    item: str | None = None
    text: str | None = None


class Example(msgspec.Struct, frozen=True, array_like=True):
    """One target of the fold's own evaluation, with what the user had liked before it; whose it is, it does not say."""

    at_ms: int
    item: str
    """What was chosen."""
    past: list[Past]
    """Newest first, at most 10."""
    consumed: list[str]
    """Items that could not be chosen any more."""
    passed: list[str]
    """Shown in the list that was answered, and not chosen."""


class Examples(msgspec.Struct, frozen=True):
    """All examples of a window, in the order of its events, and the texts of the items in them."""

    texts: dict[str, str]
    examples: list[Example]

    def encoded(self) -> bytes:
        """Return the bytes that are kept and hashed: of a compacted topic, offsets would not bring them back."""
        return msgspec.msgpack.encode(self)


def collect(
    fold: Fold,
    event: Event,
    vectors: Mapping[str, NDArray[np.float32]],
    shown: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Example | None:
    """Apply an event to the fold, and return the example in it, None where nothing was chosen or nothing liked before.

    What counts as a target, and what as liked, is the fold's decision alone: nothing is defined a second time here.
    `shown` are the lists that users really had, by id.
    """
    outcome = fold.apply(event, vectors)
    if outcome.evaluation is None or not isinstance(event, ItemEvent):
        return None
    item = event.item
    profile = fold.profiles[event.user]
    past = [Past(one.item, one.text) for one in profile.liked if one.item != item][:HISTORY]
    if not past:
        return None
    passed = [name for name in shown.get(event.recommendation or "", ()) if name != item]
    consumed = [name for name in profile.consumed if name != item]
    return Example(event.at_ms, item, past, consumed, passed)


def collect_all(
    fold: Fold,
    events: Iterable[Event],
    encode: Callable[[Sequence[str]], NDArray[np.float32]],
    shown: Mapping[str, Sequence[str]] = MappingProxyType({}),
    forgotten: Collection[str] = (),
    progress: Callable[[], None] = lambda: None,
) -> list[Example]:
    """Apply events in order and return the examples in them; `encode` embeds words, shape (n, dim).

    A user who asked to be forgotten, in these events or later (`forgotten`), leaves no earlier example behind.
    """
    by_user: dict[str, list[tuple[int, Example]]] = {}
    for number, event in enumerate(events):
        words = fold.texts(event)
        found = collect(fold, event, dict(zip(words, encode(words), strict=True)) if words else {}, shown)
        if isinstance(event, Forget):
            by_user.pop(event.user, None)
        elif found is not None and event.user not in forgotten:
            by_user.setdefault(event.user, []).append((number, found))
        progress()
    return [example for _, example in sorted((pair for pairs in by_user.values() for pair in pairs), key=_first)]


def _first(pair: tuple[int, Example]) -> int:
    return pair[0]


def texts_of(items: Iterable[Item]) -> dict[str, str]:
    """Return each item's text as the encoder reads it."""
    return {item.item: item.content() for item in items}


def held_out(items: Iterable[str], share: float, seed: int, part: str) -> frozenset[str]:
    """Return about that share of the items, drawn by their ids: the same in every run, whatever else there is.

    Parts named differently are drawn apart and do not overlap as long as their shares sum to at most 1: "test" are the
    first in the order of lots, "dev" the last.
    """
    limit = round(share * SHARES)

    def lot(item: str) -> int:
        return int.from_bytes(hashlib.blake2b(f"{seed}:{item}".encode(), digest_size=8).digest(), "big") % SHARES

    if part == "test":
        return frozenset(item for item in items if lot(item) < limit)
    return frozenset(item for item in items if lot(item) >= SHARES - limit)


class Leak(Fatal):
    """What is to be judged by is among what was trained on."""


def training_part(examples: Sequence[Example], until_ms: int, untrained: frozenset[str]) -> list[Example]:
    """Return the examples before `until_ms` without items that are `untrained`; those left without a past are gone."""
    kept = []
    for example in examples:
        if example.at_ms >= until_ms or example.item in untrained:
            continue
        past = [one for one in example.past if one.item not in untrained]
        if past:
            passed = [item for item in example.passed if item not in untrained]
            kept.append(msgspec.structs.replace(example, past=past, passed=passed))
    return kept


def refuse_leaks(training: Sequence[Example], until_ms: int, untrained: frozenset[str]) -> None:
    """Check what is about to be trained on, however it came to be.

    Raises:
        Leak: an example lies in the hold-out, touches an item held out, or knows what was chosen.
    """
    for number, example in enumerate(training):
        names = [example.item, *example.passed, *(one.item for one in example.past)]
        if example.at_ms >= until_ms:
            raise Leak(f"example {number} is of {example.at_ms}, the hold-out begins at {until_ms}")
        if not untrained.isdisjoint(names):
            raise Leak(f"example {number} touches an item that is held out")
        if example.item in example.consumed or any(one.item == example.item for one in example.past):
            raise Leak(f"example {number} has what was chosen in its past")
