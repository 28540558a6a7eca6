"""Who promotes: one model after the other, waiting until each is live or refused, and writing down when."""

import time
from collections.abc import Callable, Sequence

from export.registry import Registry
from model.errors import Fatal, PenchantError
from tests.drill.bundles import Bad
from tests.drill.reader import Reader
from tests.drill.report import REFUSAL, SWAP, Drilled, Window
from tests.drill.serving import Serving

AFTER_SECONDS = 2.0
"""So long after a swap, or a refusal, its window ends."""
PREPARE_SECONDS = 90.0
"""What is not live, or refused, by then never will be."""
UNHEARD = 2
"""After so many in a row of which nothing was heard, nobody follows the registry any more."""
TICK_SECONDS = 0.05
ASK_SECONDS = 0.2
"""Between two looks at the metrics, which cost `serve` a little."""

Good = tuple[str, str]
"""Name of a bundle, and its version."""


def plan(goods: Sequence[Good], bads: Sequence[Bad], swaps: int) -> list[Good | Bad]:
    """Return what to promote: good ones in turn, of which the first serves already; bad ones spread evenly between.

    >>> plan([("a", "1"), ("b", "2")], [], 3)
    [('b', '2'), ('a', '1'), ('b', '2')]
    """
    planned: list[Good | Bad] = []
    left = list(bads)
    for number in range(1, swaps + 1):
        planned.append(goods[number % len(goods)])
        while left and (len(bads) - len(left) + 1) * swaps <= number * len(bads):
            planned.append(left.pop(0))
    return planned


class Conductor:
    """Promotes while events come; what goes wrong is written down, and the drill goes on."""

    def __init__(self, registry: Registry, serving: Serving, reader: Reader, drilled: Drilled, every: float) -> None:
        self._registry, self._serving, self._reader, self._drilled = registry, serving, reader, drilled
        self._every = every

    def run(self, planned: Sequence[Good | Bad]) -> None:
        """Promote all of them, unless nothing comes of it any more."""
        unheard = 0
        for number, step in enumerate(planned, 1):
            heard = self._refusal(step) if isinstance(step, Bad) else self._swap(*step)
            self._say(number, len(planned))
            unheard = 0 if heard else unheard + 1
            if unheard == UNHEARD:
                self._drilled.wrong.append(f"serve follows no more; {len(planned) - number} were not promoted")
                break

    def rest(self, seconds: float, kind: str) -> None:
        """Let events come for a while, and nothing else."""
        began = _now_ms()
        self.wait(lambda: False, seconds)
        self._drilled.windows.append(Window(kind, self._drilled.reigns[-1][0], began, _now_ms()))

    def wait(self, condition: Callable[[], object], seconds: float, tick: float = TICK_SECONDS) -> bool:
        """Wait until something is so, and say whether it is; raises `Fatal` where `serve` or the reader ended."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self._serving.process.poll() is not None:
                raise Fatal(f"serve ended with status {self._serving.process.returncode}: {self._serving.log}")
            if self._reader.raised is not None:
                raise self._reader.raised
            if (left := deadline - time.monotonic()) <= 0:
                return False
            time.sleep(min(tick, left))
        return True

    def _swap(self, name: str, version: str) -> bool:
        """Promote a good one, and say whether it went live."""
        drilled, before = self._drilled, self._drilled.reigns[-1][1]
        began = _now_ms()
        self._promote(version)
        self.wait(lambda: self._reader.first(version, began), PREPARE_SECONDS)
        live = self._reader.first(version, began)
        if live is None:
            drilled.wrong.append(f"{name} ({version}) did not go live after {before}")
        else:
            drilled.reigns.append((name, version))
        self.wait(lambda: False, max(AFTER_SECONDS, self._every - (_now_ms() - began) / 1000))
        ended = _now_ms() if live is None else live + 1000 * AFTER_SECONDS
        drilled.windows.append(Window(SWAP, name, began, ended, live))
        if live is not None:
            drilled.usage.append(self._serving.usage())
        return live is not None

    def _refusal(self, bad: Bad) -> bool:
        """Promote a bad one, and say whether anything was heard of it."""
        serving, reader, wrong = self._serving, self._reader, self._drilled.wrong
        name, before, began = f"{bad.kind} ({bad.version})", serving.refused(), _now_ms()
        self._promote(bad.version)
        heard = self.wait(
            lambda: serving.refused() != before or reader.first(bad.version, began), PREPARE_SECONDS, ASK_SECONDS
        )
        count = len(reader.lists)
        self.wait(lambda: False, AFTER_SECONDS)
        more = serving.refused() - before
        if more != {bad.reason: 1}:
            wrong.append(f"{name} was counted as refused {dict(more)}, not by {bad.reason}, once")
        if len(reader.lists) == count:
            wrong.append(f"{name} stopped the lists for {AFTER_SECONDS:g} s")
        if reader.first(bad.version, began):
            wrong.append(f"{name} went live")
        self._drilled.windows.append(Window(REFUSAL, bad.kind, began, _now_ms()))
        self._registry.rollback(f"{bad.kind} was refused")  # as an operator would; serve has nothing to do
        return heard

    def _promote(self, version: str) -> None:
        current = self._registry.current()
        try:
            self._registry.promote(version, None if current is None else current.number)
        except PenchantError as error:
            self._drilled.wrong.append(f"{version} could not be promoted: {error}")

    def _say(self, number: int, of: int) -> None:
        window, drilled = self._drilled.windows[-1], self._drilled
        held = drilled.usage[-1] if drilled.usage else None
        took = "" if window.live_ms is None else f"live after {(window.live_ms - window.began_ms) / 1000:5.2f} s"
        print(f"{number:4} of {of}  {window.kind:8} {window.model:12} {took:20} {held}", flush=True)


def _now_ms() -> float:
    return time.time() * 1000
