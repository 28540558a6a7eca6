"""Masked words first: only of texts that may be trained on, and what comes of it is what is tuned."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import model.training.tuning
from model.training.examples import Example, Past
from model.training.tuning import Tuned, Tuning, Window, _judges, texts_of, tune
from tests.model.training.test_moving import TEXTS, examples

LATER = 10**6


def window() -> Window:
    """Two items are held out, and a search of the dev events is of later."""
    held = frozenset({"i3"}), frozenset({"i8"})
    chosen = [one for one in examples() if one.item not in held[0] | held[1]]
    searched = Example(5, "i1", [Past(text="early words")], [], [])
    late = Example(LATER, "i1", [Past(text="late words")], [], [])
    return Window(TEXTS, [*chosen, searched, late], LATER, 2 * LATER, *held)


def tuned(tiny: Any, work: Path, epochs: int, told: list[str]) -> Tuned:
    begun, vectors = window(), tiny.embed(texts_of(window()).texts)
    settings = Tuning(steps=5, batch=32, mlm_epochs=epochs)
    return tune(tiny, vectors, begun, settings, work, lambda what, done, of: told.append(what))


def test_held_out_texts_and_later_searches_are_not_read(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def reading(_: Any, texts: list[str], **__: Any) -> list[float]:
        read.extend(texts)
        return []

    monkeypatch.setattr(model.training.tuning, "read_masked", reading)
    tuned(tiny, tmp_path, 1, [])
    assert set(read) == {text for item, text in TEXTS.items() if item not in {"i3", "i8"}} | {"early words"}


def test_the_encoder_that_read_is_tuned_and_the_stock_stays(tiny: Any, tmp_path: Path) -> None:
    words, told = list(TEXTS.values())[:5], list[str]()
    before = tiny.embed(words)
    plain, read = tuned(tiny, tmp_path / "plain", 0, told), tuned(tiny, tmp_path / "read", 2, told)
    assert told.count("masked words") > 1
    assert (len(plain.mlm_losses), len(read.mlm_losses)) == (0, 2)
    assert plain.losses != read.losses  # the projection is of what was read
    assert read.trainable_share == 1 > plain.trainable_share
    for one in (plain, read):
        np.testing.assert_allclose(one.model().embed(words)[:, :32] * 2**0.5, before, atol=1e-5)
    first, second = (one.trained.encoder.body for one in (plain, read))
    assert first is tiny.body
    assert max((a - b).abs().max().item() for a, b in zip(first.parameters(), second.parameters(), strict=True)) > 1e-4


def test_what_the_gate_judges_by_does_not_choose_between_epochs() -> None:
    begun = window()
    later = [
        Example(LATER + n, f"i{n}", [Past(item="i3"), Past(item="i8"), Past(item="i1")], [], []) for n in (2, 3, 8)
    ]
    gate = Example(2 * LATER, "i2", [Past(item="i1")], [], [])
    texts = texts_of(whole := dataclasses.replace(begun, examples=[*begun.examples, *later, gate]))
    (warm, unseen), columns = _judges(whole, texts)
    assert {texts.names[number] for number in columns} == set(TEXTS) - {"i8"}
    assert {texts.names[number] for number in warm.target} == {"i1", "i2"}
    assert {texts.names[number] for number in unseen.target} == {"i3"}
    for part, barred in ((warm, {"i3", "i8"}), (unseen, {"i8"})):
        assert not barred & {texts.names[number] for number in part.past[part.past >= 0] if number < len(TEXTS)}
    assert len(warm) == 2  # the gate's own event is none of them
