"""Which items make a list: the best by score, then perhaps moved apart for diversity."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.choosing import top

Array = NDArray[np.float32]


def best(scores: Array, ids: Sequence[str], count: int) -> list[int]:
    """Return the indices of the `count` highest of `scores`, shape (n,), best first; -inf is never among them.

    Exact ties are ordered by item id, so that the order in which items arrived does not show.
    """
    chosen = np.empty(count, np.int64)
    found, tied = top(scores, chosen)
    if not tied:
        order: list[int] = chosen[:found].tolist()
        return order
    pool = np.flatnonzero(scores >= scores[chosen[found - 1]]).tolist()
    return sorted(pool, key=lambda i: (-scores[i], ids[i]))[:count]


def diversify(order: Sequence[int], scores: Array, similarity: Array, length: int, trade: float) -> list[int]:
    """Return `length` of the items in `order`, by maximal marginal relevance (Carbonell & Goldstein 1998).

    `trade` 0 keeps the order, 1 looks at difference alone; `similarity`, shape (n, n), is of all items.
    """
    low, high = float(scores[order[-1]]), float(scores[order[0]])
    relevance = {i: (float(scores[i]) - low) / (high - low or 1.0) for i in order}
    chosen: list[int] = []
    nearest = dict.fromkeys(order, 0.0)
    while len(chosen) < length and nearest:
        pick = max(nearest, key=lambda i: (1 - trade) * relevance[i] - trade * nearest[i])
        chosen.append(pick)
        del nearest[pick]
        for i in nearest:
            nearest[i] = max(nearest[i], float(similarity[pick, i]))
    return chosen
