"""Fine-tuning: epochs over the training part, dev after each, the best one kept, a killed run resumed."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transformers import (
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from model.heads import Head
from model.training.adaptation import Method, adapt, merged
from model.training.classifier import Classifier
from model.training.labelled import Split
from model.training.masking import read_masked
from model.training.pretrained import PooledEncoder, Pretrained
from model.training.running import Precision, arguments, best_precision, whole_checkpoint
from model.training.scores import Scores, scored, wilson

MASKED = "masked"
"""Folder in the work folder: checkpoints of masked language modelling."""
_LOGGED = ("accuracy", "precision", "recall", "f1")


@dataclass(frozen=True)
class Training:
    """How to fine-tune; what is None is chosen by the method, or by what it runs on."""

    method: Method
    epochs: int | None = None
    batch: int = 32
    """Texts a step and process."""
    accumulate: int = 1
    """Steps whose gradients are added up before the weights move."""
    learning_rate: float | None = None
    patience: int = 1
    """Epochs without a better dev accuracy before it stops."""
    longest: int = 128
    """Tokens of a text; the rest is cut off."""
    precision: Precision | None = None
    """None: what is fastest."""
    report_to: str = "tensorboard"
    seed: int = 0
    mlm_epochs: int = 0
    """Epochs of masked language modelling on the training part before any head."""
    mlm_learning_rate: float = 1e-4


@dataclass(frozen=True)
class Epoch:
    """One line of the table."""

    number: int
    train_loss: float
    dev_loss: float
    dev: dict[str, Scores]
    """By task."""

    @property
    def accuracy(self) -> float:
        """The mean of the tasks', by which the best epoch is chosen."""
        return float(np.mean([one.accuracy for one in self.dev.values()]))


@dataclass(frozen=True)
class Tuned:
    """What came of it."""

    model: Pretrained
    """As it is now; additions are merged."""
    heads: dict[str, Head]
    """By task."""
    epochs: list[Epoch]
    test: dict[str, Scores]
    mlm_losses: list[float]
    """After each epoch of masked language modelling."""
    trainable_share: float
    precision: str
    seconds: float
    """Of this process; a resumed run's earlier ones are not in it."""
    first: bool
    """Whether this is the process that tells and writes, where several train together."""


class Watching:
    """What a caller wants to hear of; every method may be left as it is."""

    def step(self, done: int, of: int) -> None:
        """Hear how many steps are done; early stopping may end it before the last."""

    def epoch(self, epoch: Epoch) -> None:
        """Hear how an epoch went."""


def finetune(
    pretrained: Pretrained, tasks: Mapping[str, Split], training: Training, work: Path, watching: Watching
) -> Tuned:
    """Train on the first parts of all tasks, stop by the mean of their second ones, score once on their third ones.

    Batches are drawn from all tasks' texts together, so that each task counts by its number of texts. Checkpoints are
    in `work`, one after each epoch: called again with the same arguments, it goes on after the last.

    Raises:
        PenchantError: the model has fewer layers than the method is to train, or no mask token to read with.
    """
    began, method = time.monotonic(), training.method
    precision = training.precision or best_precision()
    mlm_losses = []
    if training.mlm_epochs:
        once = dict.fromkeys(one.text for split in tasks.values() for one in split.train)
        mlm_losses = read_masked(
            pretrained, list(once), epochs=training.mlm_epochs, batch=training.batch,
            learning_rate=training.mlm_learning_rate, longest=training.longest, precision=precision,
            report_to=training.report_to, seed=training.seed, work=work / MASKED, told=watching.step,
        )  # fmt: skip
    set_seed(training.seed)  # of the head and of LoRA's additions
    body = adapt(pretrained.body, method)
    dim, counts = int(pretrained.config.hidden_size), [len(split.labels) for split in tasks.values()]
    classifier = Classifier(PooledEncoder(body, pretrained.pooling), dim, counts)
    trainable = sum(one.numel() for one in classifier.parameters() if one.requires_grad)
    share = trainable / sum(one.numel() for one in classifier.parameters())
    own = TrainingArguments(
        **arguments(work, precision, "eval_accuracy", training.seed),
        num_train_epochs=training.epochs or method.epochs,
        per_device_train_batch_size=training.batch,
        per_device_eval_batch_size=2 * training.batch,
        gradient_accumulation_steps=training.accumulate,
        learning_rate=training.learning_rate or method.learning_rate,
        warmup_steps=0.06,  # below 1, a share of all steps
        report_to=training.report_to,
    )

    def rows(part: Literal["train", "dev", "test"]) -> list[dict[str, Any]]:
        rows = [
            (one.text, at, classifier.starts[at] + split.labels.index(one.label))
            for at, split in enumerate(tasks.values())
            for one in getattr(split, part)
        ]
        if part != "train":
            rows.sort(key=lambda row: len(row[0]))  # batches hold little padding
        tokens = pretrained.tokenizer(
            [text for text, _, _ in rows], truncation=True, max_length=min(training.longest, pretrained.max_length)
        )
        names = ["input_ids", "attention_mask", *(["token_type_ids"] if pretrained.takes_types else [])]
        columns = {name: tokens[name] for name in names if name in tokens}
        return [
            {name: column[at] for name, column in columns.items()} | {"task": task, "labels": label}
            for at, (_, task, label) in enumerate(rows)
        ]

    def scores(predicted: Any) -> dict[str, Scores]:
        truth, told = np.asarray(predicted.label_ids, np.int64), predicted.predictions.argmax(axis=1)
        found = {}
        for name, start, count in zip(tasks, classifier.starts, counts, strict=False):
            own = (truth >= start) & (truth < start + count)
            found[name] = scored(truth[own] - start, told[own] - start, count)
        return found

    def metrics(predicted: Any) -> dict[str, float]:
        found = scores(predicted)
        each = {f"{name}_{key}": getattr(one, key) for name, one in found.items() for key in _LOGGED}
        return {"accuracy": float(np.mean([one.accuracy for one in found.values()]))} | each

    heard = _Heard(watching, {name: len(split.dev) for name, split in tasks.items()})
    trainer = Trainer(
        model=classifier,
        args=own,
        data_collator=DataCollatorWithPadding(pretrained.tokenizer),
        train_dataset=rows("train"),
        eval_dataset=rows("dev"),
        compute_metrics=metrics,
        callbacks=[heard, EarlyStoppingCallback(early_stopping_patience=training.patience)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=whole_checkpoint(work))
    test = scores(trainer.predict(rows("test")))
    trained = replace(pretrained, body=merged(body, method).cpu().float().eval())
    classifier.cpu()
    heads = {name: classifier.head(at, split.labels) for at, (name, split) in enumerate(tasks.items())}
    seconds = time.monotonic() - began
    return Tuned(
        trained, heads, heard.epochs, test, mlm_losses, share, precision, seconds, trainer.is_world_process_zero()
    )


class _Heard(TrainerCallback):
    """Tells on what the trainer logs; its own log is among what a checkpoint restores."""

    def __init__(self, watching: Watching, dev: Mapping[str, int]) -> None:
        self._watching, self._dev = watching, dev
        self.epochs: list[Epoch] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._watching.step(state.global_step, state.max_steps)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tell(state.log_history)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._tell(state.log_history)

    def _tell(self, log: Sequence[dict[str, Any]]) -> None:
        losses = [entry["loss"] for entry in log if "loss" in entry]
        devs = [entry for entry in log if "eval_loss" in entry]
        for number in range(len(self.epochs) + 1, min(len(losses), len(devs)) + 1):
            found = devs[number - 1]
            dev = {}
            for name, n in self._dev.items():
                accuracy, precision, recall, f1 = (float(found[f"eval_{name}_{key}"]) for key in _LOGGED)
                dev[name] = Scores(accuracy, precision, recall, f1, n, wilson(round(accuracy * n), n))
            self.epochs.append(Epoch(number, float(losses[number - 1]), float(found["eval_loss"]), dev))
            self._watching.epoch(self.epochs[-1])
