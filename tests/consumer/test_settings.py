"""Settings come from a file and the environment; wrong ones are one line that says what to do."""

from pathlib import Path

import pytest

from consumer.settings import load
from model.errors import Fatal


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.toml"
    file.write_text('app_id = "shop"\nlength = 5\n[kafka]\n"security.protocol" = "SSL"\n')
    monkeypatch.setenv("PENCHANT_LENGTH", "7")
    settings = load(file)
    assert (settings.app_id, settings.length, settings.state_topic) == ("shop", 7, "shop.state")
    assert settings.kafka == {"security.protocol": "SSL"}
    with pytest.raises(ValueError, match="frozen"):
        settings.length = 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("length = 0", "PENCHANT_LENGTH"),
        ("lenght = 5", "no setting 'lenght'"),
        ("start = 'now'", "earliest"),
        ("poll_events = 2001", "2000"),
        ("= 3", "no TOML"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(Fatal, match=said) as caught:
        load(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_broken_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Fatal, match="--config"):
        load(tmp_path / "none.toml")
    monkeypatch.setenv("PENCHANT_KAFKA", "{")
    with pytest.raises(Fatal, match="JSON"):
        load()


def test_the_outcome_hash_tells_settings_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load().outcome_hash()
    monkeypatch.setenv("PENCHANT_HTTP_PORT", "1234")
    assert load().outcome_hash() == before
    monkeypatch.setenv("PENCHANT_SEED", "1")
    assert load().outcome_hash() != before
