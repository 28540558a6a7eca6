"""No byte string stops the way from bytes to outputs."""

import itertools
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batch import Texts, Work, fold_poll
from consumer.metrics import Metrics
from consumer.murmur2 import REMEMBERED, Places, murmur2
from consumer.settings import Settings
from consumer.state import FORMAT, PartitionState, Position
from model.events import Recommendation
from model.outcome import Evaluation
from model.rival import Rival
from tests.consumer.test_state import ENCODER, new_fold


@dataclass
class Fake:
    at: int
    body: bytes | None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes | None:
        return b"u"

    def value(self) -> bytes | None:
        return self.body

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_000


GOOD = b'{"kind":"search","id":"s","user":"u","at_ms":5,"text":"robot"}'
NUMBERS = itertools.count()
STATE = PartitionState(0, new_fold(), Position(FORMAT, 0, 0, "", [], ""))
TEXTS = Texts(ENCODER, 100)
odd = st.one_of(
    st.binary(max_size=200),
    st.none(),
    st.text(max_size=40).map(lambda text: text.encode()),
    st.builds(lambda at, bit: GOOD[:at] + bit + GOOD[at:], st.integers(0, len(GOOD)), st.binary(max_size=4)),
)


@given(st.lists(odd, max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_folded_or_dead_lettered(bodies: list[bytes | None]) -> None:
    good = GOOD.replace(b'"s"', b'"s%d"' % next(NUMBERS))  # what came before counts as a duplicate
    messages = [Fake(n, body) for n, body in enumerate([*bodies, good])]
    work = fold_poll(messages, {0: STATE}, TEXTS, Settings(), {})
    assert sum(work.kinds.values()) + sum(work.dead.values()) == len(messages)
    assert work.offsets == {0: len(messages)}
    assert work.lists >= 1


def test_coalescing_keeps_the_newest_list_of_a_user() -> None:
    bodies = [GOOD.replace(b'"s"', b'"s%d"' % n) for n in range(3)]
    work = fold_poll([Fake(n, b) for n, b in enumerate(bodies)], {0: STATE}, TEXTS, Settings(coalesce=True), {})
    told = [value for topic, _, value in work.outputs if topic == "penchant.recommendations"]
    assert len(told) == work.lists == 1
    assert b'"event":"s2"' in (told[0] or b"")


def test_a_list_after_a_forget_is_not_put_before_its_tombstone() -> None:
    bodies = [GOOD, b'{"kind":"forget","id":"f","user":"u","at_ms":6}', GOOD.replace(b'"s"', b'"again"', 1)]
    state = PartitionState(0, new_fold(), Position(FORMAT, 0, 0, "", [], ""))
    work = fold_poll([Fake(n, b) for n, b in enumerate(bodies)], {0: state}, TEXTS, Settings(coalesce=True), {})
    told = [value for topic, _, value in work.outputs if topic == "penchant.recommendations"]
    assert told[1] is None
    assert b'"event":"again"' in (told[-1] or b"")


def test_what_an_apprentice_would_have_shown_is_sent_along_and_forgotten_with_the_user() -> None:
    told = Settings(apprentice="other", publish_max_age_seconds=60)
    state = PartitionState(0, new_fold(), Position(FORMAT, 0, 0, "", [], ""))
    fold = state.fold
    fold.rivals["apprentice"] = Rival("other", fold.catalogue.content, TEXTS, 1.0, fold.ranker, lists=True)
    bodies = [GOOD, GOOD.replace(b'"s"', b'"again"', 1), b'{"kind":"forget","id":"f","user":"u","at_ms":6}']
    work = fold_poll([Fake(n, body) for n, body in enumerate(bodies)], {0: state}, TEXTS, told, {})
    lists = [value for topic, _, value in work.outputs if topic == "penchant.recommendations"]
    its = [value for topic, _, value in work.outputs if topic == "penchant.apprentice"]
    assert work.overlaps == [("apprentice", 1.0)] * 2
    assert len(lists) == len(its) == 3
    assert lists[2] is its[2] is None
    for one, other in zip(lists[:2], its[:2], strict=True):
        mine, theirs = (msgspec.json.decode(value or b"", type=Recommendation) for value in (one, other))
        assert (theirs.event, theirs.model) == (mine.event, "other")
        assert theirs.id != mine.id
        assert [(slot.item, slot.score, slot.moved_by) for slot in theirs.items] == [
            (slot.item, slot.score, slot.moved_by) for slot in mine.items
        ]
        assert all(slot.rest == slot.score and not slot.because for slot in theirs.items)
    late = fold_poll([Fake(3, GOOD.replace(b'"s"', b'"old"', 1))], {0: state}, TEXTS, told, {}, oldest_ms=2_000)
    assert late.muted == 1
    assert [topic for topic, *_ in late.outputs] == ["penchant.interests"]
    assert not late.overlaps
    unset = fold_poll([Fake(4, bodies[2].replace(b'"f"', b'"g"'))], {0: state}, TEXTS, Settings(), {})
    assert {topic for topic, *_ in unset.outputs} == {"penchant.recommendations", "penchant.interests"}


def test_coalescing_tells_beside_a_list_what_would_have_been_there_instead_of_that_list() -> None:
    told = Settings(apprentice="other", coalesce=True)
    state = PartitionState(0, new_fold(), Position(FORMAT, 0, 0, "", [], ""))
    fold = state.fold
    rival = fold.rivals["apprentice"] = Rival("other", fold.catalogue.content, TEXTS, 0.5, fold.ranker, lists=True)
    names = [f"s{n}" for n in range(40)]
    drawn, missed = (next(name for name in names if rival.drawn(name) == wanted) for wanted in (True, False))
    forget = b'{"kind":"forget","id":"f","user":"u","at_ms":6}'

    def outputs(*ids: str | None) -> tuple[list[str | None], list[tuple[str, float]]]:
        """Return the apprentice's records as the events that they are for, None for a tombstone, and the overlaps."""
        bodies = [forget if name is None else GOOD.replace(b'"s"', f'"{name}"'.encode()) for name in ids]
        work = fold_poll([Fake(n, body) for n, body in enumerate(bodies)], {0: state}, TEXTS, told, {})
        its = [value for topic, _, value in work.outputs if topic == "penchant.apprentice"]
        return [None if value is None else msgspec.json.decode(value)["event"] for value in its], work.overlaps

    one = [("apprentice", 1.0)]
    assert outputs(missed, drawn) == ([drawn], one)
    assert outputs(None, drawn, missed) == ([None], [])  # the list that is sent is one that it had no part in
    assert outputs(None, missed, drawn, None, missed) == ([None, drawn, None], one)


def test_texts_are_embedded_once_and_the_oldest_make_room() -> None:
    texts = Texts(ENCODER, 2)
    texts.need(["a", "b", "a"])
    assert (texts.embedded, texts.known) == (2, 1)
    texts.need(["b", "c"])
    assert set(texts) == {"b", "c"}
    assert texts["d"].shape == (ENCODER.dim,)


def test_a_foreign_partition_and_what_was_folded_already_are_left_alone() -> None:
    ahead = PartitionState(0, new_fold(), Position(FORMAT, 5, 0, "", [], ""))
    assert not fold_poll([Fake(4, GOOD)], {0: ahead}, TEXTS, Settings(), {}).offsets
    assert not fold_poll([Fake(4, GOOD)], {}, TEXTS, Settings(), {}).offsets


# Kafka's own: UtilsTest.testMurmur2
@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32
    assert Places(10)[key] == (signed & 0x7FFFFFFF) % 10


def test_places_stay_few() -> None:
    places = Places(3)
    for n in range(REMEMBERED + 10):
        assert places[b"%d" % n] in range(3)
    assert len(places) <= REMEMBERED


@pytest.mark.parametrize(("here", "count"), [(True, 0), (False, 3)])
def test_an_event_elsewhere_than_its_key_says_is_counted(here: bool, count: int) -> None:
    state = PartitionState(0, new_fold(), Position(FORMAT, 0, 0, "", [], ""))
    work = fold_poll([Fake(n, GOOD) for n in range(3)], {0: state}, TEXTS, Settings(), {}, {b"u": 0 if here else 1})
    assert (work.foreign_partitions, work.foreign_keys) == (count, 0)


def test_what_was_committed_is_counted_by_label() -> None:
    metrics, work = Metrics(), Work()
    work.kinds.update(click=3, search=1)
    work.evaluations += [Evaluation({"penchant": 0, "popularity": -1}, False, False)] * 2
    work.evaluations.append(Evaluation({"penchant": 9, "popularity": 10}, False, False))
    work.foreign_partitions = 4
    for _ in range(2):
        metrics.committed(work, TEXTS, 7)
    value = metrics.registry.get_sample_value
    assert value("penchant_events_total", {"kind": "click"}) == 6
    assert value("penchant_transactions_total", {"outcome": "committed"}) == 2
    assert value("penchant_evaluated_total") == 6
    assert value("penchant_hits_total", {"ranker": "penchant"}) == 6
    assert value("penchant_hits_total", {"ranker": "popularity"}) is None
    assert value("penchant_ndcg_sum_total", {"ranker": "penchant"}) == pytest.approx(2 * (2 + 0.28906), abs=1e-4)
    assert value("penchant_foreign_partitions_total") == 8
