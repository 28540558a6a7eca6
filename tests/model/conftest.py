"""A small world: items of two kinds and an encoder that needs no weights but is a real function of the text."""

import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from model.catalogue import WHOLE
from model.encoding import Vectors
from model.evaluate import prepare
from model.events import Item
from model.fold import Fold, FoldSettings


class WordEncoder:
    """Sums a fixed random direction per word: texts that share words are alike."""

    dim = 64
    learnt = 0
    version = "words-1"

    def encode(self, texts: Sequence[str]) -> Vectors:
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split() or [""]:
                row += np.random.default_rng(zlib.crc32(word.encode())).standard_normal(self.dim).astype(np.float32)
            row /= np.linalg.norm(row)
        return rows


@pytest.fixture(scope="session")
def encoder() -> WordEncoder:
    return WordEncoder()


@pytest.fixture(scope="session")
def items() -> list[Item]:
    kinds = ["space alien robot ship", "love wedding kiss couple"]
    return [
        Item(item=f"i{n}", title=f"{kinds[n % 2]} part{n}", tags=[["scifi"], ["romance"]][n % 2]) for n in range(40)
    ]


@pytest.fixture(params=[WHOLE, 0], ids=["all", "candidates"])
def whole(request: pytest.FixtureRequest) -> int:
    """Up to how many items every one is ranked: in a catalogue that is small, and in one that counts as large."""
    return int(request.param)


@pytest.fixture
def fold(items: list[Item], encoder: WordEncoder, whole: int) -> Fold:
    return prepare(items, encoder, FoldSettings(whole=whole))
