"""Fine-tuning a tiny BERT: it learns, every method trains what it says, a killed run ends as if it had not been."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.bundle import Bundle
from export.encoder import OnnxEncoder
from model.errors import PenchantError
from model.training.labelled import Labelled, Split, split, split_together
from tests.model.training.conftest import texts

torch = pytest.importorskip("torch")

from model.training.adaptation import Method, adapt  # noqa: E402
from model.training.classifier import Classifier  # noqa: E402
from model.training.finetune import Epoch, Training, Tuned, Watching, finetune  # noqa: E402
from model.training.pretrained import PooledEncoder, load  # noqa: E402

PARTS = split(texts(400), 0)


def trained(
    pretrained: Any,
    work: Path,
    method: str = "full",
    watching: Watching | None = None,
    tasks: dict[str, Split] | None = None,
    **more: Any,
) -> Tuned:
    settings: dict[str, Any] = {
        "epochs": 3,
        "learning_rate": 1e-2,
        "patience": 3,
        "report_to": "none",
        "precision": "fp32",
    }
    how = Training(Method.parse(method), **settings | more)
    return finetune(pretrained, tasks or {"liked": PARTS}, how, work, watching or Watching())


@pytest.mark.parametrize(
    ("method", "least", "most"), [("full", 0.99, 1), ("last-1", 0.1, 0.6), ("last-0", 0, 0.01), ("lora", 0, 0.4)]
)
def test_every_method_trains_what_it_says(tiny: Any, tmp_path: Path, method: str, least: float, most: float) -> None:
    before = {name: weight.clone() for name, weight in tiny.body.state_dict().items()}
    tuned = trained(tiny, tmp_path, method)
    assert least <= tuned.trainable_share <= most
    after = tuned.model.body.state_dict()
    assert after.keys() == before.keys()  # merged
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("layer.0" in name for name in moved) == (method in {"full", "lora"})
    assert any("layer.1" in name for name in moved) == (method != "last-0")
    assert any("embeddings" in name for name in moved) == (method == "full")
    assert tuned.test["liked"].n == 40
    if method == "full":
        assert tuned.test["liked"].accuracy >= 0.9
        assert tuned.epochs[-1].train_loss < tuned.epochs[0].train_loss
        assert len(tuned.epochs) == 3


def test_the_head_reads_the_vectors_that_serve(tiny: Any, tmp_path: Path) -> None:
    tuned = trained(tiny, tmp_path)
    encoder = PooledEncoder(tuned.model.body, tuned.model.pooling)
    told = []
    for one in PARTS.test:
        tokens = tuned.model.tokenizer(one.text, return_tensors="pt")
        with torch.inference_mode():
            vector = encoder(tokens["input_ids"], tokens["attention_mask"])[0].numpy()
        told.append(tuned.heads["liked"].probability(one.label, vector) > 0.5)
    assert np.mean(told) == tuned.test["liked"].accuracy


def places(count: int) -> list[Labelled]:
    """The same texts, told apart by which of three words they say; those that say none or two are left out."""
    said = [(one.text, [word for word in ("film", "book", "plot") if word in one.text]) for one in texts(count)]
    return [Labelled(text, words[0]) for text, words in said if len(words) == 1]


def test_one_encoder_learns_several_tasks_and_each_head_reads_it(tiny: Any, tmp_path: Path) -> None:
    liked, where = split_together([texts(400), places(400)], 0)
    tuned = trained(tiny, tmp_path, tasks={"liked": liked, "where": where}, epochs=6)
    assert {name: len(head.labels) for name, head in tuned.heads.items()} == {"liked": 2, "where": 3}
    for name, parts in (("liked", liked), ("where", where)):
        assert tuned.test[name].n == len(parts.test)
        assert tuned.test[name].accuracy >= 0.9
        told = tuned.heads[name].probabilities(tuned.model.embed([one.text for one in parts.test])).argmax(axis=1)
        right = [parts.labels[at] == one.label for at, one in zip(told, parts.test, strict=True)]
        assert np.mean(right) == tuned.test[name].accuracy
    assert tuned.epochs[0].accuracy == np.mean([one.accuracy for one in tuned.epochs[0].dev.values()])


def test_a_text_has_odds_in_its_own_task_only(tiny: Any) -> None:
    classifier = Classifier(PooledEncoder(tiny.body, tiny.pooling), 32, [2, 3])
    tokens = tiny.tokens(["lovely film", "dull book"])
    said = classifier(**tokens, task=torch.tensor([0, 1]), labels=torch.tensor([1, 4]))
    assert torch.isfinite(said["logits"]).tolist() == [
        [True, True, False, False, False],
        [False, False, True, True, True],
    ]
    said["loss"].backward()
    assert torch.isfinite(classifier.linear.weight.grad).all()
    logits = said["logits"].detach()
    own = [torch.nn.functional.cross_entropy(logits[0, :2], torch.tensor(1)),
           torch.nn.functional.cross_entropy(logits[1, 2:], torch.tensor(2))]  # fmt: skip
    assert float(said["loss"].detach()) == pytest.approx(float(sum(own)) / 2)


class Killed(Exception):
    pass


class Killing(Watching):
    """Stops after so many steps, as a kill would; counts steps."""

    def __init__(self, at: int) -> None:
        self.at, self.steps = at, 0
        self.epochs: list[Epoch] = []

    def step(self, done: int, of: int) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Killed

    def epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)


def test_a_killed_run_goes_on_and_ends_the_same(tiny_dir: Path, tmp_path: Path) -> None:
    whole = trained(load(str(tiny_dir)), tmp_path / "whole")
    with pytest.raises(Killed):
        trained(load(str(tiny_dir)), tmp_path / "killed", watching=Killing(at=15))  # ten steps an epoch
    (tmp_path / "killed" / "checkpoint-20").mkdir()  # killed while it was written
    resumed = Killing(at=0)
    tuned = trained(load(str(tiny_dir)), tmp_path / "killed", watching=resumed)
    assert resumed.steps == 20
    assert tuned.epochs == resumed.epochs == whole.epochs
    np.testing.assert_array_equal(tuned.heads["liked"].weights, whole.heads["liked"].weights)


def test_it_stops_early_and_keeps_the_best(tiny: Any, tmp_path: Path) -> None:
    tuned = trained(tiny, tmp_path, epochs=20, patience=1)
    assert len(tuned.epochs) < 20
    assert not tuned.epochs[-1].accuracy > max(epoch.accuracy for epoch in tuned.epochs[:-1])


def test_unknown_methods_are_refused(tiny: Any) -> None:
    for text in ("last", "last--1", "qlora"):
        with pytest.raises(PenchantError, match="no method"):
            Method.parse(text)
    with pytest.raises(PenchantError, match="has 2 layers"):
        adapt(tiny.body, Method.parse("last-3"))


def test_two_processes_train_together_and_export_what_they_measured(tiny_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": one.text, "label": one.label}) + "\n" for one in texts(200)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "consumer.cli", "classify", str(data), "--model", str(tiny_dir), "--epochs", "2",
               "--json", str(tmp_path / "figures.json"), "--work", str(tmp_path / "work"), "--learning-rate", "1e-2",
               "--report-to", "none", "--out", str(tmp_path / "bundle")]  # fmt: skip
    shared = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    both = [subprocess.Popen(command, env={**shared, "RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]
    assert [process.wait(100) for process in both] == [0, 0]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["tasks"]["texts"]["test"]["n"] == 20
    assert len(figures["epochs"]) == 2
    assert not list((tmp_path / "work").glob("*/checkpoint-*"))
    bundle = Bundle.open(tmp_path / "bundle")
    head, test = bundle.heads()["texts"], split(texts(200), 0).test
    told = head.probabilities(OnnxEncoder(bundle, "cpu").encode([one.text for one in test])).argmax(axis=1)
    assert (
        np.mean([head.labels[at] == one.label for at, one in zip(told, test, strict=True)])
        == figures["tasks"]["texts"]["test"]["accuracy"]
    )
