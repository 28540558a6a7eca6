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
    once = deduplicated(texts)
    labels = tuple(sorted({one.label for one in once}))
    counts = {label: sum(one.label == label for one in once) for label in labels}
    if len(labels) < 2 or min(counts.values()) < LEAST:
        raise PenchantError(f"needs two labels or more, and {LEAST} different texts of each; there are: {counts}")
    order = np.random.default_rng(seed).permutation(len(once))
    held = max(1, round(HELD_OUT * len(once)))
    test, dev, train = order[:held], order[held : 2 * held], order[2 * held :]
    parts = [[once[at] for at in part] for part in (train, dev, test)]
    return Split(parts[0], parts[1], parts[2], labels, len(texts) - len(once))
