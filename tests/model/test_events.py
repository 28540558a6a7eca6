"""The contracts: poison is refused with a reason, what is valid survives the round trip, examples never change."""

import json
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import BadEvent
from model.events import (
    MAX_FUTURE_MS,
    Click,
    Event,
    Item,
    Recommendation,
    TuneRequest,
    decode_event,
    decode_item,
    encode,
)

GOOD = b'{"kind":"click","id":"e1","user":"u1","at_ms":5,"item":"i1"}'
CONTRACTS = Path(__file__).parent.parent / "contracts"
KINDS = {"events": Event, "items": Item, "recommendations": Recommendation, "tune-requests": TuneRequest}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        (b"", "not_json"),
        (b"\xff\xfe", "not_json"),
        (GOOD.replace(b"u1", b"\xff"), "not_utf8"),
        (b"[]", "schema"),
        (b"17", "schema"),
        (GOOD.replace(b"click", b"clack"), "unknown_kind"),
        (b'{"id":"e","user":"u","at_ms":1}', "schema"),
        (GOOD.replace(b"5", b'"5"'), "schema"),
        (GOOD.replace(b"5", b"9" * 400), "schema"),
        (GOOD.replace(b"5", b"-1"), "schema"),
        (GOOD.replace(b'"u1"', b'""'), "schema"),
        (GOOD.replace(b'"item"', b'"x":' + b"[" * 50_000 + b"]" * 50_000 + b',"item"'), "too_deep"),
        (GOOD.replace(b"i1", b"x" * 1_000_000), "too_large"),
        (GOOD[:-1], "not_json"),
    ],
)
def test_poison_is_refused_by_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(BadEvent) as caught:
        decode_event(value)
    assert caught.value.reason == reason


def test_the_future_is_refused_and_the_past_is_legal() -> None:
    assert decode_event(GOOD, record_ms=10**12).at_ms == 5
    late = GOOD.replace(b":5", b":%d" % (10**12 + MAX_FUTURE_MS + 1))
    with pytest.raises(BadEvent, match="future"):
        decode_event(late, record_ms=10**12)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_bad_event(value: bytes) -> None:
    for decode in (decode_event, decode_item):
        with suppress(BadEvent):
            decode(value)


@given(st.text(min_size=1, max_size=256), st.integers(0, 10**12), st.none() | st.integers(0, 100))
def test_round_trip(name: str, at_ms: int, rank: int | None) -> None:
    event = Click(id=name, user=name, at_ms=at_ms, item=name, rank=rank)
    assert decode_event(encode(event)) == event


def test_unknown_fields_are_allowed() -> None:
    assert decode_event(GOOD[:-1] + b',"added_later":{"x":[1]}}') == decode_event(GOOD)


@pytest.mark.parametrize("path", sorted(CONTRACTS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_examples_are_byte_exact(path: Path) -> None:
    lines = path.read_bytes().splitlines()
    assert lines
    for line in lines:
        assert encode(msgspec.json.decode(line, type=KINDS[path.stem])) == line


@pytest.mark.parametrize("name", KINDS)
def test_published_schemas_equal_the_types(name: str) -> None:
    published = json.loads((CONTRACTS / f"{name}.schema.json").read_bytes())
    assert published == json.loads(json.dumps(msgspec.json.schema(KINDS[name])))


def test_the_text_of_an_item_is_title_description_and_tags() -> None:
    assert Item(item="i", title="Dune", text="A desert planet.", tags=["novel", "space"]).content() == (
        "Dune. A desert planet. novel, space"
    )
    assert Item(item="i", title="Dune").content() == "Dune"
    assert Item(item="i", text="Sand", tags=["novel"]).content() == "Sand. novel"
    assert Item(item="i").content() == ""
