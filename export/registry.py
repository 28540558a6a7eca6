"""The registry of models: bundles by version, and a log of which of them is current."""

import contextlib
import re
import tempfile
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from export.bundle import Bundle, Manifest, parse_manifest
from export.registry_bucket import Bucket
from export.registry_folder import Folder
from export.registry_log import Conflict, Pointer, PointerLog, PointerStore, trail
from model.errors import BadBundle, Fatal, PenchantError

__all__ = ["Conflict", "Pointer", "Registry", "Store"]

_VERSION = re.compile(r"[0-9a-f]{12}")


class Store(PointerStore, Protocol):
    """Where a registry is kept; raises `DependencyAway` where it does not answer, `Fatal` where it cannot be used."""

    def versions(self) -> list[str]:
        """Return names among which are all that is published."""

    def manifest(self, version: str) -> bytes | None:
        """Return the manifest's bytes, None where there is no such version."""

    def put(self, bundle: Bundle) -> None:
        """Copy a bundle in, whole or not at all; one of that version that is there already is replaced."""

    def get(self, version: str, cache: Path) -> Bundle:
        """Return a version, every checksum verified; raises `BadBundle`."""

    def hide(self, version: str) -> Callable[[], None]:
        """Make a version invisible at once; what is returned makes it visible again."""

    def discard(self, version: str) -> None:
        """Delete what was hidden."""

    def sweep(self) -> None:
        """Delete what processes that were killed left behind."""


class Registry:
    """Bundles that never change, and an append-only log of pointers: whoever makes the next number was quicker.

    A process that is killed leaves nothing half done in sight: a version is there whole or not at all, and so is a
    pointer. What it leaves out of sight is deleted by the next that publishes.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._log = PointerLog(store)

    @classmethod
    def open(cls, url: str) -> "Registry":
        """Return the registry in a folder (a path or file://) or in a bucket (s3://bucket/prefix); asks nothing yet.

        Raises Fatal where the address is of another kind, or what reads it is not installed.
        """
        scheme, bucket, path, _, _ = urlsplit(url)
        if scheme == "s3" and bucket:
            return cls(Bucket(url))
        if scheme == "file" and bucket in {"", "localhost"}:
            return cls(Folder(Path(unquote(path))))
        if "://" in url or not url:
            raise Fatal(f"no registry at {url!r}: give a folder, or s3://bucket/prefix")
        return cls(Folder(Path(url).expanduser().absolute()))

    @property
    def url(self) -> str:
        """Where it is."""
        return self._store.url

    def publish(self, bundle: Path | str) -> str:
        """Copy a bundle into the registry and return its version; nothing is done where that is there and sound.

        Raises BadBundle where it cannot be trusted.
        """
        opened = _sound(Bundle.open(bundle))
        version = opened.manifest.version
        self._store.sweep()
        try:
            self.verify(version)
        except BadBundle:  # not there, or damaged
            self._store.put(opened)
        return version

    def published(self) -> list[str]:
        """Return the versions that are published, those included whose manifest nobody can read."""
        names = (name for name in self._store.versions() if _VERSION.fullmatch(name))
        return sorted(name for name in names if self._store.manifest(name) is not None)

    def versions(self) -> dict[str, Manifest]:
        """Return the manifests of what is published, oldest export first; unreadable ones are left out."""
        found = {}
        for version in self.published():
            with contextlib.suppress(BadBundle):
                found[version] = self.manifest(version)
        return dict(sorted(found.items(), key=lambda pair: (pair[1].created_at, pair[0])))

    def manifest(self, version: str) -> Manifest:
        """Return what a version says of itself; BadBundle where there is no such version, or it is unreadable."""
        where = f"{self.url}: {version!r}"
        raw = self._store.manifest(version) if _VERSION.fullmatch(version) else None
        if raw is None:
            raise BadBundle(f"{where} is not published; see: penchant models list")
        manifest = parse_manifest(raw, where)
        if manifest.version != version:
            raise BadBundle(f"{where} holds version {manifest.version!r}; publish the right one again")
        return manifest

    def current(self) -> Pointer | None:
        """Return the pointer that counts now, None where nothing was ever promoted."""
        return self._log.current()

    def history(self) -> list[Pointer]:
        """Return all pointers, the oldest first; numbers may be missing, and what is no pointer is left out, logged."""
        return self._log.history()

    def promote(self, version: str, expected: int | None, note: str = "") -> Pointer:
        """Make a published version current and return the pointer to it.

        ``expected`` is the number of the pointer that the caller saw, None where there was none.
        Raises Conflict where that one no longer counts, BadBundle where the version is not published.
        """
        self.manifest(version)
        pointer = self._log.append(version, expected, "promote", note)
        self.manifest(version)  # a prune hides first and looks at the pointers then: one of the two sees the other
        return pointer

    def rollback(self, note: str = "", expected: int | None = None) -> Pointer:
        """Make the version before the current one current again, and return the pointer to it.

        A second rollback goes one further back, not forth again. Versions that were pruned are passed over.
        ``expected`` is the number of the pointer that is to be undone, None for whichever it is.
        Raises Conflict where another one counts, PenchantError where nothing was before.
        """
        if expected is not None:
            self._log.check(expected)
        history, there = self.history(), self.versions()
        *earlier, current = trail(history) or [""]
        before = [version for version in earlier if version in there and version != current]
        if not before:
            raise PenchantError(f"{self.url}: no version before the current one is there; promote one that is")
        return self._log.append(before[-1], history[-1].number if expected is None else expected, "rollback", note)

    def fetch(self, version: str, cache: Path) -> Bundle:
        """Return a version, verified: where it lies if that is a folder, else from ``cache``, downloaded if need be.

        Raises BadBundle where it cannot be trusted or is not there.
        """
        self.manifest(version)
        bundle = _sound(self._store.get(version, cache))
        if bundle.manifest.version != version:
            raise BadBundle(f"{bundle.path} holds version {bundle.manifest.version!r}; remove that folder")
        return bundle

    def verify(self, version: str) -> None:
        """Read every byte of a version; raises BadBundle where it is not what was published."""
        with tempfile.TemporaryDirectory(prefix="penchant-verify-") as scratch:
            self.fetch(version, Path(scratch))

    def prune(self, keep: int, used: AbstractSet[str]) -> list[str]:
        """Remove old versions, and return which.

        What stays: the current one, those in ``used``, the ``keep`` that were exported last, and the ``keep`` that
        rollbacks would go back along, the current one among them.
        """
        there = list(self.versions())
        back = list(dict.fromkeys(reversed(trail(self.history()))))
        spared = {*used, *back[: max(keep, 1)], *there[max(len(there) - keep, 0) :]}
        removed = []
        for version in there:
            if version in spared:
                continue
            undo = self._store.hide(version)
            current = self.current()
            if current is not None and current.version == version:  # promoted at this very moment
                undo()
                continue
            self._store.discard(version)
            removed.append(version)
        return removed


def _sound(bundle: Bundle) -> Bundle:
    """Return a bundle whose parts fit together, too; raises BadBundle."""
    bundle.selftest()
    bundle.items()
    return bundle
