"""The encoder: same vectors whatever the batch, the order, the cache."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

import export.session
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from export.sentences import PARITY

SOME = PARITY[:12]


def test_nothing(encoder: OnnxEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_unit_vectors(encoder: OnnxEncoder) -> None:
    vectors = encoder.encode(["", "a film", "电影", "\ud800"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_batch_mates_change_nothing(bundle: Bundle) -> None:
    together = OnnxEncoder(bundle, "cpu", cache_size=0, token_budget=100_000).encode(PARITY)
    alone = OnnxEncoder(bundle, "cpu", cache_size=0, token_budget=1).encode(PARITY)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_duplicates_and_cache(bundle: Bundle) -> None:
    encoder = OnnxEncoder(bundle, "cpu", cache_size=2)
    first = encoder.encode(["a", "b", "a"])
    assert (encoder.cache_misses, encoder.cache_hits) == (2, 1)
    np.testing.assert_array_equal(first[0], first[2])
    first[:] = 0  # the caller's copy, not the cache's
    assert encoder.encode(["a"]).any()
    assert (encoder.cache_misses, encoder.cache_hits) == (2, 2)
    encoder.encode(["c"])  # pushes out b, the least recently used
    encoder.encode(["a", "b"])
    assert (encoder.cache_misses, encoder.cache_hits) == (4, 3)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(SOME))))
def test_order_is_restored(encoder: OnnxEncoder, order: list[int]) -> None:
    expected = encoder.encode(SOME)
    encoder._cache.clear()
    np.testing.assert_allclose(encoder.encode([SOME[i] for i in order]), expected[order], atol=1e-5)


def test_long_text_is_cut(encoder: OnnxEncoder) -> None:
    long, longer = encoder.encode(["film " * 300, "film " * 3000])
    np.testing.assert_allclose(long, longer, atol=1e-5)


def test_cuda_that_cannot_be_had_warns_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.session.ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with capture_logs() as logs:
        assert OnnxEncoder(bundle, "cuda").provider == "CPUExecutionProvider"
    assert [entry["log_level"] for entry in logs] == ["warning"]
    with pytest.raises(ValueError, match="provider"):
        OnnxEncoder(bundle, "tpu")


def test_serving_never_imports_torch() -> None:
    code = "import sys, export.encoder; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
