"""Looks at where a command shall write before it works for minutes."""

import os
from pathlib import Path

from model.errors import PenchantError


def file_to_write(path: Path | None) -> Path | None:
    """Return the path that an option names; raises `PenchantError` where no file can be written."""
    if path is None:
        return None
    if path.is_dir():
        raise PenchantError(f"{path} is a folder: give the name of a file to write")
    if not path.parent.is_dir():
        raise PenchantError(f"{path} cannot be written: there is no folder {path.parent}; make it, or give another")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PenchantError(f"{path} cannot be written: this user has no right to; give another file")
    return path
