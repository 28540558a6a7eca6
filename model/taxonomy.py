"""Zero-shot interests: topics are described in words, and a text belongs to those whose words it resembles."""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import msgspec
import numpy as np

from model.content import split
from model.encoding import Encoder, Vectors
from model.errors import Fatal


class TopicWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A topic: its name and what it is about, in every language that texts may be in."""

    topic: str
    descriptions: list[str]


class Taxonomy:
    """Topics with vectors; `share` turns the vector of a text into shares of topics."""

    def __init__(self, topics: Sequence[TopicWords], encoder: Encoder, temperature: float = 0.1) -> None:
        self.names = [topic.topic for topic in topics]
        self.temperature = np.float32(temperature)
        self.vectors: Vectors = np.zeros((len(topics), encoder.dim - encoder.learnt), np.float32)
        """What the descriptions say: not what was learnt of texts that were chosen."""
        for row, topic in enumerate(topics):
            vector = split(encoder.encode(topic.descriptions), encoder.learnt)[0].mean(axis=0)
            self.vectors[row] = vector / np.linalg.norm(vector)

    @staticmethod
    def read(path: Path | None = None) -> list[TopicWords]:
        """Return the topics of a JSON file, or the default ones (English and Chinese).

        Raises:
            Fatal: the file is missing or is not a list of {"topic", "descriptions"}.
        """
        try:
            text = path.read_bytes() if path else (files("model") / "taxonomy.json").read_bytes()
            return msgspec.json.decode(text, type=list[TopicWords])
        except (OSError, msgspec.DecodeError, json.JSONDecodeError) as error:
            raise Fatal(
                f'taxonomy {path}: {error}; it must be [{{"topic": ..., "descriptions": [...]}}, ...]'
            ) from None

    def similarity(self, vectors: Vectors) -> Vectors:
        """Return cosines, shape (n, topics), of unit vectors, shape (n, dim)."""
        similar: Vectors = vectors @ self.vectors.T
        return similar

    def share(self, vectors: Vectors) -> Vectors:
        """Return shares, shape (n, topics), rows summing to 1: a softmax over the cosines."""
        logits = self.similarity(vectors) / self.temperature
        shares: Vectors = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return shares
