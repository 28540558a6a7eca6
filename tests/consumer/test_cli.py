"""The command line from outside: help that loads nothing heavy, errors of one line."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from export.registry import Registry
from tests.export.tiny import tiny_bundle

COMMANDS = ["", "serve", "rebuild", "export", "replay", "demo", "topics", "topics plan", "topics apply", "broker",
            "broker run", "check", "classify", "doctor", "evaluate", "dead-letters", "dead-letters list",
            "dead-letters replay", "models", "models list", "models show", "models diff", "models publish",
            "models promote", "models rollback", "models verify", "models prune", "models judge",
            "sentiment", "tune", "reviews"]  # fmt: skip
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


def test_the_version_is_said() -> None:
    assert penchant("--version").stdout == f"penchant {metadata.version('penchant')}\n"


def test_paragraphs_of_help_flow_with_the_terminal() -> None:
    lines = penchant("tune", "--help", COLUMNS="80").stdout.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.lstrip().startswith("Examples come"))
    assert all(len(line.rstrip()) > 60 for line in lines[at : at + 4])


def test_an_unknown_command_exits_2() -> None:
    assert penchant("nonsense").returncode == 2


def test_an_error_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = penchant("replay", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("penchant: no data set")


@pytest.mark.parametrize("command", ["demo", "evaluate", "tune --from-dataset zh", "classify en"])
def test_where_nothing_can_be_written_is_said_before_the_work(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for where, why in ((tmp_path / "file" / "report.json", "no folder"), (tmp_path, "is a folder")):
        done = penchant(*command.split(), "--json", str(where))
        assert done.returncode == 1
        assert why in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_is_one_line() -> None:
    for command, said in (("broker run --dir", "cannot be made"), ("export", "no such folder")):
        done = penchant(*command.split(), "/dev/null/none", *(["out"] if command.startswith("export") else []))
        assert done.returncode == 1
        assert done.stderr.startswith("penchant: /dev/null/none")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


def test_tune_in_several_processes_is_refused() -> None:
    done = penchant("tune", "--from-dataset", "ml-100k", WORLD_SIZE="2", RANK="1")
    assert done.returncode == 1
    assert done.stderr.startswith("penchant: tune runs in one process")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["topics plan", "replay zh", "check", "dead-letters list"])
def test_a_broker_that_is_away_is_one_line(command: str) -> None:
    done = penchant(*command.split(), "--bootstrap", "127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "penchant broker run" in done.stderr


def test_doctor_says_what_to_do_and_exits_1(tmp_path: Path) -> None:
    done = penchant("doctor", "--bootstrap", "127.0.0.1:1", PENCHANT_BUNDLE=str(tmp_path / "none"))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("FAIL")] == ["broker", "bundle"]


def test_doctor_looks_at_what_the_registry_would_have_serve_load(tmp_path: Path) -> None:
    url, bundle = str(tmp_path / "registry"), tiny_bundle(tmp_path / "bundle")
    registry = Registry.open(url)

    def findings(apprentice: str) -> list[str]:
        done = penchant("doctor", "--bootstrap", "127.0.0.1:1", PENCHANT_REGISTRY=url, PENCHANT_APPRENTICE=apprentice,
                        PENCHANT_HOME=str(tmp_path / "home"))  # fmt: skip
        return [" ".join(line.split()[:2]) for line in done.stdout.splitlines()[2:]]

    assert findings("none") == ["FAIL registry", "FAIL apprentice"]
    registry.publish(bundle.path)
    registry.promote(bundle.manifest.version, None)
    assert findings(bundle.manifest.version) == [
        "ok registry",
        "FAIL registry",  # a bundle that is whole, and holds no encoder
        "ok apprentice",
    ]


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
