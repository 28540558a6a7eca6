"""A text that the encoder cannot embed is its event's fault, unless the encoder is broken."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from consumer.batch import CUT, Texts, Work, fold_poll
from consumer.embedding import _Helped, embed
from consumer.settings import Settings
from consumer.state import FORMAT, PartitionState, Position
from model.encoding import Vectors
from model.errors import Fatal
from model.events import DeadLetter, Search
from model.fold import Fold
from model.taxonomy import Taxonomy
from tests.consumer.test_batch import Fake
from tests.consumer.test_state import ENCODER, new_fold
from tests.model.test_learnt import TwoParts


def fresh(fold: Fold) -> PartitionState:
    return PartitionState(0, fold, Position(FORMAT, 0, 0, "", [], ""))


class Picky:
    """Raises at texts with 'crash', and makes 'nan' not a number; once it is broken, at every text."""

    dim, learnt, version = ENCODER.dim, 0, ENCODER.version

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.broken = False

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(list(texts))
        if self.broken or any("crash" in text for text in texts):
            raise RuntimeError("out\nof range")
        vectors = np.array(ENCODER.encode(list(texts)))
        for row, text in enumerate(texts):
            if "nan" in text:
                vectors[row, 0] = np.nan
        return vectors


def test_a_text_that_fails_alone_spoils_no_other() -> None:
    texts = [f"robot {n}" for n in range(20)]
    texts[7] = texts[8] = "crash"
    texts[19] = "nan"
    vectors, failed = embed(Picky(), texts)
    assert set(failed) == {"crash", "nan"}
    assert set(vectors) == set(texts) - set(failed)
    for text, vector in vectors.items():
        np.testing.assert_allclose(vector, ENCODER.encode([text])[0])


def test_an_encoder_that_fails_at_every_text_is_no_texts_fault() -> None:
    encoder = Picky()
    encoder.broken = True
    with pytest.raises(Fatal, match="every text") as caught:
        embed(encoder, ["a", "b", "c", "d"])
    assert "\n" not in str(caught.value)
    assert len(encoder.calls) == 4  # all, half, one, and the check


def test_an_encoder_that_fails_only_at_many_is_asked_for_fewer() -> None:
    class Small(Picky):
        def encode(self, texts: Sequence[str]) -> Vectors:
            if len(texts) > 2:
                raise MemoryError
            return super().encode(texts)

    vectors, failed = embed(Small(), list("abcdefg"))
    assert not failed
    assert set(vectors) == set("abcdefg")


def search(user: str, n: int, text: str) -> bytes:
    return msgspec.json.encode({"kind": "search", "id": f"{user}{n}", "user": user, "at_ms": 5, "text": text})


def letters(work: Work) -> list[DeadLetter]:
    return [msgspec.json.decode(v or b"", type=DeadLetter) for t, _, v in work.outputs if t == "penchant.dead-letters"]


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_a_search_that_cannot_be_embedded_is_a_dead_letter_whatever_the_polls(size: int) -> None:
    bodies = [search("u", n, text) for n, text in enumerate(["robot", "crash", "nan", "kiss", "crash", "robot"])]
    state = fresh(new_fold())
    encoder = Picky()
    texts, dead, lists = Texts(encoder, 100), [], 0
    read: dict[int, bool] = {}
    for start in range(0, len(bodies), size):
        messages = [Fake(start + n, body) for n, body in enumerate(bodies[start : start + size])]
        work = fold_poll(messages, {0: state}, texts, Settings(), {})
        dead += [(letter.offset, letter.reason, letter.value) for letter in letters(work)]
        lists += work.lists
        read |= work.read[0]
    assert dead == [(n, "text", bodies[n]) for n in (1, 2, 4)]
    assert lists == 3
    assert read == {0: False, 1: True, 2: True, 3: False, 4: True, 5: False}
    twin = new_fold()
    for n in (0, 3, 5):
        twin.apply(msgspec.json.decode(bodies[n], type=Search), Texts(Picky(), 100))
    assert twin.dump_user("u") == state.fold.dump_user("u")
    assert encoder.calls.count(["crash"]) == 1  # what failed is not tried again


def test_a_history_that_cannot_be_embedded_any_more_does_not_stop_its_user() -> None:
    fold = new_fold()
    fold.apply(Search(id="s", user="u", at_ms=5, text="crash"), Texts(ENCODER, 9))
    restored = new_fold()
    restored.load_user("u", fold.dump_user("u") or b"")
    state = fresh(restored)
    body = b'{"kind":"click","id":"c","user":"u","at_ms":6,"item":"i1"}'
    work = fold_poll([Fake(0, body)], {0: state}, Texts(Picky(), 100), Settings(), {})
    assert (work.lists, work.dead.total()) == (1, 0)


def test_a_long_reason_does_not_hide_that_the_value_is_cut() -> None:
    work = fold_poll(
        [Fake(0, b"x" * 600_000)], {0: fresh(new_fold())}, Texts(ENCODER, 9), Settings(), {(0, 0): "why " * 500}
    )
    assert letters(work)[0].detail.endswith(CUT)
    assert len(letters(work)[0].detail) < 500
    assert len(letters(work)[0].value or b"") == 512 * 1024


def test_topics_of_a_model_of_two_parts_are_those_of_its_text() -> None:
    """Also where a bundle brings some of their vectors."""
    two, topics = TwoParts(paired=True), Taxonomy.read()[:3]
    first = topics[0].descriptions[0]
    brought = dict(zip([first], two.encode([first]), strict=True))
    found = Taxonomy(topics, _Helped(two, lambda texts: {text: brought[text] for text in texts if text in brought}))
    np.testing.assert_allclose(found.vectors, Taxonomy(topics, two).vectors, atol=1e-6)
    assert found.vectors.shape == (3, two.dim - two.learnt)
