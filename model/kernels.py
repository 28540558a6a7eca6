"""The inner loop of the fold, compiled: features and scores of all items in one pass over the rows of a user's history.

In numpy the same takes six times as long (each of its ~40 calls walks the catalogue). Rows are cut out as slices, and
loops run over their length: an index that may be negative, or more than a few arrays in one loop, costs the vector
instructions (docs/adr/0002).
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from model.pairs import SUCCESSORS

Array = NDArray[np.float32]
Indices = NDArray[np.int64]
Tags = NDArray[np.uint16]
DECAY: Array = np.array([0.8**k for k in range(10)], np.float32)
"""Weight of the k-th latest event."""
LOG_LIKED, LOG_RECENT, LIKED_SHARE, NEW, PASSED_OVER, ENGAGED_NORM, LIKED_NORM = ROWS = range(7)
"""Rows of what is known of each item alone; see `refresh`."""
_FAST = {"contract", "reassoc", "nsz", "nnan"}


@njit(cache=True, fastmath=_FAST)
def _weigh(total: Array, weight: np.float32, row: Array) -> None:
    for i in range(len(total)):
        total[i] += weight * row[i]


@njit(cache=True, fastmath=_FAST)
def _count_and_weigh(count: Array, total: Array, weight: np.float32, row: Array) -> None:
    for i in range(len(count)):
        count[i] += row[i]
        total[i] += weight * row[i]


@njit(cache=True, fastmath=_FAST)
def _multiply(out: Array, a: Array, b: Array) -> None:
    for i in range(len(out)):
        out[i] = a[i] * b[i]


@njit(cache=True, fastmath=_FAST)
def _look_up(total: Array, values: Array, places: Tags) -> None:
    for i in range(len(total)):
        total[i] += values[places[i]]


@njit(cache=True, fastmath=_FAST)
def _weigh_and_best(total: Array, best: Array, weight: np.float32, row: Array, shift: np.float32) -> None:
    for i in range(len(total)):
        value = row[i] - shift
        total[i] += weight * value
        # max(), in a form that the compiler turns into vector instructions.
        best[i] += (value - best[i]) * np.float32(value > best[i])


@njit(cache=True, fastmath=_FAST)
def _weigh_less(out: Array, weight: np.float32, row: Array, shift: np.float32, common: Array) -> None:
    for i in range(len(out)):
        out[i] += weight * (row[i] - shift - common[i])


@njit(cache=True, fastmath=_FAST)
def _copy(out: Array, row: Array) -> None:
    for i in range(len(out)):
        out[i] = row[i]


@njit(cache=True, fastmath=_FAST)
def feature_matrix(
    x: Array,
    scores: Array,
    slopes: Array,
    bias: np.float32,
    offsets: Array,
    alone: Array,
    tags: Tags,
    tag_weights: Array,
    affinity: Array,
    recent: Indices,
    recent_counts: Array,
    liked: Indices,
    liked_counts: Array,
    contents: Indices,
    latest: int,
    shifts: Array,
    together: Array,
    liked_together: Array,
    followed: Array,
    similarity: Array,
    searched: Array,
    common: Array,
    learnt_shifts: Array,
    learnt_similarity: Array,
    learnt_searched: Array,
    learnt_common: Array,
    modal: Array,
) -> None:
    """Fill `x`, shape (features, n), rows as in `model.features`, and `scores` = `slopes @ x + bias + offsets`.

    `recent` and `liked` are rows of the tables of pairs (and of each modality) that belong to the user's past, newest
    first, with the counts of those items; `contents` rows of `similarity`, or -1 - k for row k of `searched`, and
    `shifts` what each of them has in common with all items; `latest` is the place in `contents` of the latest search,
    -1 if there is none. What is `learnt_` is the same of the part that was learnt, empty where nothing was. Arrays over
    items may be longer than n; all are C-contiguous.
    """
    n = x.shape[1]
    x[2:11] = 0
    x[17:] = 0  # the latest search, what was learnt, the modalities
    for k in range(len(recent)):
        count = recent_counts[k]
        row = together[recent[k], :n]
        _count_and_weigh(x[2], x[3], np.float32(10) * DECAY[k] / np.sqrt(count + np.float32(5)), row)
        if k < 2:
            _weigh(x[4], np.float32(1), row)
        if k < SUCCESSORS:
            weight = np.float32(20) * DECAY[k] / (count + np.float32(10))
            _weigh(x[5], weight, followed[recent[k], :n])
    for k in range(len(liked)):
        weight = np.float32(10) * DECAY[k] / np.sqrt(liked_counts[k] + np.float32(5))
        _count_and_weigh(x[6], x[7], weight, liked_together[liked[k], :n])
    _multiply(x[3], x[3], alone[ENGAGED_NORM, :n])
    _multiply(x[7], x[7], alone[LIKED_NORM, :n])
    for f in range(2, 8):
        row = x[f]
        for i in range(n):
            row[i] = np.sqrt(row[i])
    for t in range(len(tags)):
        _look_up(x[8], affinity, tags[t, :n])
    _multiply(x[8], x[8], tag_weights[:n])
    whole = np.float32(0)
    for k in range(len(contents)):
        whole += DECAY[k]
    for k in range(len(contents)):
        row = similarity[contents[k], :n] if contents[k] >= 0 else searched[-1 - contents[k], :n]
        if k == 0:
            x[10] = -4  # less than any
        _weigh_and_best(x[9], x[10], DECAY[k] / whole, row, shifts[k])
        if k == latest:
            _weigh_less(x[17], DECAY[k], row, shifts[k], common[:n])
    if len(contents) > 0:
        # What is like everything is like nothing in particular.
        _weigh(x[9], np.float32(-1), common[:n])
        _weigh(x[10], np.float32(-1), common[:n])
    for k in range(len(learnt_shifts)):
        row = learnt_similarity[contents[k], :n] if contents[k] >= 0 else learnt_searched[-1 - contents[k], :n]
        _weigh_less(x[18], DECAY[k] / whole, row, learnt_shifts[k], learnt_common[:n])
    for m in range(modal.shape[0]):
        whole = np.float32(0)
        for k in range(len(liked)):
            whole += DECAY[k]
        for k in range(len(liked)):
            _weigh(x[19 + m], DECAY[k] / whole, modal[m, liked[k], :n])
    new = alone[NEW, :n]
    _copy(x[0], alone[LOG_LIKED, :n])
    _copy(x[1], alone[LOG_RECENT, :n])
    _copy(x[11], alone[LIKED_SHARE, :n])
    _copy(x[12], alone[PASSED_OVER, :n])
    _multiply(x[13], x[9], new)
    _multiply(x[14], x[10], new)
    _multiply(x[15], x[8], new)
    _multiply(x[16], x[3], new)
    for i in range(n):
        scores[i] = bias + offsets[i]
    for f in range(len(slopes)):
        _weigh(scores, slopes[f], x[f])


@njit(cache=True)
def refresh(
    alone: Array,
    engaged: Array,
    liked: Array,
    recent: Array,
    stretch: Array,
    liked_share: np.float32,
    items: Indices,
) -> None:
    """Compute anew what is known of each of some items alone: their columns of `alone`, shape (7, capacity).

    `stretch` and `liked_share` are `model.arrivals.Arrivals`'.
    """
    for item in items:
        # Of a late item, what an average one has in the time that it missed, and in step with its own the longer it is
        # there. Written so that a stretch of 1 changes no digit.
        more = stretch[item] - np.float32(1)
        likes = liked[item] * stretch[item] + liked_share * more
        choices = engaged[item] * stretch[item] + more
        alone[LOG_LIKED, item] = np.log1p(likes)
        alone[LOG_RECENT, item] = np.log1p(recent[item])
        alone[LIKED_SHARE, item] = likes / (choices + np.float32(3))
        alone[PASSED_OVER, item] = np.float32(1) / (np.float32(1) + choices * np.float32(0.5))
        alone[NEW, item] = np.float32(1) / (np.float32(1) + engaged[item] * np.float32(0.5))
        alone[ENGAGED_NORM, item] = np.float32(1) / np.sqrt(engaged[item] + np.float32(10))
        alone[LIKED_NORM, item] = np.float32(1) / np.sqrt(liked[item] + np.float32(5))
