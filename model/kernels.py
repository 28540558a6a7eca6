"""The inner loop of the fold, compiled: features of every item in one pass over the rows of a user's history.

In numpy the same takes six times as long (each of its ~40 calls walks the catalogue); see tests/bench.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
DECAY: Array = np.array([0.8**k for k in range(10)], np.float32)
"""Weight of the k-th latest event."""
SUCCESSORS = 3


@njit(cache=True, fastmath={"contract", "reassoc", "nsz", "nnan"})
def feature_matrix(
    x: Array,
    recent: Indices,
    liked_items: Indices,
    contents: Array,
    tags: Array,
    affinity: Array,
    engaged: Array,
    liked: Array,
    log_liked: Array,
    log_recent: Array,
    together: Array,
    liked_together: Array,
    followed: Array,
) -> None:
    """Fill `x`, shape (17, n); rows as in `model.features.NAMES`. Arrays over items may be longer than n.

    All arrays are C-contiguous: a stride that the compiler does not know costs the vector instructions.
    """
    n = x.shape[1]
    for i in range(n):
        x[0, i] = log_liked[i]
        x[1, i] = log_recent[i]
    for k in range(len(recent)):
        row = together[recent[k]]
        weight = np.float32(10) * DECAY[k] / np.sqrt(engaged[recent[k]] + np.float32(5))
        for i in range(n):
            x[2, i] += row[i]
            x[3, i] += weight * row[i]
        if k < 2:
            for i in range(n):
                x[4, i] += row[i]
        if k < SUCCESSORS:
            after = followed[recent[k]]
            weight = np.float32(20) * DECAY[k] / (engaged[recent[k]] + np.float32(10))
            for i in range(n):
                x[5, i] += weight * after[i]
    for k in range(len(liked_items)):
        row = liked_together[liked_items[k]]
        weight = np.float32(10) * DECAY[k] / np.sqrt(liked[liked_items[k]] + np.float32(5))
        for i in range(n):
            x[6, i] += row[i]
            x[7, i] += weight * row[i]
    total = np.float32(0)
    for k in range(len(contents)):
        total += DECAY[k]
    for k in range(len(contents)):
        row = contents[k]
        weight = DECAY[k] / total
        for i in range(n):
            x[9, i] += weight * row[i]
        if k == 0:
            for i in range(n):
                x[10, i] = row[i]
        else:
            for i in range(n):
                x[10, i] = max(x[10, i], row[i])
    for t in range(len(affinity)):
        weight = affinity[t]
        if weight != 0:
            row = tags[t]
            for i in range(n):
                x[8, i] += weight * row[i]
    for i in range(n):
        x[3, i] /= np.sqrt(engaged[i] + np.float32(10))
        x[7, i] /= np.sqrt(liked[i] + np.float32(5))
    for f in range(2, 8):
        for i in range(n):
            x[f, i] = np.sqrt(x[f, i])
    for i in range(n):
        new = np.float32(1) / (np.float32(1) + engaged[i] * np.float32(0.5))
        x[11, i] = liked[i] / (engaged[i] + np.float32(3))
        x[12, i] = new
        x[13, i] = x[9, i] * new
        x[14, i] = x[10, i] * new
        x[15, i] = x[8, i] * new
        x[16, i] = x[3, i] * new


@njit(cache=True, fastmath={"contract", "reassoc", "nsz", "nnan"})
def moments(x: Array, probabilities: Array, expected: Array, mean: Array, square: Array) -> None:
    """Fill each feature's expectation under `probabilities`, mean and mean square, shapes (features,)."""
    n = x.shape[1]
    for f in range(x.shape[0]):
        row = x[f]
        a = np.float32(0)
        b = np.float32(0)
        c = np.float32(0)
        for i in range(n):
            a += row[i] * probabilities[i]
            b += row[i]
            c += row[i] * row[i]
        expected[f] = a
        mean[f] = b / n
        square[f] = c / n


@njit(cache=True)
def place(values: Array, scores: Array, own: int) -> tuple[int, int]:
    """Return how many items that can be shown (score > -inf) have a higher value than item `own`, and as high a one."""
    above = 0
    equal = 0
    for i in range(len(scores)):
        if scores[i] > -np.inf:
            if values[i] > values[own]:
                above += 1
            elif values[i] == values[own]:
                equal += 1
    return above, equal


@njit(cache=True)
def strongest_parts(
    contributions: Array,
    family: Indices,
    items: Indices,
    recent: Indices,
    liked_items: Indices,
    contents: Array,
    together: Array,
    liked_together: Array,
    sources: Indices,
    values: Array,
) -> None:
    """Fill, for each of m items, the `k` parts of largest size of its score: `sources` and `values`, shape (m, k).

    `contributions`, shape (features, m); `family` says of each feature whose share it is: 0 of `recent`, 1 of
    `liked_items`, 2 of `contents` (split by each event's share of the family's sum), 3 its own. A source numbers
    these in this order: events of the three families, then features of family 3. Unfilled places hold 0.
    """
    sizes = (len(recent), len(liked_items), len(contents))
    count = sizes[0] + sizes[1] + sizes[2]
    alone = 0
    for f in range(len(family)):
        if family[f] == 3:
            alone += 1
    parts = np.empty(count + alone, np.float32)
    for j in range(len(items)):
        item = items[j]
        totals = np.zeros(3, np.float32)
        whole = np.zeros(3, np.float32)
        for k in range(sizes[0]):
            parts[k] = together[recent[k], item] * DECAY[k]
            totals[0] += parts[k]
        for k in range(sizes[1]):
            parts[sizes[0] + k] = liked_together[liked_items[k], item] * DECAY[k]
            totals[1] += parts[sizes[0] + k]
        for k in range(sizes[2]):
            # What is unlike claims nothing: parts of both signs could cancel, and each be larger than the whole.
            parts[sizes[0] + sizes[1] + k] = max(contents[k, item], np.float32(0)) * DECAY[k]
            totals[2] += parts[sizes[0] + sizes[1] + k]
        at = count
        for f in range(len(family)):
            if family[f] == 3:
                parts[at] = contributions[f, j]
                at += 1
            else:
                whole[family[f]] += contributions[f, j]
        at = 0
        for g in range(3):
            # Where no event had a part in the item, nothing is claimed: the contribution stays in the rest.
            scale = whole[g] / totals[g] if totals[g] != 0 else np.float32(0)
            for _ in range(sizes[g]):
                parts[at] *= scale
                at += 1
        for place_ in range(min(sources.shape[1], len(parts))):
            best = 0
            for p in range(1, len(parts)):
                if abs(parts[p]) > abs(parts[best]):
                    best = p
            sources[j, place_] = best
            values[j, place_] = parts[best]
            parts[best] = 0


@njit(cache=True)
def count_pairs(
    together: Array,
    followed: Array,
    liked_together: Array,
    item: int,
    before: Indices,
    liked_before: Indices,
) -> None:
    """Count `item` with the user's earlier ones, newest first; `liked_before` is empty where it was not liked."""
    for k in range(len(before)):
        together[before[k], item] += 1
        together[item, before[k]] += 1
        if k < SUCCESSORS:
            followed[before[k], item] += np.float32(1) / (1 + k)
    for k in range(len(liked_before)):
        liked_together[liked_before[k], item] += 1
        liked_together[item, liked_before[k]] += 1
