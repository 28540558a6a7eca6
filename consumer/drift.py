"""Whether people change: river's detectors over what was measured before it was learnt, told after each commit."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import asin, log2, sqrt

from model.events import Interests
from model.outcome import Evaluation

SIGNALS = ("log_loss", "new_items", "interests")
DETECTORS = ("adwin", "page_hinkley")
REFERENCE = 20
"""Blocks that only give the scale."""
NEWEST = 10
"""Blocks whose mean is the present one."""
INTERESTS_SHARE = 4
"""Interests are told at every tenth engagement: their blocks hold a fourth of the evaluations' number."""
MEMORY = 50
"""So many blocks, fading, are what is usual."""
LEAST_NATS, LEAST_DISTANCE = 0.01, 0.001
"""Scatter that is always allowed for, however still the first blocks are."""


@dataclass(frozen=True)
class Detection:
    """A signal rose and stays there: the mean of `n` measurements is `after`, of those before them it was `before`."""

    signal: str
    detector: str
    before: float
    after: float
    n: int


class Drift:
    """Detectors of one process, for one model at a time: under another one, everything is measured otherwise."""

    def __init__(self, block: int) -> None:
        """`block`: evaluations that are averaged to one value for the detectors."""
        self._block = block
        self._model: str | None = None
        self._begin()

    def _begin(self) -> None:
        interests = max(1, self._block // INTERESTS_SHARE)
        self._losses, self._new = _Blocks(self._block), _Blocks(self._block)
        self._mixes = _Mixes(interests)
        self._signals = {
            "log_loss": _Signal("log_loss", self._block, LEAST_NATS),
            "new_items": _Signal("new_items", self._block, 0.5 / sqrt(self._block), stabilised=True),
            "interests": _Signal("interests", interests, LEAST_DISTANCE),
        }

    def observe(self, evaluations: Sequence[Evaluation], interests: Sequence[Interests], model: str) -> list[Detection]:
        """Take in what one transaction committed, measured with `model`; return what is detected, mostly nothing."""
        if model != self._model:
            self._model = model
            self._begin()
        values = (
            ("log_loss", self._losses.add(one.log_loss for one in evaluations)),
            ("new_items", self._new.add(float(one.new_item) for one in evaluations)),
            ("interests", self._mixes.add(interests)),
        )
        found = (self._signals[name].update(value) for name, means in values for value in means)
        return [detection for detection in found if detection is not None]

    def means(self) -> dict[str, float]:
        """Return the present mean of each signal that has one."""
        return {name: signal.newest for name, signal in self._signals.items() if signal.blocks}


class _Blocks:
    """Cuts a sequence of numbers into blocks of one size, and gives the mean of each."""

    def __init__(self, size: int) -> None:
        self._size, self._sum, self._count = size, 0.0, 0

    def add(self, values: Iterable[float]) -> Iterator[float]:
        for value in values:
            self._sum += value
            self._count += 1
            if self._count == self._size:
                yield self._sum / self._size
                self._sum, self._count = 0.0, 0


class _Mixes:
    """How far a block's mean interests are from the usual ones: the Jensen-Shannon distance, base 2, 0 to 1."""

    def __init__(self, size: int) -> None:
        self._size, self._count, self._blocks = size, 0, 0
        self._sums: dict[str, float] = {}
        self._usual: dict[str, float] = {}

    def add(self, told: Iterable[Interests]) -> Iterator[float]:
        for interests in told:
            for topic in interests.topics:
                self._sums[topic.topic] = self._sums.get(topic.topic, 0.0) + topic.probability
            self._count += 1
            if self._count == self._size:
                block = {name: total / self._size for name, total in self._sums.items()}
                self._sums, self._count = {}, 0
                if self._blocks:
                    yield distance(block, self._usual)
                self._blocks += 1
                weight = max(1 / self._blocks, 1 / MEMORY)
                for name, share in block.items():
                    usual = self._usual.get(name, 0.0)
                    self._usual[name] = usual + weight * (share - usual)


class _Signal:
    """Block means of one measurement, in units of their own scatter, before two detectors; one of them is enough.

    The scatter is that of the first blocks from one to the next, so that a slow trend, as a young model's falling loss
    is, does not count into it. More is worse for all three signals: where a detector finds that one fell, it and the
    other only begin anew.
    """

    def __init__(self, name: str, block: int, least: float, stabilised: bool = False) -> None:
        """`stabilised`: the values are shares; the arcsine of their root scatters by 0.5 / sqrt(block) or less."""
        self._name, self._block, self._stabilised = name, block, stabilised
        self.blocks = 0
        self._last = self._squares = 0.0
        self._scale = self._least = least
        self._begin()

    def _begin(self) -> None:
        from river.drift import ADWIN, PageHinkley  # here, for those who switch it off: 1.5 s of CPU, 75 MB

        self._detectors = {
            "adwin": ADWIN(delta=0.002, clock=1),  # type: ignore[no-untyped-call]
            "page_hinkley": PageHinkley(min_instances=10, delta=0.5, threshold=20.0, mode="up"),
        }
        self._newest: deque[float] = deque(maxlen=NEWEST)
        self._older, self._olders = 0.0, 0

    @property
    def newest(self) -> float:
        """The mean of the newest blocks."""
        return sum(self._newest) / len(self._newest)

    def update(self, value: float) -> Detection | None:
        """Take in one block's mean."""
        self.blocks += 1
        if len(self._newest) == NEWEST:
            self._olders += 1
            self._older += (self._newest[0] - self._older) * max(1 / self._olders, 1 / MEMORY)
        self._newest.append(value)
        level = asin(sqrt(value)) if self._stabilised else value
        if self.blocks <= REFERENCE:
            if self.blocks > 1:
                self._squares += (level - self._last) ** 2
                self._scale = max(self._least, sqrt(self._squares / 2 / (self.blocks - 1)))
            self._last = level
            return None
        for detector in self._detectors.values():
            detector.update(level / self._scale)
        fired = next((name for name, detector in self._detectors.items() if detector.drift_detected), None)
        if fired is None:
            return None
        before, after = self._older, self.newest
        rose, n = after > before, len(self._newest) * self._block
        kept = list(self._newest)
        self._begin()
        self._newest.extend(kept)
        return Detection(self._name, fired, round(before, 6), round(after, 6), n) if rose else None


def distance(some: dict[str, float], others: dict[str, float]) -> float:
    """Return the Jensen-Shannon distance of two distributions, 0 (the same) to 1 (nothing in common).

    >>> distance({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5}), distance({"a": 1.0}, {"b": 1.0})
    (0.0, 1.0)
    """
    total = 0.0
    for name in some.keys() | others.keys():
        p, q = some.get(name, 0.0), others.get(name, 0.0)
        middle = (p + q) / 2
        total += sum(x * log2(x / middle) for x in (p, q) if x > 0) / 2
    return sqrt(max(0.0, total))
