"""The two parts: their cosines, heads, and the graph, for a projection alone and for an encoder that moved."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from consumer.tuning import stock_heads
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from export.onnx import MAX_ABS_DIFF, export_model
from model.content import split
from model.errors import Fatal
from model.heads import Head
from model.training.pretrained import PooledEncoder
from model.training.twopart import HALF, Projected, TwoPart, carried_over
from tests.model.training.conftest import texts as labelled

WORDS = [one.text for one in labelled(20)]


def shaken(module: torch.nn.Module, spread: float) -> None:
    """Change its weights, the same way each time."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in module.parameters():
            one += torch.randn(one.shape, generator=generator) * spread


def trained(tiny: Any, moved: bool) -> Projected:
    """Return a projection that is no identity, on the stock encoder or on one whose last layer is another."""
    body = copy.deepcopy(tiny.body) if moved else tiny.body
    if moved:
        shaken(body.encoder.layer[-1], 0.2)
    projected = Projected(PooledEncoder(body, tiny.pooling), 32)
    shaken(projected.change, 0.1)
    return projected


def two(tiny: Any, own: Projected) -> TwoPart:
    return TwoPart(**{name: getattr(tiny, name) for name in tiny.__dataclass_fields__}, trained=own)


def test_a_new_projection_changes_nothing(tiny: Any) -> None:
    fresh = Projected(PooledEncoder(tiny.body, tiny.pooling), 32)
    np.testing.assert_allclose(tiny.embed(WORDS, fresh), tiny.embed(WORDS), atol=1e-6)


@pytest.mark.parametrize("moved", [False, True])
def test_the_parts_are_the_stock_s_vector_and_the_trained_one_s(tiny: Any, moved: bool) -> None:
    own = trained(tiny, moved)
    both, stock, other = two(tiny, own).embed(WORDS), tiny.embed(WORDS), tiny.embed(WORDS, own)
    assert np.abs(stock @ stock.T - other @ other.T).max() > 0.01
    assert np.linalg.norm(both, axis=1) == pytest.approx(1, abs=1e-5)
    for part, expected in zip(split(both, two(tiny, own).learnt), (stock, other), strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-5)


def test_with_a_projection_alone_one_pass_is_enough(tiny: Any) -> None:
    passes: list[int] = []
    tiny.body.register_forward_hook(lambda *_: passes.append(1))
    two(tiny, trained(tiny, False)).embed(WORDS[:1])
    assert len(passes) == 1


def test_a_head_says_the_same_of_both_parts(tiny: Any) -> None:
    rng = np.random.default_rng(0)
    head = Head.of(("negative", "positive"), 9 * rng.normal(size=(2, 32)), rng.normal(size=2))
    said = head.probabilities(tiny.embed(WORDS))
    assert np.ptp(said[:, 0]) > 0.01
    over = carried_over(head)
    assert over.labels == head.labels
    np.testing.assert_allclose(over.probabilities(two(tiny, trained(tiny, True)).embed(WORDS)), said, atol=1e-5)


@pytest.mark.parametrize("moved", [False, True])
def test_it_is_exported_as_it_is(tiny: Any, tmp_path: Path, moved: bool) -> None:
    own = trained(tiny, moved)
    stock, bundle = (export_model(one, tmp_path / name) for name, one in (("s", tiny), ("b", two(tiny, own))))
    assert bundle.manifest.dim == 2 * stock.manifest.dim == 64
    assert (stock.manifest.learnt, bundle.manifest.learnt, OnnxEncoder(bundle, "cpu").learnt) == (0, 32, 32)
    assert bundle.manifest.parity.max_abs_diff <= MAX_ABS_DIFF
    expected = HALF * np.hstack([tiny.embed(WORDS), tiny.embed(WORDS, own)])
    np.testing.assert_allclose(OnnxEncoder(bundle, "cpu").encode(WORDS), expected, atol=MAX_ABS_DIFF)
    nodes = [len(onnx.load(one.path / "encoder.onnx").graph.node) for one in (stock, bundle)]
    assert (nodes[1] > 1.5 * nodes[0]) == moved  # with a projection alone, a text goes through the encoder once


def test_a_tuned_model_s_heads_are_found_again_in_the_stock_s_vectors(tiny: Any, tmp_path: Path) -> None:
    """So that the next tuning, which begins from the stock model, hands them on."""
    rng = np.random.default_rng(0)
    head = Head.of(("negative", "positive"), rng.normal(size=(2, 32)), rng.normal(size=2))
    models = {"stock": (tiny, head), "tuned": (two(tiny, trained(tiny, False)), carried_over(head))}
    for name, (model, own) in models.items():
        found = stock_heads(tiny, export_model(model, tmp_path / name, heads={"sentiment": own}))["sentiment"]
        np.testing.assert_allclose(found.weights, head.weights, atol=1e-6)
        np.testing.assert_allclose(found.bias, head.bias, atol=1e-6)
    other = copy.deepcopy(tiny.body)
    shaken(other, 0.1)
    with pytest.raises(Fatal, match="read other vectors"):
        stock_heads(replace(tiny, body=other), Bundle.open(tmp_path / "tuned"))
