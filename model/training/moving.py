"""The encoder itself moves: passes over all texts, of which a batch is encoded anew at each step.

The softmax is over the whole catalogue all the same: vectors of the other texts are remembered from when they were last
encoded (a cross-batch memory: Wang et al., 2020). So a step costs a batch of texts, however many items there are.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from model.encoding import Vectors
from model.training.adaptation import Method, adapt, merged
from model.training.judging import reciprocal_ranks
from model.training.nextitem import Encoded, Indices, Objective, Texts
from model.training.pretrained import PooledEncoder, Pretrained
from model.training.running import arguments, best_precision, whole_checkpoint
from model.training.twopart import Projected

TEXTS = 256
"""Texts encoded anew at a step."""
EXAMPLES = 1024
"""Examples whose loss a step is for."""
PATIENCE = 3
"""Epochs without a better score on dev examples before it stops."""
JUDGED_AT = 0.75
"""Share of the stock model at which epochs are compared."""


class Moving(torch.nn.Module):
    """What the Trainer trains: a batch of texts to the loss of a batch of examples, drawn by the number of the step."""

    def __init__(self, trained: Projected, memory: Any, objective: Objective, seed: int) -> None:
        super().__init__()
        self.trained, self._objective, self._seed = trained, objective, seed
        # Buffers are in the checkpoints: a run that was cut short goes on as if it had not been.
        self.register_buffer("memory", memory)
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))

    def forward(self, numbers: Any, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
        """Return {"loss"}; `numbers`, shape (batch,), say which texts these are."""
        live = self.trained(input_ids, attention_mask, token_type_ids)
        vectors = self.memory.index_copy(0, numbers, live)
        self.memory.index_copy_(0, numbers, live.detach())
        self.drawn += 1
        rng = np.random.default_rng((self._seed, int(self.drawn)))
        rows = rng.integers(len(self._objective), size=EXAMPLES)
        return {"loss": self._objective.loss(vectors, rows, rng)}


def move(
    stock: Pretrained,
    fitted: Projected,
    objective: Objective,
    texts: Texts,
    judges: Sequence[Encoded],
    columns: Indices,
    method: Method,
    epochs: int,
    seed: int,
    work: Path,
    told: Callable[[str, int, int], None],
) -> tuple[Projected, int]:
    """Return the encoder and projection after training both from where `fitted` is, and how many parameters moved.

    The best of the epochs is returned, by the dev examples of `judges` among the items `columns`. Checkpoints are in
    `work`.
    """
    set_seed(seed)
    device = next(fitted.parameters()).device
    body = adapt(copy.deepcopy(stock.body), method)
    trained = Projected(PooledEncoder(body, stock.pooling), fitted.change.weight.shape[0]).to(device)
    trained.change.load_state_dict(fitted.change.state_dict())
    stock_vectors = stock.embed(texts.texts)
    with torch.no_grad():
        memory = fitted.project(torch.from_numpy(stock_vectors).to(device)).clone()
    moving = Moving(trained, memory, objective, seed)
    own = TrainingArguments(
        **arguments(work, best_precision(), "eval_score", seed),
        num_train_epochs=epochs,
        per_device_train_batch_size=TEXTS,
        learning_rate=method.learning_rate / 2,
        warmup_steps=0.1,  # below 1, a share of all steps
        report_to="tensorboard",
        dataloader_drop_last=len(texts) > TEXTS,
    )
    rows = _rows(stock, texts)
    trainer = _Judged(
        model=moving,
        args=own,
        data_collator=lambda batch: _collate(stock, batch),
        train_dataset=rows,
        eval_dataset=rows,
        callbacks=[_Heard(told), EarlyStoppingCallback(early_stopping_patience=PATIENCE)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.judged = lambda: _score(trained, stock, stock_vectors, texts, judges, columns)
    trainer.train(resume_from_checkpoint=whole_checkpoint(work))
    moved = sum(one.numel() for one in body.parameters() if one.requires_grad)
    whole = merged(body, method)
    _share_frozen(stock.body, whole)
    best = Projected(PooledEncoder(whole.float(), stock.pooling), fitted.change.weight.shape[0]).to(device)
    best.change.load_state_dict(trained.change.state_dict())
    return best.eval(), moved


def embed(trained: Projected, stock: Pretrained, texts: Texts) -> Vectors:
    """Return the trained encoder's vectors of all texts, shape (texts, dim)."""
    return stock.embed(texts.texts, trained)


def _score(
    trained: Projected,
    stock: Pretrained,
    stock_vectors: Vectors,
    texts: Texts,
    judges: Sequence[Encoded],
    columns: Indices,
) -> float:
    """Return the geometric mean, over the kinds of dev examples, of mean reciprocal ranks."""
    vectors = np.hstack([JUDGED_AT**0.5 * stock_vectors, (1 - JUDGED_AT) ** 0.5 * embed(trained, stock, texts)])
    means = [reciprocal_ranks(vectors, each, columns).mean() for each in judges if len(each)]
    return float(np.exp(np.mean(np.log(np.maximum(means, 1e-9))))) if means else 0.0


class _Judged(Trainer):
    """Judges by dev examples of choices, which are no batches of texts."""

    judged: Any
    control: Any

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return {"eval_score"} of the present weights."""
        metrics = {"eval_score": self.judged()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Heard(TrainerCallback):
    def __init__(self, told: Any) -> None:
        self._told = told

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._told("encoder", state.global_step, state.max_steps)


def _rows(stock: Pretrained, texts: Texts) -> list[dict[str, Any]]:
    tokens = stock.tokenizer(texts.texts, truncation=True, max_length=stock.max_length)
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if stock.takes_types else [])]
    return [
        {"numbers": number} | {name: tokens[name][number] for name in names if name in tokens}
        for number in range(len(texts))
    ]


def _collate(stock: Pretrained, batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
    numbers = torch.tensor([row["numbers"] for row in batch])
    rest = [{name: value for name, value in row.items() if name != "numbers"} for row in batch]
    return {"numbers": numbers, **stock.tokenizer.pad(rest, return_tensors="pt")}


def _share_frozen(stock: Any, trained: Any) -> None:
    """Let parameters that are as they were be the stock model's own: the bundle then holds them once."""
    own = dict(stock.named_parameters())
    for name, parameter in trained.named_parameters():
        if name in own and torch.equal(parameter.data.cpu(), own[name].data.cpu()):
            parameter.data = own[name].data
