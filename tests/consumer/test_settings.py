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
        ("start = 'now'", "earliest, latest, a time"),
        ("start = true", "earliest, latest, a time"),
        ("start = 1.5", "earliest, latest, a time"),
        ("start = 2026-11-24", "earliest, latest, a time"),
        ("start = '2026-11-24T00:00:00'", "zone"),
        ("start = 2026-11-24T00:00:00", "zone"),
        ("start = 1795478400", "milliseconds"),
        ("start = '-5'", "milliseconds"),
        ("start = 1795478400000000", "milliseconds"),
        ("max_failures = -1", "PENCHANT_MAX_FAILURES"),
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


@pytest.mark.parametrize(
    ("said", "start"),
    [
        ("latest", "latest"),
        ("earliest", "earliest"),
        ("2026-11-24T00:00:00Z", 1795478400000),
        ("2026-11-24T01:00:00.5+01:00", 1795478400500),
        ("1795478400000", 1795478400000),
    ],
)
def test_start_is_a_word_or_a_time(
    said: str, start: str | int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENCHANT_START", said)
    assert load().start == start
    monkeypatch.delenv("PENCHANT_START")
    file = tmp_path / "a.toml"
    for value in (f'"{said}"', said if isinstance(start, int) else f"'{said}'"):  # TOML has times and numbers, too
        file.write_text(f"start = {value}\n")
        assert load(file).start == start


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
