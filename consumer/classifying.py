"""Heads that tell labels of texts, such as positive or negative, trained, measured, and exported on request."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from consumer.datasets import cache_folder
from consumer.labelled import CHINESE, ENGLISH, KNOWN, load
from consumer.outputs import TABLE_WIDTH
from consumer.shipped import shipped_model
from export.onnx import export_model
from model.errors import PenchantError
from model.heads import SENTIMENT
from model.training.baseline import baseline
from model.training.finetune import MASKED, Epoch, Training, Tuned, Watching, finetune
from model.training.labelled import Labelled, Split, split_together
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

    sources: Sequence[str]
    """Of texts: one task each, all on one encoder."""
    training: Training
    model: Path | None = None
    """A Hugging Face folder; None: MiniLM, and for Chinese a small BERT from nothing."""
    out: Path | None = None
    output: Path | None = None
    name: str | None = None
    """Of the head, where there is one source; None: sentiment, or the file's name."""
    work: Path | None = None
    """Where each run, by its settings and texts, has a folder for checkpoints and log; None: in the cache."""


def run(wanted: Wanted) -> None:
    """Train, tell how it went, and write what was asked for.

    Raises:
        PenchantError: texts or model cannot be had or used, or two heads have one name.
        BadBundle: the model is none of the family, or the bundle cannot be written.
    """
    first = int(os.environ.get("RANK", "0")) == 0  # torchrun's number of this process
    console = Console(stderr=True, quiet=not first)
    use_cores()
    if wanted.out is not None and wanted.out.exists():
        raise PenchantError(f"{wanted.out}: exists already, and bundles never change; choose another folder")
    names = head_names(wanted)
    texts = [load(source) for source in wanted.sources]
    tasks = dict(zip(names, split_together(texts, wanted.training.seed), strict=True))
    work = (wanted.work or cache_folder() / "runs") / _digest(texts, wanted)
    for name, parts in tasks.items():
        console.print(f"* {name}: {len(parts.train)} texts to train with, {len(parts.dev)} dev, "
                      f"{len(parts.test)} test; {parts.repeated} repeated ones left out; "
                      f"labels: {', '.join(parts.labels)}")  # fmt: skip
    usual = {name: baseline(parts, by_characters=source == CHINESE)
             for source, (name, parts) in zip(wanted.sources, tasks.items(), strict=True)}  # fmt: skip
    training, pretrained = wanted.training, _model(wanted, tasks, console)
    if pretrained.source == SCRATCH:
        training = replace(training, epochs=training.epochs or SCRATCH_EPOCHS,
                           learning_rate=training.learning_rate or SCRATCH_LEARNING_RATE,
                           mlm_learning_rate=SCRATCH_LEARNING_RATE)  # fmt: skip
    console.print(f"* {training.method} of {pretrained.source}; checkpoints and log: {work}", soft_wrap=True)
    with _watching(console) as watching:
        tuned = finetune(pretrained, tasks, training, work, watching)
    if not tuned.first:
        return
    _tell(tuned, usual, console)
    if wanted.output is not None:
        wanted.output.write_bytes(msgspec.json.format(msgspec.json.encode(_report(wanted, tuned, usual))) + b"\n")
    if wanted.out is not None:
        with tempfile.TemporaryDirectory() as folder:
            tuned.model.save(Path(folder))
            export_model(folder, wanted.out, heads=tuned.heads)
        console.print(f"* exported to {wanted.out}, with the head {', '.join(map(repr, names))}")
    clear_checkpoints(work)
    clear_checkpoints(work / MASKED)


def use_cores() -> None:
    """Divide the cores among the processes that train here; the command line gives one thread to everything else."""
    import torch

    together = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // together))


def head_names(wanted: Wanted) -> list[str]:
    """Return what the heads are called, in the order of the sources; PenchantError where two are called alike."""
    if wanted.name is not None:
        if len(wanted.sources) > 1:
            raise PenchantError("--name names one head; several are named after their files")
        return [wanted.name]
    names = [SENTIMENT if source in {*ENGLISH, CHINESE} else Path(source).stem.removeprefix("en-" * (source in KNOWN))
             for source in wanted.sources]  # fmt: skip
    if len(set(names)) < len(names):
        raise PenchantError(f"two heads have one name: {', '.join(names)}; name the files otherwise")
    return names


def _model(wanted: Wanted, tasks: Mapping[str, Split], console: Console) -> Pretrained:
    if wanted.model is not None:
        return load_pretrained(str(wanted.model))
    if CHINESE in wanted.sources:
        console.print("* no pretrained Chinese BERT was given (--model): a small one is trained from nothing")
        return from_scratch([one.text for parts in tasks.values() for one in parts.train], wanted.training.seed)
    return load_pretrained(str(shipped_model()))


def _digest(texts: list[list[Labelled]], wanted: Wanted) -> str:
    said = repr((list(wanted.sources), wanted.model, wanted.training)).encode() + msgspec.json.encode(texts)
    return f"{Path(wanted.sources[0]).stem}-{hashlib.sha256(said).hexdigest()[:12]}"


class _Shown(Watching):
    def __init__(self, console: Console, progress: Progress) -> None:
        self._console, self._progress = console, progress
        self._task = progress.add_task("training", total=None)
        console.print("epoch  train loss  dev loss  accuracy  precision  recall     F1")

    def step(self, done: int, of: int) -> None:
        self._progress.update(self._task, completed=done, total=of)

    def epoch(self, epoch: Epoch) -> None:
        for name, dev in epoch.dev.items():
            of = f"  {name}" if len(epoch.dev) > 1 else ""
            self._console.print(f"{epoch.number:>5}{epoch.train_loss:>12.4f}{epoch.dev_loss:>10.4f}{dev.accuracy:>10.4f}"
                                f"{dev.precision:>11.4f}{dev.recall:>8.4f}{dev.f1:>7.4f}{of}")  # fmt: skip


@contextmanager
def _watching(console: Console) -> Iterator[Watching]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Shown(console, progress)


def _tell(tuned: Tuned, usual: Mapping[str, Scores], console: Console) -> None:
    table = Table("test part", "by", "accuracy (95% interval)", "precision", "recall", "F1", "n")
    for name, found in tuned.test.items():
        for by, scores in (("fine-tuned", found), ("TF-IDF + logistic regression", usual[name])):
            low, high = scores.ci95
            table.add_row(name, by, f"{scores.accuracy:.4f} ({low:.3f}-{high:.3f})", f"{scores.precision:.4f}",
                          f"{scores.recall:.4f}", f"{scores.f1:.4f}", str(scores.n))  # fmt: skip
    Console(stderr=True, width=TABLE_WIDTH, quiet=console.quiet).print(table)
    if tuned.mlm_losses:
        console.print(f"* masked words first; loss by epoch: {', '.join(f'{one:.3f}' for one in tuned.mlm_losses)}")
    console.print(f"* trained: {tuned.trainable_share:.2%} of the parameters, in {tuned.precision}, "
                  f"{tuned.seconds:.0f} s")  # fmt: skip


def _report(wanted: Wanted, tuned: Tuned, usual: Mapping[str, Scores]) -> dict[str, object]:
    return {
        "tasks": {
            name: {"source": source, "test": found, "baseline": usual[name]}
            for source, (name, found) in zip(wanted.sources, tuned.test.items(), strict=True)
        },
        "model": tuned.model.source,
        "method": str(wanted.training.method),
        "trainable_share": tuned.trainable_share,
        "precision_of_numbers": tuned.precision,
        "seconds": tuned.seconds,
        "seed": wanted.training.seed,
        "mlm_losses": tuned.mlm_losses,
        "epochs": tuned.epochs,
    }
