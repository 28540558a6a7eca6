"""Files that a command writes at its end: that they can be is seen at its beginning, not after minutes of work."""

import os
from pathlib import Path

import typer


def writable(path: Path | None) -> Path | None:
    """Return the path of an option, if a file can be written there; raises `typer.BadParameter`."""
    if path is not None:
        if not path.parent.is_dir():
            raise typer.BadParameter(f"there is no folder {path.parent}: make it, or name another file")
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise typer.BadParameter(f"{path} cannot be written: name another file")
    return path
