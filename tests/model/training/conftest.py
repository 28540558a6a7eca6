"""A tiny BERT, and texts that a bag of words tells apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.training.labelled import Labelled

GOOD, BAD, ELSE = (
    ["lovely", "great", "bright", "warm"],
    ["dull", "awful", "grey", "cold"],
    ["film", "book", "plot", "scene", "actor"],
)


def texts(count: int, seed: int = 0) -> list[Labelled]:
    """Return texts of five words of which two say the label; no two are alike."""
    rng = np.random.default_rng(seed)
    made = []
    for n in range(count):
        label, words = ("positive", GOOD) if n % 2 else ("negative", BAD)
        chosen = [*rng.choice(words, 2), *rng.choice(ELSE, 2), f"no{n}"]
        made.append(Labelled(" ".join(rng.permutation(chosen)), label))
    return made


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """More of them wait for each other longer than so small a model takes."""
    pytest.importorskip("torch").set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers and 32 dimensions with random weights, whose tokenizer knows the words of `texts`."""
    from model.training.scratch import from_scratch

    folder = tmp_path_factory.mktemp("tiny")
    # Spelt five times each, which is what a piece needs to be learnt.
    from_scratch(5 * [" ".join([*GOOD, *BAD, *ELSE])], seed=0, words=400, dim=32, layers=2).save(folder)
    return folder


@pytest.fixture
def tiny(tiny_dir: Path) -> Any:
    from model.training.pretrained import load

    return load(str(tiny_dir))
