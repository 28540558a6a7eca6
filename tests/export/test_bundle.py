"""A bundle is whole or it is refused, with one line that says what to do."""

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from export.bundle import MANIFEST, Bundle, Manifest, content_version, file_sha256, write_bundle
from export.encoder import OnnxEncoder
from model.errors import BadBundle


def _edit_manifest(folder: Path, **changes: Any) -> None:
    raw = msgspec.json.decode((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(msgspec.json.encode({**raw, **changes}))


def _refused(folder: Path, words: str) -> None:
    with pytest.raises(BadBundle, match=words) as caught:
        Bundle.open(folder)
    assert "\n" not in str(caught.value)
    assert "penchant" in str(caught.value)


def test_opens_what_was_written(bundle: Bundle) -> None:
    again = Bundle.open(str(bundle.path))
    assert again.manifest == bundle.manifest
    assert again.manifest.dim == 384
    assert again.manifest.parity.sentences >= 64
    assert again.manifest.parity.max_abs_diff <= 1e-4
    assert len(again.selftest().texts) == 32


def test_changed_file(copied: Path) -> None:
    with (copied / "encoder.onnx").open("ab") as file:
        file.write(b"x")
    _refused(copied, "sha256 differs")


def test_missing_file(copied: Path) -> None:
    (copied / "tokenizer.json").unlink()
    _refused(copied, "cannot read tokenizer.json")


def test_missing_manifest(tmp_path: Path) -> None:
    _refused(tmp_path, "not a bundle")


def test_garbled_manifest(copied: Path) -> None:
    (copied / MANIFEST).write_bytes(b"\xff{")
    _refused(copied, "unreadable")


def test_newer_format(copied: Path) -> None:
    _edit_manifest(copied, format_version=99, forms=7)
    _refused(copied, "newer than this Penchant")


@pytest.mark.parametrize(
    "tuning",
    [
        {},
        {"blend": []},
        {"blend": {"all": {"before": 0.1}}},
    ],
)
def test_a_report_that_could_not_be_told(copied: Path, tuning: dict[str, Any]) -> None:
    _edit_manifest(copied, tuning=tuning)
    _refused(copied, "unreadable")


@pytest.mark.parametrize("learnt", [-192, 7, 384, 1000])
def test_a_part_that_there_cannot_be(copied: Path, learnt: int) -> None:
    _edit_manifest(copied, learnt=learnt)
    _refused(copied, "cannot be a part")


def test_name_that_leaves_the_folder(copied: Path) -> None:
    sha256 = Bundle.open(copied).manifest.sha256
    _edit_manifest(copied, sha256={**sha256, "../x": "0"})
    _refused(copied, "not the name of a file")


def test_failing_selftest(copied: Path) -> None:
    manifest = Bundle.open(copied).manifest
    path = copied / manifest.selftest
    test = msgspec.json.decode(path.read_bytes())
    test["vectors"] = [[-x for x in row] for row in test["vectors"]]
    path.write_bytes(msgspec.json.encode(test))
    sha256 = {**manifest.sha256, path.name: file_sha256(path)}
    _edit_manifest(copied, sha256=sha256, version=content_version(sha256))
    with pytest.raises(BadBundle, match="fails its self-test"):
        OnnxEncoder(Bundle.open(copied), "cpu")


def test_full_disk_leaves_nothing(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill(folder: Path) -> Manifest:
        for name in bundle.manifest.sha256:
            (folder / name).write_bytes((bundle.path / name).read_bytes())
        return bundle.manifest

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(BadBundle, match="No space left"):
            write_bundle(tmp_path / "new", fill)
    assert list(tmp_path.iterdir()) == []
    assert write_bundle(tmp_path / "new", fill).manifest.version == bundle.manifest.version
    with pytest.raises(BadBundle, match="exists already"):
        write_bundle(tmp_path / "new", fill)
