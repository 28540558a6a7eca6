"""Settings come from a file and the environment; wrong ones are one line that says what to do."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from consumer.settings import Settings, load
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
        ("max_dead_run = -1", "PENCHANT_MAX_DEAD_RUN"),
        ("max_dead_share = 1.5", "PENCHANT_MAX_DEAD_SHARE"),
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


SECRET = "s3cret-that-nobody-sees"


def test_secrets_come_from_files_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    password, file = tmp_path / "password", tmp_path / "a.toml"
    password.write_text(f"{SECRET} \n\n")  # one newline is the editor's, the rest is the password's
    file.write_text(
        '[kafka]\n"security.protocol" = "SASL_SSL"\n"sasl.mechanism" = "PLAIN"\n"sasl.username" = "u"\n'
        f'[kafka_secrets]\n"sasl.password" = "{password}"\n'
    )
    assert load(file).kafka["sasl.password"] == f"{SECRET} \n"
    monkeypatch.setenv("PENCHANT_KAFKA_SECRETS", json.dumps({"ssl.key.password": str(password)}))
    assert set(load(file).kafka) >= {"security.protocol", "sasl.password", "ssl.key.password"}
    file.write_text('[kafka]\n"security.protocol" = "SASL_SSL"\n"sasl.mechanism" = "PLAIN"\n"sasl.username" = "u"\n')
    monkeypatch.delenv("PENCHANT_KAFKA_SECRETS")
    monkeypatch.setenv("PENCHANT_KAFKA", json.dumps({"sasl.password": SECRET}))
    assert load(file).kafka["sasl.password"] == SECRET
    assert load(file).kafka["security.protocol"] == "SASL_SSL"


def test_no_secret_is_shown(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(SECRET)
    inline: dict[str, Any] = {
        "ssl.key.password": SECRET,
        "sasl.oauthbearer.config": SECRET,
        "ssl.key.pem": SECRET,
        "sasl.username": "u",
    }
    settings = Settings(kafka=inline, kafka_secrets={"sasl.password": password})
    copy = pickle.loads(pickle.dumps(settings.model_copy(update={"length": 3})))
    for one in (settings, copy):
        assert one.kafka["sasl.password"] == SECRET
        shown = [repr(one), str(one), repr(one.kafka), f"{one.kafka}", one.model_dump_json(), repr(one.model_dump())]
        assert all(SECRET not in text for text in shown)
    assert "'u'" in repr(settings)
    assert settings.outcome_hash() == Settings().outcome_hash()
    assert Settings(kafka={"sasl.password": 123456}).kafka["sasl.password"] == "123456"
    assert "123456" not in repr(Settings(kafka={"sasl.password": 123456}))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("kafka", {"sasl.password": [SECRET]}, "names in quotes"),
        ("kafka", {"sasl": {"password": SECRET}}, "names in quotes"),
        ("kafka", [SECRET], "names in quotes"),
        ("kafka_secrets", [SECRET], "dictionary"),
        ("kafka_secrets", {"sasl.password": [SECRET]}, "path"),
        ("kafka_secrets", {"sasl.password": "/nowhere/password"}, "/nowhere/password"),
        ("kafka_secrets", {"sasl.password": "/dev/null"}, "empty"),
    ],
)
def test_what_is_wrong_with_kafka_is_one_line_without_secrets(
    variable: str, value: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {variable: value}
    with pytest.raises(ValidationError) as wrong:
        Settings(**given)
    assert SECRET not in str(wrong.value)
    monkeypatch.setenv(f"PENCHANT_{variable.upper()}", json.dumps(value))
    with pytest.raises(Fatal, match=said) as caught:
        load()
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("kafka", "said"),
    [
        ({"sasl.password": SECRET, "sasl.mechanims": "PLAIN"}, "sasl.mechanims"),
        ({"sasl.password": SECRET, "security.protocol": SECRET}, r"\*\*\*.*security.protocol"),
        ({"sasl.password": SECRET, "security.protocol": "SASL_SSL", "sasl.mechanism": SECRET}, "mechanism"),
        ({"ssl.key.pem": SECRET, "security.protocol": "SSL"}, "ssl.key.pem"),
        ({"ssl.ca.location": "/nowhere/ca.pem", "security.protocol": "SSL"}, "ssl.ca.location"),
    ],
)
def test_what_librdkafka_does_not_take_is_one_line_without_secrets(
    kafka: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENCHANT_KAFKA", json.dumps(kafka))
    with pytest.raises(Fatal, match=said) as caught:
        load()
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_value_that_is_no_json_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_KAFKA", f'{{"sasl.password": "{SECRET}"')
    with pytest.raises(Fatal, match="JSON") as caught:
        load()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("seconds", ["5", "1801", "soon"])
def test_a_session_time_out_that_kafka_would_not_take(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_SESSION_TIMEOUT_SECONDS", seconds)
    with pytest.raises(Fatal, match="PENCHANT_SESSION_TIMEOUT_SECONDS"):
        load()


def test_no_secret_stands_in_the_file_of_settings(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f'[kafka]\n"sasl.password" = "{SECRET}"\n')
    with pytest.raises(Fatal, match="kafka_secrets") as caught:
        load(file)
    assert SECRET not in str(caught.value)


def test_a_secret_is_given_once(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="leave one out"):
        Settings(kafka={"sasl.password": SECRET}, kafka_secrets={"sasl.password": tmp_path})


def test_topics_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_EVENTS_TOPIC", "penchant.state")
    with pytest.raises(Fatal, match="two topics have one name"):
        load()


def test_asking_for_a_tuning_needs_somebody_who_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_TUNE_REQUESTS", "true")
    assert load().tune_requests_topic == "penchant.tune-requests"
    monkeypatch.setenv("PENCHANT_DRIFT_EVALUATIONS", "0")
    with pytest.raises(Fatal, match="drift_evaluations is 0"):
        load()


def test_an_apprentice_needs_a_registry_to_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENCHANT_APPRENTICE", "0f3a9c52d1e7")
    with pytest.raises(Fatal, match="registry is not set"):
        load()
    monkeypatch.setenv("PENCHANT_REGISTRY", "/srv/registry")
    assert load().apprentice == "0f3a9c52d1e7"
