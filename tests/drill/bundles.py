"""The models of the drill, made from the shipped one: good ones, and bad ones of every kind that comes to mind."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from export import catalogue
from export.bundle import MANIFEST, SELFTEST, TOKENIZER, Bundle, Manifest, write_bundle, write_selftest
from export.encoder import OnnxEncoder
from export.registry import Registry
from model.errors import BadBundle, Fatal
from model.taxonomy import Taxonomy
from tests.bench.usual import shipped_model

GRAPH = "encoder.onnx"
LAYERS = 3
"""Of the shallow one; the shipped one has twice as many."""
GOOD = ("plain", "carried", "shallow", "learnt")
"""As shipped, so that serve embeds the catalogue; with the catalogue's vectors; other weights, with vectors, too; the
shipped ones with a part that was learnt beside them, with vectors."""


class Bad(NamedTuple):
    """A published version that cannot serve, and the reason by which it must be counted."""

    kind: str
    version: str
    reason: str


def good(name: str, folder: Path, shipped: Bundle, texts: Sequence[str]) -> Bundle:
    """Return one of `GOOD`, made in the folder unless it is there."""
    out = folder / name
    if name == "plain":
        return shipped
    if not out.exists():
        if name == "carried":
            _derived(shipped, out, lambda there: _carry(there, shipped, [*texts, *_topics()]))
        elif name == "shallow":
            _export_shallow(out)
        else:
            _run("tests.drill.two_parts", str(out))
    return Bundle.open(out)


def bad(registry: Registry, published: Path, folder: Path, shipped: Bundle, texts: Sequence[str]) -> list[Bad]:
    """Make them, publish them, and damage behind the registry's back what it would not have taken.

    `published` is where the registry keeps its versions, `folder` is for what is only needed meanwhile.
    """
    test = shipped.selftest()
    tokenizer = Tokenizer.from_file(str(shipped.tokenizer_path))
    tokenizer.no_padding()
    topics = _topics()
    found = []

    def add(kind: str, reason: str, alter: Callable[[Path], object], **said: Any) -> Path:
        made = _derived(shipped, folder / kind, alter, **said)
        version = made.manifest.version
        try:
            registry.publish(made.path)
        except BadBundle:  # as it should; somebody may copy it there by hand
            shutil.copytree(made.path, published / version)
        shutil.rmtree(made.path)
        found.append(Bad(kind, version, reason))
        return published / version

    def shorter(count: int) -> Callable[[Path], object]:  # sound as yet, and of a version of its own
        return lambda there: _test(there, test.texts[:-count], test.expected()[:-count])

    def poison(*where: Sequence[str]) -> Callable[[Path], object]:
        return lambda there: _poison(there / GRAPH, _token(tokenizer, *where))

    def renumber(*where: Sequence[str]) -> Callable[[Path], object]:
        return lambda there: _renumber(there / TOKENIZER, _token(tokenizer, *where))

    _flip(add("corrupted", "files", shorter(1)) / GRAPH)
    _cut(add("torn", "files", shorter(2)) / GRAPH)
    (add("incomplete", "files", shorter(3)) / TOKENIZER).unlink()
    _widen(add("mislabelled", "files", shorter(4)) / MANIFEST)
    # From here on every checksum is right: what made the bundle was at fault.
    add("truncated", "self_test", lambda there: _cut(there / GRAPH))
    add("untested", "self_test", lambda there: _test(there, test.texts, np.roll(test.expected(), 1, axis=0)))
    add("nan", "self_test", lambda there: _poison(there / GRAPH, None))
    add("narrow", "self_test", lambda there: _test(there, test.texts, test.expected()[:, :256]), dim=256)
    # These pass their self-test: none of its texts has the word at which they fail.
    add("nan_topics", "self_test", poison(topics, [*test.texts, *texts]))
    add("nan_items", "catalogue", poison(texts, [*test.texts, *topics]))
    add("alien_topics", "self_test", renumber(topics, [*test.texts, *texts]))
    add("alien_items", "catalogue", renumber(texts, [*test.texts, *topics]))
    add("nan_carried", "files", lambda there: _carry_nothing(there, texts, shipped.manifest.dim))
    return found


def _derived(base: Bundle, out: Path, alter: Callable[[Path], object], **said: Any) -> Bundle:
    """Return a copy of a bundle, altered; `said` are fields of its manifest, as is the number that `alter` returns."""

    def fill(there: Path) -> Manifest:
        for name in base.manifest.sha256:
            shutil.copyfile(base.path / name, there / name)
        items = alter(there)
        carried = {"items": items} if isinstance(items, int) else {}
        return msgspec.structs.replace(base.manifest, **carried, **said)

    return write_bundle(out, fill)


def _topics() -> list[str]:
    return [text for topic in Taxonomy.read() for text in topic.descriptions]


def _carry(there: Path, base: Bundle, texts: Sequence[str]) -> int:
    encoder = OnnxEncoder(base, "cpu", cache_size=0, threads=os.cpu_count() or 1)
    return catalogue.write(there, texts, encoder.encode, lambda _done, _of: None)


def _carry_nothing(there: Path, texts: Sequence[str], dim: int) -> None:
    """Bring vectors that are no numbers; `catalogue.write` would have left them out."""
    hashes = np.array(sorted({catalogue.text_hash(text) for text in texts}), dtype="<u8")
    np.save(there / catalogue.HASHES, hashes)
    np.save(there / catalogue.VECTORS, np.full((len(hashes), dim), np.nan, np.float32))


def _export_shallow(out: Path) -> None:
    """Export the shipped model without its upper layers."""
    model = out.parent / f"{out.name}-model"
    shutil.copytree(shipped_model(), model, dirs_exist_ok=True)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"num_hidden_layers": LAYERS}))
    _run("consumer.cli", "export", str(model), str(out), "--items", "ml-100k")
    shutil.rmtree(model)


def _run(*command: str) -> None:
    """Run a module in a process of its own: PyTorch's memory is gone then."""
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Fatal(f"the export failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


def _test(there: Path, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
    write_selftest(there / SELFTEST, texts, vectors)


def _flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def _cut(path: Path) -> None:
    """Leave the first half of a file."""
    os.truncate(path, path.stat().st_size // 2)


def _renumber(tokenizer: Path, token: int) -> None:
    """Give a token a number that the graph does not know, as the tokenizer of another model has them."""
    said = json.loads(tokenizer.read_text(encoding="utf-8"))
    vocabulary = said["model"]["vocab"]
    vocabulary[next(word for word, number in vocabulary.items() if number == token)] = 2 * len(vocabulary)
    tokenizer.write_text(json.dumps(said), encoding="utf-8")


def _widen(manifest: Path) -> None:
    """Let a manifest claim longer vectors than the graph gives."""
    said = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(said | {"dim": 2 * said["dim"]}))


def _token(tokenizer: Any, where: Sequence[str], elsewhere: Sequence[str]) -> int:
    """Return a token of some texts that is in no other; raises `ValueError` where there is none."""
    ids: list[set[int]] = [
        {id for one in tokenizer.encode_batch(list(texts)) for id in one.ids} for texts in (where, elsewhere)
    ]
    return min(ids[0] - ids[1])


def _poison(graph: Path, token: int | None) -> None:
    """Make a token's embedding NaN in a graph, or (None) those of all."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(graph))
    largest = max(model.graph.initializer, key=lambda one: int(np.prod(one.dims)))  # a BERT's words
    values = numpy_helper.to_array(largest).copy()
    values[slice(None) if token is None else token] = np.nan
    largest.CopyFrom(numpy_helper.from_array(values, largest.name))
    onnx.save(model, str(graph))
