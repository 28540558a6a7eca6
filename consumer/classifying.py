"""A head that tells labels of texts, such as positive or negative, trained, measured, and exported on request."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from consumer.datasets import cache_folder
from consumer.labelled import ENGLISH, load
from consumer.shipped import shipped_model
from export.onnx import export_model
from model.errors import PenchantError
from model.heads import SENTIMENT
from model.training.baseline import baseline
from model.training.finetune import Epoch, Training, Tuned, Watching, finetune
from model.training.labelled import Labelled, Split, split
from model.training.pretrained import Pretrained
from model.training.pretrained import load as load_pretrained
from model.training.running import clear_checkpoints
from model.training.scores import Scores
from model.training.scratch import SCRATCH, from_scratch

SCRATCH_EPOCHS = 4
SCRATCH_LEARNING_RATE = 1e-3
"""Larger than what is pretrained bears."""


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    source: str
    training: Training
    model: Path | None = None
    """A Hugging Face folder; None: MiniLM, and for Chinese a small BERT from nothing."""
    out: Path | None = None
    output: Path | None = None
    name: str | None = None
    """Of the head; None: sentiment, or the file's name."""
    work: Path | None = None
    """Where each run, by its settings and texts, has a folder for checkpoints and log; None: in the cache."""


def run(wanted: Wanted) -> None:
    """Train, tell how it went, and write what was asked for.

    Raises:
        PenchantError: texts or model cannot be had or used.
        BadBundle: the model is none of the family, or the bundle cannot be written.
    """
    first = int(os.environ.get("RANK", "0")) == 0  # torchrun's number of this process
    console = Console(stderr=True, quiet=not first)
    use_cores()
    if wanted.out is not None and wanted.out.exists():
        raise PenchantError(f"{wanted.out}: exists already, and bundles never change; choose another folder")
    texts = load(wanted.source)
    parts = split(texts, wanted.training.seed)
    work = (wanted.work or cache_folder() / "runs") / _digest(texts, wanted)
    console.print(f"* {len(parts.train)} texts to train with, {len(parts.dev)} dev, {len(parts.test)} test; "
                  f"{parts.repeated} repeated ones left out; labels: {', '.join(parts.labels)}")  # fmt: skip
    usual = baseline(parts, by_characters=wanted.source == "zh")
    training, pretrained = wanted.training, _model(wanted, parts, console)
    if pretrained.source == SCRATCH:
        training = replace(training, epochs=training.epochs or SCRATCH_EPOCHS,
                           learning_rate=training.learning_rate or SCRATCH_LEARNING_RATE)  # fmt: skip
    console.print(f"* {training.method} of {pretrained.source}; checkpoints and log: {work}", soft_wrap=True)
    with _watching(console) as watching:
        tuned = finetune(pretrained, parts, training, work, watching)
    if not tuned.first:
        return
    name = wanted.name or (SENTIMENT if wanted.source in {*ENGLISH, "zh"} else Path(wanted.source).stem)
    _tell(tuned, usual, console)
    if wanted.output is not None:
        wanted.output.write_bytes(msgspec.json.format(msgspec.json.encode(_report(wanted, tuned, usual))) + b"\n")
    if wanted.out is not None:
        with tempfile.TemporaryDirectory() as folder:
            tuned.model.save(Path(folder))
            export_model(folder, wanted.out, heads={name: tuned.head})
        console.print(f"* exported to {wanted.out}, with the head {name!r}")
    clear_checkpoints(work)


def use_cores() -> None:
    """Divide the cores among the processes that train here; the command line gives one thread to everything else."""
    import torch

    together = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // together))


def _model(wanted: Wanted, parts: Split, console: Console) -> Pretrained:
    if wanted.model is not None:
        return load_pretrained(str(wanted.model))
    if wanted.source == "zh":
        console.print("* no pretrained Chinese BERT was given (--model): a small one is trained from nothing")
        return from_scratch([one.text for one in parts.train], wanted.training.seed)
    return load_pretrained(str(shipped_model()))


def _digest(texts: list[Labelled], wanted: Wanted) -> str:
    said = repr((wanted.source, wanted.model, wanted.training)).encode() + msgspec.json.encode(texts)
    return f"{Path(wanted.source).stem}-{hashlib.sha256(said).hexdigest()[:12]}"


class _Shown(Watching):
    def __init__(self, console: Console, progress: Progress) -> None:
        self._console, self._progress = console, progress
        self._task = progress.add_task("training", total=None)
        console.print("epoch  train loss  dev loss  accuracy  precision  recall     F1")

    def step(self, done: int, of: int) -> None:
        self._progress.update(self._task, completed=done, total=of)

    def epoch(self, epoch: Epoch) -> None:
        dev = epoch.dev
        self._console.print(f"{epoch.number:>5}{epoch.train_loss:>12.4f}{epoch.dev_loss:>10.4f}{dev.accuracy:>10.4f}"
                            f"{dev.precision:>11.4f}{dev.recall:>8.4f}{dev.f1:>7.4f}")  # fmt: skip


@contextmanager
def _watching(console: Console) -> Iterator[Watching]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Shown(console, progress)


def _tell(tuned: Tuned, usual: Scores, console: Console) -> None:
    table = Table("test part", "accuracy (95% interval)", "precision", "recall", "F1", "n")
    for name, scores in (("fine-tuned", tuned.test), ("TF-IDF + logistic regression", usual)):
        low, high = scores.ci95
        table.add_row(name, f"{scores.accuracy:.4f} ({low:.3f}-{high:.3f})", f"{scores.precision:.4f}",
                      f"{scores.recall:.4f}", f"{scores.f1:.4f}", str(scores.n))  # fmt: skip
    console.print(table)
    console.print(f"* trained: {tuned.trainable_share:.2%} of the parameters, in {tuned.precision}, "
                  f"{tuned.seconds:.0f} s")  # fmt: skip


def _report(wanted: Wanted, tuned: Tuned, usual: Scores) -> dict[str, object]:
    return {
        **msgspec.structs.asdict(tuned.test),
        "source": wanted.source,
        "model": tuned.model.source,
        "method": str(wanted.training.method),
        "trainable_share": tuned.trainable_share,
        "precision_of_numbers": tuned.precision,
        "seconds": tuned.seconds,
        "seed": wanted.training.seed,
        "epochs": [asdict(epoch) | {"dev": msgspec.structs.asdict(epoch.dev)} for epoch in tuned.epochs],
        "baseline": msgspec.structs.asdict(usual),
    }
