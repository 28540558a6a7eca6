"""What it takes to get a model ready beside the loop, to take it over between two events, or to let it rank beside."""

from collections.abc import Callable, Mapping, Sequence
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
Changed = Mapping[str, Item | None]
"""Items that changed meanwhile, None for those that went."""


class Prepared(NamedTuple):
    """A model with everything that is known already in its vectors."""

    model: Model
    items: dict[str, tuple[Item, Vector]]
    words: dict[str, Vector]
    """Those of users' histories."""
    contents: list[tuple[Fold, Content]]
    changes: int = 0
    """How often items had changed before; what changed since is to be caught up with."""


def prepare(model: Model, known: Known, changes: int, folds: Sequence[Fold], progress: Progress) -> Prepared:
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
    contents = [(fold, fold.catalogue.embedded(by_name, model.encoder)) for fold in folds]
    return Prepared(model, items, {word: found[word] for word in words}, contents, changes)


def compare(prepared: Prepared, role: str, words: Texts, share: float, changed: Changed, lists: bool = False) -> None:
    """Let a model that does not serve rank beside the one that does, in the folds that it was prepared for.

    `lists`: it also tells which lists it would have shown.
    """
    for fold, content in prepared.contents:
        fold.rivals[role] = Rival(prepared.model.version, content, words, share, fold.ranker, lists)
        content.grow(fold.catalogue.capacity)
        for name, item in changed.items():
            if role not in fold.rivals or name not in fold.catalogue.index:
                continue
            if item is None:
                content.drop(fold.catalogue.index[name], len(fold.catalogue))
            else:
                fold.put_rival_item(role, item)


def adopt(prepared: Prepared, folds: Sequence[Fold], changed: Changed) -> dict[str, tuple[Item, Vector]]:
    """Let the folds go over to the model, and return the catalogue in its vectors; between two events.

    What changed while it got ready (items, partitions) is embedded here: a few, in general none.
    """
    model, items = prepared.model, prepared.items
    late = [item for item in changed.values() if item is not None]
    vectors, _ = model.embed([item.content() for item in late])
    for name in changed:
        items.pop(name, None)
    items |= {item.item: (item, vectors[item.content()]) for item in late if item.content() in vectors}
    contents = {id(fold): content for fold, content in prepared.contents}
    for fold in folds:
        content = contents.get(id(fold))
        if content is None:  # a partition that came meanwhile
            by_name = {name: vector for name, (_, vector) in items.items()}
            content = fold.catalogue.embedded(by_name, model.encoder)
        fold.adopt(model.version, model.taxonomy, content, prepared.words, model.sentiment)
        for name in changed:
            if name in items:
                fold.put_item(*items[name])
            else:
                fold.drop_item(name)
    return items
