"""Masked words: guesses get better, whoever is killed goes on, and what was read is what heads are trained on."""

from pathlib import Path
from typing import Any

import pytest

from model.errors import PenchantError
from model.training.labelled import split
from tests.model.training.conftest import texts

torch = pytest.importorskip("torch")

from model.training.adaptation import Method  # noqa: E402
from model.training.finetune import MASKED, Training, Watching, finetune  # noqa: E402
from model.training.masking import Guessing, read_masked  # noqa: E402
from model.training.pretrained import load  # noqa: E402

WORDS = [one.text for one in texts(200)]


def read(pretrained: Any, work: Path, epochs: int = 3, told: Any = lambda done, of: None) -> list[float]:
    return read_masked(
        pretrained, WORDS, epochs=epochs, batch=32, learning_rate=5e-3, longest=64, precision="fp32",
        report_to="none", seed=0, work=work, told=told,
    )  # fmt: skip


def test_only_masked_tokens_count_against_the_bodys_own_word_vectors(tiny: Any) -> None:
    guessing = Guessing(tiny.body, 32).eval()
    tokens = tiny.tokens(["lovely film", "dull book plot"])
    labels = torch.full_like(tokens["input_ids"], -100)
    assert float(guessing(**tokens, labels=labels)["loss"].detach()) == 0
    labels[0, 1], labels[1, 2] = 7, 9
    hidden = tiny.body(**tokens).last_hidden_state[[0, 1], [1, 2]]
    logits = guessing.change(hidden) @ tiny.body.embeddings.word_embeddings.weight.T + guessing.bias
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([7, 9]))
    assert float(guessing(**tokens, labels=labels)["loss"].detach()) == pytest.approx(
        float(expected.detach()), rel=1e-5
    )


class Killed(Exception):
    pass


def test_guesses_get_better_and_a_killed_run_ends_the_same(tiny_dir: Path, tmp_path: Path) -> None:
    def killing(done: int, of: int) -> None:
        if done == 10:  # seven steps an epoch
            raise Killed

    whole, killed = load(str(tiny_dir)), load(str(tiny_dir))
    losses = read(whole, tmp_path / "whole")
    assert len(losses) == 3
    assert losses[-1] < losses[0] - 0.1
    with pytest.raises(Killed):
        read(killed, tmp_path / "killed", told=killing)
    steps: list[int] = []
    for _ in range(2):  # and once more after it came to its end
        resumed = load(str(tiny_dir))
        assert read(resumed, tmp_path / "killed", told=lambda done, of: steps.append(done)) == losses
        for name, weight in whole.body.state_dict().items():
            assert torch.equal(weight, resumed.body.state_dict()[name]), name
    assert steps == list(range(8, 22))


def test_heads_are_trained_on_what_was_read(tiny: Any, tmp_path: Path) -> None:
    before = tiny.body.embeddings.word_embeddings.weight.clone()
    parts = split(texts(200), 0)
    how = Training(Method.parse("last-0"), epochs=1, report_to="none", precision="fp32", mlm_epochs=1)
    tuned = finetune(tiny, {"liked": parts}, how, tmp_path, Watching())
    assert len(tuned.mlm_losses) == 1
    assert list((tmp_path / MASKED).glob("checkpoint-*"))
    assert not torch.equal(tuned.model.body.embeddings.word_embeddings.weight, before)


def test_a_model_without_a_mask_is_refused(tiny: Any, tmp_path: Path) -> None:
    tiny.tokenizer.mask_token = None
    with pytest.raises(PenchantError, match="no mask token"):
        read(tiny, tmp_path)
