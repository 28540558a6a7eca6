"""What is written can be read back, whatever was left over from before."""

import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import model.tables
from consumer.batch import Vector
from consumer.state import (
    FORMAT,
    PART_BYTES,
    PartitionState,
    Position,
    Record,
    Told,
    pack,
    read_record,
    restore,
    unpack,
)
from model.errors import Fatal
from model.events import Click, Event, Forget, Item, Search
from model.fold import Fold, FoldSettings
from model.pairs import TABLES
from model.tables import Fact
from model.taxonomy import Taxonomy
from tests.model.conftest import WordEncoder

ENCODER = WordEncoder()
TAXONOMY = Taxonomy(Taxonomy.read(), ENCODER)
ITEMS = [Item(item=f"i{n}", title=f"{'robot' if n % 2 else 'kiss'} part{n}") for n in range(12)]
VECTORS = ENCODER.encode([item.content() for item in ITEMS])


def new_fold() -> Fold:
    fold = Fold(FoldSettings(length=3), ENCODER, TAXONOMY)
    for item, vector in zip(ITEMS, VECTORS, strict=True):
        fold.put_item(item, vector)
    return fold


@given(st.binary(max_size=10_000), st.integers(1, 300))
@settings(max_examples=30)
def test_a_body_comes_back(body: bytes, times: int) -> None:
    values = pack(7, body * times)
    assert all(len(value) < PART_BYTES + 64 for value in values)
    assert unpack([read_record(value) for value in values]) == body * times


def test_a_newer_format_is_refused_in_one_line() -> None:
    value = msgspec.msgpack.encode(Record(FORMAT + 1, 1, 0, 1, False, b""))
    with pytest.raises(Fatal, match="upgrade"):
        read_record(value)
    with pytest.raises(Fatal, match="upgrade"):
        restore(0, new_fold(), {b"p": msgspec.msgpack.encode([FORMAT + 1, "another shape"])})
    with pytest.raises(Fatal, match="no state"):
        read_record(b"{}")


one_event = st.tuples(st.sampled_from("abc"), st.sampled_from(["click", "search", "forget"]), st.integers(0, 11))


@given(st.lists(st.lists(one_event, max_size=4), min_size=1, max_size=30), st.integers(1, 12), st.integers(4, 9))
@settings(max_examples=12, deadline=None)
def test_a_restored_state_goes_on_as_the_old_one(
    polls: list[list[tuple[str, str, int]]], every: int, ring: int
) -> None:
    table: dict[bytes, bytes] = {}
    state = PartitionState(0, new_fold(), Position(FORMAT, 0, 0, "b", [], "s"))
    # Another partition whose users do the same, and which tells of it.
    other = PartitionState(1, new_fold(), Position(FORMAT, 0, 0, "b", [], "s"))
    told: list[tuple[int, int, bytes]] = []

    def read_told(start: Sequence[int], stop: Sequence[int]) -> Told:
        return [
            one for one in told if (start[1] if len(start) > 1 else 0) <= one[1] < (stop[1] if len(stop) > 1 else 0)
        ]

    count = 0
    for poll in polls:
        state.merge(told[-2:])  # the latter of the two again, which must not count twice
        made = [event(user, kind, number, count + n) for n, (user, kind, number) in enumerate(poll)]
        count += len(made)
        for one in made:
            state.fold.apply(one, vectors(state.fold, one))
            other.fold.apply(one, vectors(other.fold, one))
        users = dict.fromkeys(one.user for one in made)
        for key, value in state.changes(count, len(made), users, [5], every, ring):
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value
        for facts in other.tell():
            told.append((1, 3 * len(told), facts))  # offsets have holes
        other.fold.take_facts()
    again = restore(0, new_fold(), table, read_told)
    assert again is not None
    ours, theirs = again.fold.tables, state.fold.tables
    assert (ours.engaged == theirs.engaged).all()
    for name in ("liked", "recent", "alone"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-6), name
    n = len(again.fold.catalogue)
    for name in TABLES:
        assert ours.pairs.matrix(name, n) == pytest.approx(theirs.pairs.matrix(name, n), rel=1e-6), name
    assert (ours.pairs.sizes == theirs.pairs.sizes).all()
    assert again.position == state.position
    assert again.fold.profiles == state.fold.profiles
    probe = event("a", "click", 1, count)
    one_list, other_list = (s.fold.apply(probe, vectors(s.fold, probe)).recommendation for s in (state, again))
    assert one_list is not None
    assert other_list is not None
    assert [slot.item for slot in one_list.items] == [slot.item for slot in other_list.items]


def test_what_is_told_fits_into_records() -> None:
    state = PartitionState(0, new_fold(), Position(FORMAT, 0, 0, "b", [], "s"))
    long = ["x" * 256] * 10
    state.fold.facts = [Fact(f"{n}", True, long, long) for n in range(900)]
    values = state.tell()
    assert len(values) > 1
    assert max(map(len, values)) <= PART_BYTES
    assert [fact for value in values for fact in msgspec.msgpack.decode(value, type=list[Fact])] == state.fold.facts


def test_crashes_that_cut_snapshots_short_never_cost_a_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.tables, "CHUNK_BYTES", 60)  # many blocks: a snapshot takes several transactions
    table: dict[bytes, bytes] = {}
    state: PartitionState | None = PartitionState(0, new_fold(), Position(FORMAT, 0, 0, "b", [], "s"))
    for n in range(200):
        assert state is not None
        state.fold.apply(event("abc"[n % 3], "click", n % 12, n), {})
        for key, value in state.changes(n, 1, ["abc"[n % 3]], [], 10**6, 12):
            if value is not None:
                table[key] = value
        if n % 3 == 2:  # dies, and is restored
            state = restore(0, new_fold(), table)


def test_a_missing_delta_is_never_passed_over() -> None:
    state = PartitionState(0, new_fold(), Position(FORMAT, 0, 0, "b", [], "s"))
    table = {k: v for _ in range(3) for k, v in state.changes(1, 1, [], [], 99, 99) if v is not None}
    del table[b"d/2/0"]
    with pytest.raises(Fatal, match="delta 2 is missing"):
        restore(0, new_fold(), table)


def event(user: str, kind: str, number: int, n: int) -> Event:
    if kind == "click":
        return Click(id=f"e{n}", user=user, at_ms=n, item=f"i{number}")
    return (
        Forget(id=f"e{n}", user=user, at_ms=n)
        if kind == "forget"
        else Search(id=f"e{n}", user=user, at_ms=n, text=f"robot {number}")
    )


def vectors(fold: Fold, one: Event) -> dict[str, Vector]:
    texts = fold.texts(one)
    return dict(zip(texts, ENCODER.encode(texts), strict=True))


def test_a_snapshot_of_many_long_names_stays_in_small_records() -> None:
    """Ids of 256 characters that nothing compresses: their list alone is more than Kafka takes as one record."""
    dice = random.Random(1)
    names = ["".join(chr(dice.randrange(0x4E00, 0x9FFF)) for _ in range(256)) for _ in range(1200)]
    state = PartitionState(0, new_fold(), Position(FORMAT, 0, 0, "b", [], "s"))
    for name in names:
        state.fold.put_item(Item(item=name, title="robot"), VECTORS[0])
    click = Click(id="e", user="u", at_ms=1, item=names[0])
    state.fold.apply(click, vectors(state.fold, click))
    table: dict[bytes, bytes] = {}
    while not any(key.startswith(b"s/") for key in table) or state.complete == 0:
        changes = state.changes(state.position.offset + 1, 1, ["u"], [0], 1, 16)
        assert all(len(value or b"") < 900 * 1024 for _, value in changes)
        table |= {key: value for key, value in changes if value is not None}
    again = restore(0, new_fold(), table)
    assert again is not None
    engaged = again.fold.tables.engaged
    assert engaged[again.fold.catalogue.index[names[0]]] == 1
    assert engaged.sum() == 1
