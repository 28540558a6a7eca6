"""The blend, and an encoder that moves: exported exactly, and killed halfway it comes to the same end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.encoder import OnnxEncoder
from export.onnx import export_model
from model.heads import Head
from model.training.adaptation import Method
from model.training.blend import Blended, Projected, carried_over
from model.training.examples import Example, Past
from model.training.moving import embed, move
from model.training.nextitem import Encoded, Objective, Texts
from model.training.pretrained import PooledEncoder
from tests.model.training.conftest import texts as labelled

TEXTS = {f"i{n}": one.text for n, one in enumerate(labelled(40))}


def examples() -> list[Example]:
    """Who liked one kind chooses the same kind."""
    rng = np.random.default_rng(0)
    made = []
    for n in range(200):
        kind = n % 2
        chosen = [f"i{2 * k + kind}" for k in rng.choice(20, 4, replace=False)]
        made.append(Example(f"u{n}", n, chosen[0], [Past(item=name) for name in chosen[1:]], chosen[1:], []))
    return made


def fitted(tiny: Any) -> Projected:
    projected = Projected(PooledEncoder(tiny.body, tiny.pooling), 32)
    torch.nn.init.normal_(projected.change.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return projected


def blended(tiny: Any, trained: Projected) -> Blended:
    stock = {name: getattr(tiny, name) for name in tiny.__dataclass_fields__}
    return Blended(**stock, trained=trained.eval(), share=0.6)


def test_a_cosine_is_the_stated_share_of_both(tiny: Any) -> None:
    words = list(TEXTS.values())
    trained = fitted(tiny)
    both = blended(tiny, trained).embed(words)
    stock, own = tiny.embed(words), tiny.embed(words, trained)
    np.testing.assert_allclose(both @ both.T, 0.6 * stock @ stock.T + 0.4 * own @ own.T, atol=1e-5)
    fresh = Projected(PooledEncoder(tiny.body, tiny.pooling), 32)
    np.testing.assert_allclose(tiny.embed(words, fresh), stock, atol=1e-6)


def test_a_head_says_the_same_of_the_blend(tiny: Any) -> None:
    rng = np.random.default_rng(0)
    head = Head.of(("negative", "positive"), rng.normal(size=(2, 32)), rng.normal(size=2))
    model, words = blended(tiny, fitted(tiny)), list(TEXTS.values())
    over = carried_over(head, model.share).probabilities(model.embed(words))
    np.testing.assert_allclose(over, head.probabilities(tiny.embed(words)), atol=1e-5)


def moved(tiny: Any, method: str, work: Path, stop_after: int | None = None) -> tuple[Projected, Texts]:
    texts = Texts(TEXTS, examples())
    encoded = Encoded.of(examples(), texts)
    objective = Objective(encoded, texts, frozenset(), torch.device("cpu"))

    def told(_what: str, done: int, _of: int) -> None:
        if done == stop_after:
            raise KeyboardInterrupt

    return move(tiny, fitted(tiny), objective, texts, [encoded], Method.parse(method), 4, 0, work, told)[0], texts


@pytest.mark.parametrize("method", ["last-1", "lora"])
def test_the_encoder_moves_and_is_exported(tiny: Any, tmp_path: Path, method: str) -> None:
    before = {name: value.clone() for name, value in tiny.body.state_dict().items()}
    trained, texts = moved(tiny, method, tmp_path / "work")
    assert all(torch.equal(value, before[name]) for name, value in tiny.body.state_dict().items())
    assert np.abs(embed(trained, tiny, texts) - tiny.embed(texts.texts, fitted(tiny))).max() > 1e-3
    model = blended(tiny, trained)
    bundle = export_model(model, tmp_path / "bundle")
    assert bundle.manifest.dim == 64
    words = texts.texts[:8]
    np.testing.assert_allclose(OnnxEncoder(bundle, "cpu").encode(words), model.embed(words), atol=1e-4)


def test_killed_halfway_it_comes_to_the_same_end(tiny: Any, tmp_path: Path) -> None:
    whole, texts = moved(tiny, "last-1", tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        moved(tiny, "last-1", tmp_path / "cut", stop_after=3)
    assert list((tmp_path / "cut").glob("checkpoint-*"))
    again, _ = moved(tiny, "last-1", tmp_path / "cut")
    np.testing.assert_allclose(embed(again, tiny, texts), embed(whole, tiny, texts), atol=1e-6)
