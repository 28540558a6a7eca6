"""Vectors of items and topics in a bundle: embedded once by the export, found by text, not paid for at every start."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.encoding import Vectors
from model.errors import BadBundle

VECTORS = "items.npy"
HASHES = "items.hashes.npy"
_AT_ONCE = 256
_ROWS = 65_536
_HASH = np.dtype("<u8")

Progress = Callable[[int, int], None]
"""Told how many texts are embedded, and of how many."""


def text_hash(text: str) -> int:
    """Return what a text is found by: 64 bits of blake2b.

    >>> text_hash("Toy Story") == text_hash("Toy Story") != text_hash("toy story")
    True
    """
    # Lone surrogates are legal in a Python string; "surrogatepass" keeps two such texts apart.
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _unit(vectors: Vectors) -> bool:
    """Say whether all have length 1; what is not a number has none."""
    return bool((np.abs(np.einsum("ij,ij->i", vectors, vectors) - 1) < 1e-3).all())


class Catalogue:
    """Unit vectors of texts, memory-mapped: opening it reads next to nothing."""

    def __init__(self, hashes: NDArray[np.uint64], vectors: Vectors) -> None:
        self._hashes, self._vectors = hashes, vectors

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, texts: Iterable[str]) -> dict[str, Vectors]:
        """Return the vectors, float32, shape (dim,), of those texts that are in it; they are the caller's own."""
        wanted = list(dict.fromkeys(texts))
        if not wanted or not len(self):
            return {}
        hashes = np.array([text_hash(text) for text in wanted], dtype=_HASH)
        rows = np.minimum(np.searchsorted(self._hashes, hashes), len(self) - 1)
        there = np.flatnonzero(self._hashes[rows] == hashes)
        return {wanted[at]: np.array(self._vectors[rows[at]], dtype=np.float32) for at in there}


def write(folder: Path, texts: Iterable[str], encode: Callable[[Sequence[str]], Vectors], told: Progress) -> int:
    """Embed texts, once each, and write both files; return how many there are, and write nothing if there are none.

    A text whose vector is not a number is left out: whoever serves embeds it, and knows what to do.
    """
    by_hash = {text_hash(text): text for text in texts}
    hashes = np.array(sorted(by_hash), dtype=_HASH)
    rows: list[Vectors] = []
    for start in range(0, len(hashes), _AT_ONCE):
        rows.append(encode([by_hash[int(one)] for one in hashes[start : start + _AT_ONCE]]))
        told(min(start + _AT_ONCE, len(hashes)), len(hashes))
    if not rows:
        return 0
    vectors = np.concatenate(rows).astype(np.float32)
    good = np.isfinite(vectors).all(axis=1)
    if good.any():
        np.save(folder / VECTORS, vectors[good], allow_pickle=False)
        np.save(folder / HASHES, hashes[good], allow_pickle=False)
    return int(good.sum())


def read(folder: Path, dim: int) -> Catalogue:
    """Open both files; raises `BadBundle` where they are not what `write` writes."""
    try:
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        hashes = np.load(folder / HASHES, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadBundle(f"{folder}: unreadable vectors of items ({error}); export it again with --items") from error
    right = (
        hashes.dtype == _HASH and vectors.dtype == np.float32
        and hashes.ndim == 1 and vectors.shape == (len(hashes), dim)
        and bool((hashes[:-1] < hashes[1:]).all())
        and all(_unit(vectors[start : start + _ROWS]) for start in range(0, len(vectors), _ROWS))
    )  # fmt: skip
    if not right:
        raise BadBundle(f"{folder}: vectors of items of the wrong shape, order or length; export it again with --items")
    return Catalogue(hashes, vectors)
