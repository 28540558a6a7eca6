"""Versions that failed while they served, noted on this machine, so that a restart goes past them."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

log = structlog.get_logger("penchant.failed")


class Mark(msgspec.Struct, frozen=True):
    """That a version failed: why, when, and what the registry's newest pointer was then."""

    version: str
    why: str
    at: str
    """ISO 8601, UTC."""
    pointer: int
    """Its number. Whoever promotes the version again makes a higher one, and it is tried again."""


class Failed:
    """A file for each version, in a folder of this machine: the registry is others', too, and they may do well."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pointer = 0
        """Number of the newest pointer that was dealt with."""
        self.fallen: set[str] = set()
        """Versions that failed in this process."""

    def note(self, version: str, why: str) -> None:
        """Keep a version's failure beyond this process; where it cannot be kept, that is said, and nothing else."""
        self.fallen.add(version)
        mark = Mark(version, why, datetime.now(UTC).isoformat(timespec="seconds"), self.pointer)
        path = self._path(version)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            scratch = path.with_suffix(".partial")
            scratch.write_bytes(msgspec.json.encode(mark))
            scratch.replace(path)
        except OSError as error:
            log.warning("a restart will try this model again", model=version, file=str(path), why=str(error))

    def why(self, version: str, pointer: int) -> str:
        """Return why a version that a pointer makes current is not to be tried, and what to do; empty if it is."""
        path = self._path(version)
        try:
            mark = msgspec.json.decode(path.read_bytes(), type=Mark)
        except FileNotFoundError:
            return ""
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("not a mark of a failed model, passed over", file=str(path), why=str(error))
            return ""
        if mark.version != version or pointer > mark.pointer:
            return ""
        return (
            f"it failed here while it served, at {mark.at} ({mark.why}); to have it tried again: "
            f"penchant models promote {version} (or remove {path})"
        )

    def _path(self, version: str) -> Path:
        return self._folder / f"{version}.failed.json"
