"""Heads in a bundle: read as written, checksummed, and refused where they are no heads of these vectors."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import heads as files
from export.bundle import MANIFEST, Bundle, Manifest, content_version, write_bundle
from model.errors import BadBundle
from model.heads import Head
from tests.export.tiny import DIM, embed, tiny_bundle

HEADS = {
    "sentiment": Head.of(["negative", "positive"], [[-1, 0, 0, 0.1], [1, 0, 0, -0.1]], [0.25, -0.25]),
    "stars": Head.of("12345", np.arange(20).reshape(5, 4) / 7, np.zeros(5)),
}


def with_heads(tmp_path: Path) -> Bundle:
    donor = tiny_bundle(tmp_path / "donor")

    def fill(folder: Path) -> Manifest:
        for name in donor.manifest.sha256:
            (folder / name).write_bytes((donor.path / name).read_bytes())
        files.write(folder, HEADS, DIM)
        return donor.manifest

    return write_bundle(tmp_path / "bundle", fill)


def tampered(bundle: Bundle, heads: Any) -> Path:
    """Write other heads, with checksums and version that belong to them."""
    raw = heads if isinstance(heads, bytes) else json.dumps(heads).encode()
    (bundle.path / files.HEADS).write_bytes(raw)
    manifest = json.loads((bundle.path / MANIFEST).read_bytes())
    manifest["sha256"][files.HEADS] = hashlib.sha256(raw).hexdigest()
    manifest["version"] = content_version(manifest["sha256"])
    (bundle.path / MANIFEST).write_text(json.dumps(manifest))
    return bundle.path


def test_heads_are_read_as_written(tmp_path: Path) -> None:
    bundle = with_heads(tmp_path)
    assert bundle.heads().keys() == HEADS.keys()
    vectors = embed(["one", "two", "three"])
    for name, head in bundle.heads().items():
        assert head.labels == HEADS[name].labels
        np.testing.assert_array_equal(head.weights, HEADS[name].weights)
        found = head.probabilities(vectors)
        assert found.shape == (3, len(head.labels))
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_array_equal(found, HEADS[name].probabilities(vectors))
    assert bundle.manifest.version != tiny_bundle(tmp_path / "other").manifest.version


def test_a_bundle_without_heads_has_none(tmp_path: Path) -> None:
    assert tiny_bundle(tmp_path / "bundle").heads() == {}


def test_a_changed_head_is_noticed(tmp_path: Path) -> None:
    bundle = with_heads(tmp_path)
    path = bundle.path / files.HEADS
    path.write_bytes(path.read_bytes().replace(b"0.25", b"0.75"))
    with pytest.raises(BadBundle, match=r"heads\.json is not what was exported"):
        Bundle.open(bundle.path)


def one(labels: Any, weights: Any, bias: Any, name: str = "stars") -> dict[str, Any]:
    return {name: {"labels": labels, "weights": weights, "bias": bias}}


ROW = [0.0] * DIM


@pytest.mark.parametrize(
    ("heads", "why"),
    [
        (b"{", "unreadable"),
        ({"stars": {"labels": ["a", "b"]}}, "unreadable"),
        (one(["a"], [ROW], [0]), "two labels"),
        (one(["a", "a"], [ROW, ROW], [0, 0]), "two labels"),
        (one(["a", "b"], [ROW], [0, 0]), "2 labels, but shapes"),
        (one(["a", "b"], [ROW, ROW], [0]), "2 labels, but shapes"),
        (one(["a", "b"], [ROW, ROW[1:]], [0, 0]), "head 'stars'"),
        (one(["a", "b"], [ROW[1:], ROW[1:]], [0, 0]), "the encoder gives 4"),
        (one(["a", "b"], [ROW, [1e39, 0, 0, 0]], [0, 0]), "not a number"),
        (one(["a", "b"], [ROW, ROW], [0, 0], "sentiment"), "no label 'positive'"),
    ],
)  # fmt: skip
def test_what_is_no_head_is_refused(tmp_path: Path, heads: Any, why: str) -> None:
    with pytest.raises(BadBundle, match=why):
        Bundle.open(tampered(with_heads(tmp_path), heads))


def test_a_head_of_other_vectors_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match="the encoder gives 8"):
        files.write(tmp_path, HEADS, 8)
    assert not (tmp_path / files.HEADS).exists()
