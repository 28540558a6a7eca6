"""The catalogue: items and their vectors as the items topic has them, put into every partition's fold."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import structlog

from consumer import kafka
from consumer.batch import Vector
from consumer.embedding import Model
from consumer.settings import Settings
from consumer.tables import ItemsTable
from model.events import Item
from model.fold import Fold

log = structlog.get_logger("penchant.items")
Known = Mapping[str, tuple[Item, Vector]]
AT_ONCE = 64
"""So many items are embedded between two beats of the heart, and between two polls for events."""
SAY_SECONDS = 10.0


class Items:
    """Every item with its vector; a change is handed on to the folds that are live."""

    def __init__(self, settings: Settings, model: Model, on_error: kafka.OnError, beat: Callable[[], None]) -> None:
        self._model, self._beat = model, beat
        self._table = ItemsTable(settings, on_error, beat)
        self._known: dict[str, tuple[Item, Vector]] = {}
        self.changes = 0
        """How often an item came, became another, or went, since the topic was opened."""
        self._changed: dict[str, int] = {}
        """The number of each item's latest change, the latest last."""
        self._unread: dict[str, Item | None] = {}
        """What changed, and is not taken over yet."""
        self.bad: list[str] = []
        """Reasons of records that can never be handled, since the caller last looked."""

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[tuple[Item, Vector]]:
        return iter(self._known.values())

    @property
    def offsets(self) -> list[int]:
        """First offset of the items topic not yet read, by partition."""
        return list(self._table.offsets)

    def open(self) -> None:
        """Read the topic to its end and embed it all; raises `DependencyAway`."""
        changed = self._table.open()
        names, said = list(changed), time.monotonic()
        began = said
        for start in range(0, len(names), AT_ONCE):
            self._take({name: changed[name] for name in names[start : start + AT_ONCE]}, ())
            self._beat()
            now, done = time.monotonic(), min(start + AT_ONCE, len(names))
            if now - said > SAY_SECONDS:
                said = now
                left = (now - began) / done * (len(names) - done)
                log.info("embedding items", done=done, of=len(names), eta_seconds=round(left))
        self._changed.clear()  # nobody knew anything else before

    def poll(self, folds: Iterable[Fold]) -> None:
        """Take over what changed since, at most so much that events do not have to wait long."""
        self._unread |= self._table.poll(AT_ONCE)
        if self._unread:
            self._take(self._unread, list(folds))
            self._unread = {}
        self.bad += self._table.bad
        self._table.bad.clear()

    def known(self) -> Known:
        """Return what is there now, for whoever takes his time; look at `changes` before, and `catch_up` then."""
        return dict(self._known)

    def changed(self, since: int) -> dict[str, Item | None]:
        """Return what changed since there were so many `changes`, in that order; None for an item that went."""
        names: list[str] = []
        for name, number in reversed(self._changed.items()):
            if number <= since:
                break
            names.append(name)
        return {name: self._known[name][0] if name in self._known else None for name in reversed(names)}

    def catch_up(self, fold: Fold, since: int) -> None:
        """Put into a fold what changed since there were so many `changes`."""
        for name, item in self.changed(since).items():
            if item is None:
                fold.drop_item(name)
            else:
                fold.put_item(*self._known[name])

    def adopt(self, model: Model, known: dict[str, tuple[Item, Vector]]) -> None:
        """Go over to another model, whose vectors `known` has."""
        vectors = list(self._known.values())
        self._model, self._known = model, known
        # One by one: to free a hundred thousand vectors at once would hold up the loop for 15 ms. From a list of their
        # own: another thread may be about to copy what was known before.
        threading.Thread(target=_empty, args=(vectors,), daemon=True).start()

    def close(self) -> None:
        """Leave the topic."""
        self._table.close()

    def _take(self, changed: Mapping[str, Item | None], folds: Iterable[Fold]) -> None:
        there = [(item, item.content()) for item in changed.values() if item is not None]
        vectors, failed = self._model.embed([text for _, text in there])
        self.bad += ["text" for _, text in there if text in failed]
        for item, vector in ((item, vectors[text]) for item, text in there if text in vectors):
            self._known[item.item] = (item, vector)
            self._note(item.item)
            for fold in folds:
                fold.put_item(item, vector)
        gone = [name for name, item in changed.items() if item is None]
        for name in gone + [item.item for item, text in there if text in failed]:  # as a restart would have it
            if self._known.pop(name, None) is not None:
                self._note(name)
                for fold in folds:
                    fold.drop_item(name)

    def _note(self, name: str) -> None:
        # After the change itself: another thread that takes a copy in between only hears of it twice.
        self.changes += 1
        self._changed.pop(name, None)
        self._changed[name] = self.changes


def _empty(vectors: list[tuple[Item, Vector]]) -> None:
    while vectors:
        vectors.pop()
