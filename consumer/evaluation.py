"""`penchant evaluate`: the protocol of docs/evaluation.md over a dataset, without Kafka."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from consumer.shipped import shipped_bundle
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from model.evaluate import RANKERS, judge, prepare, report, shuffled
from model.events import Event, Item
from model.fold import FoldSettings


@dataclass(frozen=True)
class Run:
    """How to evaluate."""

    bundle: Path | None = None
    without: frozenset[str] = frozenset()
    seed: int = 0
    ties: int | None = None
    """Seed of ties, where it differs from `seed`."""
    shuffle_labels: bool = False
    output: Path | None = None


def evaluate(items: Sequence[Item], events: Sequence[Event], run: Run) -> None:
    """Run the fold over the events, print the table, write the report as JSON.

    Raises:
        BadBundle: the bundle cannot be trusted.
        Fatal: `without` names no feature.
    """
    console = Console(stderr=True)
    encoder = OnnxEncoder(Bundle.open(run.bundle or shipped_bundle(console)))
    settings = FoldSettings(seed=run.seed if run.ties is None else run.ties, without=run.without)
    with console.status(f"embedding {len(items)} items"):
        fold = prepare(items, encoder, settings)
    if run.shuffle_labels:
        events = shuffled(events, run.seed)
    with Progress(console=console) as progress:
        task = progress.add_task("events", total=len(events))
        judged = judge(fold, events, encoder, lambda: progress.advance(task))
    result = report(judged, run.seed)
    table = Table("targets", "ranker", "n", "HR@10", "95%", "NDCG@10", "MRR")
    for name, rankers in result.items():
        for ranker in RANKERS:
            row = rankers[ranker]
            table.add_row(
                name, ranker, f"{row.n}", f"{row.hr_at_10:.4f}", "{:.3f}-{:.3f}".format(*row.ci95),
                f"{row.ndcg_at_10:.4f}", f"{row.mrr:.4f}",
            )  # fmt: skip
        table.add_section()
    Console().print(table)
    if run.output is not None:
        plain = {name: {ranker: row._asdict() for ranker, row in rankers.items()} for name, rankers in result.items()}
        run.output.write_text(json.dumps(plain, indent=1) + "\n")
