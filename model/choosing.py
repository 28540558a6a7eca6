"""Compiled steps around the scores: where an item stands, what is on top, a step of learning, parts of a score."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from model.kernels import DECAY

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
RARE_PACE = np.float32(0.001)
"""Of the normalisation of a rare feature at most."""


@njit(cache=True)
def place(values: Array, scores: Array, own: int) -> tuple[int, int]:
    """Return how many items that can be shown (score > -inf) have a higher value than item `own`, and as high a one."""
    above = 0
    equal = 0
    for i in range(len(scores)):
        shown = scores[i] > -np.inf
        above += shown & (values[i] > values[own])
        equal += shown & (values[i] == values[own])
    return above, equal


@njit(cache=True)
def top(scores: Array, chosen: Indices) -> tuple[int, bool]:
    """Fill `chosen` with the items of highest score, best first; return how many there are, and whether any are equal.

    Items that cannot be shown (-inf) are left out. Equal scores (also with an item just left out) are for the caller
    to put in order.
    """
    count = 0
    tied = False
    for i in range(len(scores)):
        score = scores[i]
        if score == -np.inf:
            continue
        if count == len(chosen):
            last = scores[chosen[count - 1]]
            if score <= last:
                tied |= score == last
                continue
        else:
            count += 1
        at = count - 1
        while at > 0 and scores[chosen[at - 1]] < score:
            chosen[at] = chosen[at - 1]
            at -= 1
        tied |= at > 0 and scores[chosen[at - 1]] == score
        chosen[at] = i
    return count, tied


@njit(cache=True, fastmath={"contract", "reassoc", "nsz", "nnan"})
def softmax_step(
    x: Array,
    odds: Array,
    there: Array,
    chosen: int,
    rate: np.float32,
    pace: np.float32,
    weights: Array,
    mean: Array,
    variance: Array,
    gradients: Array,
    rare: Array,
    slopes: Array,
) -> np.float32:
    """Take one AdaGrad step in place; `odds` are exp(score - highest score), 0 where an item cannot be shown.

    Features are normalised over the items that are `there` (1, else 0). A `rare` one (1, else 0) is so only where it is
    not 0 everywhere: zeros would take its spread away, and its weight would tower when it speaks again. So would the
    first items of a new catalogue, were they all alike: its prior is worth a thousand steps.

    Returns the probability that `chosen` had.
    """
    n = x.shape[1]
    whole = np.float32(0)
    count = np.float32(0)
    for i in range(n):
        whole += odds[i]
        count += there[i]
    count = max(count, np.float32(1))
    for f in range(x.shape[0]):
        row = x[f]
        expected = np.float32(0)
        total = np.float32(0)
        square = np.float32(0)
        for i in range(n):
            expected += row[i] * odds[i]
            total += row[i] * there[i]
            square += row[i] * row[i] * there[i]
        gradient = (row[chosen] - expected / whole) / np.sqrt(variance[f] + np.float32(1e-6))
        gradients[f] += gradient * gradient
        weights[f] += rate * gradient / np.sqrt(gradients[f])
        if square > 0 or not rare[f]:
            here = total / count
            spread = max(square / count - here * here, np.float32(0))
            own = min(pace, RARE_PACE) if rare[f] else pace
            mean[f] += own * (here - mean[f])
            variance[f] += own * (spread + (here - mean[f]) ** 2 - variance[f])
        slopes[f] = weights[f] / np.sqrt(variance[f] + np.float32(1e-6))
    return np.float32(odds[chosen] / whole)


@njit(cache=True)
def strongest_parts(
    x: Array,
    slopes: Array,
    family: Indices,
    items: Indices,
    recent: Indices,
    liked_items: Indices,
    contents: Indices,
    latest: int,
    shifts: Array,
    together: Array,
    liked_together: Array,
    similarity: Array,
    searched: Array,
    common: Array,
    sources: Indices,
    values: Array,
) -> None:
    """Fill, for each of m items, the `k` parts of largest size of its score: `sources` and `values`, shape (m, k).

    `family` says of each feature whose share it is: 0 of `recent`, 1 of `liked_items`, 2 of `contents` (split by each
    event's share of the family's sum), 3 its own, 4 that of the `latest` search among `contents` (-1: none). A source
    numbers these in this order: events of the three families, then features of family 3. Unfilled places hold 0. The
    past and its tables are `model.features.Past`'s; `items` are columns.
    """
    sizes = (len(recent), len(liked_items), len(contents))
    count = sizes[0] + sizes[1] + sizes[2]
    alone = 0
    for f in range(len(family)):
        if family[f] == 3:
            alone += 1
    parts = np.empty(count + alone, np.float32)
    totals = np.empty(3, np.float32)
    whole = np.empty(5, np.float32)
    for j in range(len(items)):
        item = items[j]
        totals[:] = 0
        whole[:] = 0
        for k in range(sizes[0]):
            parts[k] = together[recent[k], item] * DECAY[k]
            totals[0] += parts[k]
        for k in range(sizes[1]):
            parts[sizes[0] + k] = liked_together[liked_items[k], item] * DECAY[k]
            totals[1] += parts[sizes[0] + k]
        for k in range(sizes[2]):
            row = contents[k]
            cosine = (similarity[row, item] if row >= 0 else searched[-1 - row, item]) - shifts[k] - common[item]
            # What is unlike claims nothing: parts of both signs could cancel, and each be larger than the whole.
            parts[sizes[0] + sizes[1] + k] = max(cosine, np.float32(0)) * DECAY[k]
            totals[2] += parts[sizes[0] + sizes[1] + k]
        at = count
        for f in range(len(family)):
            contribution = slopes[f] * x[f, item]
            if family[f] == 3:
                parts[at] = contribution
                at += 1
            else:
                whole[family[f]] += contribution
        at = 0
        for g in range(3):
            # Where no event had a part in the item, nothing is claimed: the contribution stays in the rest.
            scale = whole[g] / totals[g] if totals[g] != 0 else np.float32(0)
            for _ in range(sizes[g]):
                parts[at] *= scale
                at += 1
        if latest >= 0:
            parts[sizes[0] + sizes[1] + latest] += whole[4]
        for slot in range(min(sources.shape[1], len(parts))):
            best = 0
            for p in range(1, len(parts)):
                if abs(parts[p]) > abs(parts[best]):
                    best = p
            sources[j, slot] = best
            values[j, slot] = parts[best]
            parts[best] = 0
