"""Datasets: MovieLens' order and fields, checksums, the Chinese example."""

from pathlib import Path

import pytest

from consumer import datasets
from model.errors import PenchantError
from model.events import ItemEvent, Rating, Review, Search

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t200\n2\t1\t5\t100\n3\t2\t4\t100\n"
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "1\tToy Story\t1995\tAnimation Children's Comedy\n2\tGoldenEye\t1995\tAction\n"
)


def test_ratings_come_in_time_order_and_ties_keep_the_files_order() -> None:
    _, events = datasets.parse_ml100k(INTER, ITEM)
    assert [(e.id, e.user, e.at_ms) for e in events] == [
        ("ml-0", "u2", 100_000), ("ml-1", "u3", 100_000), ("ml-2", "u1", 200_000)
    ]  # fmt: skip
    assert isinstance(events[0], Rating)
    assert (events[0].item, events[0].value) == ("m1", 5.0)


def test_films_have_title_year_and_genres() -> None:
    items, _ = datasets.parse_ml100k(INTER, ITEM)
    assert items[0].item == "m1"
    assert items[0].title == "Toy Story"
    assert items[0].content() == "Toy Story. Animation, Children's, Comedy"
    assert items[0].tags == ["Animation", "Children's", "Comedy"]
    assert items[0].attributes == {"year": "1995"}


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Usual Suspects, The", "The Usual Suspects"),
        ("Enfer, L'", "L'Enfer"),
        ("Tin Drum, The (Blechtrommel, Die)", "The Tin Drum (Die Blechtrommel)"),
        ("Maybe, Maybe Not (Bewegte Mann, Der)", "Maybe, Maybe Not (Der Bewegte Mann)"),
        ("Seven (Se7en)", "Seven (Se7en)"),
        ("Paris, Texas", "Paris, Texas"),
        ("Corrina, Corrina", "Corrina, Corrina"),
    ],
)
def test_articles_are_put_in_front_and_other_commas_stay(written: str, spoken: str) -> None:
    assert datasets.as_spoken(written) == spoken
    items, _ = datasets.parse_ml100k(INTER, ITEM.replace("GoldenEye", written))
    assert items[1].title == spoken


def test_a_row_of_the_wrong_width_is_refused() -> None:
    with pytest.raises(PenchantError, match="columns"):
        datasets.parse_ml100k(INTER + "1\t2\n", ITEM)


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_HOME", str(tmp_path))
    (tmp_path / "ml-100k").mkdir()
    for name in datasets.SHA256:
        (tmp_path / "ml-100k" / name).write_text(INTER)
    with pytest.raises(PenchantError, match="sha256"):
        datasets.load("ml-100k")


def test_the_chinese_example_decodes_and_hangs_together() -> None:
    items, events = datasets.load("zh")
    known = {item.item for item in items}
    assert len(items) == len(known) == 40
    assert len(events) == len({event.id for event in events}) == 300
    assert len({event.user for event in events}) == 8
    assert {event.item for event in events if isinstance(event, ItemEvent)} <= known
    assert sum(isinstance(event, Search) for event in events) > 30
    assert sum(isinstance(event, Review) for event in events) > 20
    assert all("\u4e00" <= letter <= "\u9fff" for item in items for letter in item.tags[0] + item.text[-2])
    assert [event.at_ms for event in events] == sorted(event.at_ms for event in events)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"item":"i1"}\n')
    (tmp_path / "events.jsonl").write_text('\n{"kind":"click"}\n')
    with pytest.raises(PenchantError, match=r"events\.jsonl:2: schema"):
        datasets.load(str(tmp_path))


def test_a_folder_without_events_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PenchantError, match="cannot read"):
        datasets.load(str(tmp_path))
