"""Two models that ranked the same events: what their counters say of the difference, and what to do about it."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from math import sqrt

from prometheus_client.parser import text_string_to_metric_families

from model.errors import DependencyAway

NAMES = (
    "penchant_paired_evaluated_total",
    "penchant_paired_ndcg_sum_total",
    "penchant_paired_squares_total",
    "penchant_paired_lists_total",
    "penchant_paired_overlap_sum_total",
)
SERVING = "penchant_model_info"
NEEDED = {
    "before": "a swap with the setting probation_share above 0",
    "apprentice": "the settings apprentice and probation_share",
}
"""By the role of a model that ranks beside the one that serves: what `serve` needs to have one."""
SECONDS = 10.0
Sample = tuple[str, Mapping[str, str], float]
"""Name, labels, value."""


@dataclass(frozen=True)
class Pairs:
    """What two models gained at the events that both ranked."""

    role: str
    serving: str
    rival: str
    events: int
    ours: float
    """Sum of NDCG@10 of the one that serves."""
    theirs: float
    squares: float
    """Sum of squared differences."""
    lists: int = 0
    """For which both chose."""
    overlap: float = 0.0
    """Sum, over these, of the share of items in both."""


@dataclass(frozen=True)
class Verdict:
    """The mean difference of NDCG@10, serving less rival, and its 95% interval, events taken as independent."""

    mean: float
    low: float
    high: float
    detectable: float
    """The smallest difference that so many events would show four times in five."""
    decision: str
    """`better`, `no worse` (than the margin), `worse`, `undecided`."""


def verdict(pairs: Pairs, margin: float) -> Verdict:
    """Decide; `margin` is the share of the rival's NDCG@10 whose loss is bearable.

    >>> verdict(Pairs("before", "b", "a", 10_000, 1300.0, 1000.0, 400.0), 0.02).decision
    'better'
    >>> verdict(Pairs("before", "b", "a", 10_000, 1000.0, 1000.0, 0.5), 0.02).decision
    'no worse'
    >>> verdict(Pairs("before", "b", "a", 10_000, 700.0, 1000.0, 400.0), 0.02).decision
    'worse'
    >>> verdict(Pairs("before", "b", "a", 50, 5.0, 5.0, 2.0), 0.02).decision
    'undecided'
    """
    n = max(1, pairs.events)
    mean, theirs = (pairs.ours - pairs.theirs) / n, pairs.theirs / n
    error = sqrt(max(0.0, pairs.squares / n - mean**2) / n)
    low, high = mean - 1.96 * error, mean + 1.96 * error
    if pairs.events < 2:
        decision = "undecided"
    elif high < 0:
        decision = "worse"
    elif low > 0:
        decision = "better"
    else:
        decision = "no worse" if low >= -margin * theirs else "undecided"
    return Verdict(mean, low, high, 2.8 * error, decision)


def pairs_of(samples: Iterable[Sample], role: str) -> list[Pairs]:
    """Return what the counters of all instances add up to, for each two models of which the first serves now.

    The one with most events comes first.
    """
    samples = list(samples)
    serving = {labels["version"] for name, labels, value in samples if name == SERVING and value}
    sums: dict[tuple[str, str], dict[str, float]] = {}
    for name, labels, value in samples:
        if name in NAMES and labels.get("role") == role:
            pair = sums.setdefault((labels["serving"], labels["rival"]), {})
            key = name + labels.get("whose", "")
            pair[key] = pair.get(key, 0.0) + value
    evaluated, gains, squares, lists, overlap = NAMES
    found = [
        Pairs(
            role, ours, rival, int(of.get(evaluated, 0)), of.get(gains + "serving", 0.0),
            of.get(gains + "rival", 0.0), of.get(squares, 0.0), int(of.get(lists, 0)), of.get(overlap, 0.0),
        )
        for (ours, rival), of in sums.items()
        if ours in serving and of.get(evaluated)  # lists alone, of events that are no choices, say not who is better
    ]  # fmt: skip
    return sorted(found, key=lambda pairs: -pairs.events)


def from_instances(urls: Iterable[str]) -> list[Sample]:
    """Return the counters at each instance's /metrics; raises `DependencyAway`."""
    samples: list[Sample] = []
    for url in urls:
        said = _get(url)
        try:
            families = list(text_string_to_metric_families(said))
        except ValueError as error:
            raise DependencyAway(f"{url} gives no metrics ({error}); is that an instance's /metrics?") from None
        samples += [(one.name, one.labels, one.value) for family in families for one in family.samples]
    return samples


def from_prometheus(url: str) -> list[Sample]:
    """Return the counters as a Prometheus has them now; raises `DependencyAway`."""
    samples: list[Sample] = []
    for name in (*NAMES, SERVING):
        asked = urllib.parse.urlencode({"query": name})
        said = _get(f"{url.rstrip('/')}/api/v1/query?{asked}")
        try:
            found = json.loads(said)["data"]["result"]
            samples += [(name, one["metric"], float(one["value"][1])) for one in found]
        except (ValueError, LookupError, TypeError) as error:
            raise DependencyAway(f"{url} does not answer as a Prometheus does ({error!r}); is it one?") from None
    return samples


def _get(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise DependencyAway(f"{url!r} is no address: give http://HOST:PORT/metrics of every instance, or --prometheus")
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return str(answer.read().decode(errors="replace"))
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", error)  # of a URLError: what it stands for
        raise DependencyAway(f"{url} does not answer ({why}); is that instance up?") from None
