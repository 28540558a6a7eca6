"""Texts to unit vectors with ONNX Runtime: cached, deduplicated, batched by padded tokens. Never imports torch."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import structlog
from tokenizers import Tokenizer

from export.bundle import ADVICE, Bundle
from export.session import open_session
from model.encoding import Vectors
from model.errors import BadBundle

CPU_TOKEN_BUDGET = 512
GPU_TOKEN_BUDGET = 16_384
SELFTEST_COSINE = 0.995

log = structlog.get_logger(__name__)


class OnnxEncoder:
    """A bundle's encoder; one thread at a time.

    ``provider`` is "auto", "cpu" or "cuda"; ``precision`` a form of the bundle. A form that fails its self-test
    gives way to fp32 (``fallbacks`` counts it); raises BadBundle where fp32 fails too.
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: str = "auto",
        *,
        precision: str = "fp32",
        cache_size: int = 50_000,
        token_budget: int | None = None,
        threads: int = 1,
    ) -> None:
        if cache_size < 0 or (token_budget is not None and token_budget < 1):
            raise ValueError("cache_size must be at least 0 and token_budget at least 1")
        manifest = bundle.manifest
        self._bundle = bundle
        self._dim, self._version = manifest.dim, manifest.version
        self._cache: OrderedDict[str, Vectors] = OrderedDict()
        self._cache_size = cache_size
        self.cache_hits = 0
        self.cache_misses = 0
        self.fallbacks = 0
        self._tokenizer, self._pad_id = _load_tokenizer(bundle)
        self._load(precision, provider, threads)
        on_gpu = self.provider != "CPUExecutionProvider"
        self._token_budget = token_budget or (GPU_TOKEN_BUDGET if on_gpu else CPU_TOKEN_BUDGET)
        fault = self._fault()
        if fault and precision != "fp32":
            self.fallbacks += 1
            log.warning("self-test failed, using fp32", version=self._version, precision=precision, fault=fault)
            self._load("fp32", provider, threads)
            fault = self._fault()
        if fault:
            raise BadBundle(f"{bundle.path}: fp32 fails its self-test ({fault}); {ADVICE}")

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def learnt(self) -> int:
        """Of `dim`, the last so many are what was learnt from choices; 0 where the bundle was not tuned."""
        return self._bundle.manifest.learnt

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self._version

    @property
    def tuning(self) -> dict[str, Any] | None:
        """How the bundle was tuned, and what the gate said; None where it was not."""
        return self._bundle.manifest.tuning

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, float32, shape (len(texts), dim); the empty string is a text like any other."""
        found: dict[str, Vectors] = {}
        missing: dict[str, None] = {}
        for text in texts:
            cached = self._cache.get(text)
            if cached is not None:
                self.cache_hits += 1
                self._cache.move_to_end(text)
                found[text] = cached
            elif text in missing:
                self.cache_hits += 1
            else:
                self.cache_misses += 1
                missing[text] = None
        fresh = list(missing)
        for text, vector in zip(fresh, self._compute(fresh), strict=True):
            found[text] = vector
            self._cache[text] = vector.copy()  # a row's view would keep its whole batch alive
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        out = np.empty((len(texts), self._dim), dtype=np.float32)
        for row, text in enumerate(texts):
            out[row] = found[text]
        return out

    def _load(self, precision: str, provider: str, threads: int) -> None:
        try:
            self._session = open_session(self._bundle.form(precision), provider, threads)
            self.precision = precision
        except BadBundle as error:
            if precision == "fp32" or precision not in self._bundle.manifest.forms:
                raise
            self.fallbacks += 1
            log.warning("form does not load, using fp32", version=self._version, precision=precision, fault=str(error))
            self._session = open_session(self._bundle.form("fp32"), provider, threads)
            self.precision = "fp32"
        self.provider: str = self._session.get_providers()[0]
        self._takes_types = "token_type_ids" in {node.name for node in self._session.get_inputs()}

    def _fault(self) -> str:
        """Return what is wrong with the loaded form, or an empty string."""
        test = self._bundle.selftest()
        expected = test.expected()
        try:
            got = self._compute(test.texts)
        except Exception as error:  # ONNX Runtime raises a dozen kinds without a common base
            return f"does not run: {str(error).splitlines()[0]}"
        if not np.isfinite(got).all():
            return "not a number in its vectors"
        cosine = float((got * expected).sum(axis=1).mean())
        # "not >=" and not "<": a NaN among the expected vectors fails as well
        return "" if cosine >= SELFTEST_COSINE else f"mean cosine {cosine:.4f} < {SELFTEST_COSINE}"

    def _compute(self, texts: Sequence[str]) -> Vectors:
        out = np.empty((len(texts), self._dim), dtype=np.float32)
        if not texts:
            return out
        # Lone surrogates are legal in a Python string, and no tokenizer takes them.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(clean)]
        for rows in _batches([len(row) for row in ids], self._token_budget):
            out[rows] = self._run([ids[row] for row in rows])
        return out

    def _run(self, ids: Sequence[Sequence[int]]) -> Vectors:
        longest = max(1, max(map(len, ids)))
        tokens = np.full((len(ids), longest), self._pad_id, dtype=np.int64)
        mask = np.zeros_like(tokens)
        for row, line in enumerate(ids):
            tokens[row, : len(line)] = line
            mask[row, : len(line)] = 1
        feed: dict[str, Any] = {"input_ids": tokens, "attention_mask": mask}
        if self._takes_types:
            feed["token_type_ids"] = np.zeros_like(tokens)
        vectors: Vectors = self._session.run(["vector"], feed)[0]
        return vectors


def _load_tokenizer(bundle: Bundle) -> tuple[Tokenizer, int]:
    try:
        return _tokenizer(bundle.tokenizer_path.read_bytes(), bundle.manifest.max_length)
    except Exception as error:  # the Rust side raises bare Exception
        raise BadBundle(f"{bundle.path}: unreadable tokenizer ({error}); {ADVICE}") from error


@lru_cache(maxsize=2)
def _tokenizer(said: bytes, max_length: int) -> tuple[Tokenizer, int]:
    """Return the tokenizer in a file's bytes, and its padding id; a version that was tuned has that of its parent.

    Making one stops every thread of Python for longer than all else that a new model takes.
    """
    tokenizer = Tokenizer.from_buffer(said)
    pad_id = int(tokenizer.padding["pad_id"]) if tokenizer.padding else 0
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer, pad_id


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Cut rows, shortest first, so that rows x longest stays within the budget (one row always fits).

    >>> list(_batches([3, 1, 9, 2], budget=6))
    [[1, 3], [0], [2]]
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
