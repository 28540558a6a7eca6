"""A team's own JSON becomes events; what cannot is a BadEvent with a reason, a wrong mapping one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from consumer import check
from consumer.batch import fold_poll
from consumer.mapping import Mapping
from consumer.settings import Settings, load
from model.errors import BadEvent, Fatal
from model.events import MAX_BYTES, MAX_FUTURE_MS, Event
from tests.consumer.test_batch import STATE, TEXTS, Fake

TOML = """
[mapping]
time_unit = "s"
[mapping.fields]
id = "uuid"
user = "actor.id"
at_ms = "ts"
kind = "verb"
item = "object.sku"
text = "q"
rank = "slot"
[mapping.kinds]
opened = "click"
searched = "search"
7 = "dismiss"
true = "request"
"""
FIELDS = {"id": "uuid", "user": "actor.id", "at_ms": "ts", "item": "object.sku"}
THEIRS: dict[str, Any] = {"uuid": "e", "actor": {"id": "u"}, "ts": 0.5, "verb": "opened", "object": {"sku": "i"}}


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    file: Path = tmp_path_factory.mktemp("mapping") / "a.toml"
    file.write_text(TOML)
    return load(file)


def test_the_readme_example_is_a_mapping(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    file = tmp_path / "a.toml"
    file.write_text(readme.split("```toml\n")[1].split("```")[0])
    assert load(file).decode(theirs(), None).kind == "click"


def theirs(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in {**THEIRS, **changes}.items() if value is not ...}).encode()


def test_fields_are_found_and_kinds_translated(mapped: Settings) -> None:
    event = mapped.decode(theirs(slot=3), None)
    assert (event.kind, event.id, event.user, event.at_ms, event.rank) == ("click", "e", "u", 500, 3)
    for verb, kind in (("searched", "search"), (7, "dismiss"), (True, "request")):
        assert mapped.decode(theirs(verb=verb, q="robot"), None).kind == kind
    assert mapped.decode(theirs(verb="searched", q="robot", object=...), None).user == "u"


@pytest.mark.parametrize(("theirs_is", "ours_is"), [(42, "42"), (42.0, "42"), (-1, "-1"), (2**80, str(2**80))])
def test_numbers_become_ids(mapped: Settings, theirs_is: float, ours_is: str) -> None:
    assert mapped.decode(theirs(actor={"id": theirs_is}), None).user == ours_is


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (None, "null", "no value"),
        (b"x" * (MAX_BYTES + 1), "too_large", "at most"),
        (b"{", "not_json", "truncated"),
        (b'{"a":' * 20_000, "too_deep", "deep"),
        (b"[1]", "schema", "object"),
        (theirs(actor=...), "schema", "no actor.id"),
        (theirs(actor=5), "schema", "no actor.id"),
        (theirs(verb=...), "schema", "no verb"),
        (theirs(object=...), "schema", "no object.sku"),
        (theirs(actor={"id": ""}), "schema", "user"),
        (theirs(actor={"id": True}), "schema", "user"),
        (theirs(actor={"id": 1.5}), "schema", "user"),
        (theirs(actor={"id": 1e20}), "schema", "user"),
        (theirs(ts="soon"), "schema", "at_ms"),
        (theirs(ts=-1), "schema", "at_ms"),
        (theirs(ts=1e300), "schema", "at_ms"),
        (theirs(verb="sneezed"), "unknown_kind", "sneezed"),
        (theirs(verb=["opened"]), "unknown_kind", "opened"),
        (theirs(ts=1 + MAX_FUTURE_MS), "future", "after"),
    ],
)
def test_what_cannot_be_mapped_has_a_reason(mapped: Settings, value: bytes | None, reason: str, said: str) -> None:
    with pytest.raises(BadEvent, match=said) as caught:
        mapped.decode(value, 1_000)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("unit", "ts", "at_ms"),
    [
        ("ms", 5, 5),
        ("s", 5, 5_000),
        ("s", 1_700_000_000.123, 1_700_000_000_123),
        ("iso8601", "1970-01-01T00:00:01.250Z", 1_250),
        ("iso8601", "1970-01-01T01:00:00+01:00", 0),
        ("iso8601", "1970-01-01T00:00:01", 1_000),
    ],
)
def test_times_become_milliseconds(unit: Any, ts: float | str, at_ms: int) -> None:
    mapping = Mapping(fields=FIELDS, constants={"kind": "click"}, time_unit=unit)
    assert mapping.decode(theirs(ts=ts)).at_ms == at_ms


def test_a_time_that_is_none_is_refused() -> None:
    mapping = Mapping(fields=FIELDS, constants={"kind": "click"}, time_unit="iso8601")
    for ts in (5, None, "noon", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(BadEvent, match="at_ms") as caught:
            mapping.decode(theirs(ts=ts))
        assert caught.value.reason == "schema"


def test_without_kinds_theirs_are_ours() -> None:
    mapping = Mapping(fields={**FIELDS, "kind": "verb"})
    assert mapping.decode(theirs(verb="view", ts=5)).kind == "view"
    unknown: tuple[Any, ...] = ("opened", 5, None, {})
    for verb in unknown:
        with pytest.raises(BadEvent) as caught:
            mapping.decode(theirs(verb=verb, ts=5))
        assert caught.value.reason == "unknown_kind"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "sku", "x"]), inner),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from(["uuid", "actor", "ts", "verb", "object", "q", "slot"]), JSON)
BYTES = st.one_of(
    st.none(),
    st.binary(max_size=200),
    OBJECTS.map(lambda changes: json.dumps({**THEIRS, **changes}).encode()),
    st.builds(lambda at, bit: theirs()[:at] + bit + theirs()[at:], st.integers(0, 90), st.binary(max_size=4)),
)


@pytest.mark.parametrize("unit", ["ms", "s", "iso8601"])
@pytest.mark.parametrize("kinds", [{}, {"opened": "click"}])
def test_any_bytes_are_an_event_or_a_bad_event(unit: Any, kinds: dict[str, str]) -> None:
    mapping = Mapping(fields={**FIELDS, "kind": "verb", "text": "q", "rank": "slot"}, kinds=kinds, time_unit=unit)

    @given(BYTES)
    @hypothesis_settings(max_examples=150, deadline=None)
    def holds(value: bytes | None) -> None:
        try:
            event = mapping.decode(value, 10**13)
        except BadEvent:
            return
        assert isinstance(event, Event)

    holds()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('id = "uuid"', "", "fields lacks 'id'"),
        ('rank = "slot"', 'rnk = "slot"', "no field 'rnk'"),
        ('"actor.id"', '"actor..id"', "empty part"),
        ('"click"', '"clck"', "no kind 'clck'"),
        ('item = "object.sku"', "", "a click needs 'item'"),
        ('kind = "verb"', "", "neither fields nor constants"),
        ('"s"', '"weeks"', "time_unit"),
        ("time_unit", "time_units", "mapping.time_units"),
        ("[mapping.kinds]", '[mapping.constants]\nitem = "i"\n[mapping.kinds]', "both fields and constants"),
        ('rank = "slot"', "[mapping.constants]\nrank = -1", "constant 'rank'"),
        ('rank = "slot"', "[mapping.constants]\nrank = inf", "mapping.constants.rank"),
    ],
)
def test_a_wrong_mapping_is_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "a.toml"
    assert old in TOML
    file.write_text(TOML.replace(old, new, 1))
    with pytest.raises(Fatal, match=said) as caught:
        load(file)
    assert "\n" not in str(caught.value)


def test_serve_folds_what_is_mapped_and_dead_letters_the_rest(mapped: Settings) -> None:
    bodies = [theirs(verb="searched", q="robot", actor={"id": 1}), theirs(verb="sneezed")]
    work = fold_poll([Fake(n, body) for n, body in enumerate(bodies)], {0: STATE}, TEXTS, mapped, {})
    assert (dict(work.kinds), dict(work.dead)) == ({"search": 1}, {"unknown_kind": 1})
    assert work.users == {0: {"1": None}}


def test_check_decodes_as_serve_does(mapped: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Record(Fake):
        def timestamp(self) -> tuple[int, int]:
            return 1, 1_000

    monkeypatch.setattr(check, "_read", lambda *_: [Record(0, theirs()), Record(1, b"{}")])
    lines = check.run(mapped, None, 10, None)
    assert lines[0] == "2 records read: 1 accepted, 1 dead-lettered"


def test_the_outcome_hash_tells_mappings_apart(mapped: Settings) -> None:
    one, two = (Settings(mapping=Mapping(fields=FIELDS, constants={"kind": kind})) for kind in ("click", "view"))
    assert len({hash_of.outcome_hash() for hash_of in (Settings(), mapped, one, two)}) == 4
    again = Mapping(fields=dict(reversed(FIELDS.items())), constants={"kind": "click"})
    assert Settings(mapping=again).outcome_hash() == one.outcome_hash()
