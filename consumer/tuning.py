"""`penchant tune`: examples from the fold, a trained encoder, its bundle, and the gate that may let it serve."""

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from consumer.candidate import cost, counter, judged
from consumer.classifying import use_cores
from consumer.window import Source
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from export.onnx import export_model
from model.encoding import Vectors
from model.errors import Fatal
from model.evaluate import prepare
from model.events import Forget
from model.fold import Fold, FoldSettings
from model.gate import CONTENT_ALONE, Compared, Decision, Margins, decide
from model.heads import SENTIMENT, Head
from model.taxonomy import Taxonomy, TopicWords
from model.training.examples import Example, Examples, collect_all, held_out, training_part
from model.training.pretrained import Pretrained, load
from model.training.replay import FILE, Kept, drawn
from model.training.running import clear_checkpoints
from model.training.tuning import Progress, Tuned, Tuning, Window, texts_of, tune
from model.training.twopart import HALF, TwoPart, carried_over

DEV = 0.1
"""Of the events to learn from: the last ones choose between epochs of an encoder that moves."""
SAME = 1e-3
"""Vectors that differ by less are of the same weights."""


@dataclass(frozen=True)
class Job:
    """What to tune from what, and what is asked of it."""

    source: Source
    model: Path
    """The stock model: every run begins from it, so that nothing adds up unseen."""
    serving: Bundle
    """What the candidate has to hold out against."""
    tuning: Tuning
    work: Path
    hold_out: float = 0.3
    """Share of the events, the last ones, that the gate judges by."""
    held_items: float = 0.1
    """Share of the items that are never trained on and judge how it does on what is new; as many others choose."""
    margins: Margins = Margins()  # noqa: RUF009 (frozen, too)
    folding: FoldSettings = FoldSettings()  # noqa: RUF009 (frozen, too)
    """Those of `serve`."""
    taxonomy: Path | None = None
    replay: Sequence[Kept] = ()
    """Examples of earlier runs, to be trained on again."""
    replay_share: float = 0.2
    """Of what is trained on: so many of those at most."""


@dataclass(frozen=True)
class Result:
    """A bundle that was judged."""

    bundle: Bundle
    decision: Decision
    report: dict[str, Any]


def run(job: Job, told: Progress, force: bool = False) -> Result:
    """Tune, export, judge; the bundle and a report are left in the work folder, nothing is published.

    Raises:
        Fatal: there is too little to learn from, or the stock model does not load.
        BadBundle: what was trained cannot be exported exactly.
    """
    began = time.monotonic()
    use_cores()
    events, items = job.source.events, job.source.items
    cut = round(len(events) * (1 - job.hold_out))
    if not 0 < cut < len(events):
        raise Fatal(f"{len(events)} events cannot be divided into some to learn from and some to judge by")
    dev = round(cut * (1 - DEV))
    stock = load(str(job.model))
    heads = stock_heads(stock, job.serving)
    serving = OnnxEncoder(job.serving, threads=torch.get_num_threads())
    with _step(told, "catalogue", 1):
        head = job.serving.heads().get(SENTIMENT)
        fold = prepare(items, serving, job.folding, head)
        silenced = CONTENT_ALONE | set(job.folding.modalities)
        alone = prepare(items, serving, msgspec.structs.replace(job.folding, without=silenced), head)
    found = _collected(job, (alone, fold), cut, serving, counter(told, "examples", 2 * cut))
    texts = {item.item: item.content() for item in items}
    examples = Examples(texts, found).encoded()
    window = _window(job, texts, found, dev, cut)
    topics = Taxonomy.read(job.taxonomy)
    stock_vectors = stock.embed(texts_of(window).texts, None, lambda done, of: told("stock vectors", done, of))
    key = _key(job, examples, window.replayed, stock_vectors)
    with _folder(job, f"{_name(job.tuning)}-{key}") as folder:
        (folder / FILE).write_bytes(examples)
        tuned = tune(stock, stock_vectors, window, job.tuning, folder / "checkpoints", told)
        bundle = _export(tuned.model(), window, topics, heads, folder / "bundle", told)
        for checkpoints in (folder / "checkpoints", folder / "checkpoints" / "mlm"):
            clear_checkpoints(checkpoints)
        (text_alone, alone_by_age), (blend, blend_by_age) = judged(
            (alone, fold), events[cut:], serving, bundle, window, topics, job.tuning.seed, told
        )
        times = cost(job.serving, bundle)
        decision = _decided(decide(blend, times, job.margins), text_alone["all"], force)
        report = {
            "seconds": round(time.monotonic() - began, 1),
            "decision": msgspec.to_builtins(decision),
            **{name: msgspec.to_builtins(text_alone[name]) for name in ("warm", "held_out_items", "new_items")},
            "blend": msgspec.to_builtins(blend),
            "by_age": msgspec.to_builtins({"text_alone": alone_by_age, "blend": blend_by_age}),
            "parity": msgspec.to_builtins(bundle.manifest.parity),
            "cost": round(times, 3),
            "margins": msgspec.to_builtins(job.margins),
            "training": _training(job, tuned, window, hashlib.sha256(examples).hexdigest()),
        }
        (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        return Result(bundle.described(report), decision, report)


def _key(job: Job, examples: bytes, replayed: Sequence[Example], stock_vectors: Vectors) -> str:
    """Return what a run's folder is named by: whoever asks for anything else has other checkpoints to go on with."""
    asked = repr((job.tuning, job.hold_out, job.held_items)).encode()
    again = msgspec.msgpack.encode(replayed) if replayed else b""
    return hashlib.sha256(asked + examples + again + stock_vectors.tobytes()).hexdigest()[:12]


@contextmanager
def _folder(job: Job, name: str) -> Iterator[Path]:
    """A folder of the work folder that no other run fills meanwhile; raises `Fatal` where one does."""
    folder = job.work / name
    if job.serving.path.resolve().is_relative_to(folder.resolve()):
        raise Fatal(f"{folder} holds the model that serves, and would be written anew: give another --work")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Fatal(f"{folder}: another run is at it; let it end, or give another --work") from None
        yield folder


def _collected(
    job: Job, folds: tuple[Fold, Fold], cut: int, serving: OnnxEncoder, counted: Callable[[], None]
) -> list[Example]:
    """Return the examples in the first `cut` events.

    The folds, by text alone and by everything, see the same events: the gate wants both.
    """
    alone, fold = folds
    events = job.source.events
    forgotten = {event.user for event in events[cut:] if isinstance(event, Forget)}
    found = collect_all(fold, events[:cut], serving.encode, job.source.shown, forgotten, counted)
    collect_all(alone, events[:cut], serving.encode, progress=counted)
    return found


def _window(job: Job, texts: dict[str, str], examples: Sequence[Example], dev: int, cut: int) -> Window:
    first_ms, dev_from_ms, until_ms = (job.source.events[at].at_ms for at in (0, dev, cut))
    dev_items, test_items = (held_out(list(texts), job.held_items, job.tuning.seed, part) for part in ("dev", "test"))
    own = len(training_part(examples, dev_from_ms, dev_items | test_items))
    replayed = drawn(job.replay, own, job.replay_share, first_ms, dev_items | test_items, job.tuning.seed)
    return Window(texts, examples, dev_from_ms, until_ms, dev_items, test_items, replayed)


def _decided(gate: Decision, text_alone: Compared, force: bool) -> Decision:
    """Return what the gate said, or no, where nothing was learnt that would be worth it."""
    if text_alone.difference <= 0:
        nothing = f"text alone: NDCG@10 {text_alone.before:.4f} -> {text_alone.after:.4f}: nothing was learnt"
        gate = Decision(False, [nothing, *gate.reasons])
    return msgspec.structs.replace(gate, forced=force and not gate.promote)


def _export(
    model: TwoPart,
    window: Window,
    topics: Sequence[TopicWords],
    heads: dict[str, Head],
    out: Path,
    told: Progress,
) -> Bundle:
    if out.exists():  # an earlier run's, of the same examples
        shutil.rmtree(out)
    told("export", 0, len(window.texts))
    texts = [*window.texts.values(), *(text for topic in topics for text in topic.descriptions)]
    over = {name: carried_over(head) for name, head in heads.items()}
    return export_model(model, out, texts, lambda done, of: told("export", done, of), over)


def stock_heads(stock: Pretrained, serving: Bundle) -> dict[str, Head]:
    """Return the heads of the model that serves, as they read the stock model's vectors.

    Raises:
        Fatal: it has heads, and is neither the stock model nor tuned from it.
    """
    heads, test = serving.heads(), serving.selftest()
    if not heads:
        return {}
    expected, dim = stock.embed(test.texts), int(stock.config.hidden_size)
    length = HALF if serving.manifest.learnt else 1.0
    fits = serving.manifest.dim - serving.manifest.learnt == dim
    if not fits or np.abs(test.expected()[:, :dim] - length * expected).max() > SAME:
        raise Fatal(
            f"the model that serves has heads ({', '.join(heads)}) that read other vectors than {stock.source} gives: "
            "give --model the folder that it was made from"
        )
    return {name: Head.of(one.labels, one.weights[:, :dim] * length, one.bias) for name, one in heads.items()}


def _training(job: Job, tuned: Tuned, window: Window, digest: str) -> dict[str, Any]:
    return {
        "source": job.source.said,
        "refused": dict(job.source.refused),
        "examples_sha256": digest,
        "examples": tuned.examples,
        "replay": {
            "share": job.replay_share,
            "taken": len(window.replayed),
            "files": [{"name": one.name, "sha256": one.sha256, "examples": len(one.examples)} for one in job.replay],
        },
        "model": job.model.name,
        "serving": job.serving.manifest.version,
        "method": _name(job.tuning),
        "settings": {name: value for name, value in asdict(job.tuning).items() if name != "method"},
        "hold_out": job.hold_out,
        "held_items": job.held_items,
        "trainable_share": round(tuned.trainable_share, 5),
        "losses": tuned.losses,
        "mlm_losses": tuned.mlm_losses,
        "threads": torch.get_num_threads(),
    }


def _name(tuning: Tuning) -> str:
    method = tuning.method
    return f"last-{method.layers}" if method.kind == "last" else method.kind


@contextmanager
def _step(told: Progress, what: str, of: int) -> Iterator[None]:
    told(what, 0, of)
    yield
    told(what, of, of)
