"""Exports any BERT-family model into a bundle, and proves the graph equal to what it was made from."""

import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from export import catalogue
from export import heads as head_files
from export.bundle import FORMAT_VERSION, TOKENIZER, Bundle, Manifest, Parity, write_bundle, write_selftest
from export.encoder import OnnxEncoder
from export.sentences import PARITY, SELFTEST
from model.encoding import Vectors
from model.errors import BadBundle
from model.heads import Head
from model.training.pretrained import LONGEST, Pretrained, load

OPSET = 17
MAX_ABS_DIFF = 1e-4
_GRAPH = "encoder.onnx"


def _untold(done: int, of: int) -> None:
    """Tell nobody how far it is."""


def export_model(
    model: Pretrained | Path | str,
    out: Path,
    items: Iterable[str] | None = None,
    told: catalogue.Progress = _untold,
    heads: Mapping[str, Head] | None = None,
) -> Bundle:
    """Export a model of the BERT family, in memory or a Hugging Face folder (or hub id), into a new bundle at ``out``.

    ``items`` are the texts of a catalogue and of topics, whose vectors go into the bundle; ``told`` hears how many are
    embedded. ``heads`` by name read the model's vectors, and go along.

    Raises BadBundle where it is no such model, where the graph differs from it by more than 1e-4, where a head does not
    fit, or where ``out`` exists or cannot be written.
    """
    if not isinstance(model, Pretrained):
        model = load(str(model))
    source = model.source
    tokenizer, max_length, takes_types = model.tokenizer, model.max_length, model.takes_types
    # eval() on the wrapper: the exporter restores the mode of what it is given, and a new module is in training mode.
    wrapper = model.module().eval()

    def fill(folder: Path) -> Manifest:
        _write_graph(wrapper, takes_types, folder / _GRAPH)
        _write_tokenizer(tokenizer, max_length, folder / TOKENIZER)
        expected = _embed(wrapper, tokenizer, PARITY, max_length, takes_types)
        vector_of = dict(zip(PARITY, expected, strict=True))
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            version="",
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            dim=int(expected.shape[1]),
            learnt=model.learnt,
            max_length=max_length,
            pooling=model.pooling,
            forms={"fp32": _GRAPH},
            parity=Parity(max_abs_diff=0.0, sentences=len(PARITY)),
            opset=OPSET,
            tools={name: installed(name) for name in ("torch", "transformers", "onnx", "tokenizers")},
            sha256={},
        )
        head_files.write(folder, heads or {}, manifest.dim)
        write_selftest(folder / manifest.selftest, SELFTEST, np.stack([vector_of[text] for text in SELFTEST]))
        worst = _parity(Bundle(folder, manifest), expected)
        if not worst <= MAX_ABS_DIFF:
            raise BadBundle(f"{source}: the graph differs from the model by {worst:.2g} > {MAX_ABS_DIFF}; not exported")
        manifest = msgspec.structs.replace(manifest, parity=Parity(max_abs_diff=worst, sentences=len(PARITY)))
        if items is None:
            return manifest
        cores = os.cpu_count() or 1  # nothing else runs here, and a large catalogue takes minutes
        encoder = OnnxEncoder(Bundle(folder, manifest), "cpu", cache_size=0, threads=cores)
        return msgspec.structs.replace(manifest, items=catalogue.write(folder, items, encoder.encode, told))

    return write_bundle(out, fill)


def _write_tokenizer(tokenizer: Any, max_length: int, path: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        saved = (Path(scratch) / "tokenizer.json").read_text(encoding="utf-8")
    from tokenizers import Tokenizer

    rust = Tokenizer.from_str(saved)
    rust.enable_truncation(max_length)
    rust.enable_padding(pad_id=int(tokenizer.pad_token_id), pad_token=tokenizer.pad_token)  # where readers find the id
    rust.save(str(path))


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", message=".*legacy TorchScript-based ONNX export.*")
        warnings.filterwarnings("ignore", message="Exporting aten::index operator", category=UserWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(torch|transformers|copyreg)\b.*")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|transformers)\b.*")
        yield


def _write_graph(wrapper: torch.nn.Module, takes_types: bool, path: Path) -> None:
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if takes_types else [])]
    ids = torch.full((2, 8), 5, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    sample = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    axes = {name: {0: "batch", 1: "tokens"} for name in names} | {"vector": {0: "batch"}}
    with _quiet_exporter(), torch.inference_mode():
        torch.onnx.export(
            wrapper,
            (),
            str(path),
            kwargs={name: sample[name] for name in names},
            input_names=names,
            output_names=["vector"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def _embed(
    wrapper: torch.nn.Module, tokenizer: Any, texts: tuple[str, ...], max_length: int, takes_types: bool
) -> Vectors:
    """Return the model's own vectors, (len(texts), dim), one text at a time and so without padding."""
    rows = []
    with torch.inference_mode():
        for text in texts:
            tokens = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
            types = {"token_type_ids": torch.zeros_like(tokens["input_ids"])} if takes_types else {}
            rows.append(wrapper(tokens["input_ids"], tokens["attention_mask"], **types)[0].numpy())
    return np.stack(rows).astype(np.float32)


def _parity(bundle: Bundle, expected: Vectors) -> float:
    """Return the largest difference, over unpadded texts and over batches that pad nearly all of them."""
    worst = 0.0
    for budget in (1, len(PARITY) * LONGEST):
        got = OnnxEncoder(bundle, "cpu", cache_size=0, token_budget=budget).encode(PARITY)
        worst = float(np.maximum(worst, np.abs(got - expected).max()))  # keeps a NaN
    return worst
