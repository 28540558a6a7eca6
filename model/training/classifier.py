"""A classifier: an encoder's unit vectors, exactly those that serve, and a linear head for each task on them."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch

from model.heads import Head
from model.training.pretrained import PooledEncoder

SCALE = 16.0
"""Unit vectors are short: times this, steps that suit the encoder suit the head. Part of the weights afterwards."""


class Classifier(torch.nn.Module):
    """Token ids to logits of the labels of all tasks, one task after the other; a text has odds in its own task only.

    `labels` are the tasks' numbers of labels. A label's number counts those of the tasks before: it says the task, too.
    """

    def __init__(self, encoder: PooledEncoder, dim: int, labels: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.linear = torch.nn.Linear(dim, sum(labels))
        self.starts = [0, *accumulate(labels)]
        closed = torch.full((len(labels), sum(labels)), -torch.inf)
        for task, (start, end) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
            closed[task, start:end] = 0
        self.register_buffer("closed", closed, persistent=False)

    def forward(
        self, input_ids: Any, attention_mask: Any, task: Any, token_type_ids: Any = None, labels: Any = None
    ) -> Any:
        """Return {"logits": (batch, all labels)}, -inf for other tasks than `task` (batch,).

        Where `labels` (batch,) are given, the mean cross-entropy is the "loss".
        """
        vectors = self.encoder(input_ids, attention_mask, token_type_ids)
        logits = self.linear(vectors * SCALE) + self.closed[task]
        if labels is None:
            return {"logits": logits}
        return {"loss": torch.nn.functional.cross_entropy(logits.float(), labels), "logits": logits}

    def head(self, task: int, labels: tuple[str, ...]) -> Head:
        """Return a task's part of the linear layer as it reads unit vectors."""
        rows = slice(self.starts[task], self.starts[task + 1])
        weights = (self.linear.weight.detach()[rows] * SCALE).float().cpu().numpy()
        return Head.of(labels, weights, self.linear.bias.detach()[rows].float().cpu().numpy())
