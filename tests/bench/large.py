"""A catalogue of 100,000 items: what an event costs, what it takes in memory, and how long a swap stops the fold."""

import gc
import time
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from consumer.embedding import Model
from consumer.items import Known
from consumer.state import FORMAT, PartitionState, Position, restore
from consumer.swap import adopt, prepare
from export.encoder import OnnxEncoder
from model.encoding import Vectors
from model.events import Event, Item, ItemEvent
from model.fold import Fold, FoldSettings
from model.taxonomy import Taxonomy
from tests.bench.clock import in_turns, rss_mb
from tests.bench.figures import Figure, Section

MEASURED = 4_000
BLOCK = 500
NOISE = 0.5
"""Length of what is added to a film's vector for each of its variants."""


def world(items: Sequence[Item], vectors: Vectors, count: int, dice: np.random.Generator) -> tuple[list[Item], Vectors]:
    """Return `count` items: films, and variants of them with titles of their own and vectors near the film's."""
    made, rows = list[Item](), np.empty((count, vectors.shape[1]), np.float32)
    for number in range(count):
        variant, film = divmod(number, len(items))
        item = items[film]
        made.append(msgspec.structs.replace(item, item=f"{item.item}.{variant}", title=f"{item.title} {variant}"))
        noise = dice.standard_normal(vectors.shape[1]) * bool(variant)
        row = vectors[film] + NOISE * noise / max(float(np.linalg.norm(noise)), 1e-9)
        rows[number] = row / np.linalg.norm(row)
    return made, rows


def scattered(events: Sequence[Event], films: int, count: int, dice: np.random.Generator) -> list[ItemEvent]:
    """Return the engagements over `count` items: each film's go to its variants, to the k-th in proportion to 1 / k."""
    engagements, variants = [event for event in events if isinstance(event, ItemEvent)], count // films
    shares = 1 / np.arange(1, variants + 1)
    chosen = dice.choice(variants, len(engagements), p=shares / shares.sum())
    return [
        msgspec.structs.replace(event, item=f"{event.item}.{variant}")
        for event, variant in zip(engagements, chosen.tolist(), strict=True)
    ]


class Plain:
    """The least that a list by content takes: a product with all vectors, and the best ten. It learns nothing."""

    def __init__(self, items: Sequence[Item], vectors: Vectors) -> None:
        self._index = {item.item: place for place, item in enumerate(items)}
        self._vectors = vectors
        self._histories: dict[str, list[int]] = {}

    def choose(self, event: ItemEvent) -> NDArray[np.int64]:
        """Return ten items for the user of an event."""
        history = self._histories.setdefault(event.user, [])
        history.append(self._index[event.item])
        scores = self._vectors @ self._vectors[history[-10:]].mean(axis=0)
        scores[history] = -np.inf
        best: NDArray[np.int64] = np.argpartition(scores, -10)[-10:]
        return best[np.argsort(-scores[best])]


def bench(films: Sequence[Item], events: Sequence[Event], encoder: OnnxEncoder, count: int) -> Section:
    """Fold all `events` over `count` items, measure the last of them, then swap, write the state and restore it."""
    dice = np.random.default_rng(0)
    items, vectors = world(films, encoder.encode([item.content() for item in films]), count, dice)
    stream = scattered(events, len(films), count, dice)
    taxonomy = Taxonomy(Taxonomy.read(), encoder)

    def new_fold() -> Fold:
        fold = Fold(FoldSettings(), encoder, taxonomy)
        for item, vector in zip(items, vectors, strict=True):
            fold.put_item(item, vector)
        return fold

    before_mb, began = rss_mb(), time.process_time()
    fold = new_fold()
    filling = time.process_time() - began
    filled_mb = rss_mb()
    state = PartitionState(0, fold, Position(FORMAT, 0, 0, "", [], ""))
    table: dict[bytes, bytes] = {}

    def fold_all(chosen: Sequence[ItemEvent]) -> None:
        for start in range(0, len(chosen), BLOCK):
            block = chosen[start : start + BLOCK]
            for event in block:
                fold.apply(event, {})
            users = dict.fromkeys(event.user for event in block)
            offset = state.position.offset + len(block)
            for key, value in state.changes(offset, len(block), users, [0], 20_000, 256):
                if value is not None:
                    table[key] = value

    fold_all(stream[:-MEASURED])
    plain = Plain(items, vectors)
    rates = in_turns(stream[-MEASURED:], BLOCK, fold_all, lambda chosen: [plain.choose(event) for event in chosen])
    counted_mb = rss_mb()
    pairs = fold.tables.pairs
    pause = _swap(fold, items, vectors, encoder, taxonomy)
    snapshot = sum(len(value) for key, value in table.items() if key.startswith(b"s/"))
    began = time.process_time()
    restored = restore(0, new_fold(), table)
    restoring = time.process_time() - began
    assert restored is not None
    assert restored.fold.profiles == fold.profiles
    return Section(
        f"A catalogue of {count:,} items, {len(stream):,} events",
        [
            Figure("fold, against a product with all vectors", "events / CPU s", rates[0], rates[1]),
            Figure("a swap whose vectors the bundle brings: pause", "ms", 1000 * pause),
            Figure("items put into an empty fold", "CPU s", filling),
            Figure("memory of the items", "MB", filled_mb - before_mb),
            Figure("memory of counts and users", "MB", counted_mb - filled_mb),
            Figure("neighbours counted, by item", "", float(pairs.sizes[: len(items)].mean()) / 3),
            Figure("last snapshots in the changelog", "MB", snapshot / 1e6),
            Figure("restored: items, counts, users", "CPU s", restoring),
        ],
        [
            "Films of MovieLens, each in many variants: titles of their own, real vectors for the first and these with "
            "seeded noise for the others. Events go to the k-th variant in proportion to 1 / k.",
            "Usual: it compares texts and nothing else. It counts, learns, explains and records nothing.",
        ],
    )


def _swap(fold: Fold, items: Sequence[Item], vectors: Vectors, encoder: OnnxEncoder, taxonomy: Taxonomy) -> float:
    """Return the seconds for which the fold stops while it goes over to another model of all items."""
    by_text = {item.content(): vector for item, vector in zip(items, vectors, strict=True)}
    model = Model(encoder, taxonomy, lambda texts: {text: by_text[text] for text in texts if text in by_text})
    known: Known = {item.item: (item, vector) for item, vector in zip(items, vectors, strict=True)}
    prepared = prepare(model, known, 0, [fold], lambda done, of: None)
    gc.collect()
    began = time.perf_counter()
    adopt(prepared, [fold], {})
    return time.perf_counter() - began
