"""The registry's store in S3 or what speaks like it: a version is there once its manifest is, written last."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec

from export import durable
from export.bundle import MANIFEST, Bundle, parse_manifest
from export.registry_folder import CURRENT, MODELS
from model.errors import BadBundle, DependencyAway, Fatal

LEFTOVER_AGE = timedelta(days=1)
"""Files without a manifest are a publication under way; after so long they are one that was killed."""


_RETRIES = {"mode": "standard", "total_max_attempts": 3}
PROBE = "conditional-writes"
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Bucket:
    """A prefix in a bucket. Credentials, region and endpoint are AWS's own (AWS_ENDPOINT_URL_S3, ~/.aws, ...)."""

    def __init__(self, url: str, leftover_age: timedelta = LEFTOVER_AGE) -> None:
        self.url = url.rstrip("/")
        self._leftover_age = leftover_age
        try:
            # What another process promotes must be seen: no cache of listings.
            self._fs: Any = fsspec.filesystem("s3", use_listings_cache=False, config_kwargs={"retries": _RETRIES})
            self._fs.retries = 2  # around those: 25 requests and half a minute to tell that nobody answers are too much
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise Fatal(f"{url} needs s3fs: install the extra 's3' (pip install 'penchant[s3]')") from None
        self._failures = (OSError, BotoCoreError, ClientError)
        root = self.url.removeprefix("s3://")
        self._models, self._current = f"{root}/{MODELS}", f"{root}/{CURRENT}"

    def pointers(self) -> list[str]:
        """Return the names of all files of the pointer log, whatever they are."""
        return [_last(entry) for entry in self._list(self._current)]

    def read_pointer(self, name: str) -> bytes:
        """Return a pointer's bytes."""
        with self._answering():
            data: bytes = self._fs.cat_file(f"{self._current}/{name}")
        return data

    def create_pointer(self, name: str, data: bytes) -> None:
        """Write a pointer; raises `FileExistsError` where there is one of that name.

        Raises Fatal where the store overwrites what it was told to create: there nobody could tell who was quicker.
        """
        self._check_exclusive()
        path = f"{self._current}/{name}"
        try:
            self._fs.pipe_file(path, data, mode="create")
        except self._failures as error:
            # Refused, or somebody writes it at this moment, or it was written, the answer lost and asked again.
            there = self._read(path)
            if there == data:
                return
            if there is not None:
                raise FileExistsError(name) from error
            with self._answering():
                raise

    def versions(self) -> list[str]:
        """Return the names of what is published, or was begun to be."""
        return [_last(entry) for entry in self._list(self._models)]

    def manifest(self, version: str) -> bytes | None:
        """Return the manifest's bytes, None where there is no such version."""
        return self._read(f"{self._models}/{version}/{MANIFEST}")

    def put(self, bundle: Bundle) -> None:
        """Upload a bundle, manifest last; one of that version that is there already is replaced."""
        version, names = bundle.manifest.version, sorted(bundle.manifest.sha256)
        folder = f"{self._models}/{version}"
        with self._answering():
            self.hide(version)
            for name in names:
                self._fs.put_file(str(bundle.path / name), f"{folder}/{name}")
            sizes = {_last(entry): entry["size"] for entry in self._list(folder)}
            if any(sizes.get(name) != (bundle.path / name).stat().st_size for name in names):
                raise DependencyAway(f"{self.url}: {version} is being removed at this moment; publish it again")
            self._fs.put_file(str(bundle.path / MANIFEST), f"{folder}/{MANIFEST}")

    def get(self, version: str, cache: Path) -> Bundle:
        """Download a version, whole or not at all, unless the cache has it."""
        target = cache / version
        with contextlib.suppress(BadBundle):  # not there yet, or damaged since
            return Bundle.open(target)
        raw = self.manifest(version)
        if raw is None:
            raise BadBundle(f"{self.url}: has no version {version}; see: penchant models list")
        manifest = parse_manifest(raw, f"{self.url}/{MODELS}/{version}")
        try:
            durable.make_folder(cache)
            if target.exists():
                durable.hide(target)
            durable.sweep(cache)
            with durable.temporary_folder(cache, version) as folder:
                (folder / MANIFEST).write_bytes(raw)
                for name in manifest.sha256:
                    self._download(f"{self._models}/{version}/{name}", folder / name)
                bundle = Bundle.open(folder)
                try:
                    durable.rename(folder, target)
                except FileExistsError:  # somebody else fetched it just now
                    return Bundle.open(target)
        except OSError as error:
            raise _unkept(cache, version, error) from error
        return replace(bundle, path=target)

    def hide(self, version: str) -> Callable[[], None]:
        """Make a version invisible at once; what is returned makes it visible again."""
        path = f"{self._models}/{version}/{MANIFEST}"
        raw = self._read(path)
        if raw is None:
            return lambda: None
        with self._answering():
            self._fs.rm_file(path)

        def undo() -> None:
            with self._answering():
                self._fs.pipe_file(path, raw)

        return undo

    def discard(self, version: str) -> None:
        """Delete what was hidden."""
        for entry in self._list(f"{self._models}/{version}"):
            with self._answering():
                self._fs.rm_file(entry["name"])

    def sweep(self) -> None:
        """Delete what publications and removals left behind that were killed."""
        for version in self.versions():
            if self.manifest(version) is not None:
                continue
            there = self._list(f"{self._models}/{version}")
            dates = [entry["LastModified"] for entry in there if entry["type"] == "file"]
            if dates and max(dates) <= datetime.now(UTC) - self._leftover_age:
                self.discard(version)

    def _check_exclusive(self) -> None:
        """Create the same file twice: the second time must be refused."""
        path, text = f"{self._current}/{PROBE}", b"Whether this store refuses to create what is there already.\n"
        with contextlib.suppress(*self._failures):
            self._fs.pipe_file(path, text, mode="create")
            self._fs.pipe_file(path, text, mode="create")
            raise Fatal(
                f"{self.url}: this store knows no conditional writes (If-None-Match), so that of two who promote one "
                "would overwrite the other unseen; use a store that does"
            )

    def _download(self, source: str, target: Path) -> None:
        with self._answering():
            try:
                self._fs.get_file(source, str(target))
            except FileNotFoundError:
                raise BadBundle(f"{self.url}: {source} is gone; publish that bundle again") from None
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                raise _unkept(target.parent.parent, target.name, error) from error

    def _list(self, folder: str) -> list[dict[str, Any]]:
        with self._answering():
            try:
                return [entry for entry in self._fs.ls(folder, detail=True) if _last(entry)]
            except FileNotFoundError:
                return []

    def _read(self, path: str) -> bytes | None:
        with self._answering():
            try:
                data: bytes = self._fs.cat_file(path)
            except FileNotFoundError:
                return None
            return data

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn every failure of the store into what the caller must do."""
        try:
            yield
        except self._failures as error:
            said = " ".join(str(error).split())[:300]
            raise DependencyAway(
                f"{self.url}: does not answer as it should ({said}); see endpoint, bucket and credentials"
            ) from error


def _unkept(cache: Path, what: str, error: OSError) -> Fatal:
    """Return what to say of this machine's disk: no fault of the bundle, which must not be refused for it."""
    return Fatal(f"{cache}: cannot keep {what} there ({error.strerror or error}); free space, or give another folder")


def _last(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]
