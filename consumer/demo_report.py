"""What the demo measured: as JSON with fixed keys, and as a page to read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from consumer.demo_watch import Moved, Watch
from model.events import Interests, Recommended
from model.explain import sentence

SHOWN = 5


@dataclass(frozen=True)
class Report:
    """Figures of a run; None where nothing was evaluated."""

    figures: dict[str, Any]
    moved: Moved | None
    titles: dict[str, str]

    @classmethod
    def of(
        cls,
        events: int,
        watch: Watch,
        lists_per_second: float,
        metrics: str,
        peak_rss_mb: float,
        moved: Moved | None,
        titles: dict[str, str],
    ) -> "Report":
        """Gather the figures: from outside (lists, times) and from serve's own counters (`metrics`, quality)."""
        figures = {
            "events": events,
            "lists": watch.lists,
            "lists_per_second": round(lists_per_second, 1),
            "latency_ms": {name: _rounded(watch.latency_ms(q), 1) for name, q in (("p50", 0.5), ("p99", 0.99))},
            **quality(metrics, "penchant"),
            "popularity": quality(metrics, "popularity"),
            "dead_letters": watch.dead_letters,
            "peak_rss_mb": peak_rss_mb,
            "provider": provider(metrics),
        }
        return cls(figures, moved, titles)

    def show(self, console: Console) -> None:
        """Print the page."""
        figures = self.figures
        latency, popularity = figures["latency_ms"], figures["popularity"]
        table = Table(title="What was measured", show_header=False, title_justify="left")
        for name, value in (
            ("events in, lists out", f"{figures['events']:,} and {figures['lists']:,}"),
            ("flat out, committed, warm", f"{figures['lists_per_second']:,.0f} lists/s (as many events/s)"),
            ("event to list seen, half rate, warm", f"p50 {latency['p50']} ms, p99 {latency['p99']} ms"),
            ("HR@10", f"{figures['hr_at_10']} (popularity {popularity['hr_at_10']})"),
            ("NDCG@10", f"{figures['ndcg_at_10']} (popularity {popularity['ndcg_at_10']})"),
            ("dead letters", str(figures["dead_letters"])),
            ("serve's memory, at most", f"{figures['peak_rss_mb']} MB"),
            ("encoder runs on", figures["provider"]),
        ):
            table.add_row(name, value)
        console.print(table)
        console.print(
            "HR@10: how often the film that the user liked next was among the ten ranked first, of all films that the "
            "user had not rated; measured before it was learnt from.",
            highlight=False,
        )
        if self.moved is not None:
            for line in self.story(self.moved):
                console.print(line, highlight=False)

    def story(self, moved: Moved) -> list[str]:
        """Return how one user's interests moved, and what is recommended now and why, as sentences."""
        lines = [
            f"\n[bold]User {escape(moved.user)}[/]: interests moved by {moved.variation:.0%}",
            f"  at first: {_topics(moved.first)}",
            f"  now:      {_topics(moved.last)}",
        ]
        if moved.recommendation is not None and moved.recommendation.items:
            lines.append("  recommended now:")
            lines += [f"  - {self.sentence(slot)}" for slot in moved.recommendation.items[:SHOWN]]
        return lines

    def sentence(self, slot: Recommended) -> str:
        """Return a slot as a sentence: the title, and the reasons in words."""
        title = escape(self.titles.get(slot.item) or slot.item)
        reasons = [sentence(reason, self.titles) for reason in slot.because if reason.contribution > 0]
        return f"[bold]{title}[/]: {escape('; '.join(reasons))}." if reasons else f"[bold]{title}[/]."

    def write(self, path: Path) -> None:
        """Write the figures as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.figures, indent=2) + "\n")


def quality(metrics: str, ranker: str) -> dict[str, float | None]:
    """Return HR@10 and NDCG@10 of `ranker` from the counters in a Prometheus text."""
    evaluated = _sum(metrics, "penchant_evaluated_total", ranker)
    hits, ndcg = _sum(metrics, "penchant_hits_total", ranker), _sum(metrics, "penchant_ndcg_sum_total", ranker)
    if not evaluated:
        return {"hr_at_10": None, "ndcg_at_10": None}
    return {"hr_at_10": round(hits / evaluated, 4), "ndcg_at_10": round(ndcg / evaluated, 4)}


def provider(metrics: str) -> str:
    """Return where the encoder runs, as serve says it."""
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if "provider" in sample.labels:
                return sample.labels["provider"]
    return "unknown"


def _sum(metrics: str, name: str, ranker: str) -> float:
    """Return the counter summed over partitions; a counter without a ranker's label counts for every ranker."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name and sample.labels.get("ranker", ranker) == ranker
    )


def _topics(interests: Interests) -> str:
    strongest = sorted(interests.topics, key=lambda topic: -topic.probability)[:3]
    return escape(", ".join(f"{topic.topic} {topic.probability:.0%}" for topic in strongest))


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
