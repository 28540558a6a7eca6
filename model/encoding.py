"""The seam between the fold, which wants vectors, and whatever embeds texts."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Pooling = Literal["mean", "cls"]
"""How the vectors of a text's tokens become one: their mean, or that of the first token."""


class Encoder(Protocol):
    """Anything that embeds texts; row *i* of the result belongs to text *i*."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def learnt(self) -> int:
        """Of `dim`, the last so many are a part of its own: what was learnt from choices (`penchant tune`)."""

    @property
    def version(self) -> str:
        """Names the weights: two encoders with one version give the same vectors."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, float32, shape (len(texts), dim); where there are two parts, both are of one length."""
