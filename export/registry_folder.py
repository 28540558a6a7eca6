"""The registry's store in a folder: what is there is whole, as files are linked and folders renamed into place."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from export import durable
from export.bundle import MANIFEST, Bundle
from model.errors import DependencyAway, Fatal

MODELS, CURRENT = "models", "current"


class Folder:
    """A folder on this machine, or on a network drive that has hard links."""

    def __init__(self, root: Path) -> None:
        self.url = str(root)
        self._models, self._current = root / MODELS, root / CURRENT

    def pointers(self) -> list[str]:
        """Return the names of all files of the pointer log, whatever they are."""
        return _names(self._current)

    def read_pointer(self, name: str) -> bytes:
        """Return a pointer's bytes."""
        try:
            return (self._current / name).read_bytes()
        except OSError as error:
            raise DependencyAway(f"{self.url}: cannot read {CURRENT}/{name} ({error.strerror}); try again") from error

    def create_pointer(self, name: str, data: bytes) -> None:
        """Write a pointer; raises `FileExistsError` where there is one of that name."""
        try:
            durable.make_folder(self._current)
            durable.create(self._current / name, data)
        except FileExistsError:
            raise
        except OSError as error:
            raise Fatal(
                f"{self.url}: cannot write {CURRENT}/{name} ({error.strerror}); it needs free space, the right to "
                "write, and a file system with hard links"
            ) from error

    def versions(self) -> list[str]:
        """Return the names of what is published."""
        return [name for name in _names(self._models) if not name.startswith(".")]

    def manifest(self, version: str) -> bytes | None:
        """Return the manifest's bytes, None where there is no such version."""
        try:
            return (self._models / version / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DependencyAway(f"{self.url}: cannot read {version} ({error.strerror}); try again") from error

    def put(self, bundle: Bundle) -> None:
        """Copy a bundle in, whole or not at all; one of that version that is there already is replaced."""
        version = bundle.manifest.version
        target = self._models / version
        try:
            durable.make_folder(self._models)
            with durable.temporary_folder(self._models, version) as folder:
                for name in (*bundle.manifest.sha256, MANIFEST):
                    shutil.copyfile(bundle.path / name, folder / name)
                Bundle.open(folder)
                if target.exists():
                    self.hide(version)
                with contextlib.suppress(FileExistsError):  # somebody else published the same just now
                    durable.rename(folder, target)
            durable.sweep(self._models)
        except OSError as error:
            raise Fatal(f"{self.url}: cannot publish {version} ({error.strerror}); it needs free space and the right "
                        "to write") from error  # fmt: skip

    def get(self, version: str, cache: Path) -> Bundle:
        """Open a version where it lies."""
        return Bundle.open(self._models / version)

    def hide(self, version: str) -> Callable[[], None]:
        """Make a version invisible at once; what is returned makes it visible again."""
        there = self._models / version
        try:
            away = durable.hide(there)
        except FileNotFoundError:  # somebody else removes it, too
            return lambda: None
        except OSError as error:
            raise Fatal(f"{self.url}: cannot remove {version} ({error.strerror}); it needs the right to") from error

        def undo() -> None:
            away.rename(there)
            durable.fsync(self._models)

        return undo

    def discard(self, version: str) -> None:
        """Delete what was hidden."""
        durable.sweep(self._models)

    def sweep(self) -> None:
        """Delete what processes that were killed left behind."""
        durable.sweep(self._models)
        durable.sweep(self._current)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DependencyAway(f"cannot read {folder} ({error.strerror}); mend it, or give another registry") from error
