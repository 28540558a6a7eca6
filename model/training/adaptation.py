"""How much of a pretrained encoder is trained: all of it, its last layers, or low-rank additions (LoRA)."""

import re
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import LoraConfig, get_peft_model

from model.errors import PenchantError

RANK = 8
ALPHA = 16
DROPOUT = 0.05


@dataclass(frozen=True)
class Method:
    """One way to adapt; `layers` counts for "last" alone."""

    kind: Literal["full", "last", "lora"]
    layers: int = 0

    @staticmethod
    def parse(text: str) -> "Method":
        """Return the method that "full", "last-N" or "lora" names; "last-0" trains the head alone.

        >>> Method.parse("last-2")
        Method(kind='last', layers=2)
        """
        if text == "full":
            return Method("full")
        if text == "lora":
            return Method("lora")
        if named := re.fullmatch(r"last-(\d{1,3})", text):
            return Method("last", int(named[1]))
        raise PenchantError(f"no method {text!r}: choose full, last-N (N layers; 0: the head alone) or lora")

    def __str__(self) -> str:
        """Return what `parse` reads."""
        return f"last-{self.layers}" if self.kind == "last" else self.kind

    @property
    def epochs(self) -> int:
        """So many at most, by the end of which steps are small; single layers learn more slowly."""
        return 5 if self.kind == "last" else 3

    @property
    def learning_rate(self) -> float:
        """What suits a small encoder: the less is trained, the larger the steps."""
        if self.kind == "last" and self.layers == 0:
            return 1e-2
        return {"full": 1e-4, "last": 3e-4, "lora": 1e-3}[self.kind]


def check(body: Any, method: Method) -> None:
    """Raise PenchantError where the body has not so many layers."""
    if method.kind == "last" and method.layers > (count := len(_layers(body))):
        raise PenchantError(f"last-{method.layers}: the model has {count} layers")


def adapt(body: Any, method: Method) -> Any:
    """Return the body, of whose parameters only those require gradients that the method trains.

    Raises:
        PenchantError: it has not so many layers.
    """
    check(body, method)
    layers = _layers(body)
    body.requires_grad_(method.kind == "full")
    if method.kind == "last":
        for layer in layers[len(layers) - method.layers :]:
            layer.requires_grad_(True)
    if method.kind != "lora":
        return body
    inside = {id(module) for module in layers.modules() if isinstance(module, torch.nn.Linear)}
    names = [name for name, module in body.named_modules() if id(module) in inside]
    added = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=DROPOUT, target_modules=names, bias="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is old
        return get_peft_model(body, added)


def merged(body: Any, method: Method) -> Any:
    """Return the body with what LoRA added put into its own weights."""
    return body.merge_and_unload() if method.kind == "lora" else body


def _layers(body: Any) -> Any:
    lists = [module for module in body.modules() if isinstance(module, torch.nn.ModuleList)]
    count = int(body.config.num_hidden_layers)
    return next(one for one in lists if len(one) == count and any(True for _ in one.parameters()))
