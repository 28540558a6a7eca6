"""Another model takes over between two events: nothing lost, nothing twice, and each list says which model made it."""

import json
import threading
from collections.abc import Sequence

import pytest

from consumer import topics
from consumer.embedding import Model
from consumer.loop import Loop
from consumer.settings import Settings
from consumer.state import read_position
from model.encoding import Vectors
from model.errors import BadBundle, DependencyAway, Fatal
from model.taxonomy import Taxonomy
from tests.broker.killed import OTHER, TAXONOMIES, make_with
from tests.broker.test_away import ids
from tests.broker.test_serve import ENCODER, TAXONOMY, events, lists, make, prepare, read, running, send, turn_until
from tests.model.conftest import WordEncoder


class Twin(WordEncoder):
    """The same weights under another name."""

    version = "words-1-again"


class Wide(WordEncoder):
    """Another architecture: longer vectors."""

    version, dim = "words-wide", 96


class Broken(WordEncoder):
    version = "words-broken"

    def encode(self, texts: Sequence[str]) -> Vectors:
        return super().encode(texts) * float("nan")


def nothing(_done: int, _of: int) -> None:
    pass


def models(settings: Settings) -> list[str]:
    return [json.loads(value or b"")["model"] for _, value in read(settings, settings.recommendations_topic)]


def swap(loop: Loop, model: Model) -> None:
    """Get a model ready as the follower does, beside the loop, which goes on."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            loop.serving.prepare(model, nothing)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        loop.turn()
    if raised:
        raise raised[0]


@pytest.mark.parametrize("encoder", [Twin(), OTHER, Wide()], ids=["same weights", "others", "wider"])
def test_lists_before_are_of_the_old_one_and_lists_after_of_the_new(bootstrap: str, encoder: WordEncoder) -> None:
    settings, sent = prepare(bootstrap, partitions=2).model_copy(update={"poll_events": 10}), events(60)
    send(settings, settings.events_topic, sent[:30])
    with running(make(settings)) as loop:
        turn_until(loop, 30)
        taxonomy = TAXONOMIES.get(encoder.version) or TAXONOMY
        if encoder.dim != ENCODER.dim:
            taxonomy = Taxonomy(Taxonomy.read(), encoder)
        swap(loop, Model(encoder, taxonomy))
        send(settings, settings.events_topic, sent[30:])
        turn_until(loop, 60)
        assert loop.metrics.registry.get_sample_value("penchant_model_swaps_total") == 1
        positions = {state.position.bundle for state in loop.states.values()}
    assert positions == {encoder.version}
    assert sorted(event for event, _ in lists(settings)) == sorted(ids(sent))
    assert sorted(models(settings)) == sorted([ENCODER.version] * 30 + [encoder.version] * 30)


def test_the_same_weights_give_the_same_lists(bootstrap: str) -> None:
    results = []
    for swapped in (False, True):
        settings, sent = prepare(bootstrap).model_copy(update={"poll_events": 10}), events(80)
        send(settings, settings.events_topic, sent[:40])
        with running(make(settings)) as loop:
            turn_until(loop, 40)
            if swapped:
                swap(loop, Model(Twin(), TAXONOMY))
            send(settings, settings.events_topic, sent[40:])
            turn_until(loop, 80)
        results.append(lists(settings))
    assert results[0] == results[1]


def test_a_swap_is_as_a_restart_with_the_other_model(bootstrap: str) -> None:
    """Profiles hold references: live, they become what a restore with the other encoder makes of them."""
    results = []
    for live in (True, False):
        settings, sent = prepare(bootstrap).model_copy(update={"poll_events": 10}), events(80)
        send(settings, settings.events_topic, sent[:40])
        other = Model(OTHER, TAXONOMIES[OTHER.version])
        with running(make(settings)) as loop:
            turn_until(loop, 40)
            if live:
                swap(loop, other)
                send(settings, settings.events_topic, sent[40:])
                turn_until(loop, 80)
        if not live:
            with running(make_with(settings, OTHER)) as loop:
                send(settings, settings.events_topic, sent[40:])
                turn_until(loop, 80)
        results.append(lists(settings))
    assert results[0] == results[1]
    assert len(results[0]) == 80


def test_items_that_come_and_go_while_it_gets_ready(bootstrap: str) -> None:
    settings = prepare(bootstrap)
    send(settings, settings.events_topic, events(20))
    with running(make(settings)) as loop:
        turn_until(loop, 20)
        loop.serving.prepare(Model(OTHER, TAXONOMIES[OTHER.version]), nothing)
        prepared, loop.serving._prepared = loop.serving._prepared, None
        send(settings, settings.items_topic, [(b"new", b'{"item":"new","title":"robot"}'), (b"i1", None)])
        while "new" not in loop.items or "i1" in loop.items:
            loop.turn()
        loop.serving._prepared = prepared
        loop.turn()
        catalogue = loop.states[0].fold.catalogue
        assert loop.serving.model.encoder is OTHER
        for name in ("new", "i2"):
            expected = OTHER.encode([next(item.content() for item, _ in loop.items if item.item == name)])[0]
            assert catalogue.content.text.vectors[catalogue.index[name]] == pytest.approx(expected, abs=1e-6)
        assert not catalogue.available(catalogue.index["i1"])


def test_what_gives_no_numbers_is_refused_and_the_old_one_serves_on(bootstrap: str) -> None:
    settings, sent = prepare(bootstrap), events(20)
    with running(make(settings)) as loop:
        send(settings, settings.events_topic, sent[:10])
        turn_until(loop, 10)
        with pytest.raises(BadBundle):
            swap(loop, Model(Broken(), TAXONOMY))
        send(settings, settings.events_topic, sent[10:])
        turn_until(loop, 20)
        assert loop.serving.model.encoder is ENCODER
    assert models(settings) == [ENCODER.version] * 20


def test_a_crash_between_swap_and_commit(bootstrap: str) -> None:
    """Another version is current at the restart: nothing says that there was a swap, as nothing came of it."""
    settings, sent = prepare(bootstrap).model_copy(update={"poll_events": 10}), events(40)
    send(settings, settings.events_topic, sent[:20])
    crashed = make(settings)
    turn_until(crashed, 20)
    swap(crashed, Model(OTHER, TAXONOMIES[OTHER.version]))
    crashed.turn()
    assert crashed.serving.model.encoder is OTHER
    crashed.close()  # nothing was committed since the swap
    recorded = dict(read(settings, settings.state_topic))[b"p"]
    assert read_position(recorded or b"").bundle == ENCODER.version
    send(settings, settings.events_topic, sent[20:])
    with running(make(settings)) as loop:
        turn_until(loop, 40)
    assert models(settings) == [ENCODER.version] * 40
    assert [event for event, _ in lists(settings)] == ids(sent)


def test_a_partition_that_is_restored_during_a_swap(bootstrap: str) -> None:
    settings, sent = prepare(bootstrap, partitions=2), events(40)
    send(settings, settings.events_topic, sent[:20])
    with running(make(settings)) as loop:
        turn_until(loop, 20)
        loop.partitions.discard([1])
        loop.partitions.restore(loop._transactions)
        loop.serving.prepare(Model(Wide(), Taxonomy(Taxonomy.read(), Wide())), nothing)
        loop.serving.turn()
        send(settings, settings.events_topic, sent[20:])
        turn_until(loop, 40)
        assert {state.fold.version for state in loop.states.values()} == {Wide.version}
        assert {state.fold.catalogue.content.dim for state in loop.states.values()} == {Wide.dim}
    assert sorted(event for event, _ in lists(settings)) == sorted(ids(sent))


def test_the_one_before_ranks_a_share_of_the_same_events(bootstrap: str) -> None:
    """On probation: the same weights rank the same; and what serves is as if nobody ranked beside it."""
    results = []
    for share in (0.0, 1.0):
        changed = {"poll_events": 10, "probation_share": share, "probation_events": 30}
        settings, sent = prepare(bootstrap).model_copy(update=changed), events(120)
        send(settings, settings.events_topic, sent[:40])
        with running(make(settings)) as loop:
            turn_until(loop, 40)
            swap(loop, Model(Twin(), TAXONOMY))
            send(settings, settings.events_topic, sent[40:])
            turn_until(loop, 120)
            labels = {"role": "before", "serving": Twin.version, "rival": ENCODER.version}
            value = loop.metrics.registry.get_sample_value
            if share:
                assert 30 <= (value("penchant_paired_evaluated_total", labels) or 0) < 50
                gains = [
                    value("penchant_paired_ndcg_sum_total", labels | {"whose": who}) for who in ("serving", "rival")
                ]
                assert gains[0] == gains[1]
                assert gains[0]
                assert value("penchant_paired_squares_total", labels) == 0
            assert loop.states[0].fold.rivals == {}  # let go, once enough events were ranked
        results.append(lists(settings))
    assert results[0] == results[1]


def test_an_apprentice_ranks_and_never_serves(bootstrap: str) -> None:
    settings, sent = prepare(bootstrap).model_copy(update={"probation_share": 1.0, "apprentice": "wide"}), events(60)
    topics.create(topics.admin(bootstrap), topics.wanted_by(settings))
    with running(make(settings)) as loop:
        send(settings, settings.events_topic, sent[:10])
        turn_until(loop, 10)
        apprentice = Model(Wide(), Taxonomy(Taxonomy.read(), Wide()))
        loop.serving.teach(apprentice, nothing)
        loop.turn()
        send(settings, settings.items_topic, [(b"new", b'{"item":"new","title":"robot"}')])
        while "new" not in loop.items:
            loop.turn()
        send(settings, settings.events_topic, sent[10:])
        turn_until(loop, 60)
        fold = loop.states[0].fold
        assert fold.rivals["apprentice"].content.text.vectors[fold.catalogue.index["new"]].any()
        labels = {"role": "apprentice", "serving": ENCODER.version, "rival": Wide.version}
        assert (loop.metrics.registry.get_sample_value("penchant_paired_evaluated_total", labels) or 0) > 10
        loop.serving.teach(apprentice, nothing)
        assert loop.serving._apprentice is None  # it ranks everywhere already
        compared = loop.metrics.registry.get_sample_value("penchant_paired_lists_total", labels)
        overlap = loop.metrics.registry.get_sample_value("penchant_paired_overlap_sum_total", labels) or 0
    assert models(settings) == [ENCODER.version] * 60
    told = [json.loads(value or b"") for _, value in read(settings, settings.apprentice_topic)]
    assert [one["event"] for one in told] == ids(
        sent[10:]
    )  # what it would have shown, for each list since it knows all
    assert {one["model"] for one in told} == {Wide.version}
    shown = {
        one["event"]: one
        for one in (json.loads(value or b"") for _, value in read(settings, settings.recommendations_topic))
    }
    shares = [
        len({slot["item"] for slot in one["items"]} & {slot["item"] for slot in shown[one["event"]]["items"]}) / 10
        for one in told
    ]
    assert compared == 50
    assert overlap == pytest.approx(sum(shares))
    assert overlap > 0


def test_without_the_topic_for_its_lists_nothing_is_read_and_it_says_so(bootstrap: str) -> None:
    settings = prepare(bootstrap).model_copy(update={"apprentice": "wide"})
    with running(make(settings)) as loop, pytest.raises(DependencyAway, match=settings.apprentice_topic):
        loop.turn()


class Aging(Twin):
    """Gives no more numbers from some day on."""

    version = "words-aging"
    broken = False

    def encode(self, texts: Sequence[str]) -> Vectors:
        return super().encode(texts) * (float("nan") if self.broken else 1.0)


@pytest.mark.parametrize("probation", [True, False])
def test_one_that_fails_on_probation_gives_way_to_the_one_before(bootstrap: str, probation: bool) -> None:
    changed = {"probation_share": 1.0 if probation else 0.0}
    settings, sent = prepare(bootstrap).model_copy(update=changed), events(60)
    with running(make(settings)) as loop:
        send(settings, settings.events_topic, sent[:20])
        turn_until(loop, 20)
        encoder = Aging()
        swap(loop, Model(encoder, TAXONOMY))
        send(settings, settings.events_topic, sent[20:22])
        turn_until(loop, 22)
        encoder.broken = True
        send(settings, settings.events_topic, sent[22:])
        if not probation:
            with pytest.raises(Fatal, match="every text"):
                turn_until(loop, 60)
            return
        turn_until(loop, 60)
        assert loop.serving.model.encoder is ENCODER
        assert loop.metrics.registry.get_sample_value("penchant_models_refused_total", {"reason": "serving"}) == 1
    assert [event for event, _ in lists(settings)] == ids(sent)
    assert models(settings) == [ENCODER.version] * 20 + [encoder.version] * 2 + [ENCODER.version] * 38
