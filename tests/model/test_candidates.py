"""Catalogues of which only candidates are ranked: the same features, sources that can be told, and no refusal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import model.candidates
import model.choosing
import model.content
import model.kernels
import model.pairs
import model.profile
import model.sparse_pairs
import model.tables
from model.candidates import differing, least, strengthen
from model.content import SIGN_WORDS, Content, signs, signs_by_word
from model.evaluate import judge, prepare
from model.events import Click, Event, Item, Request, Search
from model.fold import Fold, FoldSettings
from model.leaders import Leaders, strongest
from model.tables import Fact
from tests.model.conftest import WordEncoder
from tests.model.test_fold import run
from tests.model.test_learnt import TwoParts

SEEDS = st.integers(0, 2**32 - 1)
WORDS = ["alien", "robot", "ship", "moon", "love", "kiss", "wedding", "dance", "gun", "train", "horse", "river"]


@pytest.fixture
def many() -> list[Item]:
    """600 items with words and tags of their own."""
    dice = np.random.default_rng(0)
    return [
        Item(item=f"i{n}", title=f"{' '.join(dice.choice(WORDS, 3))} part{n}", tags=[str(dice.choice(WORDS))])
        for n in range(600)
    ]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every source propose little, so that most of 600 items are no candidates."""
    monkeypatch.setattr(model.candidates, "PAIRED", 30)
    monkeypatch.setattr(model.candidates, "ALIKE", (30, 15, 15))
    monkeypatch.setattr(model.candidates, "LEAST", 20)
    monkeypatch.setattr(model.tables, "LEADERS", 15)


def strolls(count: int, items: int, seed: int = 0, users: int = 30) -> list[Event]:
    """Return clicks of users who stay about where they are in the catalogue."""
    dice = np.random.default_rng(seed)
    events: list[Event] = []
    for n in range(count):
        user = int(dice.integers(users))
        item = (user * items // users + int(dice.integers(40))) % items
        events.append(Click(id=f"{seed}-{n}", user=f"u{user}", at_ms=n * 1000, item=f"i{item}"))
    return events


def test_a_candidate_has_the_features_that_it_has_where_all_are_ranked(
    many: list[Item], encoder: WordEncoder, few: None
) -> None:
    events = [*strolls(800, 600), Search(id="s", user="u1", at_ms=900_000, text="alien moon")]
    every, some = (prepare(many, encoder, FoldSettings(whole=whole, modalities=("image",))) for whole in (1024, 0))
    for fold in (every, some):
        for number in (3, 4, 50):
            picture = {"image": [1.0, number / 10]}
            fold.put_item(Item(item=f"i{number}", title="x", vectors=picture), encoder.encode(["x"])[0])
        run(fold, encoder, events)
    some.ranker.load(*every.ranker.dump())
    for user in ("u1", "u7", "nobody"):
        views = []
        for fold in (every, some):
            history = fold.features.history(fold.profiles.get(user, model.profile.Profile()), fold.search_vectors)
            hidden = [fold.catalogue.index[i] for i in ("i55", "i200")]
            views.append(fold.features.look(history, fold.ranker, hidden, fold.catalogue.index["i599"]))
        whole, part = views
        assert part.items is not None
        assert 20 <= len(part.items) < 150
        assert part.x == pytest.approx(whole.x[:, part.items], abs=2e-5)
        assert part.scores == pytest.approx(whole.scores[part.items], abs=1e-3)
        assert part.position(part.target) == 599
        assert (part.shown() == np.where(np.isin(np.arange(600), hidden), -np.inf, 0)).all()
        assert not np.isin(hidden, part.items).any()
        together = whole.everywhere(2)
        assert part.everywhere(2)[part.items] == pytest.approx(together[part.items], abs=1e-5)


def test_whoever_comes_first_the_same_are_candidates_and_shown(
    many: list[Item], encoder: WordEncoder, few: None
) -> None:
    """After a restart the items arrive in another order."""
    events = [*strolls(500, 600), Search(id="s", user="u1", at_ms=900_000, text="alien moon")]
    one, other = (prepare(items, encoder, FoldSettings(whole=0)) for items in (many, many[::-1]))
    for mine, its in zip(run(one, encoder, events), run(other, encoder, events), strict=True):
        assert (mine.evaluation and mine.evaluation.ranks) == (its.evaluation and its.evaluation.ranks)
        assert [s.item for s in mine.recommendation.items] == [s.item for s in its.recommendation.items]  # type: ignore[union-attr]


def test_what_is_no_candidate_is_a_miss_and_teaches_nothing(many: list[Item], encoder: WordEncoder, few: None) -> None:
    fold = prepare(many, encoder, FoldSettings(whole=0))
    run(fold, encoder, strolls(800, 600))
    taught, missed = 0, 0
    for event in strolls(400, 600, seed=1, users=600):
        steps, weights = fold.ranker.steps, fold.ranker.weights.copy()
        evaluation = run(fold, encoder, [event])[0].evaluation
        if evaluation is None:
            continue
        learnt = fold.ranker.steps > steps
        assert learnt == (evaluation.ranks["penchant"] >= 0)
        assert learnt or (fold.ranker.weights == weights).all()
        assert evaluation.log_loss > 0
        assert all(evaluation.ranks[name] >= 0 for name in ("popularity", "recent_popularity", "covisitation"))
        taught, missed = taught + learnt, missed + (not learnt)
    assert taught > 20
    assert missed > 20


def test_a_new_item_reaches_a_list_by_its_words(many: list[Item], encoder: WordEncoder, few: None) -> None:
    fold = prepare(many, encoder, FoldSettings(whole=0))
    run(fold, encoder, strolls(500, 600))
    fold.put_item(Item(item="new", title="zebra circus"), encoder.encode(["zebra circus"])[0])
    shown = run(fold, encoder, [Search(id="s", user="fresh", at_ms=1_000_000, text="a zebra circus")])[0].recommendation
    assert shown is not None
    assert shown.items[0].item == "new"


def test_a_first_visitor_of_an_empty_shop_is_shown_something(many: list[Item], encoder: WordEncoder, few: None) -> None:
    fold = prepare(many, encoder, FoldSettings(whole=0))
    shown = run(fold, encoder, [Request(id="r", user="u", at_ms=1)])[0].recommendation
    assert shown is not None
    assert len(shown.items) == 10


def test_a_catalogue_grows_past_the_limit_and_goes_on(many: list[Item], encoder: WordEncoder) -> None:
    """What was counted and learnt before is there afterwards; nothing is refused."""
    growing = prepare(many[:256], encoder, FoldSettings(whole=256))
    large = prepare(many[:256], encoder, FoldSettings(whole=0))
    events = strolls(300, 250)
    for fold in (growing, large):
        run(fold, encoder, events)
    assert [fold.catalogue.dense for fold in (growing, large)] == [True, False]
    for fold in (growing, large):
        for item, vector in zip(many[256:], encoder.encode([item.content() for item in many[256:]]), strict=True):
            fold.put_item(item, vector)
    large.ranker.load(*growing.ranker.dump())
    assert [fold.catalogue.dense for fold in (growing, large)] == [False, False]
    for name in model.pairs.TABLES:
        assert (growing.tables.pairs.matrix(name, 600) == large.tables.pairs.matrix(name, 600)).all()
    assert (growing.catalogue.content.signs == large.catalogue.content.signs).all()
    for mine, its in zip(*(run(fold, encoder, strolls(100, 600, 1)) for fold in (growing, large)), strict=True):
        assert [s.item for s in mine.recommendation.items] == [s.item for s in its.recommendation.items]


def test_few_candidates_are_nearly_as_good_as_all(many: list[Item], encoder: WordEncoder, few: None) -> None:
    events = strolls(3000, 600)

    def hits(fold: Fold) -> float:
        judged = judge(fold, events, encoder)
        return float(np.mean([0 <= one.evaluation.ranks["penchant"] < 10 for one in judged[len(judged) // 2 :]]))

    every, some = (hits(prepare(many, encoder, FoldSettings(whole=whole))) for whole in (1024, 0))
    assert every > 0.2
    assert some > 0.9 * every


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(0, 60))
def test_the_nearest_by_signs_are_those_of_numpy(seed: int, wanted: int) -> None:
    dice = np.random.default_rng(seed)
    vectors = dice.standard_normal((50, 16)).astype(np.float32)
    vectors[dice.integers(0, 50, 20)] = vectors[0]  # many tie
    table, query = np.ascontiguousarray(signs(vectors).T), signs(dice.standard_normal(16).astype(np.float32))
    counts = np.empty(50, np.uint16)
    differing(table, query, counts)
    assert (counts == np.bitwise_count(table ^ query[:, None]).sum(axis=0)).all()
    free = dice.random(50) < 0.8
    first, tied, missing = least(counts, free, SIGN_WORDS * 64, wanted)
    order = sorted(np.flatnonzero(free).tolist(), key=lambda i: counts[i])
    assert sorted(first.tolist()) == sorted(order[: len(first)])
    assert len(first) + missing == wanted
    if len(tied):
        limit = counts[tied[0]]
        assert sorted(tied.tolist()) == [i for i in sorted(order) if counts[i] == limit]
        assert len(first) == sum(counts[i] < limit for i in order)
        assert len(first) + len(tied) > wanted
    else:
        assert len(first) == len(order) <= wanted


def test_near_vectors_share_most_signs() -> None:
    """The share that differs is the angle's share of half a turn (Charikar 2002)."""
    one, other = np.zeros((2, 384), np.float32)
    one[0] = other[0] = 1
    other[1] = 1
    differ = np.bitwise_count(signs(one) ^ signs(other)).sum() / (SIGN_WORDS * 64)
    assert differ == pytest.approx(0.25, abs=0.05)


@settings(deadline=None, max_examples=30)
@given(SEEDS)
def test_leaders_are_always_those_of_a_sort(seed: int) -> None:
    dice = np.random.default_rng(seed)
    values, there = np.zeros(40, np.float32), np.ones(40, np.float32)
    lots, leaders, changes = dice.permutation(40).astype(np.uint32), Leaders(7), 0
    for _ in range(200):
        item = int(dice.integers(40))
        if dice.random() < 0.05:
            there[item] = 1 - there[item]
            changes += 1
        else:
            values[item] = max(0, values[item] + dice.choice([-1, 1, 1]))
            leaders.counted(item, float(values[item]))
        if dice.random() < 0.5:
            known = [i for i in range(40) if values[i] > 0 and there[i]]
            wanted = sorted(known, key=lambda i: (-values[i], -int(lots[i])))[:7]
            assert sorted(leaders.items(values, there, lots, changes).tolist()) == sorted(wanted)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 50))
def test_the_strongest_are_those_of_a_sort_ties_by_lot(seed: int, count: int) -> None:
    dice = np.random.default_rng(seed)
    items, lots = dice.permutation(60)[:40], dice.permutation(60).astype(np.uint32)
    values = dice.integers(0, 9, 40).astype(np.float32)
    order = sorted(range(40), key=lambda k: (-values[k], -int(lots[items[k]])))
    assert set(strongest(items, values, lots, count).tolist()) == {int(items[k]) for k in order[:count]}


@pytest.mark.parametrize("learnt", [0, 20])
def test_content_is_the_same_put_one_by_one_all_at_once_or_grown(encoder: WordEncoder, learnt: int) -> None:
    vectors = encoder.encode([f"{word} {other}" for word in WORDS for other in WORDS[:3]])
    n = len(vectors)
    for limit in (0, 64):
        made = Content.of(vectors, range(n), learnt, 64, limit)
        grown = Content.of(vectors[:0], (), learnt, 8, limit if limit else 4)
        whole = Content.of(vectors[:0], (), learnt, 64, limit)
        assert [part.dim for part in made.parts] == ([44, 20] if learnt else [64])
        for i, vector in enumerate(vectors):
            if i == len(grown.text.vectors):
                grown.grow(2 * i)
            grown.put(i, i + 1, vector)
            whole.put(i, i + 1, vector)
        whole.put(3, n, vectors[5])
        whole.drop(3, n)
        whole.put(3, n, vectors[3])
        here = np.arange(n)
        for other in (grown, whole):
            for own, part in zip(other.parts, made.parts, strict=True):
                assert own.dense == part.dense == bool(limit)
                assert own.vectors[:n] == pytest.approx(part.vectors[:n])
                assert own.common_of(here) == pytest.approx(part.common_of(here), abs=1e-6)
                assert own.similarity == pytest.approx(part.similarity, abs=1e-6)
            assert (other.signs == made.signs).all()


def test_what_was_searched_is_proposed_as_long_as_the_search_speaks(
    many: list[Item], encoder: WordEncoder, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.candidates, "LEAST", 1)  # so that none is drawn by lot
    fold = prepare(many, encoder, FoldSettings(whole=0))
    run(fold, encoder, strolls(500, 600))
    lone = Item(item="lone", title="zeppelin harbour")
    fold.put_item(lone, encoder.encode([lone.content()])[0])
    run(fold, encoder, [Search(id="s", user="u", at_ms=900_000, text="zeppelin harbour")])
    for number in range(9):
        run(fold, encoder, [Click(id=f"l{number}", user="u", at_ms=900_001 + number, item=f"i{number}")])
        view, _ = fold._look("u", fold.profiles["u"])
        assert view.items is not None
        assert fold.catalogue.index["lone"] in view.items


def test_items_without_words_are_no_candidates_by_words(
    many: list[Item], encoder: WordEncoder, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their vectors are 0, all alike and like nothing: by signs alone they would tie with each other."""
    monkeypatch.setattr(model.candidates, "LEAST", 1)  # so that none is drawn by lot
    fold = prepare(many[:300], encoder, FoldSettings(whole=0))
    run(fold, encoder, strolls(500, 300))
    for number in range(300):
        fold.put_item(Item(item=f"mute{number}"), np.zeros(encoder.dim, np.float32))
    for number in range(3):  # engaged by one: but nobody is proposed the others for it
        run(fold, encoder, [Click(id=f"m{number}", user="mute", at_ms=600_000, item=f"mute{number}")])
    for user in ("u1", "mute"):
        history = fold.features.history(fold.profiles[user], fold.search_vectors)
        items = fold.features.look(history, fold.ranker, ()).items
        assert items is not None
        assert {fold.catalogue.ids[i] for i in items.tolist() if i >= 300} <= {"mute0", "mute1", "mute2"}


@pytest.mark.parametrize("whole", [1024, 0])
def test_a_long_list_of_a_first_visitor_is_full(many: list[Item], encoder: WordEncoder, whole: int, few: None) -> None:
    fold = prepare(many, encoder, FoldSettings(whole=whole, length=200, mmr=0.1))
    shown = run(fold, encoder, [Request(id="r", user="u", at_ms=1)])[0].recommendation
    assert shown is not None
    assert len(shown.items) == 200


@pytest.mark.parametrize("dim", [64, 384, 768])
def test_a_vector_has_the_same_signs_alone_as_among_others(dim: int) -> None:
    """A restored fold puts items one by one, a swap all at once: both must propose the same."""
    dice = np.random.default_rng(0)
    vectors, directions = dice.standard_normal((500, dim)), model.content._directions(dim)[:, :500].T.astype(np.float64)
    # At right angles to a direction each: of their product the order of adding makes the sign.
    vectors -= directions * ((vectors * directions).sum(1) / (directions**2).sum(1))[:, None]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    among = signs_by_word(vectors).T
    assert (among == np.stack([signs(vector) for vector in vectors])).all()
    assert (among[5:7] == signs(vectors[5:7])).all()


def test_kernels_are_compiled_for_one_kind_of_arguments(many: list[Item], encoder: WordEncoder) -> None:
    """Else they are compiled anew between two events, which takes seconds: also where the catalogue becomes large."""
    growing = prepare(many[:250], encoder, FoldSettings(whole=256, modalities=("image",)))
    searches = [Search(id=f"s{n}", user=f"u{n}", at_ms=n, text="alien moon") for n in range(5)]
    run(growing, encoder, [*searches, *strolls(100, 250)])
    for item, vector in zip(many[250:], encoder.encode([item.content() for item in many[250:]]), strict=True):
        growing.put_item(item, vector)
    growing.ranker.load(*growing.ranker.dump())
    run(growing, encoder, strolls(100, 600, 1))
    for kernel in (
        model.kernels.feature_matrix, model.kernels.refresh, model.choosing.softmax_step, model.choosing.place,
        model.choosing.top, model.choosing.strongest_parts, model.candidates.strengthen, model.candidates.read_rows,
        model.candidates.differing, model.candidates.least, model.pairs._count_dense, model.sparse_pairs._count_sparse,
    ):  # fmt: skip
        assert len(kernel.signatures) == 1, kernel


def test_the_limit_is_passed_while_a_snapshot_is_written(
    many: list[Item], encoder: WordEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.tables, "CHUNK_BYTES", 500)
    vectors = encoder.encode([item.content() for item in many])
    fold = prepare(many[:250], encoder, FoldSettings(whole=256))
    run(fold, encoder, strolls(300, 250))
    fold.take_delta()
    head, blocks = fold.begin_snapshot()
    snapshot, deltas, later = [head], [], strolls(1000, 600, 1)
    for sequence in range(1, len(blocks) + 1):
        fresh = 250 + 5 * sequence
        for item, vector in zip(many[fresh - 5 : fresh], vectors[fresh - 5 : fresh], strict=True):
            fold.put_item(item, vector)
        run(fold, encoder, later[4 * sequence : 4 * sequence + 4])
        deltas.append(fold.take_delta())
        snapshot.append(fold.snapshot_rows(blocks.pop(0), sequence))
    known = len(fold.catalogue)
    assert known > 260
    again = prepare(many[:known][::-1], encoder, FoldSettings(whole=256))
    again.load_snapshot(snapshot)
    for sequence, delta in enumerate(deltas, 1):
        again.tables.open_rows(sequence)
        again.load_delta(delta)
    for user in fold.profiles:
        again.load_user(user, fold.dump_user(user) or b"")
    again.loaded()
    here = [again.catalogue.index[item] for item in fold.catalogue.ids]
    for name in model.pairs.TABLES:
        ours, theirs = again.tables.pairs.matrix(name, known), fold.tables.pairs.matrix(name, known)
        assert ours[np.ix_(here, here)] == pytest.approx(theirs)
    last = strolls(60, known, 2)
    for mine, its in zip(*(run(each, encoder, last) for each in (fold, again)), strict=True):
        assert (mine.evaluation and mine.evaluation.ranks) == (its.evaluation and its.evaluation.ranks)
        assert [s.item for s in mine.recommendation.items] == [s.item for s in its.recommendation.items]


def test_who_leads_is_found_anew_when_a_leader_goes_or_comes_back(
    many: list[Item], encoder: WordEncoder, few: None
) -> None:
    fold = prepare(many, encoder, FoldSettings(whole=0))
    run(fold, encoder, strolls(800, 600))
    before = {fold.catalogue.ids[i] for i in fold.tables.leaders(fold.catalogue)[0].tolist()}
    gone = min(before)
    fold.drop_item(gone)
    after = {fold.catalogue.ids[i] for i in fold.tables.leaders(fold.catalogue)[0].tolist()}
    assert gone not in after
    assert len(after) == len(before) == model.tables.LEADERS
    item = next(item for item in many if item.item == gone)
    fold.put_item(item, encoder.encode([item.content()])[0])
    assert {fold.catalogue.ids[i] for i in fold.tables.leaders(fold.catalogue)[0].tolist()} == before


def test_looking_leaves_nothing_behind(many: list[Item], encoder: WordEncoder, few: None) -> None:
    """Working arrays over all items are reset: who looked before changes nothing."""
    fold = prepare(many, encoder, FoldSettings(whole=0))
    run(fold, encoder, strolls(500, 600))

    def look(user: str) -> tuple[list[int], list[float]]:
        history = fold.features.history(fold.profiles[user], fold.search_vectors)
        view = fold.features.look(history, fold.ranker, ())
        assert view.items is not None
        return view.items.tolist(), view.scores.tolist()

    first = look("u1")
    for user in ("u2", "u20", "u29"):
        look(user)
    assert look("u1") == first


def test_what_is_near_the_latest_search_is_a_candidate_whatever_was_liked_before(
    many: list[Item], encoder: WordEncoder, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.candidates, "ALIKE", (1, 15, 15))
    monkeypatch.setattr(model.candidates, "LEAST", 1)
    fold = prepare([*many, Item(item="new", title="zebra circus")], encoder, FoldSettings(whole=0))
    words = ["alien robot", "robot ship", "ship moon", "moon alien", "alien ship", "robot moon"]
    before = [Search(id=f"s{n}", user="u", at_ms=n, text=text) for n, text in enumerate(words)]
    run(fold, encoder, [*before, Search(id="last", user="u", at_ms=10, text="zebra circus")])
    history = fold.features.history(fold.profiles["u"], fold.search_vectors)
    items = fold.features.look(history, fold.ranker, ()).items
    assert items is not None
    assert fold.catalogue.index["new"] in items


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_items_are_paired_as_strongly_as_numpy_says(seed: int) -> None:
    n, dice = 40, np.random.default_rng(seed)
    tables, drawn = model.tables.Tables(64, 0), np.arange(64, dtype=np.uint32)
    for _ in range(150):
        past, liked = (dice.integers(0, n, dice.integers(0, 11)) for _ in range(2))
        tables.add(int(dice.integers(n)), bool(dice.random() < 0.5), past, liked, drawn)
    recent, liked = dice.permutation(n)[:10], dice.permutation(n)[:7]
    together, liked_together, followed = (tables.pairs.matrix(name, n) for name in model.pairs.TABLES)
    decay, engaged, likes = model.kernels.DECAY, tables.engaged[recent], tables.liked[liked]
    expected = (decay / np.sqrt(engaged + 5)) @ (together + followed)[recent]
    expected += (decay[:7] / np.sqrt(likes + 5)) @ liked_together[liked]
    pairs, strength, touched = tables.pairs, np.zeros(64, np.float32), np.empty(64 * 17, np.int64)
    assert isinstance(pairs, model.sparse_pairs.SparsePairs)
    count = strengthen(
        pairs.start, pairs.length, pairs.columns, pairs.values, recent, tables.engaged, liked, tables.liked, strength,
        touched,
    )  # fmt: skip
    assert strength[:n] == pytest.approx(expected, rel=1e-5)
    assert len(set(touched[:count].tolist())) == count
    assert set(np.flatnonzero(expected).tolist()) <= set(touched[:count].tolist())


def test_of_what_is_paired_its_share_counts(
    many: list[Item], encoder: WordEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """i1 is engaged by all, and so by some who engaged i0; i2 hardly by anybody else."""
    monkeypatch.setattr(model.candidates, "PAIRED", 1)
    monkeypatch.setattr(model.candidates, "LEAST", 1)
    monkeypatch.setattr(model.tables, "LEADERS", 1)
    fold = prepare(many[:5], encoder, FoldSettings(whole=0, length=1))
    fold.merge([Fact("i1", True, [], [])] * 100 + [Fact("i1", True, ["i0"], [])] * 3)
    fold.merge([Fact("i2", True, ["i0"], [])] * 2 + [Fact("i3", True, ["i0"], [])])
    none, zero = np.zeros(0, np.int64), np.zeros(1, np.int64)
    proposer = model.candidates.Candidates(fold.catalogue, fold.tables, 1)
    proposer._reserve()
    assert proposer._paired(zero, none, np.ones(5, np.bool_)).tolist() == [fold.catalogue.index["i2"]]


def test_an_item_is_not_like_itself_in_a_modality(many: list[Item], encoder: WordEncoder) -> None:
    folds = [prepare([], encoder, FoldSettings(whole=whole, modalities=("image",))) for whole in (256, 0)]
    for fold in folds:
        for number in range(4):
            picture = {"image": [1.0, number]}
            fold.put_item(Item(item=f"i{number}", title="x", vectors=picture), encoder.encode(["x"])[0])
    past, items = np.array([2, 0]), np.array([0, 1, 2])
    found = folds[1].catalogue.modal_cosines(past, items)
    assert found == pytest.approx(folds[0].catalogue.modal[:, past][:, :, items], abs=1e-6)
    assert found[0, 0, 2] == found[0, 1, 0] == 0


def test_what_was_learnt_proposes_nothing(many: list[Item], few: None) -> None:
    """The candidates of a tuned model are those of the model that it began as."""
    found = []
    for one in (TwoParts(paired=True), WordEncoder()):
        fold = prepare(many, one, FoldSettings(whole=0))
        run(
            fold, one, [Click(id="c", user="u", at_ms=1, item="i7"), Search(id="s", user="u", at_ms=2, text="moon gun")]
        )
        view, _ = fold._look("u", fold.profiles["u"])
        assert view.items is not None
        found.append(view.items.tolist())
    assert len(found[0]) < 200
    assert found[0] == found[1]
