"""Texts to vectors such that one bad text spoils no other, and a broken encoder is not taken for bad texts."""

import itertools
from collections.abc import Sequence

import numpy as np

from model.encoding import Encoder, Vectors
from model.errors import Fatal, PenchantError

_PROBES = itertools.count()


def embed(encoder: Encoder, texts: Sequence[str]) -> tuple[dict[str, Vectors], dict[str, str]]:
    """Return vectors by text, and for those texts that fail even alone, why; one batch unless something fails.

    Raises:
        Fatal: the encoder fails at any text, so that it is not the text's fault.
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
            raise Fatal(
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
