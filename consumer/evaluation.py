"""`penchant evaluate`: the protocol of docs/evaluation.md over a dataset, without Kafka."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from consumer.murmur2 import Places
from consumer.outputs import TABLE_WIDTH
from consumer.shipped import shipped_bundle
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from model.catalogue import WHOLE
from model.evaluate import RANKERS, Difference, Measured, difference, judge_apart, prepare, report, shuffled
from model.events import Event, Item
from model.fold import FoldSettings
from model.heads import SENTIMENT

Report = dict[str, dict[str, Measured]]


@dataclass(frozen=True)
class Run:
    """How to evaluate."""

    bundle: Path | None = None
    without: frozenset[str] = frozenset()
    """Features to silence in a second fold, which is compared with the whole one over the same events."""
    seed: int = 0
    ties: int | None = None
    """Seed of ties, where it differs from `seed`."""
    shuffle_labels: bool = False
    partitions: int = 1
    """Folds among which users are divided as Kafka's partitioner divides them."""
    merge_every: int = 1000
    """Events after which the partitions tell each other what they counted; 0: never."""
    candidates: bool = False
    """Whether only candidates are ranked, however few items there are."""
    output: Path | None = None


def evaluate(items: Sequence[Item], events: Sequence[Event], run: Run) -> None:
    """Run the fold over the events, print the table, write the report as JSON; with `without`, a second fold, too.

    Raises:
        BadBundle: the bundle cannot be trusted.
        Fatal: `without` names no feature.
    """
    console = Console(stderr=True)
    bundle = Bundle.open(run.bundle or shipped_bundle(console))
    encoder, sentiment = OnnxEncoder(bundle), bundle.heads().get(SENTIMENT)
    seed = run.seed if run.ties is None else run.ties
    settings = [FoldSettings(seed=seed, whole=0 if run.candidates else WHOLE)]
    if run.without:
        settings.append(msgspec.structs.replace(settings[0], without=run.without))
    with console.status(f"embedding {len(items)} items"):
        folds = [[prepare(items, encoder, each, sentiment) for _ in range(run.partitions)] for each in settings]
    places = Places(run.partitions)
    if run.shuffle_labels:
        events = shuffled(events, run.seed)
    with Progress(console=console) as progress:
        task = progress.add_task("events", total=len(events) * len(folds))
        judged = [
            judge_apart(
                apart, events, encoder, lambda user: places[user.encode()], run.merge_every,
                lambda: progress.advance(task),
            )
            for apart in folds
        ]  # fmt: skip
    results = [report(each, run.seed) for each in judged]
    out = Console(width=TABLE_WIDTH)
    out.print(_table(results[0]))
    plain: dict[str, object] = _plain(results[0])
    missed = sum(one.evaluation.ranks["penchant"] < 0 for one in judged[0])
    if missed:
        plain["missed"] = missed
        out.print(f"{missed} of {len(judged[0])} targets were no candidates: they are misses.")
    if run.without:
        gains = difference(judged[0], judged[1], run.seed)
        out.print(_comparison(results, gains, run.without))
        plain["without"] = _plain(results[1])
        plain["difference"] = {name: gain._asdict() for name, gain in gains.items()}
    if run.output is not None:
        run.output.write_text(json.dumps(plain, indent=1) + "\n")


def _plain(result: Report) -> dict[str, object]:
    return {name: {ranker: row._asdict() for ranker, row in rankers.items()} for name, rankers in result.items()}


def _table(result: Report) -> Table:
    table = Table("targets", "ranker", "n", "HR@10", "95%", "NDCG@10", "MRR")
    for name, rankers in result.items():
        for ranker in RANKERS:
            row = rankers[ranker]
            table.add_row(
                name, ranker, f"{row.n}", f"{row.hr_at_10:.4f}", "{:.3f}-{:.3f}".format(*row.ci95),
                f"{row.ndcg_at_10:.4f}", f"{row.mrr:.4f}",
            )  # fmt: skip
        table.add_section()
    return table


def _comparison(results: Sequence[Report], gains: dict[str, Difference], without: frozenset[str]) -> Table:
    table = Table(
        "targets", "measure", "full", "without", "difference", "95% (paired)", "relative",
        title=f"Penchant with and without {', '.join(sorted(without))}",
    )  # fmt: skip
    for name, gain in gains.items():
        full, silenced = (result[name]["penchant"] for result in results)
        for measure, of_full, of_silenced, mean, ci95, relative in (
            ("HR@10", full.hr_at_10, silenced.hr_at_10, gain.hr_at_10, gain.ci95_hr_at_10, gain.relative_hr_at_10),
            ("NDCG@10", full.ndcg_at_10, silenced.ndcg_at_10, gain.ndcg_at_10, gain.ci95_ndcg_at_10,
             gain.relative_ndcg_at_10),
        ):  # fmt: skip
            share = "" if relative is None else f"{relative:+.1%}"
            bounds = "{:+.4f} to {:+.4f}".format(*ci95)
            table.add_row(name, measure, f"{of_full:.4f}", f"{of_silenced:.4f}", f"{mean:+.4f}", bounds, share)
        table.add_section()
    return table
