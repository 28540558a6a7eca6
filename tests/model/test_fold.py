"""The fold: deterministic, restorable, exactly explained, and it learns."""

from collections.abc import Sequence

import numpy as np
import pytest

import model.fold
import model.profile
import model.tables
from model.errors import BadEvent, Fatal
from model.evaluate import judge, prepare, report, shuffled
from model.events import (
    Click,
    Dismiss,
    Event,
    Forget,
    Impression,
    Item,
    Rating,
    Recommendation,
    Request,
    Review,
    Search,
    encode,
)
from model.explain import sentence
from model.fold import Fold, FoldSettings
from model.heads import Head
from model.outcome import Answer, Outcome
from model.pairs import TABLES
from model.tables import MANY
from tests.model.conftest import WordEncoder


def clicks(count: int, seed: int = 0, users: int = 12) -> list[Event]:
    """Users who stay with one kind of item and walk along it."""
    rng = np.random.default_rng(seed)
    events: list[Event] = []
    for n in range(count):
        user = int(rng.integers(users))
        item = 2 * int(rng.integers(20)) + user % 2
        events.append(Click(id=f"e{n}", user=f"u{user}", at_ms=1000 * n, item=f"i{item}"))
    return events


def run(fold: Fold, encoder: WordEncoder, events: Sequence[Event]) -> list[Outcome]:
    outcomes = []
    for event in events:
        texts = fold.texts(event)
        outcomes.append(fold.apply(event, dict(zip(texts, encoder.encode(texts), strict=True))))
    return outcomes


def test_every_score_is_the_sum_of_its_reasons_and_the_rest(fold: Fold, encoder: WordEncoder) -> None:
    lists = [o.recommendation for o in run(fold, encoder, clicks(200)) if o.recommendation]
    assert len(lists) > 150
    for one in lists:
        for slot in one.items:
            total = sum(reason.contribution for reason in slot.because) + slot.rest
            assert total == pytest.approx(slot.score, rel=1e-5, abs=1e-5)
            assert len(slot.because) <= 3


def test_all_contributions_together_are_the_score(items: list[Item], encoder: WordEncoder, whole: int) -> None:
    """With every reason told, what is left is the bias and what no past event can claim."""
    fold = prepare(items, encoder, FoldSettings(reasons=100, whole=whole))
    run(fold, encoder, clicks(200))
    outcome = run(fold, encoder, [Click(id="last", user="u1", at_ms=10**6, item="i1")])[0]
    assert outcome.recommendation is not None
    claimed = [slot for slot in outcome.recommendation.items if any(one.feature == "content" for one in slot.because)]
    assert claimed
    for slot in claimed:
        assert slot.rest == pytest.approx(fold.ranker.bias, abs=1e-3)


def test_no_consumed_dismissed_or_gone_item_is_listed(fold: Fold, encoder: WordEncoder) -> None:
    fold.drop_item("i5")
    seen: dict[str, set[str]] = {}
    events = [
        *clicks(60),
        Dismiss(id="d", user="u0", at_ms=70_000, item="i7"),
        Request(id="r", user="u0", at_ms=71_000),
    ]
    for event, outcome in zip(events, run(fold, encoder, events), strict=True):
        seen.setdefault(event.user, set()).add(getattr(event, "item", ""))
        if outcome.recommendation:
            listed = {slot.item for slot in outcome.recommendation.items}
            assert not listed & (seen[event.user] | {"i5"})
            assert len(listed) == len(outcome.recommendation.items)


def test_a_first_search_finds_what_it_says(fold: Fold, encoder: WordEncoder) -> None:
    run(fold, encoder, clicks(300))
    found = run(fold, encoder, [Search(id="s", user="new", at_ms=10**6, text="love wedding kiss")])[0]
    assert found.recommendation is not None
    assert found.interests is not None
    kinds = [int(slot.item[1:]) % 2 for slot in found.recommendation.items]
    assert sum(kinds) >= 8
    assert sum(topic.probability for topic in found.interests.topics) == pytest.approx(1, abs=1e-4)


def test_learning_beats_popularity_and_shuffled_items_fall_to_chance(items: list[Item], encoder: WordEncoder) -> None:
    events = [
        Rating(id=e.id, user=f"{e.user}-{n // 240}", at_ms=e.at_ms, item=e.item, value=5)
        for n, e in enumerate(clicks(1500))
        if isinstance(e, Click)
    ]
    real = report(judge(prepare(items, encoder, FoldSettings()), events, encoder))["last_half"]
    control = report(judge(prepare(items, encoder, FoldSettings()), shuffled(events, 1), encoder))["last_half"]
    assert real["penchant"].ndcg_at_10 > 1.3 * real["popularity"].ndcg_at_10
    assert control["penchant"].ndcg_at_10 < 1.15 * control["popularity"].ndcg_at_10


def test_scored_before_learnt(items: list[Item], encoder: WordEncoder) -> None:
    """The first choice ever can only be ranked by lot: all scores are equal before anything was learnt."""
    events = [Click(id="a", user="u", at_ms=1, item="i3")]
    ranks = [
        judge(prepare(items, encoder, FoldSettings(seed=seed)), events, encoder)[0].evaluation.ranks["penchant"]
        for seed in range(200)
    ]
    assert 14 < np.mean(ranks) < 25
    first = judge(prepare(items, encoder, FoldSettings()), events, encoder)[0].evaluation
    assert first.log_loss == pytest.approx(np.log(40), abs=1e-4)


def equal(one: Recommendation | None, other: Recommendation | None) -> bool:
    if one is None or other is None:
        return one is other
    return [slot.item for slot in one.items] == [slot.item for slot in other.items]


@pytest.mark.parametrize("snapshot_at", [0, 60, 130])
@pytest.mark.parametrize("many", [MANY, 10])  # a column takes two bytes, or four
def test_a_restored_fold_goes_on_as_if_never_stopped(
    items: list[Item], encoder: WordEncoder, whole: int, snapshot_at: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.tables, "MANY", many)
    settings = FoldSettings(whole=whole)
    events = [*clicks(170), Search(id="s", user="u1", at_ms=171_000, text="alien ship"), *clicks(60, 5)]
    undisturbed = run(prepare(items, encoder, settings), encoder, events)
    first = prepare(items, encoder, settings)
    run(first, encoder, events[:snapshot_at])
    first.take_delta()
    monkeypatch.setattr(model.tables, "CHUNK_BYTES", 1000)
    head, blocks = first.begin_snapshot()
    snapshot, deltas = [head], []
    for sequence, event in enumerate(events[snapshot_at:171], 1):
        run(first, encoder, [event])
        deltas.append(first.take_delta())
        if blocks:  # it is written while counting goes on
            snapshot.append(first.snapshot_rows(blocks.pop(0), sequence))
    assert not blocks
    second = prepare(items[::-1], encoder, settings)  # the items arrive in another order
    second.load_snapshot(snapshot)
    for sequence, delta in enumerate(deltas, 1):
        second.tables.open_rows(sequence)
        second.load_delta(delta)
    for user in first.profiles:
        state = first.dump_user(user)
        assert state is not None
        second.load_user(user, state)
    second.loaded()
    here = [second.catalogue.index[item] for item in first.catalogue.ids]
    ours, theirs = second.tables.pairs, first.tables.pairs
    for name in TABLES:
        assert ours.matrix(name, 40)[np.ix_(here, here)] == pytest.approx(theirs.matrix(name, 40))
    assert (ours.sizes[here] == theirs.sizes[:40]).all()
    for expected, got in zip(undisturbed[171:], run(second, encoder, events[171:]), strict=True):
        assert equal(expected.recommendation, got.recommendation)
        assert (expected.evaluation and expected.evaluation.ranks) == (got.evaluation and got.evaluation.ranks)


def test_forget_erases(fold: Fold, encoder: WordEncoder) -> None:
    words = [Search(id=f"s{n}", user=f"u{n}", at_ms=35_000, text="kiss") for n in (1, 2)]
    run(fold, encoder, [*clicks(30), *words, Forget(id="f", user="u1", at_ms=40_000)])
    assert not fold.search_vectors
    run(fold, encoder, [Request(id="r", user="u2", at_ms=41_000)])  # shares the words, and is served
    assert fold.dump_user("u1") is None
    assert fold.dump_user("u2") is not None


def test_an_event_that_comes_twice_counts_once(fold: Fold, encoder: WordEncoder) -> None:
    events = clicks(60)
    run(fold, encoder, events)
    before, steps = fold.tables.engaged.copy(), fold.ranker.steps
    again = run(fold, encoder, events[-20:])
    assert [o.problem for o in again] == ["duplicate"] * 20
    assert not any(o.recommendation or o.evaluation or o.interests for o in again)
    assert (fold.tables.engaged == before).all()
    assert fold.ranker.steps == steps


def test_users_unheard_of_are_forgotten_in_stream_time(items: list[Item], encoder: WordEncoder) -> None:
    def click(n: int, user: str, day: float) -> Event:
        return Click(id=f"c{n}", user=user, at_ms=int(day * 86_400_000), item=f"i{n}")

    fold = prepare(items, encoder, FoldSettings(ttl_days=10))
    run(fold, encoder, [click(0, "old", 0), click(1, "back", 1), click(2, "here", 5), click(3, "here", 11.5)])
    assert fold.collect(limit=0) == []
    returned = run(fold, encoder, [click(4, "back", 11.6)])[0]  # 10.6 days later, not collected yet: a new user
    assert returned.evaluation is not None
    assert returned.evaluation.cold_user
    assert list(fold.profiles["back"].consumed) == ["i4"]
    assert fold.collect() == ["old"]
    assert set(fold.profiles) == {"back", "here"}
    run(fold, encoder, [click(5, "here", 16)])
    assert list(fold.profiles["here"].consumed) == ["i3", "i5"]  # what was engaged 11 days ago may be shown again


def test_an_item_engaged_again_is_the_last_to_be_forgotten(
    fold: Fold, encoder: WordEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.profile, "MAX_CONSUMED", 5)
    order = [0, 1, 2, 3, 4, 0, 5]
    run(fold, encoder, [Click(id=f"c{n}", user="u", at_ms=n, item=f"i{item}") for n, item in enumerate(order)])
    assert list(fold.profiles["u"].consumed) == ["i2", "i3", "i4", "i0", "i5"]


def test_the_daily_cap_is_not_got_round_by_going_back_a_day(items: list[Item], encoder: WordEncoder) -> None:
    fold = prepare(items, encoder, FoldSettings(daily_cap=10))
    days = [n % 2 * 86_400_000 for n in range(100)]
    run(fold, encoder, [Click(id=f"b{n}", user="bot", at_ms=day, item="i3") for n, day in enumerate(days)])
    assert fold.tables.liked[3] <= 11


def test_an_answer_to_a_list_is_a_reward_or_not(fold: Fold, encoder: WordEncoder) -> None:
    shown = run(fold, encoder, clicks(30))[-1].recommendation
    assert shown is not None
    held = [slot.item for slot in shown.items]
    other = next(i for i in fold.catalogue.ids if i not in held)
    events = [
        Click(id=f"a{n}", user=shown.user, at_ms=50_000 + n, item=item, recommendation=name)
        for n, (item, name) in enumerate([(held[0], shown.id), (other, shown.id), (other, "unheard-of")])
    ]
    first, second, third = (outcome.answer for outcome in run(fold, encoder, events))
    assert first == Answer(shown.id, held[0], True, held[1:])  # shown and not chosen, best first
    assert second == Answer(shown.id, other, False, held)
    assert third is None
    rejected = Dismiss(id="no", user=shown.user, at_ms=60_000, item=held[1], recommendation=shown.id)
    assert run(fold, encoder, [rejected])[0].answer == Answer(shown.id, held[1], False, [held[0], *held[2:]])


def test_a_list_that_was_seen_is_answered_by_what_follows_in_the_reward_window(
    items: list[Item], encoder: WordEncoder
) -> None:
    def answer(seen: bool, after_ms: int) -> Answer | None:
        fold = prepare(items, encoder, FoldSettings(reward_window_ms=1000))
        run(fold, encoder, clicks(30))
        shown = run(fold, encoder, [Request(id="r", user="u1", at_ms=40_000)])[0].recommendation
        assert shown is not None
        if seen:
            run(fold, encoder, [Impression(id="i", user="u1", at_ms=40_001, recommendation=shown.id)])
        click = Click(id="c", user="u1", at_ms=40_000 + after_ms, item=shown.items[2].item)
        return run(fold, encoder, [click])[0].answer

    found = answer(seen=True, after_ms=900)
    assert found is not None
    assert found.reward
    assert answer(seen=True, after_ms=1100) is None
    assert answer(seen=False, after_ms=900) is None  # nobody says that the list was ever on a screen


def test_a_modality_brings_alike_items_up_and_says_so(encoder: WordEncoder, whole: int) -> None:
    looks = {"red": [1.0, 0.0], "blue": [0.0, 1.0]}
    items = [
        Item(item=f"{look}{n}", title=f"thing{n}", vectors={"image": looks[look]}) for n in range(20) for look in looks
    ]
    fold = prepare(items, encoder, FoldSettings(modalities=("image",), reasons=20, whole=whole))
    rng = np.random.default_rng(0)
    users = {f"u{n}": ("red", "blue")[n % 2] for n in range(40)}
    outcomes = [
        run(fold, encoder, [Click(id=f"{user}-{n}", user=user, at_ms=n, item=f"{look}{rng.integers(20)}")])[0]
        for n in range(4)
        for user, look in users.items()
    ]
    lists = [one.recommendation for one in outcomes[-40:] if one.recommendation]
    alike = [slot.item.startswith(users[one.user]) for one in lists for slot in one.items]
    assert np.mean(alike) > 0.9
    best = lists[0].items[0]
    assert any(reason.feature == "image" and reason.contribution > 0 for reason in best.because)
    assert "its image is like" in sentence(next(r for r in best.because if r.feature == "image"), {})
    with pytest.raises(BadEvent, match="image of odd has 3 values, not 2"):
        fold.put_item(Item(item="odd", vectors={"image": [1, 2, 3]}), encoder.encode(["odd"])[0])
    assert "odd" not in fold.catalogue.index


def test_words_searched_do_not_pile_up(fold: Fold, encoder: WordEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.fold, "MAX_SEARCHES", 50)
    searches = [Search(id=f"s{n}", user=f"u{n % 40}", at_ms=n, text=f"words {n}") for n in range(300)]
    outcomes = run(fold, encoder, searches)
    assert len(fold.search_vectors) <= 50 + 40
    assert all(outcome.recommendation for outcome in outcomes)


def test_unknown_items_are_a_problem_not_an_error(fold: Fold, encoder: WordEncoder) -> None:
    outcome = run(fold, encoder, [Click(id="e", user="u", at_ms=1, item="nowhere")])[0]
    assert outcome.problem == "unknown_item"
    assert outcome.recommendation is not None


def test_a_history_with_items_that_are_gone_stops_nothing(fold: Fold, items: list[Item], encoder: WordEncoder) -> None:
    run(fold, encoder, [Click(id=f"c{n}", user="u", at_ms=n, item=f"i{n}") for n in range(5)])
    state = fold.dump_user("u")
    assert state is not None
    other = prepare(items[3:], encoder, FoldSettings())  # i0 to i2 were taken out, and nothing tells of them
    other.load_user("u", state)
    outcome = run(other, encoder, [Click(id="next", user="u", at_ms=9, item="i7")])[0]
    assert outcome.recommendation is not None
    assert other.facts[-1].before == ["i4", "i3"]


def test_one_bot_does_not_own_popularity(items: list[Item], encoder: WordEncoder) -> None:
    fold = prepare(items, encoder, FoldSettings(daily_cap=10))
    run(fold, encoder, [Click(id=f"b{n}", user="bot", at_ms=n, item="i3") for n in range(100)])
    assert fold.tables.liked[3] == 10


def test_mmr_moves_positions_not_scores(items: list[Item], encoder: WordEncoder, whole: int) -> None:
    events = clicks(200)
    plain = run(prepare(items, encoder, FoldSettings(whole=whole)), encoder, events)[-1].recommendation
    mixed = run(prepare(items, encoder, FoldSettings(mmr=0.7, whole=whole)), encoder, events)[-1].recommendation
    assert plain is not None
    assert mixed is not None
    assert [s.item for s in plain.items] != [s.item for s in mixed.items]
    assert any(slot.moved_by == "diversity" for slot in mixed.items)
    scores = {slot.item: slot.score for slot in plain.items}
    for slot in mixed.items:
        if slot.item in scores:
            assert slot.score == pytest.approx(scores[slot.item])


def test_ablation_names_are_checked(items: list[Item], encoder: WordEncoder) -> None:
    with pytest.raises(Fatal, match="no feature"):
        prepare(items, encoder, FoldSettings(without=frozenset({"magic"})))


def test_messages_stay_small_and_reasons_read_well(fold: Fold, encoder: WordEncoder) -> None:
    one = run(fold, encoder, clicks(200))[-1].recommendation
    assert one is not None
    assert len(encode(one)) < 6000
    titles = dict(zip(fold.catalogue.ids, fold.catalogue.titles, strict=True))
    for slot in one.items:
        for reason in slot.because:
            assert "{" not in sentence(reason, titles) + sentence(reason, titles, "zh")


def test_content_is_what_items_share_beyond_what_all_share(items: list[Item], encoder: WordEncoder) -> None:
    """Features of text are products of vectors less their mean, whatever was there before."""
    fold = prepare(items[:30], encoder, FoldSettings())
    fold.put_item(items[3], encoder.encode(["something else"])[0])
    for item in (*items[30:], items[3]):
        fold.put_item(item, encoder.encode([item.content()])[0])
    run(fold, encoder, clicks(50))
    words = encoder.encode(["love wedding kiss"])[0]
    vectors = encoder.encode([item.content() for item in items])
    mean = vectors.mean(axis=0)
    catalogue, n = fold.catalogue, len(items)
    content = catalogue.content.text
    centred = content.similarity[:n, :n] - content.common[:n] - content.common[:n, None]
    away = ~np.eye(n, dtype=bool)
    # The mean leaves each item itself out of what it is like: 1 / n less, the same for all.
    assert centred[away] == pytest.approx(((vectors - mean) @ (vectors - mean).T)[away] + 1 / n, abs=1e-5)
    found = content.vectors[:n] @ words - content.common_with(words[None]) - content.common[:n]
    assert np.ptp(found - (vectors - mean) @ (words - mean)) < 1e-5


def test_an_item_that_is_gone_is_gone_as_after_a_restart(whole: int) -> None:
    """Its record is compacted away: a restored fold cannot know what it was, and must give the same lists."""
    encoder, gone = WordEncoder(), set(range(0, 20, 2))
    kinds = ["space alien robot ship", "love wedding kiss couple"]
    tags = [["scifi"], ["romance"]]
    items = [Item(item=f"i{n}", title=f"{kinds[n % 2]} part{n}", tags=tags[n % 2]) for n in range(40)]
    live = prepare([*items, Item(item="never", title="robot kiss nobody touched")], encoder, FoldSettings(whole=whole))
    run(live, encoder, clicks(300))
    for n in gone:
        live.drop_item(f"i{n}")
    live.drop_item("never")
    back = prepare([item for item in items if int(item.item[1:]) not in gone], encoder, FoldSettings(whole=whole))
    back.load_delta(live.take_delta())
    for user in list(live.profiles):
        back.load_user(user, live.dump_user(user) or b"")
    back.loaded()
    there = {item.item for item in items} - {f"i{n}" for n in gone}
    later = [event for event in clicks(600, seed=5) if isinstance(event, Click) and event.item in there][:100]
    live_lists, back_lists = (
        [[slot.item for slot in one.recommendation.items] for one in run(fold, encoder, later) if one.recommendation]
        for fold in (live, back)
    )
    assert len(live_lists) > 50
    assert live_lists == back_lists


def review(number: int, text: str, value: float | None = None) -> Review:
    return Review(id=f"r{number}", user="u1", at_ms=1000 * number, item=f"i{number}", text=text, value=value)


def judging(encoder: WordEncoder) -> Head:
    """A head to which a text is positive as far as it is like "lovely", and negative as it is like "dull"."""
    dull, lovely = encoder.encode(["dull", "lovely"])
    return Head.of(["negative", "positive"], 8 * np.stack([dull, lovely]), np.zeros(2))


def test_a_head_judges_reviews_without_a_value(fold: Fold, encoder: WordEncoder) -> None:
    fold.sentiment = judging(encoder)
    run(
        fold,
        encoder,
        [review(1, "lovely"), review(2, "dull"), review(3, "dull", value=5), review(4, "lovely", value=1)],
    )
    profile = fold.profiles["u1"]
    assert [r.item for r in profile.recent] == ["i4", "i3", "i2", "i1"]  # all are history
    assert [r.item for r in profile.liked] == ["i3", "i1"]  # stars count more than words
    assert profile.recent[2].weight == 0.0
    assert 1.99 < profile.recent[3].weight <= 2.0
    run(fold, encoder, [review(5, "lovely dull lovely")])
    assert 1.0 < profile.liked[0].weight < 1.999  # in between: graded as four to five stars are
    assert not fold.search_vectors  # words of reviews are judged, and not kept


def test_without_a_head_words_of_reviews_are_not_read(fold: Fold, encoder: WordEncoder) -> None:
    assert fold.texts(review(1, "dull")) == []
    run(fold, encoder, [review(1, "dull")])
    assert [(r.item, r.weight) for r in fold.profiles["u1"].liked] == [("i1", 1.0)]


def test_only_what_is_to_be_judged_is_asked_for(fold: Fold, encoder: WordEncoder) -> None:
    fold.sentiment = judging(encoder)
    assert fold.texts(review(1, "dull")) == ["dull"]
    assert fold.texts(review(1, "dull", value=4)) == []
    assert fold.texts(clicks(1)[0]) == []


def test_words_that_no_encoder_can_read_count_as_without_a_head(fold: Fold, encoder: WordEncoder) -> None:
    fold.sentiment = judging(encoder)
    fold.apply(review(1, "dull"), {"dull": np.zeros(encoder.dim, np.float32)})
    assert [(r.item, r.weight) for r in fold.profiles["u1"].liked] == [("i1", 1.0)]


def test_references_keep_what_an_earlier_head_decided(fold: Fold, encoder: WordEncoder) -> None:
    fold.sentiment = judging(encoder)
    run(fold, encoder, [review(1, "dull"), review(2, "lovely")])
    before = fold.dump_user("u1")
    negated = Head.of(["positive", "negative"], fold.sentiment.weights, fold.sentiment.bias)
    content = fold.catalogue.content
    fold.adopt("words-2", fold.taxonomy, content, {}, negated)
    assert fold.dump_user("u1") == before
    run(fold, encoder, [review(3, "dull")])
    assert [r.item for r in fold.profiles["u1"].liked] == ["i3", "i2"]
