"""Models beside the one that serves: fair to them, and harmless."""

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from consumer.batch import Work
from consumer.embedding import Model
from consumer.items import Items
from consumer.metrics import Metrics
from consumer.serving import APPRENTICE, BEFORE, Serving
from consumer.settings import Settings
from consumer.state import FORMAT, PartitionState, Position
from consumer.swap import Prepared, adopt
from export import catalogue
from export.bundle import Bundle
from model.catalogue import WHOLE
from model.encoding import Vectors
from model.errors import BadBundle
from model.evaluate import prepare
from model.events import Click, Item, Search
from model.fold import Fold, FoldSettings
from model.heads import Head
from model.outcome import Evaluation
from model.tables import Fact
from model.taxonomy import Taxonomy
from tests.model.conftest import WordEncoder
from tests.model.test_fold import run

ENCODER = WordEncoder()
TAXONOMY = Taxonomy(Taxonomy.read(), ENCODER)
ITEMS = [Item(item=f"i{n}", title=f"{['robot ship', 'love kiss'][n % 2]} part{n}") for n in range(20)]


class Other(WordEncoder):
    version, broken = "other", False

    def encode(self, texts: Sequence[str]) -> Vectors:
        return super().encode(texts) * np.float32("nan" if self.broken else 1)


class World:
    """A fold that serves one partition, and the catalogue, without Kafka."""

    def __init__(self, whole: int = WHOLE) -> None:
        self.fold = prepare(ITEMS, ENCODER, FoldSettings(whole=whole))
        model = Model(ENCODER, TAXONOMY)
        self.items = Items.__new__(Items)  # without its topic
        self.items._model, self.items.changes, self.items._changed, self.items.bad = model, 0, {}, []
        self.items._known = {item.item: (item, ENCODER.encode([item.content()])[0]) for item in ITEMS}
        states = {0: PartitionState(0, self.fold, Position(FORMAT, 0, 0, "", [], ""))}
        settings = Settings(probation_share=1.0)
        self.metrics = Metrics()
        self.failed: list[tuple[str, str]] = []
        self.serving = Serving(settings, model, self.items, states, self.metrics, lambda: None, self.note)

    def note(self, version: str, why: str) -> None:
        self.failed.append((version, why))

    def put(self, item: Item) -> None:
        self.items._take({item.item: item}, [self.fold])

    def drop(self, name: str) -> None:
        self.items._take({name: None}, [self.fold])


def nothing(_done: int, _of: int) -> None:
    pass


def test_an_apprentice_knows_items_that_came_while_it_got_ready() -> None:
    world = World()
    world.serving.teach(Model(Other(), TAXONOMY), nothing)
    world.put(Item(item="late", title="robot ship"))
    world.drop("i0")
    world.serving.turn()
    vectors, index = world.fold.rivals[APPRENTICE].content.text.vectors, world.fold.catalogue.index
    assert vectors[index["late"]].any()
    assert not vectors[index["i0"]].any()


def test_what_is_gone_when_a_model_is_ready_is_no_part_of_it() -> None:
    """As after a restart: the mean of all items, and what users liked, are without it."""
    world = World()
    run(world.fold, ENCODER, [Click(id="c", user="u", at_ms=1, item="i0")])
    world.serving.prepare(Model(Other(), TAXONOMY), nothing)
    world.drop("i0")
    world.serving.turn()
    content, index = world.fold.catalogue.content, world.fold.catalogue.index
    assert not content.text.vectors[index["i0"]].any()
    assert content.text.mean == pytest.approx(np.mean([vector for _, vector in world.items], axis=0), abs=1e-6)
    assert set(world.items.known()) == {item.item for item in ITEMS[1:]}


@pytest.mark.parametrize("whole", [WHOLE, 0])
def test_an_item_known_by_facts_alone_can_go_while_a_model_ranks_beside(whole: int) -> None:
    """Its index may lie beyond what that model has room for."""
    world = World(whole)
    world.serving.teach(Model(Other(), TAXONOMY), nothing)
    world.serving.turn()
    world.fold.merge([Fact(f"foreign{n}", True, [], []) for n in range(300)])
    world.fold.drop_item("foreign299")
    (outcome,) = run(world.fold, ENCODER, [Click(id="c", user="u", at_ms=2, item="i1")])
    assert outcome.evaluation is not None
    assert outcome.evaluation.rivals.keys() == {APPRENTICE}


def test_lists_that_differ_are_counted_until_another_model_serves() -> None:
    """Also those that answer nothing that is evaluated: a search, a page opened."""
    world = World()
    world.serving.teach(Model(Other(), TAXONOMY), nothing)
    world.serving.turn()

    def count(name: str) -> float | None:
        labels = {"role": APPRENTICE, "serving": ENCODER.version, "rival": Other.version}
        return world.metrics.registry.get_sample_value(f"penchant_paired_{name}_total", labels)

    world.serving.judge(Work(overlaps=[(APPRENTICE, 0.4), (APPRENTICE, 0.5)]))
    assert (count("lists"), count("overlap_sum")) == (2, 0.9)
    world.metrics.swapped(ENCODER, 0.0)
    assert (count("lists"), count("overlap_sum")) == (None, None)


def test_an_apprentice_that_serves_is_not_compared_with_itself() -> None:
    world = World()
    apprentice, first = Model(Other(), TAXONOMY), world.serving.model
    world.serving.teach(apprentice, nothing)
    world.serving.turn()
    world.serving.prepare(Model(Other(), TAXONOMY), nothing)
    world.serving.turn()
    assert APPRENTICE not in world.fold.rivals
    world.serving.teach(apprentice, nothing)
    assert world.serving._apprentice is None  # nor embeds it the catalogue each time that the registry is looked at
    world.serving.turn()
    assert APPRENTICE not in world.fold.rivals
    world.serving.prepare(first, nothing)  # a rollback
    world.serving.turn()
    world.serving.teach(apprentice, nothing)
    world.serving.turn()
    assert world.fold.rivals[APPRENTICE].version == Other.version


@pytest.mark.parametrize("by", ["a rank", "an item"])
def test_an_apprentice_that_breaks_harms_nobody(by: str) -> None:
    world, encoder = World(), Other()
    world.serving.teach(Model(encoder, TAXONOMY), nothing)
    world.serving.turn()
    encoder.broken = True
    run(world.fold, ENCODER, [Search(id="s", user="u", at_ms=1, text="robot kiss")])
    if by == "a rank":
        (outcome,) = run(world.fold, ENCODER, [Click(id="c", user="u", at_ms=2, item="i1")])
        assert outcome.evaluation is not None
        assert outcome.evaluation.rivals == {}
    else:
        world.put(Item(item="n", title="never seen"))
    assert world.fold.rivals == {}
    world.serving.judge_faults()
    assert world.metrics.registry.get_sample_value("penchant_models_refused_total", {"reason": APPRENTICE}) == 1
    world.serving.teach(Model(encoder, TAXONOMY), nothing)
    world.serving.turn()
    assert world.fold.rivals == {}  # and is not tried again


def test_whoever_falls_back_tells_which_model_failed() -> None:
    world = World()
    assert not world.serving.fall_back("no numbers")  # there is none before it
    world.serving.prepare(Model(Other(), TAXONOMY), nothing)
    world.serving.turn()
    assert not world.failed
    assert world.serving.fall_back("no numbers")
    assert world.failed == [("other", "no numbers")]
    assert world.serving.model.version == ENCODER.version


class Counting(WordEncoder):
    """Passes its self-test, and notes what it is asked."""

    def __init__(self, _bundle: object) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return super().encode(texts)


def test_topics_that_the_bundle_brings_are_not_embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("consumer.embedding.OnnxEncoder", Counting)
    texts = [text for topic in Taxonomy.read() for text in topic.descriptions]
    catalogue.write(tmp_path, texts[1:], ENCODER.encode, nothing)
    brought = catalogue.read(tmp_path, ENCODER.dim)
    model = Model.load(cast(Bundle, SimpleNamespace(path="b", items=lambda: brought, heads=dict)), Settings())
    assert cast(Counting, model.encoder).asked == texts[:1]
    np.testing.assert_allclose(model.taxonomy.vectors, TAXONOMY.vectors, atol=1e-6)


def test_a_restore_across_a_swap_puts_no_item_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    changes = world.items.changes
    world.serving.prepare(Model(Other(), TAXONOMY), nothing)
    world.serving.turn()
    adopt(Prepared(Model(Other(), TAXONOMY), dict(world.items.known()), {}, []), [world.fold], {})
    puts: list[str] = []
    monkeypatch.setattr(Fold, "put_item", lambda self, item, vector: puts.append(item.item))
    world.items.catch_up(world.fold, changes)
    assert not puts
    for name in ("i3", "new", "i3"):
        world.items._take({name: Item(item=name, title="robot")}, [])
    world.items.catch_up(world.fold, changes)
    assert puts == ["new", "i3"]


def test_a_model_that_goes_live_knows_what_changed_while_it_got_ready() -> None:
    world, other = World(), Other()
    world.put(Item(item="i1", title="before"))
    world.serving.prepare(Model(other, TAXONOMY), nothing)
    world.put(Item(item="i2", title="changed"))
    world.put(Item(item="late", title="robot ship"))
    world.put(Item(item="brief", title="here and gone"))
    for name in ("i0", "brief"):
        world.drop(name)
    world.serving.turn()
    assert world.serving.model.version == "other"
    catalogue, known = world.fold.catalogue, world.items.known()
    assert known.keys() == {item.item for item in ITEMS} - {"i0"} | {"late"}
    for name, (item, vector) in known.items():
        wanted = other.encode([item.content()])[0]
        assert vector == pytest.approx(wanted)
        assert catalogue.content.text.vectors[catalogue.index[name]] == pytest.approx(wanted)
        assert catalogue.available(catalogue.index[name])
    assert known["i2"][0].title == "changed"
    for name in ("i0", "brief"):
        assert not catalogue.available(catalogue.index[name])
        assert not catalogue.content.text.vectors[catalogue.index[name]].any()
    fresh = prepare([item for item, _ in known.values()], other, FoldSettings()).catalogue
    for name in known:  # as after a restart: nothing is left of what is gone
        here, there = catalogue.index[name], fresh.index[name]
        assert catalogue.content.text.common[here] == pytest.approx(fresh.content.text.common[there], abs=1e-6)
    world.drop("late")
    names = set(known)
    before = world.items._known  # as another thread has it that is about to copy it
    world.serving.prepare(Model(ENCODER, TAXONOMY), nothing)
    world.serving.turn()
    assert "late" not in world.items.known()
    time.sleep(0.2)  # the old vectors are freed meanwhile
    assert before.keys() == names - {"late"}


def test_a_swap_takes_every_partition_s_words_the_judge_of_reviews_and_notes_itself() -> None:
    world, other = World(), Other()
    second = PartitionState(1, prepare(ITEMS, ENCODER, FoldSettings()), Position(FORMAT, 0, 0, "", [], ""))
    states = cast(dict[int, PartitionState], world.serving._states)
    states[1] = second
    for number, state in states.items():
        run(state.fold, ENCODER, [Search(id="s", user="u", at_ms=1, text=f"robot kiss {number}")])
    world.serving.texts.need(["robot"])
    head = Head.of(["negative", "positive"], np.ones((2, Other.dim), np.float32), np.zeros(2, np.float32))
    world.serving.prepare(Model(other, TAXONOMY, sentiment=head), nothing)
    world.serving.turn()
    for number, state in states.items():
        assert list(state.fold.search_vectors) == [f"robot kiss {number}"]
        assert state.fold.sentiment is head
        assert state.position.bundle == Other.version  # what is committed next says with what
    assert "robot" not in world.serving.texts  # that vector was the other model's


def test_probation_ends_with_the_last_of_its_events_and_is_not_for_the_same_model() -> None:
    world = World()
    world.serving.prepare(Model(Other(), TAXONOMY), nothing)
    world.serving.turn()
    count = world.serving._settings.probation_events
    one = Evaluation({"penchant": 0}, False, False, 0.0, {BEFORE: 0})
    world.serving.judge(Work(evaluations=[one] * (count - 1)))
    assert world.fold.rivals.keys() == {BEFORE}
    world.serving.judge(Work(evaluations=[one]))
    assert world.fold.rivals == {}
    assert not world.serving.fall_back("no numbers")
    world.serving.prepare(Model(Other(), TAXONOMY), nothing)
    world.serving.turn()
    assert world.fold.rivals == {}


def test_a_fold_that_was_restored_is_brought_to_the_model_that_serves() -> None:
    world = World()
    world.serving.prepare(Model(Other(), TAXONOMY), nothing)
    world.serving.turn()
    fold = prepare(ITEMS, ENCODER, FoldSettings())
    world.serving.catch_up(fold)
    assert fold.version == Other.version


def test_vectors_that_are_no_numbers_are_not_taken_from_a_bundle() -> None:
    nan = np.full(ENCODER.dim, np.nan, np.float32)
    vectors, failed = Model(ENCODER, TAXONOMY, lambda texts: dict.fromkeys(texts, nan)).embed(["robot"])
    assert np.isfinite(vectors["robot"]).all()
    assert not failed


class NoTopics(WordEncoder):
    """Passes its self-test, and gives no numbers for the words of topics."""

    def __init__(self, _bundle: object) -> None:
        pass

    def encode(self, texts: Sequence[str]) -> Vectors:
        return super().encode(texts) * np.float32("nan")


class Raises(NoTopics):
    def encode(self, texts: Sequence[str]) -> Vectors:
        raise RuntimeError("a token that the graph does not know")


@pytest.mark.parametrize("encoder", [NoTopics, Raises])
def test_topics_that_it_cannot_embed_are_the_bundle_s_fault(
    monkeypatch: pytest.MonkeyPatch, encoder: type[NoTopics]
) -> None:
    monkeypatch.setattr("consumer.embedding.OnnxEncoder", encoder)
    with pytest.raises(BadBundle, match="topics"):
        Model.load(cast(Bundle, SimpleNamespace(path="b", items=lambda: None)), Settings())


@pytest.mark.parametrize("wrong", [np.nan, 0.5])
def test_vectors_that_a_bundle_brings_have_length_one(tmp_path: Path, wrong: float) -> None:
    texts = [item.content() for item in ITEMS]
    catalogue.write(tmp_path, texts, ENCODER.encode, nothing)
    assert len(catalogue.read(tmp_path, ENCODER.dim)) == len(texts)
    vectors = np.load(tmp_path / catalogue.VECTORS)
    vectors[3] *= wrong
    np.save(tmp_path / catalogue.VECTORS, vectors)
    with pytest.raises(BadBundle):
        catalogue.read(tmp_path, ENCODER.dim)
