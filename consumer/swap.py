"""What it takes to get a model ready beside the loop, to take it over between two events, or to let it rank beside."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from consumer.batch import Texts, Vector
from consumer.embedding import Model
from consumer.items import AT_ONCE, Known
from model.content import Content
from model.errors import BadBundle, Fatal
from model.events import Item
from model.fold import Fold
from model.rival import Rival

Progress = Callable[[int, int], None]
"""Told how many texts are embedded, and of how many."""


class Prepared(NamedTuple):
    """A model with everything that is known already in its vectors."""

    model: Model
    items: dict[str, tuple[Item, Vector]]
    words: dict[str, Vector]
    """Those of users' histories."""
    contents: list[tuple[Fold, Content]]


def prepare(model: Model, known: Known, folds: Sequence[Fold], progress: Progress) -> Prepared:
    """Embed catalogue and histories anew; for a thread of its own. `progress` is told how many texts of how many.

    Raises:
        BadBundle: the encoder fails at what others can embed; the old one serves on.
    """
    texts = {name: item.content() for name, (item, _) in known.items()}
    words = [word for fold in folds for word in list(fold.search_vectors)]
    wanted = list(dict.fromkeys([*texts.values(), *words]))
    found: dict[str, Vector] = {}
    for start in range(0, len(wanted), AT_ONCE):
        progress(start, len(wanted))
        try:
            vectors, failed = model.embed(wanted[start : start + AT_ONCE])
        except Fatal as error:
            raise BadBundle(str(error)) from error
        if failed:
            text, why = next(iter(failed.items()))
            raise BadBundle(f"it cannot embed {text[:60]!r} ({why}), which the model that serves can")
        found |= vectors
    progress(len(wanted), len(wanted))
    items = {name: (item, found[texts[name]]) for name, (item, _) in known.items()}
    by_name = {name: vector for name, (_, vector) in items.items()}
    contents = [(fold, fold.catalogue.embedded(by_name, model.encoder.dim)) for fold in folds]
    return Prepared(model, items, {word: found[word] for word in words}, contents)


def compare(prepared: Prepared, role: str, words: Texts, share: float, known: Known) -> None:
    """Let a model that does not serve rank beside the one that does, in the folds that it was prepared for.

    It takes over what changed meanwhile, up to what is `known` now (empty: nothing did).
    """
    late, gone = _late(prepared.items, known), prepared.items.keys() - known.keys() if known else ()
    for fold, content in prepared.contents:
        fold.rivals[role] = Rival(prepared.model.version, content, words, share)
        _forget(content, fold, gone)
        for item in late:
            if role in fold.rivals and item.item in fold.catalogue.index:
                fold.put_rival_item(role, item)


def _forget(content: Content, fold: Fold, gone: Iterable[str]) -> None:
    """Let a fold's new content be without items that were taken out while it got ready."""
    content.grow(fold.catalogue.capacity)
    for name in gone:
        if name in fold.catalogue.index:
            content.drop(fold.catalogue.index[name], len(fold.catalogue))


def _late(items: Known, known: Known) -> list[Item]:
    """Return the items that came or changed since."""
    return [item for name, (item, _) in known.items() if name not in items or items[name][0] is not item]


def adopt(prepared: Prepared, folds: Sequence[Fold], known: Known) -> dict[str, tuple[Item, Vector]]:
    """Let the folds go over to the model, and return the catalogue in its vectors; between two events.

    What changed while it got ready (items, partitions) is embedded here: a few, in general none.
    """
    model, items = prepared.model, prepared.items
    late = _late(items, known)
    vectors, _ = model.embed([item.content() for item in late])
    now, gone = items, set[str]()
    if late or len(known) < len(items):  # not in general, and there may be very many
        now = {name: items[name] for name, (item, _) in known.items() if name in items and items[name][0] is item}
        gone = items.keys() - known.keys()
        now |= {item.item: (item, vectors[item.content()]) for item in late if item.content() in vectors}
    contents = {id(fold): content for fold, content in prepared.contents}
    for fold in folds:
        content = contents.get(id(fold))
        if content is None:  # a partition that came meanwhile
            by_name = {name: vector for name, (_, vector) in now.items()}
            content = fold.catalogue.embedded(by_name, model.encoder.dim)
        _forget(content, fold, gone)
        fold.adopt(model.version, model.taxonomy, content, prepared.words, model.sentiment)
        for item in late:
            if item.item in now:
                fold.put_item(*now[item.item])
    return now
