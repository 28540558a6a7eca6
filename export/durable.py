"""Files and folders that are on disk whole or not at all, whenever the process is killed."""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PARTIAL, _REMOVED = ".partial", ".removed"


def fsync(path: Path) -> None:
    """Force a file's bytes, or a folder's entries, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, so that they are there after a loss of power, too."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        fsync(folder.parent)


@contextlib.contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder to be filled and renamed; gone afterwards unless it was."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=_PARTIAL, dir=parent))
        with contextlib.ExitStack() as held:
            if not _claim(folder, held):
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


def rename(folder: Path, target: Path) -> None:
    """Put a filled folder in its place, safe on disk; raises `FileExistsError` where there is one with files in it."""
    for path in folder.iterdir():
        fsync(path)
    fsync(folder)
    folder.chmod(0o755)
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        raise
    fsync(target.parent)


def create(path: Path, data: bytes) -> None:
    """Make a file with this content; raises `FileExistsError` where somebody was quicker, and leaves theirs alone."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent)
        scratch = Path(name)
        with contextlib.ExitStack() as held, open(descriptor, "wb") as file:
            if not _claim(scratch, held):
                continue
            try:
                file.write(data)
                file.flush()
                os.fchmod(descriptor, 0o644)  # whoever serves may be another user than whoever promotes
                os.fsync(descriptor)
                os.link(scratch, path)  # unlike a rename, fails where the target exists
                fsync(path.parent)
            finally:
                scratch.unlink(missing_ok=True)
            return


def hide(folder: Path) -> Path:
    """Take a folder away at once, for a sweep to delete (file by file it would be half there); return where it is.

    Raises `FileNotFoundError` where there is none.
    """
    away = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_REMOVED, dir=folder.parent))
    try:
        folder.rename(away)  # over an empty folder, a rename may
    except FileNotFoundError:
        away.rmdir()
        raise
    fsync(folder.parent)
    return away


def sweep(parent: Path) -> None:
    """Remove what processes that were killed left behind, and nothing that a living one still fills."""
    for path in parent.glob(".*"):
        if path.suffix not in {_PARTIAL, _REMOVED}:
            continue
        with contextlib.suppress(OSError):  # its maker lives, somebody else sweeps it, or there are no locks here
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            finally:
                os.close(descriptor)


def _claim(path: Path, held: contextlib.ExitStack) -> bool:
    """Lock what was just made, as long as this process lives; False where a sweep got there first."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    held.callback(os.close, descriptor)
    with contextlib.suppress(OSError):  # some network folders know no locks: there nothing can be swept, either
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return path.exists()
