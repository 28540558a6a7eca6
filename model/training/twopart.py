"""A tuned encoder: the stock model's vector, and beside it what was learnt, as a part of its own.

The vector of a text is [stock, learnt] / sqrt(2), of unit length and twice the stock's dimensions. Whoever serves ranks
by the two parts apart (docs/adr/0011), so that nothing that was learnt takes the place of what the text says.
"""

from dataclasses import dataclass
from typing import Any

import torch

from model.heads import Head
from model.training.pretrained import PooledEncoder, Pretrained


class Projected(torch.nn.Module):
    """An encoder and a linear layer on its vector, which begins as the identity."""

    def __init__(self, encoder: PooledEncoder, dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.change = torch.nn.Linear(dim, dim, bias=False)
        torch.nn.init.zeros_(self.change.weight)

    def project(self, vectors: Any) -> Any:
        """Return unit vectors of (n, dim) for those of the encoder."""
        return torch.nn.functional.normalize(vectors + self.change(vectors), p=2.0, dim=-1)

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
        """Return unit vectors, float32, (batch, dim), from int64 arrays (batch, tokens)."""
        return self.project(self.encoder(input_ids, attention_mask, token_type_ids).float())


HALF = 0.5**0.5
"""Length of a part."""


class TwoPartEncoder(torch.nn.Module):
    """Token ids to the vector of two parts: what the graph of a tuned bundle computes."""

    def __init__(self, stock: PooledEncoder, trained: Projected) -> None:
        super().__init__()
        self.stock, self.trained = stock, trained

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
        """Return unit vectors, float32, (batch, 2 * dim), from int64 arrays (batch, tokens)."""
        stock = self.stock(input_ids, attention_mask, token_type_ids)
        if self.trained.encoder.body is self.stock.body:  # only the projection was trained: one pass is enough
            trained = self.trained.project(stock)
        else:
            trained = self.trained(input_ids, attention_mask, token_type_ids)
        return torch.cat([HALF * stock, HALF * trained], dim=1)


@dataclass(frozen=True)
class TwoPart(Pretrained):
    """The stock model, whose tokenizer and length stay, with what was trained beside it."""

    trained: Projected

    @property
    def learnt(self) -> int:
        """Dimensions of the second part."""
        return int(self.trained.change.weight.shape[0])

    def plain(self) -> PooledEncoder:
        """Return the stock model's encoder."""
        return PooledEncoder(self.body, self.pooling)

    def module(self) -> torch.nn.Module:
        """Return what is exported."""
        return TwoPartEncoder(self.plain(), self.trained)


def carried_over(head: Head) -> Head:
    """Return a head on stock vectors as one on those of two parts: it reads the stock's, and says just the same."""
    weights = torch.from_numpy(head.weights) / HALF
    return Head.of(head.labels, torch.cat([weights, torch.zeros_like(weights)], dim=1).numpy(), head.bias)
