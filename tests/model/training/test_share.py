"""The share that stays: what a share gives, what it is tried on, what has no part in it, and which one is taken."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from model.encoding import Vectors
from model.evaluate import prepare
from model.events import Click, Event, Item
from model.fold import FoldSettings
from model.gate import CONTENT_ALONE, Compared, Margins
from model.taxonomy import Taxonomy
from model.training.examples import collect_all
from model.training.share import SHARES, Blend, Trial, Tried, attempts, choose
from model.training.tuning import Tuned, Tuning, Window, texts_of, tune
from tests.model.training.conftest import texts as labelled

ITEMS = [Item(item=f"i{n}", title=one.text) for n, one in enumerate(labelled(60))]
TEXTS = {item.item: item.content() for item in ITEMS}
BARRED = frozenset({"i3", "i8", "i15", "i22"})
HELD_OUT = frozenset({"i5", "i10", "i17", "i24"})
DEV_FROM, UNTIL = 1200, 1600


class Stock:
    """The stock model, as it serves."""

    dim, version = 32, "stock"

    def __init__(self, tiny: Any) -> None:
        self._tiny = tiny

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors: Vectors = self._tiny.embed(texts)
        return vectors


def stream() -> list[Event]:
    """Return clicks of users who each keep to one of five groups, of which the stock model knows nothing.

    Ever new users come, with some 20 clicks each.
    """
    rng = np.random.default_rng(0)
    made: list[Event] = []
    for n in range(UNTIL):
        user = n // 20 + int(rng.integers(10))
        made.append(Click(id=f"e{n}", user=f"u{user}", at_ms=n, item=f"i{5 * int(rng.integers(12)) + user % 5}"))
    return made


@pytest.fixture
def tuned(tiny: Any, tmp_path: Path) -> Tuned:
    """A projection that learnt from what came before the dev events."""
    stock = Stock(tiny)
    fold = prepare(ITEMS, stock, FoldSettings())
    window = Window(TEXTS, collect_all(fold, stream(), stock.encode), DEV_FROM, UNTIL, HELD_OUT, BARRED)
    return tune(
        tiny, stock.encode(texts_of(window).texts), window, Tuning(steps=100, learning_rate=5e-3), tmp_path, quiet
    )


def tried_on(tuned: Tuned, tiny: Any, dev: Sequence[Event], texts: Mapping[str, str] = TEXTS) -> list[Tried]:
    """Return what is tried, from folds that have seen what came before the dev events."""
    stock = Stock(tiny)
    alone, whole = (prepare(ITEMS, stock, FoldSettings(without=one)) for one in (CONTENT_ALONE, frozenset[str]()))
    for fold in (alone, whole):
        collect_all(fold, stream()[:DEV_FROM], stock.encode)
    trial = Trial.of((alone, whole), dev, DEV_FROM, texts, HELD_OUT, BARRED, Taxonomy.read()[:2], None, 0)
    return attempts(tuned.halves, trial, quiet)


def quiet(_what: str, _done: int, _of: int) -> None:
    """Show nothing."""


def test_a_share_gives_what_its_export_would(tuned: Tuned, tiny: Any) -> None:
    texts = [*list(TEXTS.values())[:3], "a text never seen", "great plot", "great plot"]
    for share in (1.0, 0.6):
        expected = tiny.embed(texts, tuned.blended(share).module())
        np.testing.assert_allclose(Blend(tuned.halves, share).encode(texts), expected, atol=1e-5)
    assert Blend(tuned.halves, 0.6).encode([]).shape == (0, 64)


def test_what_was_learnt_shows_the_more_the_less_of_the_stock_model_stays(tuned: Tuned, tiny: Any) -> None:
    tried = tried_on(tuned, tiny, stream()[DEV_FROM:])
    assert [one.share for one in tried] == list(SHARES)
    assert len({(one.text_alone.before, one.all.before, one.unseen.before) for one in tried}) == 1  # the stock model
    assert tried[0].gains
    assert tried[0].text_alone.ci95[0] > 0
    assert tried[0].text_alone.difference > tried[-1].text_alone.difference
    assert tried_on(tuned, tiny, stream()[DEV_FROM:]) == tried


def test_targets_are_dev_events_alone_and_held_out_ones_are_told_apart(tuned: Tuned, tiny: Any) -> None:
    dev = stream()[DEV_FROM:]
    one = tried_on(tuned, tiny, dev)[0]
    assert 50 < one.all.n == one.text_alone.n <= len(dev)
    assert 0 < one.unseen.n <= sum(event.item in HELD_OUT for event in dev if isinstance(event, Click))
    late = stream()[DEV_FROM - 100 : DEV_FROM]  # came after the dev part began, and could have been trained on
    renamed = [msgspec.structs.replace(event, id=f"{event.id} again") for event in late]
    assert tried_on(tuned, tiny, [*renamed, *dev])[0] == one


def test_the_gate_s_items_have_no_part_in_it(tuned: Tuned, tiny: Any) -> None:
    """Neither who chooses them nor what a model reads of them changes a figure; of other items, both do."""
    dev = stream()[DEV_FROM:]
    found = tried_on(tuned, tiny, dev)
    for names, same in ((BARRED, True), ({"i1", "i12"}, False)):
        fewer = [one for one in dev if not (isinstance(one, Click) and one.item in names)]
        assert len(fewer) < len(dev)
        assert (tried_on(tuned, tiny, fewer) == found) == same
        odd = {name: "lovely great bright warm" if name in names else text for name, text in TEXTS.items()}
        assert (tried_on(tuned, tiny, dev, odd) == found) == same


def tried(share: float, alone: float, everything: float, unseen: float, before: float = 0.1) -> Tried:
    """Return a share with these gains, as parts of what was before."""
    made = [
        Compared(100, 50, before, before * (1 + gain), 0.05, before * gain, [before * gain - 1, 1.0], 1.0)
        for gain in (alone, everything, unseen)
    ]
    return Tried(share, *made)


@pytest.mark.parametrize(
    ("rows", "share"),
    [
        ([tried(0.5, 0.3, 0.0, 0.0), tried(0.75, 0.1, 0.0, 0.0)], 0.5),  # both fit: the smaller
        ([tried(0.5, 0.3, 0.0, -0.03), tried(0.75, 0.1, 0.0, -0.02)], 0.75),  # within 5%, but not within half of it
        ([tried(0.5, 0.3, -0.011, 0.0), tried(0.75, 0.1, -0.009, 0.0)], 0.75),  # the same of 2%, on all
        ([tried(0.5, -0.1, 0.0, 0.0), tried(0.75, 0.1, 0.0, 0.0)], 0.75),  # no gain in text alone
        ([tried(0.5, 0.3, 0.0, 0.0, before=0.0), tried(0.75, 0.1, 0.0, 0.0)], 0.75),  # no hit, nothing shown
        ([tried(0.5, 0.3, 0.0, -0.1), tried(0.95, 0.1, 0.0, -0.1), tried(0.75, 0.2, 0.0, -0.1)], 0.95),  # none fits
    ],
)
def test_the_smallest_share_that_fits_is_taken_or_the_largest(rows: list[Tried], share: float) -> None:
    assert choose(rows, Margins()).share == share


def test_wider_margins_of_the_gate_let_more_be_learnt() -> None:
    rows = [tried(0.5, 0.3, -0.03, -0.08), tried(0.75, 0.1, -0.01, -0.02)]
    assert choose(rows, Margins()).share == 0.75
    assert choose(rows, Margins(everything=0.06, unseen=0.16)).share == 0.5
