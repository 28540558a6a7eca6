"""A blended encoder: the stock model's vector beside a trained one's, so that what was not learnt is not forgotten.

The vector of a text is [sqrt(share) * stock, sqrt(1 - share) * trained], of unit length and twice the stock's
dimensions. The cosine of two texts is then `share` times the stock's plus `1 - share` times the trained one's: items
that training never saw keep most of how alike the stock model finds them. (An ensemble in the space of similarities;
compare Wortsman et al., "Robust fine-tuning of zero-shot models", 2022, which mixes weights.)
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


class BlendedEncoder(torch.nn.Module):
    """Token ids to the blended vector: what the graph of a tuned bundle computes."""

    def __init__(self, stock: PooledEncoder, trained: Projected, share: float) -> None:
        super().__init__()
        self.stock, self.trained, self.share = stock, trained, share

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
        """Return unit vectors, float32, (batch, 2 * dim), from int64 arrays (batch, tokens)."""
        stock = self.stock(input_ids, attention_mask, token_type_ids)
        if self.trained.encoder.body is self.stock.body:  # only the projection was trained: one pass is enough
            trained = self.trained.project(stock)
        else:
            trained = self.trained(input_ids, attention_mask, token_type_ids)
        return torch.cat([self.share**0.5 * stock, (1 - self.share) ** 0.5 * trained], dim=1)


@dataclass(frozen=True)
class Blended(Pretrained):
    """The stock model, whose tokenizer and length stay, with what was trained beside it."""

    trained: Projected
    share: float
    """Of the stock model in a cosine."""

    def plain(self) -> PooledEncoder:
        """Return the stock model's encoder."""
        return PooledEncoder(self.body, self.pooling)

    def module(self) -> torch.nn.Module:
        """Return what is exported."""
        return BlendedEncoder(self.plain(), self.trained, self.share)


def carried_over(head: Head, share: float) -> Head:
    """Return a head on stock vectors as one on blended ones: it reads the stock's part, and says just the same."""
    weights = torch.from_numpy(head.weights) / share**0.5
    return Head.of(head.labels, torch.cat([weights, torch.zeros_like(weights)], dim=1).numpy(), head.bias)
