"""The registry in a folder: versions are whole or not there, one of two promoters wins, kills leave nothing."""

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import msgspec
import pytest

from export import durable
from export.registry import Conflict, Pointer, Registry
from export.registry_log import PointerLog
from model.errors import BadBundle, Fatal, PenchantError
from tests.export.conftest import Dying
from tests.export.tiny import hidden, promote, publish, sound, tiny_bundle


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def registry(root: Path) -> Registry:
    return Registry.open(str(root))


def test_publish_promote_fetch(registry: Registry, tmp_path: Path) -> None:
    assert registry.current() is None
    assert registry.versions() == {}
    first, second = publish(registry, tmp_path, "01", "02")
    assert list(registry.versions()) == [first, second]
    assert registry.current() is None  # published is not promoted
    pointer = registry.promote(first, None, "the first")
    assert registry.current() == pointer
    assert (pointer.number, pointer.version, pointer.why, pointer.note) == (1, first, "promote", "the first")
    assert pointer.at.endswith("+00:00")
    promote(registry, second)
    assert [(p.number, p.version) for p in registry.history()] == [(1, first), (2, second)]
    assert registry.fetch(second, tmp_path / "cache").manifest.version == second
    assert not (tmp_path / "cache").exists()  # opened where it lies


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_addresses(form: str, root: Path, tmp_path: Path) -> None:
    (version,) = publish(Registry.open(form.format(root)), tmp_path, "01")
    assert (root / "models" / version / "manifest.json").is_file()


@pytest.mark.parametrize("url", ["", "gs://bucket/x", "s3://", "http://host/x"])
def test_no_such_kind_of_address(url: str) -> None:
    with pytest.raises(Fatal, match="give a folder, or s3://"):
        Registry.open(url)


def test_without_s3fs_one_line_says_what_to_install() -> None:
    code = "import sys; sys.modules['s3fs'] = None; from export.registry import Registry; Registry.open('s3://b/p')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.splitlines()[-1].endswith(
        "s3://b/p needs s3fs: install the extra 's3' (pip install 'penchant[s3]')"
    )


def test_registry_of_a_folder_imports_neither_torch_nor_s3fs() -> None:
    code = (
        "import sys; from export.registry import Registry; Registry.open('/nowhere').current();"
        "sys.exit(bool({'torch', 's3fs', 'aiohttp', 'onnxruntime'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_publishing_again_does_nothing(registry: Registry, root: Path, tmp_path: Path) -> None:
    (version,) = publish(registry, tmp_path, "01")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert registry.publish(tmp_path / "bundle-01") == version
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("name", ["encoder.onnx", "selftest.json", "manifest.json"])
@pytest.mark.parametrize("how", ["changed", "truncated", "missing"])
def test_damage_is_refused_everywhere_and_mended_by_publishing(
    name: str, how: str, registry: Registry, root: Path, tmp_path: Path
) -> None:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if how == "changed" else data[: len(data) // 2])
        if how == "missing":
            path.unlink()

    (version,) = publish(registry, tmp_path, "01")
    damage(root / "models" / version / name)
    for refuses in (lambda: registry.verify(version), lambda: registry.fetch(version, tmp_path / "cache")):
        with pytest.raises(BadBundle) as caught:
            refuses()
        assert "\n" not in str(caught.value)
    assert registry.publish(tmp_path / "bundle-01") == version
    registry.verify(version)
    assert hidden(root) == []

    other = tiny_bundle(tmp_path / "other", "02").path
    damage(other / name)
    with pytest.raises(BadBundle):
        registry.publish(other)
    assert registry.published() == [version]


def test_promote_only_what_is_published(registry: Registry) -> None:
    for version in ("0123456789ab", "../../etc", ""):
        with pytest.raises(BadBundle, match="is not published"):
            registry.promote(version, None)
    assert registry.history() == []


def test_expected_pointer(registry: Registry, tmp_path: Path) -> None:
    first, second = publish(registry, tmp_path, "01", "02")
    with pytest.raises(Conflict, match="pointer 3 was to be replaced, but there is no pointer"):
        registry.promote(first, 3)
    registry.promote(first, None)
    for expected in (None, 2):
        with pytest.raises(Conflict, match="there is pointer 1 by now"):
            registry.promote(second, expected)
    with pytest.raises(Conflict):
        registry.rollback(expected=7)
    assert [pointer.version for pointer in registry.history()] == [first]


def test_of_promoters_at_the_same_moment_one_wins(registry: Registry, root: Path, tmp_path: Path, dying: Dying) -> None:
    versions = publish(registry, tmp_path, "01", "02", "03", "04")
    for number in range(1, 26):
        codes = dying(0, "promote", str(root), *versions)
        # One that only looked after another had finished saw that one's pointer, and rightly replaced it.
        assert codes.count(0) >= 1
        assert set(codes) <= {0, 3}
        assert [pointer.number for pointer in registry.history()] == list(range(1, len(registry.history()) + 1))
        assert len(registry.history()) >= number
    assert hidden(root) == []


def test_of_those_who_saw_the_same_pointer_one_wins(registry: Registry, tmp_path: Path) -> None:
    versions = publish(registry, tmp_path, "01", "02", "03", "04")
    barrier = Barrier(len(versions))

    def race(version: str, seen: int | None) -> str:
        barrier.wait()
        try:
            return registry.promote(version, seen).version
        except Conflict:
            return ""

    with ThreadPoolExecutor(len(versions)) as pool:
        for seen in (None, *range(1, 25)):
            (winner,) = filter(None, pool.map(race, versions, itertools.repeat(seen)))
            current = registry.current()
            assert current is not None
            assert (current.version, current.number) == (winner, (seen or 0) + 1)


def test_rollback_goes_back_not_forth(registry: Registry, tmp_path: Path) -> None:
    a, b, c = publish(registry, tmp_path, "01", "02", "03")
    with pytest.raises(PenchantError, match="no version before"):
        registry.rollback()
    promote(registry, a, b, c)
    pointer = registry.rollback("clicks fell", expected=3)
    assert (pointer.number, pointer.version, pointer.why, pointer.note) == (4, b, "rollback", "clicks fell")
    assert registry.rollback().version == a
    with pytest.raises(PenchantError, match="no version before"):
        registry.rollback()
    promote(registry, c)
    assert registry.rollback().version == a


def test_rollback_passes_over_what_was_pruned(registry: Registry, tmp_path: Path) -> None:
    a, b, c = publish(registry, tmp_path, "03", "01", "02")
    promote(registry, a, b, c)
    assert registry.prune(1, {a}) == [b]
    assert registry.rollback().version == a


def test_prune(registry: Registry, root: Path, tmp_path: Path) -> None:
    versions = publish(registry, tmp_path, "01", "02", "03", "04", "05", "06", "07")
    promote(registry, versions[0], versions[1], versions[2])
    # The current one and the one before it, the newest two, and one in use.
    assert registry.prune(2, {versions[4]}) == [versions[0], versions[3]]
    assert list(registry.versions()) == [*versions[1:3], *versions[4:]]
    assert registry.prune(2, {versions[4]}) == []
    assert registry.prune(0, frozenset()) == [versions[1], *versions[4:]]
    assert list(registry.versions()) == [versions[2]]  # current, whatever is asked
    sound(registry)
    assert hidden(root) == []


def test_prune_spares_what_is_promoted_at_that_moment(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = publish(registry, tmp_path, "01", "02")
    promote(registry, new)
    original = registry.versions

    def late() -> object:
        found = original()
        registry.promote(old, 1)
        return found

    history = registry.history()
    monkeypatch.setattr(registry, "versions", late)
    monkeypatch.setattr(registry, "history", lambda: history)
    assert registry.prune(1, frozenset()) == []
    monkeypatch.undo()
    assert registry.fetch(old, tmp_path / "cache").manifest.version == old


def test_log_with_holes_and_strangers(registry: Registry, root: Path, tmp_path: Path) -> None:
    first, second = publish(registry, tmp_path, "01", "02")
    promote(registry, first)
    log = root / "current"
    seventh = Pointer(number=7, version=second, at="2026-11-01T00:00:00+00:00", why="promote")
    (log / "00000007.json").write_bytes(msgspec.json.encode(seventh))
    (log / "00000008.json").write_bytes(b"{")
    (log / "00000009.json").write_bytes(msgspec.json.encode(seventh))  # says it is another
    for stranger in ("readme.txt", "11.json", "000000012.json", ".00000013.json", "٠٠٠٠٠٠١٤.json"):
        (log / stranger).write_bytes(b"?")
    assert [pointer.number for pointer in registry.history()] == [1, 7]
    assert registry.current() == seventh
    assert registry.promote(first, 7).number == 10
    assert registry.rollback().version == second


def test_pointers_that_later_versions_write_are_read(registry: Registry, root: Path, tmp_path: Path) -> None:
    (version,) = publish(registry, tmp_path, "01")
    promote(registry, version)
    path = root / "current" / "00000001.json"
    path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), "later": [1]}))
    assert PointerLog(registry._store).current() == registry.current()
    assert registry.current() is not None


def test_a_living_publisher_is_left_alone(registry: Registry, root: Path, tmp_path: Path) -> None:
    publish(registry, tmp_path, "01")
    with durable.temporary_folder(root / "models", "0123456789ab") as folder:
        (folder / "encoder.onnx").write_bytes(b"half")
        publish(registry, tmp_path, "02")
        assert (folder / "encoder.onnx").read_bytes() == b"half"
    assert hidden(root) == []


def test_a_rollback_undoes_only_what_it_was_told_to(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where somebody promotes after the first look."""
    first, second, third = publish(registry, tmp_path, "01", "02", "03")
    promote(registry, first, second)
    history = registry.history

    def later() -> list[Pointer]:
        promote(registry, third)
        return history()

    monkeypatch.setattr(registry, "history", later)
    with pytest.raises(Conflict):
        registry.rollback(expected=2)
    assert [pointer.version for pointer in history()] == [first, second, third]
