"""Labelled texts, each once, divided into training, dev and test part by a fixed seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from model.errors import PenchantError

HELD_OUT = 0.1
"""Share of the dev part, and of the test part."""
LEAST = 20
"""Texts that each label needs, so that each part is likely to have some."""
_PARTS = _TRAIN, _DEV, _TEST = range(3)


class Labelled(msgspec.Struct, frozen=True):
    """A text and what it is."""

    text: str
    label: str


@dataclass(frozen=True)
class Split:
    """Three parts, no text in two of them."""

    train: list[Labelled]
    dev: list[Labelled]
    test: list[Labelled]
    labels: tuple[str, ...]
    """Sorted."""
    repeated: int
    """Texts that were left out: said before, or said with two labels."""


def key(text: str) -> str:
    """Return what two texts share that count as one: letters and digits, whatever stands between them.

    >>> key("Great film!") == key(" great  film") != key("greatest film")
    True
    """
    return "".join(letter for letter in text.casefold() if letter.isalnum()) or text.strip()


def deduplicated(texts: Sequence[Labelled]) -> list[Labelled]:
    """Return each text once, the first of its kind; one with two labels is left out altogether."""
    first: dict[str, Labelled] = {}
    torn = set()
    for one in texts:
        name = key(one.text)
        if first.setdefault(name, one).label != one.label:
            torn.add(name)
    return [one for name, one in first.items() if name and name not in torn]


def split(texts: Sequence[Labelled], seed: int) -> Split:
    """Return the parts, 80/10/10, of the texts without repetitions.

    Raises:
        PenchantError: there are fewer than two labels, or one has fewer than 20 texts.
    """
    return split_together([texts], seed)[0]


def split_together(tasks: Sequence[Sequence[Labelled]], seed: int) -> list[Split]:
    """Return the parts of each task; a text that several tasks have is in the same part of all of them.

    The first task is divided as if it were alone, each other as far as the tasks before leave it open.

    Raises:
        PenchantError: a task has fewer than two labels, one of them fewer than 20 texts, or a part is left empty.
    """
    part_of: dict[str, int] = {}
    splits = []
    for texts in tasks:
        once = deduplicated(texts)
        labels = tuple(sorted({one.label for one in once}))
        counts = {label: sum(one.label == label for one in once) for label in labels}
        if len(labels) < 2 or min(counts.values()) < LEAST:
            raise PenchantError(f"needs two labels or more, and {LEAST} different texts of each; there are: {counts}")
        order = [once[at] for at in np.random.default_rng(seed).permutation(len(once))]
        fresh = [name for one in order if (name := key(one.text)) not in part_of]
        held = max(1, round(HELD_OUT * len(fresh)))
        for at, name in enumerate(fresh):
            part_of[name] = _TEST if at < held else _DEV if at < 2 * held else _TRAIN
        train, dev, test = ([one for one in order if part_of[key(one.text)] == part] for part in _PARTS)
        if not (train and dev and test):
            raise PenchantError("a task's texts are all in one part of another task; give it texts of its own")
        splits.append(Split(train, dev, test, labels, len(texts) - len(once)))
    return splits
