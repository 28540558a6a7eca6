"""An encoder that moves: from where the projection is, to its best epoch, and killed halfway to the same end."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from export.encoder import OnnxEncoder
from export.onnx import export_model
from model.training import moving
from model.training.adaptation import Method
from model.training.examples import Example, Past
from model.training.judging import reciprocal_ranks
from model.training.moving import JUDGED_AT, embed, move
from model.training.nextitem import Encoded, Objective, Texts
from model.training.pretrained import PooledEncoder
from model.training.twopart import HALF, Projected, TwoPart
from tests.model.training.conftest import texts as labelled

TEXTS = {f"i{n}": one.text for n, one in enumerate(labelled(40))}
STEPS_PER_EPOCH = 2
EPOCHS = 4


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that at each step most vectors are remembered ones, and some texts are left out of an epoch."""
    monkeypatch.setattr(moving, "TEXTS", len(TEXTS) // STEPS_PER_EPOCH - 1)


def examples(turned: bool = False) -> list[Example]:
    """Who liked one kind chooses the same kind; turned, the other."""
    rng = np.random.default_rng(0)
    made = []
    for n in range(200):
        liked = [f"i{2 * k + n % 2}" for k in rng.choice(20, 3, replace=False)]
        chosen = f"i{2 * int(rng.integers(20)) + (n % 2) ^ turned}"
        if chosen not in liked:
            made.append(Example(n, chosen, [Past(item=name) for name in liked], liked, []))
    return made


def fitted(tiny: Any) -> Projected:
    """Return a projection as if it had been trained."""
    projected = Projected(PooledEncoder(tiny.body, tiny.pooling), 32)
    torch.nn.init.normal_(projected.change.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return projected


def moved(
    tiny: Any,
    method: str,
    work: Path,
    told: Callable[[str, int, int], None] = lambda what, done, of: None,
    judges: list[Example] | None = None,
) -> tuple[Projected, Texts]:
    texts = Texts(TEXTS, examples())
    encoded = Encoded.of(examples(), texts)
    objective = Objective(encoded, texts, frozenset(), torch.device("cpu"))
    judged = Encoded.of(judges or examples(), texts)
    trained, count = move(
        tiny, fitted(tiny), objective, texts, [judged], np.arange(len(TEXTS)), Method.parse(method), EPOCHS, 0, work,
        told,
    )  # fmt: skip
    assert 0 < count < sum(one.numel() for one in tiny.body.parameters())
    return trained, texts


@pytest.mark.parametrize("method", ["last-1", "lora"])
def test_the_encoder_moves_and_the_stock_stays(tiny: Any, tmp_path: Path, method: str) -> None:
    before = {name: value.clone() for name, value in tiny.body.state_dict().items()}
    start = tiny.embed(list(TEXTS.values()), fitted(tiny))
    trained, texts = moved(tiny, method, tmp_path / "work")
    assert all(torch.equal(value, before[name]) for name, value in tiny.body.state_dict().items())
    assert np.abs(embed(trained, tiny, texts) - start).max() > 1e-3
    change = (trained.change.weight - fitted(tiny).change.weight).abs().max().item()
    assert 0 < change < 0.02  # it went on from where the projection was
    own, stock = trained.encoder.body.state_dict(), tiny.body.state_dict()
    words = "embeddings.word_embeddings.weight"
    assert own[words].data_ptr() == stock[words].data_ptr()  # what stayed is there once
    memory = load_file(tmp_path / "work" / f"checkpoint-{EPOCHS * STEPS_PER_EPOCH}" / "model.safetensors")["memory"]
    assert np.mean(np.abs(memory - start).max(axis=1) > 1e-6) > 0.5  # of texts encoded anew, the new vectors
    model = TwoPart(**{name: getattr(tiny, name) for name in tiny.__dataclass_fields__}, trained=trained)
    bundle = export_model(model, tmp_path / "bundle")
    expected = HALF * np.hstack([tiny.embed(texts.texts), embed(trained, tiny, texts)])
    np.testing.assert_allclose(OnnxEncoder(bundle, "cpu").encode(texts.texts), expected, atol=1e-4)


@pytest.mark.parametrize("method", ["last-1", "lora"])
def test_killed_halfway_it_comes_to_the_same_end(tiny: Any, tmp_path: Path, method: str) -> None:
    whole, _ = moved(tiny, method, tmp_path / "whole")
    first: list[int] = []
    second: list[int] = []

    def until_the_fifth(_what: str, done: int, _of: int) -> None:
        first.append(done)
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moved(tiny, method, tmp_path / "cut", until_the_fifth)
    again, _ = moved(tiny, method, tmp_path / "cut", lambda _what, done, _of: second.append(done))
    assert first == [1, 2, 3, 4, 5]
    assert second == [5, 6, 7, 8]  # from the checkpoint of the second epoch on
    for name, value in whole.state_dict().items():
        np.testing.assert_allclose(again.state_dict()[name], value, atol=1e-7, err_msg=name)
    last = [load_file(tmp_path / each / "checkpoint-8" / "model.safetensors") for each in ("whole", "cut")]
    assert int(last[0]["drawn"]) == 8
    for name, array in last[0].items():
        np.testing.assert_allclose(last[1][name], array, atol=1e-7, err_msg=name)


def test_a_checkpoint_cut_short_is_passed_over_and_waiting_is_remembered(tiny: Any, tmp_path: Path) -> None:
    def until_the_seventh(_what: str, done: int, _of: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moved(tiny, "last-1", tmp_path, until_the_seventh)
    (tmp_path / "checkpoint-7").mkdir()  # killed while it was written
    told = tmp_path / "checkpoint-6" / "trainer_state.json"
    state = json.loads(told.read_text())
    state["best_metric"] = 2.0  # which nothing reaches
    state["stateful_callbacks"]["EarlyStoppingCallback"]["attributes"]["early_stopping_patience_counter"] = 2
    told.write_text(json.dumps(state))
    steps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "EPOCHS", 9)
        moved(tiny, "last-1", tmp_path, lambda _what, done, _of: steps.append(done))
    assert steps == [7, 8]  # the third epoch in vain was the last


def test_the_best_epoch_is_returned(tiny: Any, tmp_path: Path) -> None:
    other_way = examples(turned=True)  # the more it learns, the worse it does
    trained, texts = moved(tiny, "last-1", tmp_path, judges=other_way)
    state = json.loads((tmp_path / "checkpoint-8" / "trainer_state.json").read_text())
    scores = [row["eval_score"] for row in state["log_history"] if "eval_score" in row]
    assert len(scores) == EPOCHS
    assert max(scores) > scores[-1]
    stock = JUDGED_AT**0.5 * tiny.embed(texts.texts)
    vectors = np.hstack([stock, (1 - JUDGED_AT) ** 0.5 * embed(trained, tiny, texts)])
    score = reciprocal_ranks(vectors, Encoded.of(other_way, texts), np.arange(len(TEXTS))).mean()
    assert score == pytest.approx(max(scores), rel=1e-5)
