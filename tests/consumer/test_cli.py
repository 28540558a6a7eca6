"""The command line from outside: help that loads nothing heavy, errors of one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ["", "serve", "rebuild", "export", "replay", "demo", "topics", "topics plan", "topics apply", "broker",
            "broker run", "check", "classify", "doctor", "evaluate", "dead-letters", "dead-letters list",
            "dead-letters replay", "models", "models list", "models show", "models diff", "models publish",
            "models promote", "models rollback", "models verify", "models prune", "models judge",
            "sentiment", "tune"]  # fmt: skip
GROUPS = ["", "topics", "broker", "dead-letters", "models"]


def penchant(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "consumer.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | environment
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does(command: str) -> None:
    done = penchant(*command.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    words = " ".join(done.stdout.split())
    assert len(words.split()) > 15
    if command not in GROUPS:
        assert "Needs" in words
        assert f"penchant {command}" in words.partition("For example: ")[2]
        assert "[bold" not in words


def test_every_command_is_in_the_list_above() -> None:
    code = (
        "from typer.main import get_command; from consumer.cli import app; root = get_command(app).commands;"
        "print(*root, *(f'{name} {sub}' for name in root for sub in getattr(root[name], 'commands', ())), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert sorted(done.stdout.splitlines()) == sorted(set(COMMANDS) - {""})


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from consumer.cli import app;"
        "assert CliRunner().invoke(app, ['serve', '--help']).exit_code == 0;"
        "print([name for name in ('torch', 'numpy', 'onnxruntime', 'confluent_kafka') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_an_unknown_command_exits_2() -> None:
    assert penchant("nonsense").returncode == 2


def test_an_error_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = penchant("replay", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("penchant: no data set")


def test_tune_in_several_processes_is_refused() -> None:
    done = penchant("tune", "--from-dataset", "ml-100k", WORLD_SIZE="2", RANK="1")
    assert done.returncode == 1
    assert done.stderr.startswith("penchant: tune runs in one process")
    assert done.stderr.count("\n") == 1


def test_a_broker_that_is_away_is_one_line() -> None:
    done = penchant("topics", "plan", "--bootstrap", "127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "penchant broker run" in done.stderr


def test_doctor_says_what_to_do_and_exits_1(tmp_path: Path) -> None:
    done = penchant("doctor", "--bootstrap", "127.0.0.1:1", PENCHANT_BUNDLE=str(tmp_path / "none"))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("FAIL")] == ["broker", "bundle"]


def test_threads_of_blas_are_one_unless_said_otherwise() -> None:
    code = "import os, consumer.cli; print(os.environ['OPENBLAS_NUM_THREADS'])"
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}

    def said(**more: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env=environment | more, timeout=60
        ).stdout.strip()

    assert said() == "1"
    assert said(OPENBLAS_NUM_THREADS="4") == "4"


@pytest.mark.parametrize("command", ["tune --from-dataset zh", "classify en", "evaluate zh", "demo"])
def test_a_file_that_could_not_be_written_is_said_before_the_work(command: str, tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "figures.json", tmp_path):
        done = penchant(*command.split(), "--json", str(path))
        assert done.returncode == 2
        assert "name another file" in " ".join(done.stderr.replace("│", " ").split())
