"""A plain recommender on Kafka, one event at a time, as a first version would be: the baseline of serve.

Poll, parse, rank the whole catalogue, write, poll again; every 100 events flush and commit the offsets: at least once.
"""

import argparse
import json
from typing import Any

from confluent_kafka import Consumer, Producer
from rich.console import Console

from consumer.datasets import load
from consumer.shipped import shipped_bundle
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from tests.bench.usual import NumpyRanker, PaddedEncoder, Ranked, shipped_model

COMMIT_EVERY = 100


def ranker() -> NumpyRanker:
    """Return a ranker of MovieLens' catalogue; its vectors come from our encoder, which is quicker at starting."""
    items, _ = load("ml-100k")
    encoder = OnnxEncoder(Bundle.open(shipped_bundle(Console(stderr=True))))
    return NumpyRanker([item.item for item in items], encoder.encode([item.content() for item in items]))


def answer(event: dict[str, Any], ranker: NumpyRanker, encoder: PaddedEncoder | None) -> bytes:
    """Return the list that the event leads to, as JSON."""
    ranked: Ranked
    if "text" in event and encoder is not None:
        ranked = ranker.search(event["user"], encoder.encode([event["text"]])[0])
    else:
        ranked = ranker.choose(event["user"], event["item"])
    items = [{"item": item, "score": score} for item, score in ranked]
    return json.dumps({"user": event["user"], "event": event["id"], "at_ms": event["at_ms"], "items": items}).encode()


def serve(bootstrap: str, source: str, target: str, with_text: bool) -> None:
    """Answer the events of `source` in `target` until killed."""
    ranks, encoder = ranker(), PaddedEncoder(shipped_model()) if with_text else None
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{target}.usual",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    consumer.subscribe([source])
    done = 0
    while True:
        message = consumer.poll(1.0)
        if message is None or message.error() is not None or (value := message.value()) is None:
            continue
        producer.produce(target, answer(json.loads(value), ranks, encoder), message.key())
        producer.poll(0)
        done += 1
        if done % COMMIT_EVERY == 0:
            producer.flush()
            consumer.commit(asynchronous=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--text", action="store_true", help="some events bring texts: load PyTorch")
    given = parser.parse_args()
    serve(given.bootstrap, given.source, given.target, given.text)
