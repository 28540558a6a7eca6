"""The registry in a folder, killed at every step of publishing, promoting and pruning, stays valid."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from export.registry import Registry
from tests.export.conftest import Dying
from tests.export.tiny import KILLED, hidden, promote, sound, tiny_bundle


def killed(dying: Dying, action: str, tmp_path: Path) -> Iterator[tuple[Registry, Path, str, str]]:
    """Yield registries whose last user was killed, one step later each time, and then one where nobody was.

    In each, one version is current, and another was being published, promoted or pruned.
    """
    old = tiny_bundle(tmp_path / "old", "01").path
    new = tiny_bundle(tmp_path / "new", "02", ["a", "b"]).path
    for number in itertools.count(1):
        root = tmp_path / f"registry-{number}"
        registry = Registry.open(str(root))
        first, second = registry.publish(old), ""
        if action == "publish":
            promote(registry, first)
            argument = str(new)
        else:
            second = registry.publish(new)
            promote(registry, second if action == "prune" else first)
            argument = second
        (code,) = dying(number, action, str(root), argument)
        assert code in {0, KILLED}
        yield registry, root, first, second or registry.publish(new)
        assert hidden(root) == []
        if code == 0:
            assert number > 5
            return


def test_killed_while_publishing(dying: Dying, tmp_path: Path) -> None:
    seen = set()
    for registry, root, first, second in killed(dying, "publish", tmp_path):
        seen.add(len(list((root / "models").iterdir())))
        current = registry.current()
        assert current is not None
        assert current.version == first
        sound(registry)
        assert list(registry.versions()) == [first, second]
    assert seen == {2}


def test_killed_publisher_leaves_what_nobody_sees(dying: Dying, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", "01")
    seen = set()
    for number in itertools.count(1):
        root = tmp_path / f"registry-{number}"
        (code,) = dying(number, "publish", str(root), str(bundle.path))
        registry = Registry.open(str(root))
        sound(registry)
        seen.add((len(registry.published()), bool(hidden(root))))
        registry.publish(bundle.path)
        registry.verify(bundle.manifest.version)
        assert hidden(root) == []
        if code == 0:
            break
    assert {(0, False), (0, True), (1, False)} <= seen


def test_killed_while_promoting(dying: Dying, tmp_path: Path) -> None:
    seen = set()
    for registry, root, first, second in killed(dying, "promote", tmp_path):
        current = registry.current()
        assert current is not None
        seen.add((current.version == second, bool(hidden(root))))
        sound(registry)
        assert registry.promote(second, current.number).number == current.number + 1
        registry.publish(tmp_path / "old")
        assert list(registry.versions()) == [first, second]
    assert seen == {(False, False), (False, True), (True, True), (True, False)}


def test_killed_while_pruning(dying: Dying, tmp_path: Path) -> None:
    seen = set()
    for registry, root, first, second in killed(dying, "prune", tmp_path):
        seen.add((first in registry.versions(), bool(hidden(root))))
        sound(registry)
        left = [version for version in (first,) if version in registry.versions()]
        assert registry.prune(1, frozenset()) == left
        assert list(registry.versions()) == [second]
        registry.publish(tmp_path / "old")
        sound(registry)
    assert {(True, False), (False, True), (False, False)} <= seen
