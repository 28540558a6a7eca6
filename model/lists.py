"""Which items make a list: the best by score, then perhaps moved apart for diversity, or let in for a search."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from model.choosing import top
from model.content import Content
from model.encoding import Vectors
from model.features import NAMES, View

Array = NDArray[np.float32]
SOUGHT = 3
"""Items that match a search best have a place in the list that answers it, whatever was learnt."""
_SEARCHED = NAMES.index("searched")


def choose(
    view: View, ids: Sequence[str], content: Content, length: int, mmr: float, searched: bool
) -> tuple[list[int], dict[int, str]]:
    """Return the columns of a `view` that make a list of at most `length`, and by what some of them were moved.

    `ids` and `content` are the catalogue's, of the model that the view is of. `mmr` as the `trade` of `diversify`; 0
    for none. `searched`: the list answers a search with words that can be read.
    """

    def name(column: int) -> str:
        return ids[view.position(column)]

    chosen = order = best(view.scores, name, length * (5 if mmr else 1))
    moved: dict[int, str] = {}
    if mmr and order:
        vectors = content.text.vectors[[view.position(column) for column in order]]
        chosen = diversify(order, view.scores[order], vectors, length, mmr)
        moved = {item: "diversity" for item, before in zip(chosen, order, strict=False) if item != before}
    if searched:
        listed = let_in(chosen, best(_alike(view), name, min(SOUGHT, length)))
        moved |= {column: "search" for column in listed if column not in chosen}
        chosen = listed
    return chosen, moved


def _alike(view: View) -> Array:
    """Return how like the latest search the columns are, -inf for what is not, or cannot be shown."""
    beyond = view.x[_SEARCHED]
    # What items have in common with all counts here: an item of the very words has a cosine of 1.
    cosine = beyond + view.past.text.common[: len(beyond)]
    return np.where((view.scores > -np.inf) & (beyond > 0), cosine, -np.inf).astype(np.float32)


def best(scores: Array, name: Callable[[int], str], count: int) -> list[int]:
    """Return the columns of the `count` highest of `scores`, shape (n,), best first; -inf is never among them.

    Exact ties are ordered by item id, which `name` gives, so that the order in which items arrived does not show.
    """
    chosen = np.empty(count, np.int64)
    found, tied = top(scores, chosen)
    if not tied:
        order: list[int] = chosen[:found].tolist()
        return order
    pool = np.flatnonzero(scores >= scores[chosen[found - 1]]).tolist()
    return sorted(pool, key=lambda i: (-scores[i], name(i)))[:count]


def let_in(chosen: Sequence[int], sought: Sequence[int]) -> list[int]:
    """Return a list of the same length that holds all that was `sought`: what is missing takes the last places.

    >>> let_in([5, 6, 7, 8], [7, 9])
    [5, 6, 7, 9]
    """
    missing = [column for column in sought if column not in chosen]
    others = [column for column in chosen if column not in sought]
    gone = others[len(others) - len(missing) :]
    return [column for column in chosen if column not in gone] + missing


def diversify(order: Sequence[int], scores: Array, vectors: Vectors, length: int, trade: float) -> list[int]:
    """Return `length` of the items in `order`, by maximal marginal relevance (Carbonell & Goldstein 1998).

    `trade` 0 keeps the order, 1 looks at difference alone. `scores` and `vectors`, shape (len(order), dim), are theirs.
    """
    similarity = vectors @ vectors.T
    low, high = float(scores[-1]), float(scores[0])
    relevance = [(float(score) - low) / (high - low or 1.0) for score in scores]
    chosen: list[int] = []
    nearest = dict.fromkeys(range(len(order)), 0.0)
    while len(chosen) < length and nearest:
        pick = max(nearest, key=lambda i: (1 - trade) * relevance[i] - trade * nearest[i])
        chosen.append(order[pick])
        del nearest[pick]
        for i in nearest:
            nearest[i] = max(nearest[i], float(similarity[pick, i]))
    return chosen
