"""What is old is not looked at again, and what is let go of needs no collector."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from consumer import collector
from consumer.embedding import Model
from model.evaluate import prepare
from model.events import Click, Item, Search
from model.fold import FoldSettings
from tests.consumer.test_serving import ENCODER, ITEMS, TAXONOMY, Other, World, nothing
from tests.model.test_fold import run


@pytest.fixture
def sparing() -> Iterator[None]:
    collector.spare_the_old()
    yield
    gc.callbacks.remove(collector._freeze)
    gc.unfreeze()


@pytest.mark.usefixtures("sparing")
def test_a_full_collection_leaves_little_for_the_next() -> None:
    kept = [[number] for number in range(50_000)]
    gc.collect()
    frozen = gc.get_freeze_count()
    assert len(gc.get_objects()) < 5_000
    gc.collect()
    assert gc.get_freeze_count() >= frozen > len(kept)


@pytest.mark.usefixtures("sparing")
def test_young_garbage_is_collected_all_the_same() -> None:
    class Node:
        me: "Node"

    node = Node()
    node.me = node
    gone = weakref.ref(node)
    del node
    gc.collect()
    assert gone() is None


def test_what_is_let_go_of_is_gone_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        world = World()
        world.put(Item(item="late", title="robot ship"))
        clicks = [Click(id=f"c{n}", user="u", at_ms=n, item=f"i{n}") for n in range(9)]
        run(world.fold, ENCODER, [*clicks, Search(id="s", user="u", at_ms=10, text="robot kiss")])
        model = Model(Other(), TAXONOMY)
        world.serving.prepare(model, nothing)
        world.serving.turn()
        run(world.fold, ENCODER, [Click(id="d", user="u", at_ms=11, item="i12")])
        content = weakref.ref(world.fold.catalogue.content)
        encoder = weakref.ref(model.encoder)
        del model
        assert world.serving.fall_back("no numbers")
        world.fold.rivals.clear()
        assert content() is None
        assert encoder() is None
        gc.collect()
        del world.fold.profiles["u"]
        assert gc.collect() == 0  # nothing of it was in a cycle
        fold = prepare(ITEMS, ENCODER, FoldSettings())
        run(fold, ENCODER, clicks)
        gone = weakref.ref(fold)
        del fold
        assert gone() is None
    finally:
        gc.enable()
