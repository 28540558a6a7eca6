"""No byte string stops the way from bytes to outputs."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batch import Texts, fold_poll
from consumer.settings import Settings
from consumer.state import FORMAT, PartitionState, Position
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
    messages = [Fake(n, body) for n, body in enumerate([*bodies, GOOD])]
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
