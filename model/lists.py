"""Which items make a list: the best by score, then perhaps moved apart for diversity, or let in for a search."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from model.choosing import top
from model.encoding import Vectors

Array = NDArray[np.float32]


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
