"""Masked language modelling: an encoder reads texts, of which it must guess hidden tokens, before it learns labels."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    DataCollatorForLanguageModeling,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from model.errors import PenchantError
from model.training.pretrained import Pretrained
from model.training.running import Precision, arguments, whole_checkpoint

SHARE = 0.15
"""Of the tokens that are to be guessed; as in BERT, a tenth of them stays, a tenth becomes some other token."""


class Guessing(torch.nn.Module):
    """Masked tokens to the loss of guessing them: a fresh layer, and the body's own word vectors to compare with."""

    def __init__(self, body: Any, dim: int) -> None:
        super().__init__()
        self.body = body
        words = body.get_input_embeddings().weight
        width = words.shape[1]
        self.change = torch.nn.Sequential(torch.nn.Linear(dim, width), torch.nn.GELU(), torch.nn.LayerNorm(width))
        # First guesses are about equally unsure, however long the word vectors are.
        torch.nn.init.constant_(self.change[2].weight, float(1 / (words.detach().norm(dim=1).mean() + 1e-9)))
        self.bias = torch.nn.Parameter(torch.zeros(len(words)))

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any, token_type_ids: Any = None) -> Any:
        """Return {"loss"}: the mean cross-entropy where `labels`, (batch, tokens), are not -100; 0 where none is."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        asked = labels != -100
        words = self.body.get_input_embeddings().weight
        logits = torch.nn.functional.linear(self.change(hidden[asked]), words, self.bias)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[asked], reduction="sum")
        return {"loss": loss / asked.sum().clamp(min=1)}


class _Told(TrainerCallback):
    def __init__(self, told: Callable[[int, int], None]) -> None:
        self._told = told

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._told(state.global_step, state.max_steps)


def read_masked(
    pretrained: Pretrained,
    texts: Sequence[str],
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
    longest: int,
    precision: Precision,
    report_to: str,
    seed: int,
    work: Path,
    told: Callable[[int, int], None],
) -> list[float]:
    """Train all of the model's body, in place, to guess masked tokens of `texts`; return each epoch's mean loss.

    The last epoch is kept. Whatever head for this the model once had is not used. Checkpoints are in `work`: called
    again with the same arguments, it goes on after the last; after the end it takes over what came of it.

    Raises:
        PenchantError: the tokenizer has no mask.
    """
    if pretrained.tokenizer.mask_token is None:
        raise PenchantError(f"{pretrained.source}: its tokenizer has no mask token; leave out --mlm-epochs")
    set_seed(seed)  # of the fresh layer
    tokens = pretrained.tokenizer(
        list(texts), truncation=True, max_length=min(longest, pretrained.max_length), return_special_tokens_mask=True
    )
    names = ["input_ids", "attention_mask", "special_tokens_mask"]
    if pretrained.takes_types and "token_type_ids" in tokens:
        names.append("token_type_ids")
    own = TrainingArguments(
        **arguments(work, precision, "eval_loss", seed) | {"eval_strategy": "no", "load_best_model_at_end": False},
        num_train_epochs=epochs,
        per_device_train_batch_size=batch,
        learning_rate=learning_rate,
        warmup_steps=0.06,  # below 1, a share of all steps
        report_to=report_to,
    )
    trainer = Trainer(
        model=Guessing(pretrained.body, int(pretrained.config.hidden_size)),
        args=own,
        data_collator=DataCollatorForLanguageModeling(pretrained.tokenizer, mlm_probability=SHARE),
        train_dataset=[{name: tokens[name][at] for name in names} for at in range(len(texts))],
        callbacks=[_Told(told)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=whole_checkpoint(work))
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
