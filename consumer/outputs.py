"""Where commands write: is it possible, said before they work for minutes; how wide are tables."""

import os
from pathlib import Path

from model.errors import PenchantError

TABLE_WIDTH = 132
"""In characters, for tables of figures: narrower, as in a file, and figures would be cut off."""


def file_to_write(path: Path | None) -> Path | None:
    """Return the path that an option names, in a folder that is there now; raises `PenchantError` where none can be."""
    if path is None:
        return None
    if path.is_dir():
        raise PenchantError(f"{path} is a folder: give the name of a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PenchantError(f"{path} cannot be written: no folder {path.parent} ({error.strerror})") from None
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PenchantError(f"{path} cannot be written: this user has no right to; give another file")
    return path
