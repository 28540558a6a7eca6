"""Exports the shipped model with a part that was learnt beside it, here from nothing; for a process of its own."""

import sys
from pathlib import Path

import torch

from consumer.datasets import load as dataset
from export.onnx import export_model
from model.taxonomy import Taxonomy
from model.training.pretrained import PooledEncoder, load
from model.training.twopart import Projected, TwoPart
from tests.bench.usual import shipped_model

SPREAD = 0.02
"""Of the projection's weights: cosines are others than the stock model's, as after a tuning."""


def main(out: Path) -> None:
    """Write the bundle, with the vectors of MovieLens' films and of the topics."""
    stock = load(str(shipped_model()))
    trained = Projected(PooledEncoder(stock.body, stock.pooling), int(stock.config.hidden_size))
    torch.nn.init.normal_(trained.change.weight, std=SPREAD, generator=torch.Generator().manual_seed(0))
    model = TwoPart(**{name: getattr(stock, name) for name in stock.__dataclass_fields__}, trained=trained)
    topics = [text for topic in Taxonomy.read() for text in topic.descriptions]
    export_model(model, out, [*(item.content() for item in dataset("ml-100k")[0]), *topics])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
