"""A pretrained encoder of the BERT family: loaded from its folder, pooled as it was trained to be, saved again."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import cached_file

from model.encoding import Pooling, Vectors
from model.errors import BadBundle

LONGEST = 256
_AT_ONCE = 64
FAMILY = frozenset({"bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"})
_OFFSET_POSITIONS = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta"})
_NO_POOLER = frozenset({"distilbert", "electra"})
_MODULES = frozenset({"Transformer", "Pooling", "Normalize"})


def _matters(record: logging.LogRecord) -> bool:
    """Say whether a report of loaded weights names any that are missing; left over are the heads of other tasks."""
    said = record.getMessage()
    return "LOAD REPORT" not in said or "MISSING" in said or "MISMATCH" in said


logging.getLogger("transformers.modeling_utils").addFilter(_matters)


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


@dataclass(frozen=True)
class Pretrained:
    """What a model's folder holds."""

    source: str
    config: Any
    body: Any
    tokenizer: Any
    pooling: Pooling
    max_length: int
    """Tokens, special ones included."""

    @property
    def learnt(self) -> int:
        """Of a vector, the last so many dimensions are a part of their own, which was learnt from choices."""
        return 0

    @property
    def takes_types(self) -> bool:
        """Whether it reads token types; a single text's are all 0."""
        return self.config.model_type in {"bert", "electra"}

    def module(self) -> torch.nn.Module:
        """Return what is exported: token ids to unit vectors."""
        return PooledEncoder(self.body, self.pooling)

    def embed(
        self,
        texts: Sequence[str],
        module: torch.nn.Module | None = None,
        told: Callable[[int, int], None] = lambda done, of: None,
    ) -> Vectors:
        """Return unit vectors, float32, shape (len(texts), dim), in batches of equally long texts.

        `module` takes the place of the one that is exported; it reads the same tokens.
        """
        if not texts:
            return np.zeros((0, int(self.config.hidden_size)), np.float32)
        module = (self.module() if module is None else module).eval()
        device = next(module.parameters()).device
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows = []
        with torch.inference_mode():
            for start in range(0, len(order), _AT_ONCE):
                part = [texts[i] for i in order[start : start + _AT_ONCE]]
                rows.append(module(**self.tokens(part).to(device)).float().cpu().numpy())
                told(start + len(part), len(order))
        found = np.concatenate(rows)
        found[order] = found.copy()
        return found

    def tokens(self, texts: Sequence[str]) -> Any:
        """Return the tensors that the encoder takes, padded to the longest text."""
        tokens = self.tokenizer(
            list(texts), truncation=True, max_length=self.max_length, padding=True, return_tensors="pt"
        )
        if not self.takes_types:
            tokens.pop("token_type_ids", None)
        return tokens

    def save(self, folder: Path) -> None:
        """Write a folder that `load` reads, with the weights as they are now."""
        self.body.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / "1_Pooling").mkdir()
        for name, content in {
            "modules.json": [{"type": "sentence_transformers.models.Transformer"}],
            "1_Pooling/config.json": {"pooling_mode": self.pooling},
            "sentence_bert_config.json": {"max_seq_length": self.max_length},
        }.items():
            (folder / name).write_text(json.dumps(content), encoding="utf-8")


def load(source: str) -> Pretrained:
    """Return the model of a Hugging Face folder (or hub id); raises `BadBundle` where it is none of the family."""
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise BadBundle(f"{source}: no config.json in it; give the folder that save_pretrained wrote")
    try:
        config = AutoConfig.from_pretrained(source)
        if config.model_type not in FAMILY:
            raise BadBundle(f"{source}: a {config.model_type!r} model; give one of: {', '.join(sorted(FAMILY))}")
        # Eager is the form that fuses later; a pooler stands beside the vectors that are pooled here.
        bare = {"add_pooling_layer": False} if config.model_type not in _NO_POOLER else {}
        body = AutoModel.from_pretrained(source, attn_implementation="eager", **bare)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, ImportError) as error:
        if Path(source).is_absolute() and not Path(source).is_dir():  # transformers tells of the hub's naming rules
            raise BadBundle(f"{source}: no such folder; give that of a Hugging Face model") from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadBundle(f"{source}: not a model that transformers loads ({reason}); give its folder") from error
    if not tokenizer.is_fast:
        raise BadBundle(f"{source}: its tokenizer has no fast form; save it with a tokenizer.json")
    return Pretrained(source, config, body.float(), tokenizer, _pooling(source), _max_length(source, config, tokenizer))


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
