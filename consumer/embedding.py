"""Texts to vectors such that one bad text spoils no other, and a broken encoder is not taken for bad texts."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from consumer.settings import Settings
from export.bundle import ADVICE, Bundle
from export.encoder import OnnxEncoder
from model.encoding import Encoder, Vectors
from model.errors import BadBundle, Fatal, PenchantError
from model.heads import SENTIMENT, Head
from model.taxonomy import Taxonomy

_PROBES = itertools.count()
Brought = Callable[[Sequence[str]], Mapping[str, Vectors]]
"""Returns vectors of those texts that a bundle brings along."""


class EncoderFails(Fatal):
    """It fails at any text, so that it is not the text's fault."""


class Model(NamedTuple):
    """What a bundle gives: that which turns texts into vectors, and the topics in its vectors."""

    encoder: Encoder
    taxonomy: Taxonomy
    brought: Brought = lambda _: {}
    """Returns vectors of those texts that the bundle brings along."""
    sentiment: Head | None = None
    """Judges reviews without a value."""

    @staticmethod
    def load(bundle: Bundle, settings: Settings) -> "Model":
        """Return a bundle's model, self-tested on this machine; raises `BadBundle`, `Fatal` (the taxonomy's file)."""
        encoder, items, topics = OnnxEncoder(bundle), bundle.items(), Taxonomy.read(settings.taxonomy)
        brought = (lambda _: {}) if items is None else items.find
        try:
            taxonomy = Taxonomy(topics, _Helped(encoder, brought))
        except Exception as error:  # ONNX Runtime raises dozens of kinds without a common base
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise BadBundle(f"{bundle.path}: cannot embed the topics ({said}); {ADVICE}") from error
        if not np.isfinite(taxonomy.vectors).all():  # the self-test need not have their words
            raise BadBundle(f"{bundle.path}: not a number in the vectors of the topics; {ADVICE}")
        return Model(encoder, taxonomy, brought, bundle.heads().get(SENTIMENT))

    @property
    def version(self) -> str:
        """The bundle's."""
        return self.encoder.version

    def embed(self, texts: Sequence[str]) -> tuple[dict[str, Vectors], dict[str, str]]:
        """Do as `embed` does, for those texts that the bundle does not bring along."""
        found = {text: vector for text, vector in self.brought(texts).items() if np.isfinite(vector).all()}
        fresh, failed = embed(self.encoder, [text for text in texts if text not in found])
        return found | fresh, failed


class _Helped:
    """An encoder that computes only what the bundle does not bring along."""

    def __init__(self, encoder: Encoder, brought: Brought) -> None:
        self._encoder, self._brought = encoder, brought
        self.dim, self.learnt, self.version = encoder.dim, encoder.learnt, encoder.version

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, float32, shape (len(texts), dim)."""
        found = dict(self._brought(texts))
        missing = [text for text in texts if text not in found]
        found |= zip(missing, self._encoder.encode(missing), strict=True)
        return np.stack([found[text] for text in texts])


def embed(encoder: Encoder, texts: Sequence[str]) -> tuple[dict[str, Vectors], dict[str, str]]:
    """Return vectors by text, and for those texts that fail even alone, why; one batch unless something fails.

    Raises:
        EncoderFails: the encoder fails at any text, so that it is not the text's fault.
    """
    fresh = list(dict.fromkeys(texts))
    if not fresh:
        return {}, {}
    try:
        return dict(zip(fresh, _finite(encoder, fresh), strict=True)), {}
    except PenchantError:
        raise
    except Exception as error:  # ONNX Runtime and tokenizers raise dozens of kinds without a common base
        why = f"{type(error).__name__}: {error}"
    if len(fresh) == 1:
        try:
            _finite(encoder, [f"encoder check {next(_PROBES)}"])  # each time another, as encoders remember
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise EncoderFails(
                f"the encoder fails at every text ({said}); nothing of it is committed: "
                "see 'penchant doctor', export the bundle again, or go back to the one that worked"
            ) from error
        return {}, {fresh[0]: why}
    middle = len(fresh) // 2
    (good, bad), (more, worse) = embed(encoder, fresh[:middle]), embed(encoder, fresh[middle:])
    return good | more, bad | worse


def _finite(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    vectors = encoder.encode(texts)
    if not np.isfinite(vectors).all():
        raise ValueError("not a number in its vector")
    return vectors
