"""`serve` as the drill sees it: what it refused, what it said, what it holds of the machine."""

import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from consumer.settings import Settings
from tests.bench.clock import rss_mb
from tests.broker.process import Serve
from tests.torture import said


class Usage(NamedTuple):
    """What a process holds; everything 0 where the system does not tell (it needs /proc)."""

    rss_mb: float
    open_files: int
    mapped: int
    """Mappings of files of the registry: models that are not let go of."""
    users: int
    """Profiles in memory: they may grow."""


class Serving(Serve):
    """A `serve` that follows a registry."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        super().__init__(settings, settings.bundle, folder)
        self._registry = str(settings.registry)
        self.log = folder / "serve.log"

    def refused(self) -> Counter[str]:
        """Return how many models were refused, by reason."""
        return Counter(
            {
                sample.labels["reason"]: int(sample.value)
                for family in text_string_to_metric_families(self.get("/metrics")[1])
                for sample in family.samples
                if sample.name == "penchant_models_refused_total"
            }
        )

    def usage(self) -> Usage:
        """Return what it holds now."""
        # First, so that its connection is closed when the files are counted.
        users = int(self.value("penchant_users"))
        process = Path(f"/proc/{self.process.pid}")
        try:
            files = len(os.listdir(process / "fd"))
            mapped = sum(self._registry in line for line in (process / "maps").read_text().splitlines())
        except OSError:
            files = mapped = 0
        return Usage(rss_mb(str(self.process.pid)), files, mapped, users)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines that begin so, in order."""
        return [line for line in said.lines(self.log) if str(line.get("event", "")).startswith(event)]

    def levels(self, *levels: str) -> Counter[str]:
        """Return how often it said what, of these levels."""
        return Counter(str(line.get("event")) for line in said.lines(self.log) if line.get("level") in levels)
