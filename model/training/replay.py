"""Replay: some of the examples that earlier runs kept are trained on again, beside those of this window."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from model.errors import Fatal
from model.training.examples import Example, Examples, training_part

FILE = "examples.msgpack"
"""The name under which a run keeps its examples."""


@dataclass(frozen=True)
class Kept:
    """The examples of an earlier run."""

    name: str
    sha256: str
    examples: list[Example]


def read(path: Path) -> list[Kept]:
    """Return what earlier runs kept: of a file, or of each folder of a work folder, in the order of their names.

    Raises:
        Fatal: there is nothing, or something else.
    """
    files = [path] if path.is_file() else sorted(path.rglob(FILE))
    if not files:
        raise Fatal(f"{path}: no examples of an earlier run ({FILE}) there")
    found = []
    for file in files:
        content = file.read_bytes()
        try:
            examples = msgspec.msgpack.decode(content, type=Examples).examples
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Fatal(f"{file}: not what a run keeps its examples in ({error})") from None
        found.append(Kept(str(Path(file.parent.name) / file.name), hashlib.sha256(content).hexdigest(), examples))
    return found


def drawn(
    kept: Sequence[Kept], own: int, share: float, before_ms: int, untrained: frozenset[str], seed: int
) -> list[Example]:
    """Return as many kept examples as make up `share` of all, with `own` others, or all there are, if fewer.

    The rules of the present run hold for them: none of items that are `untrained` now, and none since `before_ms`, when
    its window begins. What is in the window was taken from the fold anew, without users who were forgotten meanwhile.
    A choice that several runs kept (same time, same item) counts once, as the first of them has it.
    """
    older: dict[tuple[int, str], Example] = {}
    for each in kept:
        for example in each.examples:
            older.setdefault((example.at_ms, example.item), example)
    usable = training_part(list(older.values()), before_ms, untrained)
    order = np.random.default_rng(seed).permutation(len(usable))[: round(own * share / (1 - share))]
    return [usable[number] for number in sorted(order)]
