"""The registry in S3, on a real server over HTTP: conditional writes, lost answers, kills, damage, downloads."""

import errno
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import fsspec
import pytest

from export.registry import Conflict, Registry
from export.registry_bucket import Bucket
from model.errors import BadBundle, DependencyAway, Fatal
from tests.export.conftest import Dying
from tests.export.tiny import KILLED, promote, publish, sound, tiny_bundle

pytestmark = pytest.mark.usefixtures("s3")
_NAMES = itertools.count(1)


@pytest.fixture
def fs() -> Any:
    return fsspec.filesystem("s3", use_listings_cache=False)


@pytest.fixture
def url(fs: Any) -> str:
    bucket = f"bucket-{next(_NAMES)}"
    fs.mkdir(bucket)
    return f"s3://{bucket}/models of ours"


@pytest.fixture
def registry(url: str) -> Registry:
    return Registry.open(url + "/")


def test_publish_promote_fetch_rollback(registry: Registry, url: str, fs: Any, tmp_path: Path) -> None:
    assert registry.current() is None
    assert registry.versions() == {}
    first, second = publish(registry, tmp_path, "01", "02")
    assert registry.publish(tmp_path / "bundle-01") == first
    assert list(registry.versions()) == [first, second]
    promote(registry, first, second)
    assert fs.exists(f"{url}/models/{first}/manifest.json")
    assert fs.exists(f"{url}/current/00000002.json")
    other = Registry.open(url)  # sees what is new, caches nothing
    assert other.current() == registry.current()
    assert registry.rollback().version == first
    current = other.current()
    assert current is not None
    assert (current.number, current.version) == (3, first)
    with pytest.raises(Conflict):
        other.promote(second, 2)
    sound(other)


def test_fetch_downloads_once(registry: Registry, url: str, fs: Any, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", "01", ["Toy Story"])
    version = registry.publish(bundle.path)
    cache = tmp_path / "cache" / "below"
    fetched = registry.fetch(version, cache)
    assert fetched.path == cache / version
    items = fetched.items()
    assert items is not None
    assert list(items.find(["Toy Story", "Heat"])) == ["Toy Story"]
    before = (cache / version / "encoder.onnx").stat().st_mtime_ns
    registry.fetch(version, cache)
    assert (cache / version / "encoder.onnx").stat().st_mtime_ns == before
    (cache / version / "encoder.onnx").write_bytes(b"?")
    registry.fetch(version, cache)  # damaged since: anew
    assert (cache / version / "encoder.onnx").read_bytes() == (bundle.path / "encoder.onnx").read_bytes()
    assert [path.name for path in cache.iterdir()] == [version]


def test_a_cache_that_cannot_be_written_is_not_the_bundle_s_fault(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = cast(Bucket, registry._store)._fs
    (version,) = publish(registry, tmp_path, "01")
    (tmp_path / "file").touch()
    with pytest.raises(Fatal, match="free space"):
        registry.fetch(version, tmp_path / "file" / "cache")

    def full(_source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", target)

    with monkeypatch.context() as patched:
        patched.setattr(fs, "get_file", full)
        with pytest.raises(Fatal, match="No space left"):
            registry.fetch(version, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert registry.fetch(version, tmp_path / "cache").manifest.version == version


@pytest.mark.parametrize("name", ["encoder.onnx", "manifest.json"])
@pytest.mark.parametrize("how", ["changed", "truncated", "missing"])
def test_damage_is_refused_and_mended_by_publishing(
    name: str, how: str, registry: Registry, url: str, fs: Any, tmp_path: Path
) -> None:
    (version,) = publish(registry, tmp_path, "01")
    path = f"{url}/models/{version}/{name}"
    data = fs.cat_file(path)
    fs.pipe_file(path, data[:-1] + bytes([data[-1] ^ 1]) if how == "changed" else data[: len(data) // 2])
    if how == "missing":
        fs.rm_file(path)
    with pytest.raises(BadBundle):
        registry.verify(version)
    with pytest.raises(BadBundle):
        registry.fetch(version, tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*")) == []
    registry.publish(tmp_path / "bundle-01")
    registry.verify(version)


def test_a_manifest_that_names_files_elsewhere_is_refused(
    registry: Registry, url: str, fs: Any, tmp_path: Path
) -> None:
    (version,) = publish(registry, tmp_path, "01")
    path = f"{url}/models/{version}/manifest.json"
    fs.pipe_file(path, fs.cat_file(path).replace(b'"selftest.json"', b'"../../outside"'))
    with pytest.raises(BadBundle, match="not the name of a file"):
        registry.fetch(version, tmp_path / "cache")


def test_one_wins(registry: Registry, url: str, tmp_path: Path, dying: Dying) -> None:
    versions = publish(registry, tmp_path, "01", "02", "03")

    def race(version: str, seen: int | None) -> str:
        try:
            return registry.promote(version, seen).version
        except Conflict:
            return ""

    with ThreadPoolExecutor(len(versions)) as pool:
        for seen in (None, 1, 2, 3):
            (winner,) = filter(None, pool.map(race, versions, itertools.repeat(seen)))
            current = registry.current()
            assert current is not None
            assert (current.version, current.number) == (winner, (seen or 0) + 1)
    codes = dying(0, "promote", url, *versions)
    assert set(codes) <= {0, 3}
    assert len(registry.history()) == 4 + codes.count(0)


def test_a_store_without_conditional_writes_is_refused(fs: Any, tmp_path: Path) -> None:
    fs.mkdir("old-bucket")
    registry = Registry.open("s3://old-bucket/models")
    (version,) = publish(registry, tmp_path, "01")
    with pytest.raises(Fatal, match="knows no conditional writes"):
        registry.promote(version, None)
    assert registry.history() == []


def test_an_answer_lost_on_the_way_is_no_conflict(fs: Any, tmp_path: Path) -> None:
    fs.mkdir("lossy-bucket")
    registry = Registry.open("s3://lossy-bucket/models")
    first, second = publish(registry, tmp_path, "01", "02")
    promote(registry, first, second)
    assert [(pointer.number, pointer.version) for pointer in registry.history()] == [(1, first), (2, second)]


def test_prune(registry: Registry, url: str, fs: Any, tmp_path: Path) -> None:
    versions = publish(registry, tmp_path, "01", "02", "03", "04")
    promote(registry, versions[1])
    assert registry.prune(1, {versions[2]}) == [versions[0]]
    assert not fs.exists(f"{url}/models/{versions[0]}")
    assert list(registry.versions()) == versions[1:]
    sound(registry)


@pytest.mark.parametrize("action", ["publish", "promote", "prune"])
def test_killed(action: str, fs: Any, dying: Dying, tmp_path: Path) -> None:
    old, new = tiny_bundle(tmp_path / "old", "01"), tiny_bundle(tmp_path / "new", "02")
    first, second = old.manifest.version, new.manifest.version
    fs.mkdir(f"killed-{action}")
    seen = set()
    for number in itertools.count(1):
        url = f"s3://killed-{action}/{number if action == 'publish' else ''}"
        registry = Registry(Bucket(url, leftover_age=timedelta(0)))
        registry.publish(old.path)
        if action != "publish":
            registry.publish(new.path)
        promote(registry, second if action == "prune" else first)
        (code,) = dying(number, action, url, str(new.path) if action == "publish" else second)
        assert code in {0, KILLED}
        sound(registry)
        current = registry.current()
        assert current is not None
        seen.add((tuple(registry.published()), current.version))
        registry.publish(new.path)
        files = {path.split("/models/")[1].split("/")[0] for path in fs.find(f"{url}/models")}
        assert files == set(registry.published())
        if code == 0:
            break
    both = tuple(sorted((first, second)))
    expected = {
        "publish": {((first,), first), (both, first)},
        "promote": {(both, first), (both, second)},
        "prune": {(both, second), ((second,), second)},
    }
    assert seen == expected[action]


def test_leftovers_are_deleted_once_they_are_old(registry: Registry, url: str, fs: Any, tmp_path: Path) -> None:
    fs.pipe_file(f"{url}/models/0123456789ab/encoder.onnx", b"of somebody who was killed, or uploads just now")
    publish(registry, tmp_path, "01")
    assert fs.exists(f"{url}/models/0123456789ab/encoder.onnx")
    publish(Registry(Bucket(url, leftover_age=timedelta(0))), tmp_path, "02")
    assert not fs.exists(f"{url}/models/0123456789ab/encoder.onnx")


def test_a_bucket_that_is_not_there(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", "01")
    with pytest.raises(DependencyAway, match=r"s3://no-such-bucket/x: .*see endpoint, bucket and credentials"):
        Registry.open("s3://no-such-bucket/x").publish(bundle.path)


def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    s3fs = fsspec.get_filesystem_class("s3")
    s3fs.clear_instance_cache()
    try:
        began = time.monotonic()
        with pytest.raises(DependencyAway, match="does not answer as it should"):
            Registry.open("s3://bucket/x").current()
        assert time.monotonic() - began < 30
    finally:
        s3fs.clear_instance_cache()
