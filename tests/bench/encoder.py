"""The encoder: texts per CPU second, short and long, beside PyTorch padded to 128."""

import random
from collections.abc import Sequence

from tokenizers import Tokenizer

from export.bundle import Bundle
from export.encoder import OnnxEncoder
from model.events import Item
from tests.bench.clock import in_turns
from tests.bench.figures import Figure, Section
from tests.bench.usual import PaddedEncoder, shipped_model

LENGTHS = {"short texts, 8-20 tokens": (8, 20), "long texts, 66-128 tokens": (66, 128)}
BLOCK = 16


def bench(items: Sequence[Item], bundle: Bundle, count: int) -> Section:
    """Measure `count` texts of each length, none of them seen before."""
    tokenizer = Tokenizer.from_file(str(bundle.tokenizer_path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    titles = [item.title for item in items if item.title]
    ours, usual = OnnxEncoder(bundle, cache_size=0), PaddedEncoder(shipped_model())
    figures = []
    for what, (least, most) in LENGTHS.items():
        texts = make(titles, tokenizer, count + BLOCK, least, most)
        in_turns(texts[:BLOCK], BLOCK, ours.encode, usual.encode)
        rates = in_turns(texts[BLOCK:], BLOCK, ours.encode, usual.encode)
        figures.append(Figure(what, "texts / CPU s", *rates))
    note = f"Ours: fp32 on {ours.provider}, one thread. Usual: transformers, padded to 128, batches of {BLOCK}."
    return Section("Encoder", figures, [note])


def make(titles: Sequence[str], tokenizer: Tokenizer, count: int, least: int, most: int) -> list[str]:
    """Return `count` different texts of `least` to `most` tokens (a BERT's two of its own included), seeded."""
    chance = random.Random(0)
    found: dict[str, None] = {}
    while len(found) < count:
        wanted, text = chance.randint(least, most), ""
        while len(tokenizer.encode(text).ids) < wanted:
            text = f"{text} {chance.choice(titles)}".strip()
        if least <= len(tokenizer.encode(text).ids) <= most:
            found[text] = None
    return list(found)
