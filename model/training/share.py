"""How much of the stock model stays: tried on events that nothing was trained on, as the gate will judge.

Every share goes through copies of the fold as it was before the dev events, and is compared with the stock model over
the same targets by the gate's own functions. Nothing that the gate judges by has a part in it.
"""

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from model.encoding import Vectors
from model.evaluate import Judged, judge
from model.events import Event
from model.fold import Fold
from model.gate import Compared, Margins, compared, go_over
from model.heads import Head
from model.taxonomy import Taxonomy, TopicWords
from model.training.blend import BlendedEncoder, Projected, carried_over
from model.training.pretrained import PooledEncoder, Pretrained

SHARES = (0.25, 0.4, 0.5, 0.6, 0.75, 0.85, 0.9, 0.95)
STRICTER = 0.5
"""Of the gate's margins: it wants an interval to lie within them, and here there is a point estimate."""


class Halves:
    """Both halves of blended vectors, the stock model's and the trained one's, of all texts asked for so far."""

    def __init__(self, stock: Pretrained, trained: Projected, texts: Iterable[str], stocks: Vectors, own: Vectors):
        """`stocks` and `own` are those of `texts`, of unit length, shape (texts, dim) each."""
        self.dim = 2 * stocks.shape[1]
        self._stock = stock
        self._module = BlendedEncoder(PooledEncoder(stock.body, stock.pooling), trained, 0.5)
        self._known: dict[str, Vectors] = dict(zip(texts, np.hstack([stocks, own]), strict=True))

    def of(self, texts: Sequence[str]) -> Vectors:
        """Return both halves side by side, float32, shape (len(texts), dim), each of unit length."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        if missing:
            self._known |= zip(missing, self._stock.embed(missing, self._module) * np.float32(2**0.5), strict=True)
        found: Vectors = np.array([self._known[text] for text in texts], np.float32).reshape(-1, self.dim)
        return found


class Blend:
    """The encoder that a share gives."""

    def __init__(self, halves: Halves, share: float) -> None:
        self.dim, self.version = halves.dim, f"share {share:g}"
        self._halves = halves
        self._lengths = np.repeat(np.sqrt([share, 1 - share]), halves.dim // 2).astype(np.float32)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, float32, shape (len(texts), dim)."""
        blended: Vectors = self._halves.of(texts) * self._lengths
        return blended


@dataclass(frozen=True)
class Trial:
    """What shares are tried on."""

    alone: Fold
    """Ranks by text alone."""
    whole: Fold
    """Both as they were before the events."""
    events: Sequence[Event]
    texts: Mapping[str, str]
    """Of the items, by item."""
    held_out: frozenset[str]
    """Items of these that were not trained on."""
    topics: Sequence[TopicWords]
    sentiment: Head | None
    """Reads the stock model's vectors."""
    seed: int = 0

    @staticmethod
    def of(
        folds: tuple[Fold, Fold], events: Iterable[Event], since_ms: int, texts: Mapping[str, str],
        held_out: frozenset[str], barred: Collection[str], topics: Sequence[TopicWords], sentiment: Head | None,
        seed: int,
    ) -> "Trial":  # fmt: skip
        """Return a trial on the events since `since_ms`, in a world without the items that are `barred`.

        The folds, by text alone and by everything, are changed: they forget those items' words, tags and vectors.
        """
        for fold in folds:
            fold.take_facts()  # for other partitions, of which there are none: copies need not carry them
            for item in barred:
                fold.drop_item(item)
        kept = [one for one in events if one.at_ms >= since_ms and getattr(one, "item", None) not in barred]
        there = {item: text for item, text in texts.items() if item not in barred}
        return Trial(*folds, kept, there, held_out, topics, sentiment, seed)

    def judged(self, fold: Fold, encoder: Blend, share: float, progress: Callable[[], None]) -> list[Judged]:
        """Return the targets as an encoder ranks them from here on."""
        fold = copy.deepcopy(fold)
        vectors = dict(zip(self.texts, encoder.encode(list(self.texts.values())), strict=True))
        head = None if self.sentiment is None else carried_over(self.sentiment, share)
        go_over(fold, encoder, vectors, Taxonomy(self.topics, encoder), head)
        return judge(fold, self.events, encoder, progress)


class Tried(msgspec.Struct, frozen=True):
    """A share beside the stock model."""

    share: float
    text_alone: Compared
    """All targets, ranked by text alone."""
    all: Compared
    unseen: Compared
    """New items and held-out ones, ranked by everything, as are `all`."""

    @property
    def gains(self) -> bool:
        """Whether text alone foretells better."""
        return self.text_alone.difference > 0

    def fits(self, margins: Margins) -> bool:
        """Say whether it gains, and no point estimate by which the gate decides loses more than half of its margin."""
        return self.gains and all(
            one.before > 0 and one.difference >= -STRICTER * margin * one.before
            for one, margin in ((self.all, margins.everything), (self.unseen, margins.unseen))
        )


def attempts(halves: Halves, trial: Trial, told: Callable[[str, int, int], None]) -> list[Tried]:
    """Return how each of `SHARES` does."""
    done, of = 0, 2 * (1 + len(SHARES)) * len(trial.events)

    def progress() -> None:
        nonlocal done
        done += 1
        if done % 100 == 0 or done == of:
            told("share", done, of)

    def judged(share: float) -> list[list[Judged]]:
        encoder = Blend(halves, share)
        return [trial.judged(fold, encoder, share, progress) for fold in (trial.alone, trial.whole)]

    before = judged(1.0)
    tried = []
    for share in SHARES:
        alone, whole = (
            compared(old, new, trial.held_out, trial.seed) for old, new in zip(before, judged(share), strict=True)
        )
        tried.append(Tried(share, alone["all"], whole["all"], whole["unseen"]))
    return tried


def choose(tried: Sequence[Tried], margins: Margins) -> Tried:
    """Return the smallest share that fits, which is the most adaptation; where none does, the largest."""
    return min(
        (one for one in tried if one.fits(margins)),
        key=lambda one: one.share,
        default=max(tried, key=lambda one: one.share),
    )
