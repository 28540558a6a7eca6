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

from consumer.classifying import use_cores
from consumer.window import Source
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from export.onnx import export_model
from export.sentences import PARITY
from model.errors import Fatal
from model.evaluate import prepare
from model.events import Event, Forget
from model.fold import Fold, FoldSettings
from model.gate import CONTENT_ALONE, Compared, Decision, Margins, by_age, compare, compared, decide
from model.heads import SENTIMENT, Head
from model.taxonomy import Taxonomy
from model.training.blend import carried_over
from model.training.examples import Example, Examples, collect_all, held_out, training_part
from model.training.pretrained import Pretrained, load
from model.training.replay import FILE, Kept, drawn
from model.training.running import clear_checkpoints
from model.training.tuning import Tuned, Tuning, Window, texts_of, tune

DEV = 0.1
"""Of the events to learn from: the last ones choose between trained models."""
SAME = 1e-3
"""Vectors that differ by less are of the same weights."""
Told = Callable[[str, int, int], None]


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
    """Share of the items that are never trained on and judge by how it does on what is new; as many more choose."""
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


def run(job: Job, told: Told, force: bool = False) -> Result:
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
    stock = load(str(job.model))
    heads = _stock_heads(stock, job.serving)
    serving = OnnxEncoder(job.serving, threads=torch.get_num_threads())
    with _step(told, "catalogue", 1):
        head = job.serving.heads().get(SENTIMENT)
        fold = prepare(items, serving, job.folding, head)
        silenced = CONTENT_ALONE | set(job.folding.modalities)
        alone = prepare(items, serving, msgspec.structs.replace(job.folding, without=silenced), head)
    forgotten = {event.user for event in events[cut:] if isinstance(event, Forget)}
    counted = _counter(told, "examples", 2 * cut)
    texts = {item.item: item.content() for item in items}
    found = collect_all(fold, events[:cut], serving.encode, job.source.shown, forgotten, counted)
    # The same events again, ranked by text alone: the gate's other fold.
    collect_all(alone, events[:cut], serving.encode, progress=counted)
    examples = Examples(texts, found).encoded()
    window = _window(job, texts, found, events, cut)
    stock_vectors = stock.embed(texts_of(window).texts, None, lambda done, of: told("stock vectors", done, of))
    # Whatever else is asked for, or of another model, has checkpoints of its own: they are gone on with.
    asked = repr((job.tuning, job.hold_out, job.held_items)).encode()
    again = msgspec.msgpack.encode(window.replayed) if window.replayed else b""
    key = hashlib.sha256(asked + examples + again + stock_vectors.tobytes()).hexdigest()[:12]
    with _folder(job, f"{_name(job.tuning)}-{key}") as folder:
        (folder / FILE).write_bytes(examples)
        tuned = tune(stock, stock_vectors, window, job.tuning, folder / "checkpoints", told)
        bundle = _export(tuned, job, window, heads, folder / "bundle", told)
        clear_checkpoints(folder / "checkpoints")
        (text_alone, alone_by_age), (blend, blend_by_age) = _judge(
            job, (alone, fold), events[cut:], serving, bundle, window, told
        )
        cost = _cost(job.serving, bundle)
        decision = decide(blend, cost, job.margins)
        if tuned.model.share == 1:
            nothing = "the stock model alone did best on items held out to choose: nothing was learnt that would hold"
            decision = Decision(False, [nothing, *decision.reasons])
        if force and not decision.promote:
            decision = msgspec.structs.replace(decision, forced=True)
        report = {
            "seconds": round(time.monotonic() - began, 1),
            "decision": msgspec.to_builtins(decision),
            **{name: msgspec.to_builtins(text_alone[name]) for name in ("warm", "held_out_items", "new_items")},
            "blend": msgspec.to_builtins(blend),
            "by_age": msgspec.to_builtins({"text_alone": alone_by_age, "blend": blend_by_age}),
            "parity": msgspec.to_builtins(bundle.manifest.parity),
            "cost": round(cost, 3),
            "margins": msgspec.to_builtins(job.margins),
            "training": _training(job, tuned, window, hashlib.sha256(examples).hexdigest()),
        }
        (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        return Result(bundle.described(report), decision, report)


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


def _window(job: Job, texts: dict[str, str], examples: Sequence[Example], events: Sequence[Event], cut: int) -> Window:
    names, seed, dev_from_ms = list(texts), job.tuning.seed, events[round(cut * (1 - DEV))].at_ms
    dev, test = (held_out(names, job.held_items, seed, part) for part in ("dev", "test"))
    own = len(training_part(examples, dev_from_ms, dev | test))
    replayed = drawn(job.replay, own, job.replay_share, events[0].at_ms, dev | test, seed)
    return Window(texts, examples, dev_from_ms, events[cut].at_ms, dev, test, replayed)


def _export(tuned: Tuned, job: Job, window: Window, heads: dict[str, Head], out: Path, told: Told) -> Bundle:
    if out.exists():  # an earlier run's, of the same examples
        shutil.rmtree(out)
    told("export", 0, len(window.texts))
    topics = [text for topic in Taxonomy.read(job.taxonomy) for text in topic.descriptions]
    texts = [*window.texts.values(), *topics]
    over = {name: carried_over(head, tuned.model.share) for name, head in heads.items()}
    return export_model(tuned.model, out, texts, lambda done, of: told("export", done, of), over)


def _stock_heads(stock: Pretrained, serving: Bundle) -> dict[str, Head]:
    """Return the heads of the model that serves, as they read the stock model's vectors.

    Raises:
        Fatal: it has heads, and is neither the stock model nor tuned from it.
    """
    heads, test = serving.heads(), serving.selftest()
    if not heads:
        return {}
    expected, dim = stock.embed(test.texts), int(stock.config.hidden_size)
    tuning = serving.manifest.tuning
    before = 1.0 if tuning is None else float(tuning["training"]["share"])
    fits = serving.manifest.dim == dim * (1 if tuning is None else 2)
    if not fits or np.abs(test.expected()[:, :dim] - before**0.5 * expected).max() > SAME:
        raise Fatal(
            f"the model that serves has heads ({', '.join(heads)}) that read other vectors than {stock.source} gives: "
            "give --model the folder that it was made from"
        )
    return {name: Head.of(one.labels, one.weights[:, :dim] * before**0.5, one.bias) for name, one in heads.items()}


def _judge(
    job: Job,
    folds: Sequence[Fold],
    events: Sequence[Event],
    serving: OnnxEncoder,
    bundle: Bundle,
    window: Window,
    told: Told,
) -> list[tuple[dict[str, Compared], dict[str, Compared]]]:
    """Return, for each fold, what the gate compares: by slice, and by age of the item."""
    candidate = OnnxEncoder(bundle, threads=torch.get_num_threads())
    taxonomy = Taxonomy(Taxonomy.read(job.taxonomy), candidate)
    texts = list(window.texts.values())
    by_name = dict(zip(window.texts, candidate.encode(texts), strict=True))

    sentiment = bundle.heads().get(SENTIMENT)

    def adopt(fold: Fold) -> None:
        content = fold.catalogue.embedded(by_name, candidate.dim)
        words = list(fold.search_vectors)
        vectors = dict(zip(words, candidate.encode(words), strict=True))
        fold.adopt(candidate.version, taxonomy, content, vectors, sentiment)

    found = []
    for number, fold in enumerate(folds):
        done = _counter(told, "gate", 2 * len(folds) * len(events), 2 * number * len(events))
        before, after = compare(fold, events, serving, candidate, adopt, done)
        seed = job.tuning.seed
        found.append((compared(before, after, window.test_items, seed), by_age(before, after, seed)))
    return found


def _cost(serving: Bundle, candidate: Bundle) -> float:
    """Return the candidate's CPU time over the serving model's, of embedding the same sentences; the best of rounds."""
    encoders = [OnnxEncoder(bundle, "cpu", cache_size=0) for bundle in (serving, candidate)]
    best = [float("inf")] * 2
    for _ in range(5):
        for at, encoder in enumerate(encoders):
            began = time.process_time()
            encoder.encode(PARITY)
            best[at] = min(best[at], time.process_time() - began)
    return best[1] / best[0]


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
        "share": tuned.model.share,
        "tried": [asdict(one) for one in tuned.tried],
        "threads": torch.get_num_threads(),
    }


def _name(tuning: Tuning) -> str:
    method = tuning.method
    return f"last-{method.layers}" if method.kind == "last" else method.kind


def _counter(told: Told, what: str, of: int, since: int = 0) -> Callable[[], None]:
    """Return what counts one by one, and tells every hundredth."""
    done = since

    def count() -> None:
        nonlocal done
        done += 1
        if done % 100 == 0 or done == of:
            told(what, done, of)

    return count


@contextmanager
def _step(told: Told, what: str, of: int) -> Iterator[None]:
    told(what, 0, of)
    yield
    told(what, of, of)
