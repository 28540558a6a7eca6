"""The catalogue's vectors in a bundle are found by text, and only those that are there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export import catalogue
from export.bundle import Bundle, content_version, file_sha256
from model.encoding import Vectors
from model.errors import BadBundle
from tests.export.tiny import DIM, embed, tiny_bundle

TEXTS = st.lists(st.text(st.characters(exclude_categories=()), max_size=6), max_size=40)


@settings(max_examples=60, deadline=None)
@given(inside=TEXTS, outside=TEXTS)
def test_finds_what_is_inside(inside: list[str], outside: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("items")
    told: list[tuple[int, int]] = []
    count = catalogue.write(folder, inside, lambda t: embed(list(t)), lambda done, of: told.append((done, of)))
    assert count == len(set(inside))
    if not count:
        assert list(folder.iterdir()) == []
        return
    assert told[-1] == (count, count)
    found = catalogue.read(folder, DIM)
    assert len(found) == count
    vectors = found.find([*inside, *outside])
    assert vectors.keys() == set(inside)
    for text, vector in vectors.items():
        assert vector.dtype == np.float32
        np.testing.assert_array_equal(vector, embed([text])[0])


def test_what_is_found_is_the_caller_s_own(tmp_path: Path) -> None:
    items = tiny_bundle(tmp_path / "bundle", items=["a", "b"]).items()
    assert items is not None
    items.find(["a"])["a"][:] = 0
    assert items.find(["a"])["a"].any()
    assert items.find([]) == {}


def test_a_text_without_numbers_is_left_out(tmp_path: Path) -> None:
    def sometimes(texts: Sequence[str]) -> Vectors:
        vectors = embed(list(texts))
        vectors[texts.index("bad")] = np.nan
        return vectors

    texts = [*map(str, range(9)), "bad"]  # wherever among them it lies by its hash, the others keep their own vectors
    assert catalogue.write(tmp_path, texts, sometimes, lambda done, of: None) == 9
    found = catalogue.read(tmp_path, DIM).find(texts)
    assert found.keys() == set(texts) - {"bad"}
    for text, vector in found.items():
        np.testing.assert_array_equal(vector, embed([text])[0])


def test_a_bundle_names_and_checks_its_items(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "with", items=["a", "b", "a"])
    assert bundle.manifest.items == 2
    assert {catalogue.VECTORS, catalogue.HASHES} < bundle.manifest.sha256.keys()
    without = tiny_bundle(tmp_path / "without")
    assert without.items() is None
    assert without.manifest.items == 0
    assert without.manifest.version != bundle.manifest.version
    with (bundle.path / catalogue.VECTORS).open("ab") as file:
        file.write(b"x")
    with pytest.raises(BadBundle, match=r"items\.npy is not what was exported"):
        Bundle.open(bundle.path)


def test_a_bundle_of_before_there_were_items_is_read(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "old")
    path = bundle.path / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"items": 0', b'"later": 0'))
    assert b'"items"' not in path.read_bytes()
    assert Bundle.open(bundle.path).items() is None


@pytest.mark.parametrize("fault", ["rows", "dim", "order", "dtype", "pickle", "empty"])
def test_other_shapes_are_refused(fault: str, tmp_path: Path) -> None:
    catalogue.write(tmp_path, ["a", "b", "c"], lambda texts: embed(list(texts)), lambda done, of: None)
    vectors, hashes = np.load(tmp_path / catalogue.VECTORS), np.load(tmp_path / catalogue.HASHES)
    if fault == "rows":
        np.save(tmp_path / catalogue.VECTORS, vectors[:2])
    elif fault == "dim":
        np.save(tmp_path / catalogue.VECTORS, vectors[:, :3])
    elif fault == "order":
        np.save(tmp_path / catalogue.HASHES, hashes[::-1])
    elif fault == "dtype":
        np.save(tmp_path / catalogue.VECTORS, vectors.astype(np.float64))
    elif fault == "pickle":
        np.save(tmp_path / catalogue.HASHES, np.array([{}, {}, {}], dtype=object))
    else:
        (tmp_path / catalogue.HASHES).write_bytes(b"")
    with pytest.raises(BadBundle, match="--items"):
        catalogue.read(tmp_path, DIM)


def test_version_is_of_the_files(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", items=["a"])
    sha256 = {name: file_sha256(bundle.path / name) for name in bundle.manifest.sha256}
    assert content_version(sha256) == bundle.manifest.version
