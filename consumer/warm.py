"""Compiles the fold's kernels before the first event, for small catalogues and large: else the stream waits for it."""

import msgspec
import numpy as np

from consumer.embedding import Model
from model.catalogue import WHOLE
from model.events import Click, Event, Item, Search
from model.fold import Fold, FoldSettings

ITEMS = 12


def compile_kernels(folding: FoldSettings, model: Model) -> None:
    """Let a few made-up events go through folds of both kinds; numba keeps what it compiled for the next start."""
    vector = np.full(model.encoder.dim, model.encoder.dim**-0.5, np.float32)
    events: list[Event] = [Click(id=f"c{n}", user=f"u{n % 2}", at_ms=n, item=f"i{n}") for n in range(ITEMS)]
    events.append(Search(id="s", user="u1", at_ms=ITEMS, text="words"))
    for whole in (WHOLE, 0):
        settings = msgspec.structs.replace(folding, whole=whole)
        fold = Fold(settings, model.encoder, model.taxonomy)
        for n in range(ITEMS):
            fold.put_item(Item(item=f"i{n}", title=f"item {n}", tags=["tag"]), vector)
        for event in (*events, *(msgspec.structs.replace(event, id=f"{event.id}'") for event in events)):
            fold.apply(event, dict.fromkeys(fold.texts(event), vector))
