"""What was measured: rows of ours beside the usual way, as a table and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One figure; `usual` is None where there is nothing to compare with. `unit` says of what."""

    what: str
    unit: str
    ours: float
    usual: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours by the usual: above 1 is better for rates, below 1 for milliseconds."""
        return round(self.ours / self.usual, 3) if self.usual else None


@dataclass(frozen=True)
class Section:
    """The figures of a subject, and what must be known to read them."""

    title: str
    figures: Sequence[Figure]
    notes: Sequence[str] = ()
    against: tuple[str, str] = ("ours", "usual")
    """What the two columns of figures hold."""
    details: Mapping[str, object] = field(default_factory=dict)
    """For the JSON alone."""

    def show(self, console: Console) -> None:
        """Print a table and the notes below it."""
        table = Table("what", "unit", title=self.title, title_justify="left")
        for name in (*self.against, "/".join(self.against)):
            table.add_column(name, justify="right")
        for one in self.figures:
            ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
            table.add_row(one.what, one.unit, _number(one.ours), _number(one.usual), ratio)
        console.print(table)
        for note in self.notes:
            console.print(note, highlight=False)
        console.print()

    def data(self) -> dict[str, object]:
        """Return everything as JSON takes it."""
        rows = [asdict(one) | {"ratio": one.ratio} for one in self.figures]
        return {"figures": rows, "against": self.against, "notes": list(self.notes), **self.details}


def write(path: Path, sections: Mapping[str, Section]) -> None:
    """Write all sections as one JSON object, keyed by subject."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({name: one.data() for name, one in sections.items()}, indent=2) + "\n")


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie; raises `ValueError` where there are none."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
