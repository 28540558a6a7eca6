"""What users wrote and how many stars they gave become labelled texts."""

from pathlib import Path

import msgspec
import pytest

from consumer.labelled import load
from consumer.reviews import labelled, reviews
from model.errors import Fatal
from model.events import Click, Event, Forget, Item, Review
from model.training.labelled import Labelled


def review(user: str, text: str, value: float | None) -> Event:
    return Review(id=f"{user}-{text}", user=user, at_ms=1, item="i", text=text, value=value)


def test_only_reviews_with_words_and_stars_of_who_is_remembered() -> None:
    events: list[Event] = [
        review("a", "lovely", 4.5), review("b", "erased", 5), Click(id="c", user="a", at_ms=1, item="i"),
        review("c", "no stars", None), review("a", "so so", 3), Forget(id="f", user="b", at_ms=2),
        review("b", "dull", 0), review("a", " ", 5), review("d", "again", 2),
    ]  # fmt: skip
    assert labelled(events) == [
        Labelled("lovely", "positive"), Labelled("dull", "negative"), Labelled("again", "negative")
    ]  # fmt: skip
    assert [one.label for one in labelled(events, stars=True)] == ["4", "3", "1", "2"]


def test_the_file_is_what_classify_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    told = [review("a", "很好看", 5), review("b", 'a "quoted"\nline', 1)]
    (folder / "items.jsonl").write_bytes(msgspec.json.encode(Item(item="i", title="x")) + b"\n")
    (folder / "events.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in told))
    out = tmp_path / "made" / "reviews.jsonl"
    out.parent.mkdir()
    reviews(out, from_dataset=str(folder))
    assert load(str(out)) == labelled(told)
    assert len(load(str(out))) == 2
    assert "2 texts" in (said := capsys.readouterr().out)
    assert "1 negative, 1 positive" in said


def test_without_reviews_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_bytes(msgspec.json.encode(Item(item="i", title="x")) + b"\n")
    (tmp_path / "events.jsonl").write_bytes(msgspec.json.encode(Click(id="c", user="a", at_ms=1, item="i")) + b"\n")
    with pytest.raises(Fatal, match="none of 1 events is a review"):
        reviews(tmp_path / "none.jsonl", from_dataset=str(tmp_path))
    assert not (tmp_path / "none.jsonl").exists()
