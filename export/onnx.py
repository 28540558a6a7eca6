"""Exports any BERT-family model into a bundle, and proves the graph equal to what it was made from."""

import json
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import cached_file

from export import catalogue
from export.bundle import FORMAT_VERSION, TOKENIZER, Bundle, Manifest, Parity, Pooling, write_bundle, write_selftest
from export.encoder import OnnxEncoder
from export.sentences import PARITY, SELFTEST
from model.encoding import Vectors
from model.errors import BadBundle

OPSET = 17
LONGEST = 256
MAX_ABS_DIFF = 1e-4
FAMILY = frozenset({"bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"})
_OFFSET_POSITIONS = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta"})
_MODULES = frozenset({"Transformer", "Pooling", "Normalize"})
_GRAPH = "encoder.onnx"


class PooledEncoder(torch.nn.Module):
    """Token ids to one unit vector a text: what the graph computes."""

    def __init__(self, body: Any, pooling: Pooling) -> None:
        super().__init__()
        self.body = body
        self.pooling = pooling

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
        """Return unit vectors, float32, (batch, dim), from int64 arrays (batch, tokens)."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, p=2.0, dim=1)


def _untold(done: int, of: int) -> None:
    """Tell nobody how far it is."""


def export_model(
    model_dir: Path | str, out: Path, items: Iterable[str] | None = None, told: catalogue.Progress = _untold
) -> Bundle:
    """Export a Hugging Face folder (or hub id) of the BERT family into a new bundle at ``out``.

    ``items`` are the texts of a catalogue and of topics, whose vectors go into the bundle; ``told`` hears how many are
    embedded.

    Raises BadBundle where it is no such model, where the graph differs from it by more than 1e-4, or where ``out``
    exists or cannot be written.
    """
    source = str(model_dir)
    config, body, tokenizer = _load(source)
    pooling = _pooling(source)
    max_length = _max_length(source, config, tokenizer)
    # eval() on the wrapper: the exporter restores the mode of what it is given, and a new module is in training mode.
    wrapper = PooledEncoder(body.float(), pooling).eval()
    takes_types = config.model_type in {"bert", "electra"}

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
            max_length=max_length,
            pooling=pooling,
            forms={"fp32": _GRAPH},
            parity=Parity(max_abs_diff=0.0, sentences=len(PARITY)),
            opset=OPSET,
            tools={name: installed(name) for name in ("torch", "transformers", "onnx", "tokenizers")},
            sha256={},
        )
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


def _load(source: str) -> tuple[Any, Any, Any]:
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise BadBundle(f"{source}: no config.json in it; give the folder that save_pretrained wrote")
    try:
        config = AutoConfig.from_pretrained(source)
        if config.model_type not in FAMILY:
            raise BadBundle(f"{source}: a {config.model_type!r} model; give one of: {', '.join(sorted(FAMILY))}")
        body = AutoModel.from_pretrained(source, attn_implementation="eager")  # the form that fuses later
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadBundle(f"{source}: not a model that transformers loads ({reason}); give its folder") from error
    if not tokenizer.is_fast:
        raise BadBundle(f"{source}: its tokenizer has no fast form; save it with a tokenizer.json")
    return config, body, tokenizer


def _read_json(source: str, name: str) -> Any:
    """Return a file beside the model, or None where the model has no such file."""
    try:
        path = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
        return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError:  # a hub id whose optional files were never downloaded
        return None
    except ValueError as error:
        raise BadBundle(f"{source}: {name} is no JSON ({error}); repair it") from error


def _pooling(source: str) -> Pooling:
    kinds = {str(module.get("type", "")).rpartition(".")[2] for module in _read_json(source, "modules.json") or []}
    if kinds - _MODULES:
        raise BadBundle(f"{source}: has layers that are not exported: {', '.join(sorted(kinds - _MODULES))}")
    config = _read_json(source, "1_Pooling/config.json")
    if config is None:
        return "mean"
    modes = {key for key, on in config.items() if key.startswith("pooling_mode_") and on is True}
    named = config.get("pooling_mode")  # newer sentence-transformers
    if modes == {"pooling_mode_mean_tokens"} or named == "mean":
        return "mean"
    if modes == {"pooling_mode_cls_token"} or named == "cls":
        return "cls"
    raise BadBundle(f"{source}: pools by {named or sorted(modes)}; only mean and cls are exported")


def _max_length(source: str, config: Any, tokenizer: Any) -> int:
    positions = int(config.max_position_embeddings)
    if config.model_type in _OFFSET_POSITIONS:
        positions -= int(config.pad_token_id) + 1  # their positions start after the padding index
    wanted = (_read_json(source, "sentence_bert_config.json") or {}).get("max_seq_length") or LONGEST
    return min(LONGEST, positions, int(wanted), int(tokenizer.model_max_length))


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


def _write_graph(wrapper: PooledEncoder, takes_types: bool, path: Path) -> None:
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
    wrapper: PooledEncoder, tokenizer: Any, texts: tuple[str, ...], max_length: int, takes_types: bool
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
