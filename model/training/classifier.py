"""A classifier: an encoder's unit vectors, exactly those that serve, and a linear head on them."""

from typing import Any

import torch

from model.heads import Head
from model.training.pretrained import PooledEncoder

SCALE = 16.0
"""Unit vectors are short: times this, steps that suit the encoder suit the head. Part of the weights afterwards."""


class Classifier(torch.nn.Module):
    """Token ids to logits of labels."""

    def __init__(self, encoder: PooledEncoder, dim: int, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.linear = torch.nn.Linear(dim, labels)

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None, labels: Any = None) -> Any:
        """Return {"logits": (batch, labels)} and, where `labels` (batch,) are given, the mean cross-entropy "loss"."""
        vectors = self.encoder(input_ids, attention_mask, token_type_ids)
        logits = self.linear(vectors * SCALE)
        if labels is None:
            return {"logits": logits}
        return {"loss": torch.nn.functional.cross_entropy(logits.float(), labels), "logits": logits}

    def head(self, labels: tuple[str, ...]) -> Head:
        """Return the linear layer as it reads unit vectors."""
        weights = (self.linear.weight.detach() * SCALE).float().cpu().numpy()
        return Head.of(labels, weights, self.linear.bias.detach().float().cpu().numpy())
