"""Bundles of a few bytes, whole and verified like real ones but without a model, and what is done with them."""

from pathlib import Path

import numpy as np

from export import catalogue
from export.bundle import FORMAT_VERSION, SELFTEST, TOKENIZER, Bundle, Manifest, Parity, write_bundle, write_selftest
from export.registry import Registry
from model.encoding import Vectors

DIM = 4
KILLED = -9


def embed(texts: list[str]) -> Vectors:
    """Return some unit vectors, each a function of its text."""
    seeds = [catalogue.text_hash(text) for text in texts]
    rows = np.array([np.random.default_rng(seed).normal(size=DIM) for seed in seeds], dtype=np.float32)
    vectors: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return vectors


def tiny_bundle(out: Path, salt: str = "", items: list[str] | None = None, dim: int = DIM) -> Bundle:
    """Write a bundle whose version depends on ``salt``, exported (it says) at the minute that ``salt`` ends with."""
    minute = int(salt[-2:]) if salt[-2:].isdecimal() else 0

    def fill(folder: Path) -> Manifest:
        (folder / "encoder.onnx").write_bytes(b"no graph: " + salt.encode())
        (folder / TOKENIZER).write_bytes(b"{}")
        write_selftest(folder / SELFTEST, ["one"], embed(["one"]))
        count = catalogue.write(folder, items or [], lambda texts: embed(list(texts)), lambda done, of: None)
        return Manifest(
            format_version=FORMAT_VERSION, version="", created_at=f"2026-11-01T00:{minute:02}:00+00:00", dim=dim,
            max_length=16, pooling="mean", forms={"fp32": "encoder.onnx"}, opset=17, tools={"hand": "1"},
            parity=Parity(max_abs_diff=0.0, sentences=1), sha256={}, items=count,
        )  # fmt: skip

    return write_bundle(out, fill)


def publish(registry: Registry, tmp_path: Path, *salts: str) -> list[str]:
    """Publish a tiny bundle for each salt, and return the versions."""
    return [registry.publish(tiny_bundle(tmp_path / f"bundle-{salt}", salt).path) for salt in salts]


def promote(registry: Registry, *versions: str) -> None:
    """Promote versions, one after another."""
    for version in versions:
        current = registry.current()
        registry.promote(version, current.number if current else None)


def sound(registry: Registry) -> None:
    """Assert that everything in sight is whole."""
    for version in registry.published():
        registry.verify(version)
    assert all(pointer.version in registry.versions() for pointer in registry.history()[-1:])


def hidden(root: Path) -> list[str]:
    """Return leftovers."""
    return [path.name for path in root.rglob(".*")]
