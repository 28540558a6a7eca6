"""The fold alone: no Kafka, no JSON, no encoder at work."""

from collections.abc import Sequence

from export.encoder import OnnxEncoder
from model.evaluate import judge, prepare
from model.events import Event, Item
from model.fold import FoldSettings
from tests.bench.clock import in_turns
from tests.bench.figures import Figure, Section
from tests.bench.usual import NumpyRanker, PlainRanker, Ranker

WARM = 500
BLOCK = 500


def bench(items: Sequence[Item], events: Sequence[Event], encoder: OnnxEncoder) -> Section:
    """Measure events per CPU second over `events`, of which the first `WARM` warm up."""
    fold = prepare(items, encoder, FoldSettings())
    names = [item.item for item in items]
    plain = PlainRanker(names)
    fast = NumpyRanker(names, encoder.encode([item.content() for item in items]))

    def ours(chosen: Sequence[Event]) -> None:
        judge(fold, chosen, encoder)
        fold.take_delta()  # as serve does with every transaction

    def usual(ranker: Ranker, chosen: Sequence[Event]) -> None:
        for event in chosen:
            ranker.choose(event.user, getattr(event, "item", ""))

    jobs = (ours, lambda chosen: usual(plain, chosen), lambda chosen: usual(fast, chosen))
    in_turns(events[:WARM], BLOCK, *jobs)
    rates = in_turns(events[WARM:], BLOCK, *jobs)
    unit = "events / CPU s"
    return Section(
        "Fold alone",
        [
            Figure("against Python: dicts, sorted", unit, rates[0], rates[1]),
            Figure("against numpy: fixed weights", unit, rates[0], rates[2]),
        ],
        [
            "Usual: counts, and one score per item. It learns no weights, gives no reasons, keeps no state to commit, "
            "measures no ranks before it learns, and tells no interests; the fold does all of these.",
        ],
    )
